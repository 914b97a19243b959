//! A small disk that a test can fill.

use std::{fs::File, io::Write as _, path::Path, process::Command};

use tempfile::TempDir;

/// A disk in memory, unmounted at the end.
#[derive(Debug)]
pub struct Disk {
    folder: TempDir,
    mib: usize,
}

impl Disk {
    /// Mounts one of so many MiB.
    ///
    /// # Errors
    /// Why that cannot be done here.
    pub fn mount(mib: usize) -> Result<Self, String> {
        let folder = crate::state_folder();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=755"), "tmpfs"]);
        let output = mount.arg(folder.path()).output().map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(Self { folder, mib }),
            false => Err(format!("no mount: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all of its room, until [`Disk::clear`].
    ///
    /// # Panics
    /// When there is no end of it.
    pub fn fill(&self) {
        let mut file = File::create(self.ballast()).expect("a file");
        let full = (0..=self.mib).find_map(|_| file.write_all(&vec![1; 1 << 20]).err());
        assert_eq!(full.map(|error| error.kind()), Some(std::io::ErrorKind::StorageFull));
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn clear(&self) {
        std::fs::remove_file(self.ballast()).expect("space again");
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
