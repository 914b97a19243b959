//! The ledger's key: made at the first start, kept where only the platform's user reads it.

use std::{fs, io, path::Path};

use rouse_metering::audit::key::Key;
use rouse_store::file;

/// Reads the key of this state folder, or makes one. One that is there and is none is an error: a new one would make
/// seals that those who noted the old key refuse.
pub(crate) fn open(state: &Path) -> io::Result<Key> {
    let dir = state.join("control");
    let path = dir.join("ledger.key");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes = Key::generate().map_err(io::Error::other)?;
            // On the disk before it signs.
            file::replace(&path, &bytes)?;
            bytes
        }
        Err(error) => return Err(error),
    };
    Key::from_pkcs8(&bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_is_private_and_is_never_replaced() {
        let state = tempfile::tempdir().expect("a folder");
        fs::create_dir(state.path().join("control")).expect("a folder");
        let key = open(state.path()).expect("a key").public();
        let file = state.path().join("control/ledger.key");
        assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
        assert_eq!(open(state.path()).expect("the key").public(), key);
        fs::write(&file, "x").expect("written");
        let error = open(state.path()).expect_err("no key");
        assert!(error.to_string().contains("ledger.key"), "{error}");
        assert_eq!(fs::read(&file).expect("the file"), b"x");
    }
}
