//! Access keys as control hands them over: one file, replaced whole at each change, so that requests are checked while
//! control is away.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
    time::SystemTime,
};

use rouse_types::{AccessKey, AccessKeys, access_key::FILE};

/// The keys as the file had them last.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    path: PathBuf,
    read: Mutex<(Option<SystemTime>, AccessKeys)>,
}

impl Ring {
    pub(crate) fn new(state: &Path) -> Self {
        Self { path: state.join(FILE), read: Mutex::default() }
    }

    /// The key of this id. Looks at the file's time first; a file that cannot be read leaves the keys as they were.
    pub(crate) fn find(&self, id: &str) -> Option<AccessKey> {
        let mut read = self.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let modified = std::fs::metadata(&self.path).and_then(|file| file.modified()).ok();
        if modified.is_none() {
            *read = (None, AccessKeys::new());
        } else if read.0 != modified {
            match std::fs::read(&self.path).map(|bytes| serde_json::from_slice::<AccessKeys>(&bytes)) {
                Ok(Ok(keys)) => *read = (modified, keys),
                Ok(Err(error)) => tracing::error!(%error, "the file of access keys cannot be read"),
                Err(error) => tracing::error!(%error, "the file of access keys cannot be read"),
            }
        }
        read.1.get(id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_as_soon_as_it_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("aws")).expect("a folder");
        let ring = Ring::new(folder.path());
        assert_eq!(ring.find("A"), None);
        let key = AccessKey {
            tenant: "default".parse().expect("a tenant"),
            secret: "s".to_owned(),
            created: Default::default(),
        };
        let keys: AccessKeys = [("A".to_owned(), key.clone())].into();
        std::fs::write(folder.path().join(FILE), serde_json::to_vec(&keys).expect("json")).expect("a file");
        assert_eq!(ring.find("A"), Some(key));
        std::fs::remove_file(folder.path().join(FILE)).expect("removed");
        assert_eq!(ring.find("A"), None);
    }
}
