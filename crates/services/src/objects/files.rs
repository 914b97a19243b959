//! Files of bytes: each is written once, under an id of its own, and is whole and on the disk when it has its name.
//!
//! ```text
//!  incoming/<id> ──(flush, rename, flush the folder)──▶ data/<last two digits>/<id>
//! ```

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rouse_types::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt as _, task::spawn_blocking};

use super::Error;

/// Written bytes after which free space is looked at again.
const CHECK_EVERY_BYTES: u64 = 4 << 20;
/// Folders that files are spread over, so that none becomes too large to list.
pub(super) const FOLDERS: u16 = 256;

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

/// The folder of files.
#[derive(Debug, Clone)]
pub(super) struct Files(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    dir: PathBuf,
    reserve_bytes: u64,
}

/// A file that is being written. Dropping it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Incoming {
    files: Files,
    path: Leftover,
    file: tokio::fs::File,
    bytes: u64,
    check_at: u64,
}

/// Removes the file when dropped; after the renaming there is none.
#[derive(Debug)]
struct Leftover(PathBuf);

impl Drop for Leftover {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Files {
    /// Opens the folder, or makes it, and removes what a killed process was writing.
    pub(super) fn open(dir: &Path, reserve_bytes: u64) -> Result<Self, Error> {
        let incoming = dir.join("incoming");
        fs::create_dir_all(&incoming).map_err(Error::io("make the folder", &incoming))?;
        for entry in fs::read_dir(&incoming).map_err(Error::io("list the folder", &incoming))? {
            let path = entry.map_err(Error::io("list the folder", &incoming))?.path();
            fs::remove_file(&path).map_err(Error::io("remove the unfinished file", &path))?;
        }
        let files = Self(Arc::new(Folder { dir: dir.to_owned(), reserve_bytes }));
        for number in 0..=u8::MAX {
            let folder = files.folder(number);
            fs::create_dir_all(&folder).map_err(Error::io("make the folder", &folder))?;
        }
        flush(&dir.join("data"))?;
        flush(dir)?;
        Ok(files)
    }

    /// Begins a file of about `bytes` bytes, or of unknown size if that is zero.
    pub(super) async fn begin(&self, bytes: u64) -> Result<Incoming, Error> {
        let files = self.clone();
        let (path, file) = blocking(move || {
            files.check_space(bytes)?;
            let path = files.0.dir.join("incoming").join(uuid::Uuid::now_v7().as_simple().to_string());
            let file = OpenOptions::new().write(true).create_new(true).open(&path);
            Ok((Leftover(path.clone()), file.map_err(Error::io("make the file", &path))?))
        })
        .await?;
        let file = tokio::fs::File::from_std(file);
        Ok(Incoming { files: self.clone(), path, file, bytes: 0, check_at: CHECK_EVERY_BYTES })
    }

    /// Opens a file for reading.
    pub(super) fn read(&self, id: FileId) -> Result<File, Error> {
        let path = self.place(id);
        File::open(&path).map_err(Error::io("open", &path))
    }

    /// Gives these files further names: a copy that costs no space.
    pub(super) fn link(&self, files: &[(FileId, FileId)]) -> Result<(), Error> {
        let mut folders = std::collections::BTreeSet::new();
        for (from, to) in files {
            let place = self.place(*to);
            match fs::hard_link(self.place(*from), &place) {
                // File systems have a bound on the names of one file: then it is copied after all.
                Err(error) if error.kind() == io::ErrorKind::TooManyLinks => {
                    fs::copy(self.place(*from), &place).map_err(Error::io("copy to", &place))?;
                    let copy = File::open(&place).map_err(Error::io("open", &place))?;
                    copy.sync_all().map_err(Error::io("flush", &place))?;
                }
                linked => linked.map_err(Error::io("link", &place))?,
            }
            folders.insert(to.folder());
        }
        folders.into_iter().try_for_each(|number| flush(&self.folder(number)))
    }

    /// Removes files. One that is not there is no error, and one that cannot be removed is left to the sweep.
    pub(super) fn remove(&self, ids: &[FileId]) {
        for id in ids {
            let path = self.place(*id);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, path = %path.display(), "a file could not be removed: the sweep will");
                }
                _ => {}
            }
        }
    }

    /// The files of one folder that were made before `until`.
    pub(super) fn list(&self, number: u8, until: Timestamp) -> Result<Vec<FileId>, Error> {
        let folder = self.folder(number);
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Error::io("list the folder", &folder))? {
            let name = entry.map_err(Error::io("list the folder", &folder))?.file_name();
            let id = name.to_str().and_then(|name| name.parse::<FileId>().ok());
            found.extend(id.filter(|id| id.made() < until));
        }
        Ok(found)
    }

    fn folder(&self, number: u8) -> PathBuf {
        self.0.dir.join("data").join(format!("{number:02x}"))
    }

    fn place(&self, id: FileId) -> PathBuf {
        self.folder(id.folder()).join(id.to_string())
    }

    fn check_space(&self, bytes: u64) -> Result<(), Error> {
        let Folder { dir, reserve_bytes } = &*self.0;
        let space = rustix::fs::statvfs(dir)
            .map_err(|errno| Error::io("look at the free space of", dir)(errno.into()))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < reserve_bytes.saturating_add(bytes) {
            return Err(Error::Full(format!(
                "{bytes} bytes of an object: {free} bytes are free and {reserve_bytes} are kept in reserve"
            )));
        }
        Ok(())
    }
}

impl Incoming {
    /// Adds bytes; [`Error::Full`] once the reserve is reached.
    pub(super) async fn write(&mut self, bytes: &Bytes) -> Result<(), Error> {
        self.bytes += bytes.len() as u64;
        if self.bytes >= self.check_at {
            let files = self.files.clone();
            blocking(move || files.check_space(0)).await?;
            self.check_at = self.bytes + CHECK_EVERY_BYTES;
        }
        self.file.write_all(bytes).await.map_err(Error::io("write to", &self.path.0))
    }

    /// How much was added, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Names the file. When this returns, it is on the disk.
    pub(super) async fn finish(self, clock: &dyn Clock) -> Result<FileId, Error> {
        let Self { files, path, mut file, .. } = self;
        file.flush().await.map_err(Error::io("write to", &path.0))?;
        let file = file.into_std().await;
        // Only now, so that a file's id is never much older than its record: the sweep relies on that.
        let id = FileId::new(clock);
        blocking(move || {
            file.sync_all().map_err(Error::io("flush", &path.0))?;
            let place = files.place(id);
            fs::rename(&path.0, &place).map_err(Error::io("name the file", &place))?;
            flush(&files.folder(id.folder()))?;
            Ok(id)
        })
        .await
    }
}

fn flush(folder: &Path) -> Result<(), Error> {
    let open = File::open(folder).map_err(Error::io("open the folder", folder))?;
    open.sync_all().map_err(Error::io("flush the folder", folder))
}

/// Files that are younger may belong to a put that is about to be committed.
pub(super) const SWEEP_AGE: Duration = Duration::from_secs(3_600);
