//! Access keys as control hands them over to whoever checks signatures: one file, replaced whole at each change, so that
//! requests are checked while control is away. Functions have keys of their own, which are in no file: see
//! [`FunctionKeys`].

mod functions;
pub mod sessions;

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rouse_types::{AccessKey, AccessKeys, access_key::FILE};

pub use functions::FunctionKeys;

use crate::file;

/// Tells one file from the one that replaced it: its inode, and when it was changed, in nanoseconds.
type Seen = (u64, i64, i64);

/// The keys as the file had them last. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ring(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: PathBuf,
    path: PathBuf,
    read: Mutex<(Option<Seen>, AccessKeys)>,
}

impl Ring {
    /// The keys of the platform with this state folder. A file that is not there holds none.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        let (state, path) = (state.to_owned(), state.join(FILE));
        Self(Arc::new(Inner { state, path, read: Mutex::default() }))
    }

    /// The key of this id. Looks at the file's time first; a file that cannot be read leaves the keys as they were.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<AccessKey> {
        if let Some(session) = sessions::Session::of(id) {
            let is_good = !session.is_over() && sessions::Session::of(session.key()).is_none();
            let of = is_good.then(|| self.find(session.key())).flatten()?;
            let secret = FunctionKeys::open(&self.0.state).ok()?.secret(id);
            return Some(AccessKey { secret, ..of });
        }
        if FunctionKeys::is_one(id) {
            return FunctionKeys::open(&self.0.state).ok()?.find(&self.0.state, id);
        }
        // The id is no secret, so finding it need not take constant time.
        let mut read = self.0.read.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = fs::metadata(&self.0.path).ok().map(|file| (file.ino(), file.mtime(), file.mtime_nsec()));
        if seen.is_none() {
            *read = (None, AccessKeys::new());
        } else if read.0 != seen {
            match fs::read(&self.0.path).map(|bytes| serde_json::from_slice::<AccessKeys>(&bytes)) {
                Ok(Ok(keys)) => *read = (seen, keys),
                Ok(Err(error)) => tracing::error!(%error, "the file of access keys cannot be read"),
                Err(error) => tracing::error!(%error, "the file of access keys cannot be read"),
            }
        }
        read.1.get(id).cloned()
    }
}

/// Makes the file hold these keys: whole or not at all, its mode 0600.
///
/// # Errors
/// What the disk says.
pub fn replace(state: &Path, keys: &AccessKeys) -> io::Result<()> {
    file::replace(&state.join(FILE), &serde_json::to_vec(keys)?)
}

#[cfg(test)]
mod tests {
    use rouse_types::Role;

    use super::*;

    #[test]
    fn a_key_of_before_roles_goes_on_with_all_that_it_could() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("aws")).expect("made");
        let old = r#"{"AKIAOLD":{"tenant":"shop","secret":"s","created":1}}"#;
        fs::write(folder.path().join(FILE), old).expect("written");
        assert_eq!(Ring::new(folder.path()).find("AKIAOLD").expect("it is read").role, Role::Deployer);
    }

    #[test]
    fn a_key_is_known_as_soon_as_it_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let ring = Ring::new(folder.path());
        assert_eq!(ring.find("A"), None);
        let tenant = "default".parse().expect("a tenant");
        let key =
            AccessKey { tenant, secret: "s".to_owned(), created: Default::default(), role: Role::Owner };
        replace(folder.path(), &[("A".to_owned(), key.clone())].into()).expect("written");
        assert_eq!((ring.find("A"), ring.find("B")), (Some(key.clone()), None));
        replace(folder.path(), &[("B".to_owned(), key.clone())].into()).expect("written");
        assert_eq!(
            (ring.find("A"), ring.find("B")),
            (None, Some(key)),
            "at once, whatever the clock's ticks"
        );
        fs::remove_file(folder.path().join(FILE)).expect("removed");
        assert_eq!(ring.find("B"), None);
    }
}
