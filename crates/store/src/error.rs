//! Why records, queues or blobs could not be read or written.

use std::{io, path::PathBuf, time::Duration};

use rouse_types::{Code, Digest, Refusal};

use crate::records::Revision;

/// Why an operation of a store failed. Unless it says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A record is not at the revision that the write expects: someone else was faster.
    #[error("{namespace}/{key} is at {}, not at {} as expected", say(*found), say(*expected))]
    Conflict {
        /// The record's namespace.
        namespace: String,
        /// Its key.
        key: String,
        /// What the write expects; none for "does not exist".
        expected: Option<Revision>,
        /// What is there; none if it does not exist.
        found: Option<Revision>,
    },
    /// A watcher asks for changes that are no longer kept: it must read everything anew.
    #[error("changes after {} are no longer kept: scan again and watch from the store's revision", after.0)]
    Rescan {
        /// Where the watcher stood.
        after: Revision,
    },
    /// A name, key, size or count is out of bounds. The text says which and what is allowed.
    #[error("{0}")]
    Invalid(String),
    /// No space is left, or less than the reserve.
    #[error("no space is left for {0}")]
    Full(String),
    /// A queue holds as much as it may.
    #[error("{queue} is full with {messages} messages")]
    TooDeep {
        /// The queue, or the [`Room`](crate::queues::Room) by its name.
        queue: String,
        /// How many there are.
        messages: u64,
        /// How many may be, where that is said by a room.
        granted: Option<u64>,
    },
    /// The content is not what its digest says.
    #[error("the content is {found}, not {expected}")]
    Digest {
        /// What was announced.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// A file of the store cannot be read as one.
    #[error("{} is damaged or not a store: restore it from a backup, or move it away to begin anew", .0.display())]
    Corrupt(PathBuf),
    /// The file was written by a later release.
    #[error("{} has version {found}, and this release knows {known}: use a later release", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The latest that is known.
        known: i64,
    },
    /// The store is being closed. Whether a write that was under way took place is unknown.
    #[error("the store is closed")]
    Closed,
    /// The transaction that the write was part of was not committed.
    #[error("the write was not committed: {0}")]
    Commit(String),
    /// The cluster's engine does not answer. Nothing was written.
    #[error("the cluster's engine does not answer: {0}")]
    Away(String),
    /// The cluster's engine did not answer in time. Whether the write takes place is unknown: it may, later.
    #[error("the cluster's engine did not answer in time, and the write may still take place: {0}")]
    Unknown(String),
    /// The cluster's engine cannot be used as it is. The text says why, and what to change.
    #[error("{0}")]
    Engine(String),
    /// A cluster's log cannot be followed. The text says why.
    #[error("{0}")]
    Log(String),
    /// The database said no.
    #[error("the database refused the operation")]
    Database(#[from] rusqlite::Error),
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

fn say(revision: Option<Revision>) -> String {
    revision.map_or_else(|| "no revision".to_owned(), |Revision(number)| format!("revision {number}"))
}

impl Error {
    /// Whether an operation failed for what it is and what it found, so that it fails alike on every node.
    pub(crate) fn is_of_the_operation(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::TooDeep { .. } | Self::Invalid(_))
    }

    /// What a client is told where a cluster's engine does not answer; none for all other errors.
    #[must_use]
    pub fn unavailable(&self) -> Option<Refusal> {
        matches!(self, Self::Away(_) | Self::Unknown(_)).then(|| {
            Refusal::new(Code::ClusterUnavailable, self.to_string())
                .hint("what is deployed goes on answering; try again, and look at `rouse cluster status`")
                .retry_after(Duration::from_secs(5))
        })
    }

    /// For `map_err`: keeps "full" apart from all else.
    pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if crate::is_full(&source) {
                return Self::Full(path.display().to_string());
            }
            Self::Io { action, path: path.to_owned(), source }
        }
    }
}

/// Sorts a database's error: full, damaged, or else.
pub(crate) fn database(path: &std::path::Path, error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};
    match error.sqlite_error_code() {
        Some(DiskFull) => Error::Full(path.display().to_string()),
        Some(DatabaseCorrupt | NotADatabase) => Error::Corrupt(path.to_owned()),
        _ => Error::Database(error),
    }
}
