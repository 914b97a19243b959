//! Receipts: the right to delete a message that was received, as a text that nobody can make up.
//!
//! A receipt names the message and its lease, and is signed together with the queue: one that was given for a queue of one
//! tenant is none anywhere else. The key is on the disk, since messages are held for up to 12 hours.

use std::{io, os::unix::fs::OpenOptionsExt as _, path::Path};

use ring::{hmac, rand::SecureRandom as _};
use rouse_store::queues::{Lease, MessageId};

/// Two numbers and an attempt, and their signature.
const PLAIN_BYTES: usize = 20;
const SIGNATURE_BYTES: usize = 16;

/// Makes and reads receipts.
#[derive(Debug)]
pub(crate) struct Receipts(hmac::Key);

impl Receipts {
    /// Reads the key of this file, or makes it.
    pub(crate) fn open(file: &Path) -> io::Result<Self> {
        let bytes = match std::fs::read(file) {
            Ok(bytes) if bytes.len() == 32 => bytes,
            Ok(_) => return Err(io::Error::other("the key of receipts has not 32 bytes")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(file)?,
            Err(error) => return Err(error),
        };
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The receipt of a lease of a message of this queue.
    pub(crate) fn write(&self, queue: &str, lease: Lease) -> String {
        let mut bytes = Vec::with_capacity(PLAIN_BYTES + SIGNATURE_BYTES);
        bytes.extend_from_slice(&lease.id.0.to_be_bytes());
        bytes.extend_from_slice(&lease.number.to_be_bytes());
        bytes.extend_from_slice(&lease.attempt.to_be_bytes());
        let signature = hmac::sign(&self.0, &signed(queue, &bytes));
        bytes.extend_from_slice(&signature.as_ref()[..SIGNATURE_BYTES]);
        hex::encode(bytes)
    }

    /// The lease that a receipt stands for; nothing if it was not made by us for this queue.
    pub(crate) fn read(&self, queue: &str, text: &str) -> Option<Lease> {
        let bytes = hex::decode(text).ok().filter(|bytes| bytes.len() == PLAIN_BYTES + SIGNATURE_BYTES)?;
        let (plain, given) = bytes.split_at(PLAIN_BYTES);
        let signature = hmac::sign(&self.0, &signed(queue, plain));
        // Its own time tells nothing: all bytes are looked at.
        let differs = signature.as_ref().iter().zip(given).fold(0, |differs, (a, b)| differs | (a ^ b));
        let number = |at: usize| Some(u64::from_be_bytes(plain.get(at..at + 8)?.try_into().ok()?));
        let lease = Lease {
            id: MessageId(number(0)?),
            number: number(8)?,
            attempt: u32::from_be_bytes(plain.get(16..20)?.try_into().ok()?),
        };
        (differs == 0).then_some(lease)
    }
}

fn signed(queue: &str, plain: &[u8]) -> Vec<u8> {
    // Of a fixed length first, so that no queue's name runs into it.
    [plain, queue.as_bytes()].concat()
}

fn make(file: &Path) -> io::Result<Vec<u8>> {
    use std::io::Write as _;
    let mut bytes = vec![0; 32];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("no random numbers"))?;
    let new = file.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    out.write_all(&bytes)?;
    out.sync_all()?;
    std::fs::rename(new, file)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_good_for_its_own_queue_alone_and_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("key");
        let lease = Lease { id: MessageId(7), number: 3, attempt: 2 };
        let receipt = Receipts::open(&file).expect("a key").write("q/shop/orders", lease);
        let again = Receipts::open(&file).expect("the key");
        assert_eq!(again.read("q/shop/orders", &receipt), Some(lease));
        assert_eq!(again.read("q/other/orders", &receipt), None);
        let mut forged = receipt.clone();
        forged.replace_range(15..16, "8");
        for wrong in [forged.as_str(), "", "7-3-2", &receipt[2..]] {
            assert_eq!(again.read("q/shop/orders", wrong), None, "{wrong}");
        }
    }
}
