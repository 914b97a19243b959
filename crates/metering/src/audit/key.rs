//! The ledger's key: Ed25519 (RFC 8032), by `ring`.

use std::{fmt, str::FromStr};

use ring::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The machine has no random numbers.
    #[error("the machine gives no random numbers")]
    Random,
    /// The bytes are something else.
    #[error("it is no Ed25519 key in PKCS #8")]
    Malformed,
}

/// The secret half. Its `Debug` shows the public one.
pub struct Key(Ed25519KeyPair);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.public()).finish()
    }
}

impl Key {
    /// A new key, as PKCS #8 (RFC 8410).
    ///
    /// # Errors
    /// [`Error::Random`].
    pub fn generate() -> Result<Vec<u8>, Error> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| Error::Random)?;
        Ok(document.as_ref().to_vec())
    }

    /// Reads what [`Key::generate`] made.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, Error> {
        Ed25519KeyPair::from_pkcs8(bytes).map(Self).map_err(|_| Error::Malformed)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> Public {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        Public(bytes)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// The public half, in hexadecimal where it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Public([u8; 32]);

impl Public {
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Public {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err("a public key is 64 hexadecimal digits, as `rouse audit key` prints them"),
        }
    }
}

impl Serialize for Public {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Public {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
