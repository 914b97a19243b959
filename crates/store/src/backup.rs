//! Backups: one stream of bytes that a state folder can be made from again.
//!
//! ```text
//!   head        {"rouse_backup":1,"release":"0.1.0","made":…,"node":null}
//!   entry       {"path":"control/rouse.db","kind":"file","mode":384,"bytes":8192}
//!               8192 bytes
//!               {"sha256":"…"}          of all bytes of the stream before this line
//!   …
//!   end         {"end":{"entries":…,"bytes":…}}
//!               {"sha256":"…"}
//! ```
//!
//! Lines are JSON and end in a line feed. Each digest is over everything before it, so the first byte that was changed, left
//! out or added is found at the entry that it is in. A stream without its end is none. Written and read in pieces: neither
//! side holds an entry in memory, or a list of them.

mod hold;
mod pack;
mod source;
mod unpack;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use rouse_types::Timestamp;
use serde::{Deserialize, Serialize};

pub use hold::{Hold, held};
pub use pack::Pack;
pub use source::{database, journal, tree};
pub use unpack::{Target, unpack};

/// The format that is written, and the latest that is read.
pub const FORMAT: u32 = 1;
/// A line: a path and a link's target, encoded, with room.
const LINE_BYTES_MAX: usize = 32 << 10;
/// What is copied at once.
const COPY_BYTES: usize = 256 << 10;

/// Why a backup could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not what was written, or it is not all of it.
    #[error("the backup is damaged at byte {at}: {what}")]
    Damaged {
        /// The offset in the stream, in bytes.
        at: u64,
        /// What is wrong, and in which entry.
        what: String,
    },
    /// It is no backup.
    #[error("this is not a backup of Rouse")]
    Foreign,
    /// A later release wrote it.
    #[error("the backup was made by Rouse {found}, and this is {own}: install {found} or newer")]
    Later {
        /// Who wrote it.
        found: String,
        /// This release.
        own: String,
    },
    /// What is to be backed up cannot be.
    #[error("{0}")]
    Invalid(String),
    /// A database said no.
    #[error("cannot copy the database {}", path.display())]
    Database {
        /// Its file.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// A journal could not be read.
    #[error(transparent)]
    Journal(#[from] crate::journal::Error),
    /// The operating system said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// See [`FORMAT`].
    pub rouse_backup: u32,
    /// The release that made it.
    pub release: String,
    /// When it was begun.
    pub made: Timestamp,
    /// The node of a cluster that it was made on; none on a machine that is alone.
    pub node: Option<String>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    File,
    Folder,
    /// A symbolic link.
    Link,
    /// What hides a name of the layer below (overlayfs: a character device 0/0).
    Whiteout,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    kind: Kind,
    /// Permissions, without the kind.
    mode: u32,
    /// Of a file.
    bytes: u64,
    /// Of a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proof {
    sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    end: Total,
}

/// So many entries with so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Total {
    /// Files, folders and links.
    pub entries: u64,
    /// The bytes of the files.
    pub bytes: u64,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// What it says of itself.
    pub head: Head,
    /// By the first part of the path.
    pub folders: BTreeMap<String, Total>,
    /// All of it.
    pub total: Total,
    /// The length of the stream, in bytes.
    pub length: u64,
}

impl Summary {
    fn new(head: Head) -> Self {
        Self { head, folders: BTreeMap::new(), total: Total::default(), length: 0 }
    }

    fn add(&mut self, path: &Path, bytes: u64) {
        let first = path.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
        for total in [self.folders.entry(first.unwrap_or_default()).or_default(), &mut self.total] {
            total.entries += 1;
            total.bytes += bytes;
        }
    }
}

/// A file's name as JSON has it: names are bytes, and not all of them are text.
fn encode(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.starts_with(HEX) => text.to_owned(),
        _ => format!("{HEX}{}", hex::encode(path.as_os_str().as_bytes())),
    }
}

fn decode(text: &str) -> Option<PathBuf> {
    match text.strip_prefix(HEX) {
        Some(digits) => Some(PathBuf::from(OsString::from_vec(hex::decode(digits).ok()?))),
        None => Some(PathBuf::from(text)),
    }
}

const HEX: &str = "hex:";

/// Major and minor number: patch releases read each other's state.
fn release(version: &str) -> (u64, u64) {
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back() {
        for name in [&b"a/b.json"[..], b"hex:00", b"\xff\xfe", b"tab\tand\nline", "ü".as_bytes()] {
            let path = PathBuf::from(OsString::from_vec(name.to_vec()));
            assert_eq!(decode(&encode(&path)), Some(path));
        }
        assert_eq!(decode("hex:zz"), None);
    }
}
