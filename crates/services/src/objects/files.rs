//! Files of bytes: each is written once, under an id of its own, and is whole and durable when it has its name. Where
//! they lie is chosen by a [`Place`](super::Place).
//!
//! ```text
//!  Files ─┬─ local    below the state folder
//!         └─ remote   in a bucket of any S3, by `wire`
//! ```
//!
//! Both keep what `tests/places.rs` asks of either: a write that is abandoned leaves nothing that stays, a further name
//! has bytes of its own, removing what is not there is no error, and what is listed and not named by a record is no
//! one's.

mod local;
mod remote;
mod wire;

use std::{fmt, fs::File, ops::Range, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use rouse_types::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

pub(super) use remote::{Bucket, connect};

use super::{Error, place::Chosen};

/// Folders that files are spread over, so that none becomes too large to list.
pub(super) const FOLDERS: u16 = 256;
/// Files that are younger may belong to a put that is about to be committed.
pub(super) const SWEEP_AGE: Duration = Duration::from_secs(3_600);

/// The id of a file, of a version of an object, or of an upload. A UUID of version 7 (RFC 9562): it tells when it was
/// made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileId(uuid::Uuid);

impl FileId {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        let ms = clock.now().as_millis();
        let nanos = u32::try_from(ms % 1_000).unwrap_or_default() * 1_000_000;
        Self(uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, ms / 1_000, nanos)))
    }

    /// When it was made, to the millisecond.
    #[must_use]
    pub fn made(self) -> Timestamp {
        let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
        Timestamp::from_millis(seconds.saturating_mul(1_000) + u64::from(nanos / 1_000_000))
    }

    pub(super) fn folder(self) -> u8 {
        self.0.as_bytes()[15]
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_simple().fmt(f)
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<FileId> for String {
    fn from(id: FileId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for FileId {
    type Error = uuid::Error;
    fn try_from(text: String) -> Result<Self, uuid::Error> {
        text.parse()
    }
}

impl std::str::FromStr for FileId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        uuid::Uuid::try_parse(text).map(Self)
    }
}

/// Runs file operations where they may block.
pub(super) async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    // It fails only when the runtime is going down.
    spawn_blocking(run).await.unwrap_or(Err(Error::Stopping))
}

/// The files, wherever they lie. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Files {
    Local(local::Folder),
    Remote(Bucket),
}

/// A file that is being written. Dropping it leaves nothing that stays.
#[derive(Debug)]
pub(super) enum Incoming {
    Local(local::Incoming),
    // Larger by far, for it remembers its parts.
    Remote(Box<remote::Incoming>),
}

/// Some of a file's bytes, and what makes reading on cheaper: give it to the next [`Files::read`] of the same file.
pub(super) type Chunk = (Bytes, Option<Arc<File>>);

impl Files {
    /// Takes the place of files, or makes it. Says nothing to a remote one.
    pub(super) async fn open(dir: &Path, reserve_bytes: u64, chosen: Chosen) -> Result<Self, Error> {
        match chosen {
            Chosen::Local => {
                let dir = dir.to_owned();
                blocking(move || Ok(Self::Local(local::Folder::open(&dir, reserve_bytes)?))).await
            }
            Chosen::S3(bucket, credentials) => Ok(Self::Remote(Bucket::open(dir, &bucket, &credentials)?)),
        }
    }

    /// Begins a file of about `bytes` bytes, or of unknown size if that is zero.
    pub(super) async fn begin(&self, bytes: u64, clock: &dyn Clock) -> Result<Incoming, Error> {
        Ok(match self {
            Self::Local(folder) => Incoming::Local(folder.begin(bytes).await?),
            Self::Remote(bucket) => Incoming::Remote(Box::new(bucket.begin(bytes, clock).await?)),
        })
    }

    /// The first bytes of a range, as many as are read at once; [`Error::Missing`] if there is no such file.
    pub(super) async fn read(
        &self,
        id: FileId,
        open: Option<Arc<File>>,
        range: Range<u64>,
    ) -> Result<Chunk, Error> {
        match self {
            Self::Local(folder) => folder.read(id, open, range).await,
            Self::Remote(bucket) => Ok((bucket.read(id, range).await?, None)),
        }
    }

    /// Whether a file that was begun to be read can be read on when it was removed.
    pub(super) fn open_outlives_removal(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Gives these files further names, which stay when the first are removed. [`Error::Missing`] if one is not there;
    /// some of the further names may be there then.
    pub(super) async fn link(&self, files: Vec<(FileId, FileId)>) -> Result<(), Error> {
        match self {
            Self::Local(folder) => {
                let folder = folder.clone();
                blocking(move || folder.link(&files)).await
            }
            Self::Remote(bucket) => bucket.copy(files).await,
        }
    }

    /// Removes files. One that is not there is no error, and one that cannot be removed is left to the sweep.
    pub(super) async fn remove(&self, ids: Vec<FileId>) {
        match self {
            Self::Local(folder) => {
                let folder = folder.clone();
                // What is left when the runtime goes down is removed by the sweep.
                let _ = blocking(move || {
                    folder.remove(&ids);
                    Ok(())
                })
                .await;
            }
            Self::Remote(bucket) => bucket.remove(ids).await,
        }
    }

    /// The files of one folder that were made before `until`.
    pub(super) async fn list(&self, number: u8, until: Timestamp) -> Result<Vec<FileId>, Error> {
        match self {
            Self::Local(folder) => {
                let folder = folder.clone();
                blocking(move || folder.list(number, until)).await
            }
            Self::Remote(bucket) => bucket.list(number, until).await,
        }
    }

    /// Gives up what a killed process was writing, as far as [`Self::open`] has not.
    pub(super) async fn abort_unfinished(&self) -> Result<(), Error> {
        match self {
            Self::Local(_) => Ok(()),
            Self::Remote(bucket) => bucket.abort_unfinished().await,
        }
    }
}

impl Incoming {
    /// Adds bytes; [`Error::Full`] once the reserve of a local disk is reached.
    pub(super) async fn write(&mut self, bytes: &Bytes) -> Result<(), Error> {
        match self {
            Self::Local(file) => file.write(bytes).await,
            Self::Remote(file) => file.write(bytes).await,
        }
    }

    /// How much was added, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Local(file) => file.bytes(),
            Self::Remote(file) => file.bytes(),
        }
    }

    /// Names the file. When this returns, it is durable.
    pub(super) async fn finish(self, clock: &dyn Clock) -> Result<FileId, Error> {
        match self {
            Self::Local(file) => file.finish(clock).await,
            Self::Remote(file) => file.finish(clock).await,
        }
    }
}
