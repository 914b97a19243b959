//! The bytes of a segment: one header, then records, each at a multiple of 8. Integers are little-endian.
//!
//! ```text
//! header, 128 bytes                        record
//!   0  magic "ROUSEJNL"                      0  payload's length + 1 (u32; 0: nothing here yet)
//!   8  version (u32)                         4  CRC-32 of length, time and payload (u32)
//!  12  CRC-32 of bytes 0..12, 16..24,        8  time (u64, microseconds since the epoch)
//!      64..128 (u32)                        16  payload, then zeros up to a multiple of 8
//!  16  sequence (u64)
//!  24  end (u64; 0: live)
//!  32  first time, 40 least time, 48 greatest time (u64)
//!  64  writer's name, padded with zeros
//! ```
//!
//! Length and checksum are one aligned word of 64 bits, so that one atomic store commits a record.

use rouse_types::Timestamp;

pub(super) const HEADER_BYTES: usize = 128;
/// Bytes that a record takes beside its payload, padding left out.
pub const RECORD_HEAD_BYTES: usize = 16;
pub(super) const WRITER_BYTES_MAX: usize = 64;
pub(super) const END_AT: usize = 24;
pub(super) const FIRST_AT: usize = 32;
pub(super) const LEAST_AT: usize = 40;
pub(super) const GREATEST_AT: usize = 48;
const MAGIC: &[u8; 8] = b"ROUSEJNL";
const VERSION: u32 = 1;

/// What a segment's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) sequence: u64,
    /// The offset behind the last record; none while the segment is live.
    pub(super) end: Option<u64>,
    /// The least and greatest time of its records, known once it is sealed.
    pub(super) times: (Timestamp, Timestamp),
}

fn header_crc(bytes: &[u8; HEADER_BYTES]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[0..12]);
    crc.update(&bytes[16..24]);
    crc.update(&bytes[64..128]);
    crc.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// The header of a live segment without records. The name was checked to fit.
pub(super) fn encode_header(sequence: u64, writer: &str) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[0..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
    bytes[64..64 + writer.len()].copy_from_slice(writer.as_bytes());
    let crc = header_crc(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads a header; the error says what is wrong with it.
pub(super) fn decode_header(bytes: &[u8; HEADER_BYTES]) -> Result<Header, &'static str> {
    if &bytes[0..8] != MAGIC {
        return Err("the file is not a journal's segment");
    }
    if u32_at(bytes, 8) != VERSION {
        return Err("the segment is of a version that this release cannot read");
    }
    if u32_at(bytes, 12) != header_crc(bytes) {
        return Err("the segment's header has a wrong checksum");
    }
    let end = u64_at(bytes, END_AT);
    Ok(Header {
        sequence: u64_at(bytes, 16),
        end: (end != 0).then_some(end),
        times: (Timestamp(u64_at(bytes, LEAST_AT)), Timestamp(u64_at(bytes, GREATEST_AT))),
    })
}

/// The bytes that a record takes in a segment.
pub(super) fn record_bytes(payload: usize) -> usize {
    RECORD_HEAD_BYTES + payload.next_multiple_of(8)
}

/// The word that commits a record. The payload is shorter than a segment, so its length fits.
pub(super) fn commit_word(time: Timestamp, payload: &[u8]) -> u64 {
    let length = u32::try_from(payload.len() + 1).unwrap_or(u32::MAX);
    let mut crc = crc32fast::Hasher::new();
    let mut head = [0; 12];
    head[0..4].copy_from_slice(&length.to_le_bytes());
    head[4..12].copy_from_slice(&time.0.to_le_bytes());
    crc.update(&head);
    crc.update(payload);
    u64::from(crc.finalize()) << 32 | u64::from(length)
}

/// What stands at the begin of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    /// A record, and the bytes it takes.
    Record { time: Timestamp, payload: &'a [u8], bytes: usize },
    /// Nothing was committed here yet.
    Nothing,
    /// A record may be here; it takes this many bytes, more than were given.
    Short(usize),
    /// What is here fails its checksum.
    Corrupt,
}

/// Reads the record at the begin of `bytes`.
pub(super) fn decode_record(bytes: &[u8]) -> Parsed<'_> {
    if bytes.len() < RECORD_HEAD_BYTES {
        return Parsed::Short(RECORD_HEAD_BYTES);
    }
    let word = u64_at(bytes, 0);
    let Some(length) = (u32_at(bytes, 0) as usize).checked_sub(1) else {
        // A checksum without a length was never written.
        return if word == 0 { Parsed::Nothing } else { Parsed::Corrupt };
    };
    let size = record_bytes(length);
    let Some(payload) = bytes.get(RECORD_HEAD_BYTES..RECORD_HEAD_BYTES + length) else {
        return Parsed::Short(size);
    };
    let time = Timestamp(u64_at(bytes, 8));
    if commit_word(time, payload) != word {
        return Parsed::Corrupt;
    }
    Parsed::Record { time, payload, bytes: size }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(time: Timestamp, payload: &[u8]) -> Vec<u8> {
        let mut bytes = commit_word(time, payload).to_le_bytes().to_vec();
        bytes.extend(time.0.to_le_bytes());
        bytes.extend(payload);
        bytes.resize(record_bytes(payload.len()), 0);
        bytes
    }

    #[test]
    fn a_header_reads_back_what_it_wrote() {
        let header = decode_header(&encode_header(7, "gateway-0")).expect("a header");
        assert_eq!(header, Header { sequence: 7, end: None, times: Default::default() });
    }

    proptest! {
        #[test]
        fn a_record_reads_back_and_any_flipped_bit_is_found(
            time: u64, payload in prop::collection::vec(any::<u8>(), 0..300), bit: prop::sample::Index,
        ) {
            let bytes = encode(Timestamp(time), &payload);
            let whole = Parsed::Record { time: Timestamp(time), payload: &payload, bytes: bytes.len() };
            prop_assert_eq!(decode_record(&bytes), whole);
            // Padding is covered by nothing, and means nothing.
            let bit = bit.index((RECORD_HEAD_BYTES + payload.len()) * 8);
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = matches!(decode_record(&flipped), Parsed::Corrupt | Parsed::Short(_));
            prop_assert!(found);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            decode_record(&bytes);
            if let Some(header) = bytes.first_chunk() {
                prop_assert!(decode_header(header).is_err());
            }
        }
    }
}
