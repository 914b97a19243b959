//! Blobs: content-addressed files. A blob that can be found is whole and on the disk.
//!
//! The calls block, for they are file operations: call them where blocking is allowed.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rouse_types::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::Error;

/// Files that are not blobs yet begin with this. What a killed process left of them is removed at the next
/// start.
const UPLOAD_PREFIX: &str = ".upload-";
/// Written bytes after which free space is looked at again.
const CHECK_EVERY_BYTES: u64 = 4 << 20;

/// A folder of blobs, named by the hexadecimal digits of their digests. One process owns it; others read.
#[derive(Debug, Clone)]
pub struct Blobs {
    dir: PathBuf,
    reserve_bytes: u64,
}

/// A blob under way. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Upload {
    blobs: Blobs,
    file: NamedTempFile,
    hash: Sha256,
    bytes: u64,
    check_at: u64,
}

impl Blobs {
    /// Opens the folder, or makes it. Blobs are refused when they would leave less than `reserve_bytes`
    /// free, so that what must go on, journals and records, has room.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(dir: &Path, reserve_bytes: u64) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(Error::io("make the folder", dir))?;
        for entry in fs::read_dir(dir).map_err(Error::io("list the folder", dir))? {
            let entry = entry.map_err(Error::io("list the folder", dir))?;
            if entry.file_name().to_string_lossy().starts_with(UPLOAD_PREFIX) {
                let path = entry.path();
                fs::remove_file(&path).map_err(Error::io("remove the unfinished upload", &path))?;
            }
        }
        Ok(Self { dir: dir.to_owned(), reserve_bytes })
    }

    /// A folder that another process owns, to be read: nothing in it is changed.
    #[must_use]
    pub fn view(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), reserve_bytes: 0 }
    }

    /// Begins a blob of about `bytes` bytes, or of unknown size if that is zero.
    ///
    /// # Errors
    /// [`Error::Full`] if that is more than there is beside the reserve.
    pub fn begin(&self, bytes: u64) -> Result<Upload, Error> {
        self.check_space(bytes)?;
        let file = tempfile::Builder::new().prefix(UPLOAD_PREFIX).tempfile_in(&self.dir);
        let file = file.map_err(Error::io("make a file in", &self.dir))?;
        let blobs = self.clone();
        Ok(Upload { blobs, file, hash: Sha256::new(), bytes: 0, check_at: CHECK_EVERY_BYTES })
    }

    /// Stores these bytes.
    ///
    /// # Errors
    /// [`Error::Digest`] if they are not what is expected, [`Error::Full`].
    pub fn put(&self, bytes: &[u8], expected: Option<Digest>) -> Result<Digest, Error> {
        let mut upload = self.begin(bytes.len() as u64)?;
        upload.write(bytes)?;
        upload.finish(expected)
    }

    /// The file of a blob, if it is there. It never changes.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.place(digest)).filter(|path| path.is_file())
    }

    /// A blob's bytes, if it is there.
    ///
    /// # Errors
    /// [`Error::Digest`] if the file was damaged since.
    pub fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        let path = self.place(digest);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io("read the blob", &path))?,
        };
        match Digest::of(&bytes) {
            found if found == *digest => Ok(Some(bytes)),
            found => Err(Error::Digest { expected: *digest, found }),
        }
    }

    /// Deletes a blob; tells whether it was there. Who has it open or mapped keeps it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn delete(&self, digest: &Digest) -> Result<bool, Error> {
        let path = self.place(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("delete the blob", &path)(error)),
        }
    }

    /// All blobs with their sizes in bytes, by digest.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>, Error> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(Error::io("list the folder", &self.dir))? {
            let entry = entry.map_err(Error::io("list the folder", &self.dir))?;
            let name = entry.file_name();
            let digest = name.to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            // One that is deleted meanwhile is not listed.
            if let (Some(digest), Ok(metadata)) = (digest, entry.metadata())
                && metadata.is_file()
            {
                found.push((digest, metadata.len()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    fn check_space(&self, bytes: u64) -> Result<(), Error> {
        let space = rustix::fs::statvfs(&self.dir)
            .map_err(|errno| Error::io("look at the free space of", &self.dir)(errno.into()))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < self.reserve_bytes.saturating_add(bytes) {
            let dir = self.dir.display();
            return Err(Error::Full(format!(
                "a blob of {bytes} bytes: {dir} has {free} bytes free and keeps {} in reserve",
                self.reserve_bytes
            )));
        }
        Ok(())
    }
}

impl Upload {
    /// Adds bytes.
    ///
    /// # Errors
    /// [`Error::Full`] once the reserve is reached.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.bytes += bytes.len() as u64;
        if self.bytes >= self.check_at {
            self.blobs.check_space(bytes.len() as u64)?;
            self.check_at = self.bytes + CHECK_EVERY_BYTES;
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(Error::io("write to", self.file.path()))
    }

    /// How much was added, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the blob of what was added. When this returns, it is on the disk.
    ///
    /// # Errors
    /// [`Error::Digest`] if it is not what is expected; nothing is kept then.
    pub fn finish(self, expected: Option<Digest>) -> Result<Digest, Error> {
        let found = Digest::from_hasher(self.hash);
        if let Some(expected) = expected
            && expected != found
        {
            return Err(Error::Digest { expected, found });
        }
        let (dir, place) = (&self.blobs.dir, self.blobs.place(&found));
        // Other processes, of other users, read it.
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        self.file.as_file().set_permissions(readable).map_err(Error::io("open up", self.file.path()))?;
        self.file.as_file().sync_all().map_err(Error::io("flush", self.file.path()))?;
        // The same content may be there already; replacing it with itself is harmless.
        self.file.persist(&place).map_err(|error| Error::io("name the blob", &place)(error.error))?;
        let folder = File::open(dir).map_err(Error::io("open the folder", dir))?;
        folder.sync_all().map_err(Error::io("flush the folder", dir))?;
        Ok(found)
    }
}
