//! Small files that one process writes and others read.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

/// Replaces a file: whole or not at all, for its owner alone (mode 0600), and on the disk when this returns. The folder is made
/// where it is missing.
///
/// # Errors
/// What the operating system says; the file is what it was.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    // Mode 0600 is what tempfile makes.
    let mut half = tempfile::NamedTempFile::new_in(folder)?;
    half.write_all(bytes)?;
    half.as_file().sync_all()?;
    half.persist(path).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b.json");
        for text in ["long at first", "short"] {
            replace(&path, text.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("read"), text);
            assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path().join("a")).expect("the folder").count(), 1, "no half left");
        assert!(replace(folder.path(), b"over a folder").is_err());
    }
}
