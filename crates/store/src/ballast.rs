//! Disk space set aside, to be let go when the disk is full: what must go on then has room for a while.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use crate::journal::allocate;

/// A file of real blocks without content.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    /// A ballast of this size. Nothing is set aside before [`Ballast::hold`].
    #[must_use]
    pub fn new(path: &Path, bytes: u64) -> Self {
        Self { path: path.to_owned(), bytes }
    }

    /// Sets the space aside, if it is not yet. A disk that is full already keeps its last blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] if there is no space for it; nothing is held then.
    pub fn hold(&self) -> io::Result<()> {
        if self.is_held() {
            return Ok(());
        }
        let file = File::create(&self.path)?;
        allocate(&file, self.bytes).inspect_err(|_| drop(std::fs::remove_file(&self.path)))
    }

    /// Whether the space is set aside.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.path.metadata().is_ok_and(|file| file.len() == self.bytes)
    }

    /// Lets the space go; tells whether there was any.
    ///
    /// # Errors
    /// What the operating system says when the file cannot be removed.
    pub fn release(&self) -> io::Result<bool> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ballast_takes_real_blocks_and_gives_them_back_once() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("ballast");
        let ballast = Ballast::new(&path, 1 << 20);
        ballast.hold().expect("space");
        ballast.hold().expect("a second time is no change");
        assert!(ballast.is_held());
        assert!(path.metadata().expect("the file").blocks() * 512 >= 1 << 20);
        assert!(ballast.release().expect("to remove it"));
        assert!(!ballast.is_held());
        assert!(!ballast.release().expect("nothing to remove"));
    }
}
