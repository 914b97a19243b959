//! The ledger as evidence: what its chains, seals and exports are made of. Pure.
//!
//! ```text
//!   tenant, hour, part, writer ─▶ link ─▶ link ─▶ … ─▶ head ┐
//!                                  ▲       ▲                ├─▶ seal ─▶ seal ─▶ …   one chain for each tenant
//!                               record   record       heads ┘
//! ```
//!
//! A link is SHA-256 over the link before it, the cost and the record as it was journalled. An hour's chains end in a
//! seal, signed by Ed25519, that names the seal before it. Records that come after their hour was sealed begin the
//! hour's next part. An export is one JSON value a line: [`Line`].

pub mod key;
pub(crate) mod lines;
pub mod log;
pub mod verify;

use std::fmt;

use ring::digest::{Context, SHA256};
use rouse_types::{TenantId, Timestamp, Usage};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The format of exports, as their first line says it.
pub const FORMAT: u32 = 1;

/// A SHA-256 digest, in hexadecimal where it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Link(pub [u8; 32]);

impl Link {
    /// Where a writer's records of a part of an hour begin.
    #[must_use]
    pub fn first(tenant: &TenantId, hour: Timestamp, part: u64, writer: &str) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(b"rouse-ledger-records-1\0");
        hash.update(tenant.as_str().as_bytes());
        hash.update(b"\0");
        hash.update(&hour.0.to_be_bytes());
        hash.update(&part.to_be_bytes());
        hash.update(writer.as_bytes());
        Self::from(hash)
    }

    /// The link of the record that comes next: of its cost in billionths, and its bytes as journalled.
    #[must_use]
    pub fn next(&self, cost_nanos: u64, bytes: &[u8]) -> Self {
        let mut hash = Context::new(&SHA256);
        hash.update(&self.0);
        hash.update(&cost_nanos.to_be_bytes());
        hash.update(bytes);
        Self::from(hash)
    }
}

impl From<Context> for Link {
    fn from(hash: Context) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.finish().as_ref());
        Self(bytes)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for Link {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Link {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(de::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// Bytes, in hexadecimal where they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hex::decode(String::deserialize(deserializer)?).map(Self).map_err(de::Error::custom)
    }
}

/// One line of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// The first.
    Begin(Begin),
    /// A record. Those of a part come before its seal, writer by writer.
    Record(Box<Entry>),
    /// A part's end.
    Seal(Sealed),
    /// The last.
    End(End),
}

/// What an export is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// [`FORMAT`].
    pub format: u32,
    /// Whose usage.
    pub tenant: TenantId,
    /// From this hour on.
    pub since: Timestamp,
    /// Up to this hour, which is left out.
    pub until: Timestamp,
    /// The currency of the costs, as ISO 4217 writes it.
    pub currency: String,
    /// The public key that signed.
    pub key: key::Public,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The hour's begin.
    pub hour: Timestamp,
    /// Which part of the hour's records: 0 are those that came in time.
    pub part: u64,
    /// Which process wrote it.
    pub writer: String,
    /// What it costs, in billionths of the currency.
    pub cost_nanos: u64,
    /// The record as it was journalled; this is what is hashed.
    pub bytes: Hex,
    /// The same, readable.
    pub usage: Usage,
    /// Its link.
    pub link: Link,
}

/// A part's end, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// What was signed, as its JSON has it.
    pub body: Seal,
    /// Ed25519 over [`Seal::message`].
    pub signature: Hex,
}

/// What a seal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Whose.
    pub tenant: TenantId,
    /// Counted from 0, without gaps.
    pub number: u64,
    /// The digest of the tenant's seal before it; none for the first.
    pub previous: Option<Link>,
    /// The hour's begin.
    pub hour: Timestamp,
    /// Which part of the hour's records.
    pub part: u64,
    /// Each writer's chain, by the writers' names.
    pub chains: Vec<Chain>,
    /// Records of all chains.
    pub records: u64,
    /// What they cost, in billionths of the currency.
    pub cost_nanos: u64,
}

/// A writer's records of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// Which process.
    pub writer: String,
    /// How many.
    pub records: u64,
    /// The last one's link.
    pub head: Link,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Lines before this one.
    pub lines: u64,
    /// SHA-256 over them, with their newlines.
    pub digest: Link,
    /// Ed25519 over [`End::message`].
    pub signature: Hex,
}

impl Seal {
    /// Its JSON: what is kept and hashed.
    ///
    /// # Errors
    /// Never: these are plain fields.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// What is signed of a seal's JSON.
    #[must_use]
    pub fn message(json: &str) -> Vec<u8> {
        [b"rouse-ledger-seal-1\0", json.as_bytes()].concat()
    }

    /// What the next seal names.
    #[must_use]
    pub fn digest(json: &str) -> Link {
        let mut hash = Context::new(&SHA256);
        hash.update(json.as_bytes());
        hash.into()
    }
}

impl End {
    /// What is signed.
    #[must_use]
    pub fn message(lines: u64, digest: &Link) -> Vec<u8> {
        [&b"rouse-ledger-export-1\0"[..], &lines.to_be_bytes(), &digest.0].concat()
    }
}
