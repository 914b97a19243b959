//! Journals: append-only, read by time. Usage, logs and audit are journals.
//!
//! ```text
//!   <dir>/<writer>/lock                    held (flock) while the writer lives
//!   <dir>/<writer>/0000000000000007.seg    sealed: its end is in its header
//!   <dir>/<writer>/0000000000000008.seg    live: records are committed into it
//!   <dir>/<writer>/0000000000000009.seg    made ahead, still empty
//! ```
//!
//! A writer has a folder of its own and writes into mapped, preallocated segment files: an append is a
//! copy and one atomic store, without a system call. The store of a record's head, last and with release
//! ordering, commits it; so `kill -9` at any point loses no committed record and shows none torn. Since
//! every block of a segment is allocated before it is mapped, a full disk is an error of the roll, never
//! a `SIGBUS` of the append.
//!
//! What a **power loss** may lose: the records of the last [`Options::sync_interval`] (one second unless
//! told otherwise), for a helper thread flushes the live segment that often. What it tears is found by
//! the record's checksum.
//!
//! Readers read files, they map nothing: no truncation by another process can kill them.

mod appender;
mod cut;
mod format;
mod keeper;
mod reader;
mod retention;
mod segment;
mod source;
mod survey;
mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

pub use appender::Appender;
pub use cut::{Cut, cut};
pub use format::RECORD_HEAD_BYTES;
pub use reader::{Batch, Corruption, Cursor, Position, Reader, Record};
pub use retention::{Policy, Removed, retain};
pub(crate) use segment::allocate;
pub use writer::Writer;

/// Why a journal could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No space for a further segment. What was appended stays; the caller decides whether to go on.
    #[error("no space is left for the journal in {}", path.display())]
    Full {
        /// The writer's folder, or the file that did not fit.
        path: PathBuf,
    },
    /// One record is larger than a segment.
    #[error("a record of {bytes} bytes does not fit a journal's segment, which takes {bytes_max}")]
    TooLarge {
        /// The payload's size.
        bytes: usize,
        /// The most that a segment takes.
        bytes_max: usize,
    },
    /// Another process writes under this name.
    #[error("the journal {} has a writer already", path.display())]
    Busy {
        /// The writer's folder.
        path: PathBuf,
    },
    /// A writer's name is not one: it becomes a folder's name.
    #[error("'{0}' is not a writer's name: use 1 to 64 of a-z, 0-9 and '-'")]
    WriterName(String),
    /// A segment's size is out of bounds.
    #[error("a segment of {0} bytes is out of bounds: 64 KiB to 1 GiB")]
    SegmentBytes(u64),
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
    /// For `map_err`: keeps "full" apart from all else.
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if crate::is_full(&source) {
                return Self::Full { path: path.to_owned() };
            }
            Self::Io { action, path: path.to_owned(), source }
        }
    }
}

/// How a writer writes.
#[derive(Debug, Clone)]
pub struct Options {
    /// The writer's name, also its folder's: `gateway-0`. A process that starts again takes the same.
    pub writer: String,
    /// The size of one segment, in bytes, allocated whole. Two are held at a time: the live one and the
    /// one made ahead.
    pub segment_bytes: u64,
    /// How often the live segment is flushed to the disk: the most that a power loss takes.
    pub sync_interval: Duration,
}

/// 8 MiB hold about 50,000 usage records: a second at full load, so a roll is rare, and ten writers
/// still take only 160 MiB.
pub const SEGMENT_BYTES_DEFAULT: u64 = 8 << 20;
/// See [`Options::sync_interval`].
pub const SYNC_INTERVAL_DEFAULT: Duration = Duration::from_secs(1);

impl Options {
    /// The default options for a writer of this name.
    #[must_use]
    pub fn new(writer: impl Into<String>) -> Self {
        Self {
            writer: writer.into(),
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            sync_interval: SYNC_INTERVAL_DEFAULT,
        }
    }

    fn check(&self) -> Result<(), Error> {
        if !is_writer_name(&self.writer) {
            return Err(Error::WriterName(self.writer.chars().take(80).collect()));
        }
        if !(64 << 10..=1 << 30).contains(&self.segment_bytes) {
            return Err(Error::SegmentBytes(self.segment_bytes));
        }
        Ok(())
    }
}

/// No journal comes this far; a file or number beyond it is none of ours, and counting on cannot overflow.
const SEQUENCE_MAX: u64 = 1 << 62;

fn is_writer_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=format::WRITER_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

fn segment_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.seg"))
}

/// The sequence numbers of a writer's segments, ascending. Other files are none of ours.
fn segments(dir: &Path) -> Result<Vec<u64>, Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io("list the folder", dir))? {
        let name = entry.map_err(Error::io("list the folder", dir))?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        let sequence = digits.filter(|d| d.len() == 16).and_then(|d| u64::from_str_radix(d, 16).ok());
        found.extend(sequence.filter(|&sequence| sequence <= SEQUENCE_MAX));
    }
    found.sort_unstable();
    Ok(found)
}

/// The segments that each writer has on the disk, sealed or not.
///
/// # Errors
/// What the operating system says.
pub fn kept(dir: &Path) -> Result<BTreeMap<String, BTreeSet<u64>>, Error> {
    let kept = |writer: String| Ok((writer.clone(), segments(&dir.join(writer))?.into_iter().collect()));
    writers(dir)?.into_iter().map(kept).collect()
}

/// The folders of all writers of a journal, by name. A journal that no one wrote yet has none.
fn writers(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io("list the folder", dir))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("list the folder", dir))?;
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        found.extend(entry.file_name().into_string().ok().filter(|name| folder && is_writer_name(name)));
    }
    found.sort_unstable();
    Ok(found)
}
