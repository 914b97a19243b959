//! Files on the local disk.
//!
//! ```text
//!  incoming/<id> ──(flush, rename, flush the folder)──▶ data/<last two digits>/<id>
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use rouse_types::{Clock, Timestamp};
use tokio::io::AsyncWriteExt as _;

use super::{Chunk, FileId, blocking};
use crate::objects::Error;

/// Written bytes after which free space is looked at again.
const CHECK_EVERY_BYTES: u64 = 4 << 20;
/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// The folder of files.
#[derive(Debug, Clone)]
pub(in crate::objects) struct Folder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    reserve_bytes: u64,
}

/// A file that is being written. Dropping it leaves nothing behind.
#[derive(Debug)]
pub(in crate::objects) struct Incoming {
    folder: Folder,
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

impl Folder {
    /// Opens the folder, or makes it, and removes what a killed process was writing.
    pub(super) fn open(dir: &Path, reserve_bytes: u64) -> Result<Self, Error> {
        let incoming = dir.join("incoming");
        fs::create_dir_all(&incoming).map_err(Error::io("make the folder", &incoming))?;
        for entry in fs::read_dir(&incoming).map_err(Error::io("list the folder", &incoming))? {
            let path = entry.map_err(Error::io("list the folder", &incoming))?.path();
            fs::remove_file(&path).map_err(Error::io("remove the unfinished file", &path))?;
        }
        let this = Self(Arc::new(Inner { dir: dir.to_owned(), reserve_bytes }));
        for number in 0..=u8::MAX {
            let folder = this.folder(number);
            fs::create_dir_all(&folder).map_err(Error::io("make the folder", &folder))?;
        }
        flush(&dir.join("data"))?;
        flush(dir)?;
        Ok(this)
    }

    /// Begins a file of about `bytes` bytes, or of unknown size if that is zero.
    pub(super) async fn begin(&self, bytes: u64) -> Result<Incoming, Error> {
        let folder = self.clone();
        let (path, file) = blocking(move || {
            folder.check_space(bytes)?;
            let path = folder.0.dir.join("incoming").join(uuid::Uuid::now_v7().as_simple().to_string());
            let file = OpenOptions::new().write(true).create_new(true).open(&path);
            Ok((Leftover(path.clone()), file.map_err(Error::io("make the file", &path))?))
        })
        .await?;
        let file = tokio::fs::File::from_std(file);
        Ok(Incoming { folder: self.clone(), path, file, bytes: 0, check_at: CHECK_EVERY_BYTES })
    }

    /// Reads from a file, and keeps it open for the next time: it can be read then even if it was removed.
    pub(super) async fn read(
        &self,
        id: FileId,
        open: Option<Arc<File>>,
        range: Range<u64>,
    ) -> Result<Chunk, Error> {
        let place = self.place(id);
        blocking(move || {
            let file = match open {
                Some(file) => file,
                None => Arc::new(File::open(&place).map_err(missing("open", &place))?),
            };
            let left = range.end.saturating_sub(range.start);
            let mut bytes = vec![0; CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES))];
            file.read_exact_at(&mut bytes, range.start).map_err(Error::io("read", &place))?;
            Ok((bytes.into(), Some(file)))
        })
        .await
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
                linked => linked.map_err(missing("link", &place))?,
            }
            folders.insert(to.folder());
        }
        folders.into_iter().try_for_each(|number| flush(&self.folder(number)))
    }

    /// Removes files. One that is not there is no error, and one that cannot be removed is left to the sweep.
    pub(super) fn remove(&self, ids: &[FileId]) {
        // A backup that is being made may name them.
        if self.0.dir.parent().is_some_and(rouse_store::backup::held) {
            return;
        }
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
        let Inner { dir, reserve_bytes } = &*self.0;
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
            let folder = self.folder.clone();
            blocking(move || folder.check_space(0)).await?;
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
        let Self { folder, path, mut file, .. } = self;
        file.flush().await.map_err(Error::io("write to", &path.0))?;
        let file = file.into_std().await;
        // Only now, so that a file's id is never much older than its record: the sweep relies on that.
        let id = FileId::new(clock);
        blocking(move || {
            file.sync_all().map_err(Error::io("flush", &path.0))?;
            let place = folder.place(id);
            fs::rename(&path.0, &place).map_err(Error::io("name the file", &place))?;
            flush(&folder.folder(id.folder()))?;
            Ok(id)
        })
        .await
    }
}

fn flush(folder: &Path) -> Result<(), Error> {
    let open = File::open(folder).map_err(Error::io("open the folder", folder))?;
    open.sync_all().map_err(Error::io("flush the folder", folder))
}

/// For `map_err`: keeps a file that is not there apart from all else.
fn missing(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| match source.kind() {
        io::ErrorKind::NotFound => Error::Missing(path.display().to_string()),
        _ => Error::io(action, path)(source),
    }
}
