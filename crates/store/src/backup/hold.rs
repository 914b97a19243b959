//! While a backup is made, files that it may name are not removed: whoever removes looks here first, and leaves them to a
//! later time.
//!
//! Who removes does so after the transaction that made a file superfluous. So one that looked just before a backup took
//! its hold removes what no copy of the tables, made after that, names.

use std::{
    fs::{File, TryLockError},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::Error;

/// Those who look have the lock for a moment.
const WAIT: Duration = Duration::from_secs(5);

fn path(state: &Path) -> PathBuf {
    state.join("run").join("backup.lock")
}

/// Nothing is removed while this lives. It ends with the process, too.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "its lock is held until it is dropped")] File);

impl Hold {
    /// Takes the hold of a state folder.
    ///
    /// # Errors
    /// [`Error::Invalid`] while another backup is made.
    pub fn take(state: &Path) -> Result<Self, Error> {
        let path = path(state);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io("make the folder", folder))?;
        }
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(Error::io("open", &path))?;
        // The processes of the platform, of another user, look.
        let readable = std::fs::Permissions::from_mode(0o644);
        file.set_permissions(readable).map_err(Error::io("open up", &path))?;
        let begin = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) if begin.elapsed() < WAIT => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Invalid(
                        "another backup of this state folder is being made".to_owned(),
                    ));
                }
                Err(TryLockError::Error(error)) => return Err(Error::io("take the lock", &path)(error)),
            }
        }
    }
}

/// Whether a backup of this state folder is being made. One that cannot be told counts as one.
#[must_use]
pub fn held(state: &Path) -> bool {
    match File::open(path(state)) {
        Ok(file) => file.try_lock_shared().is_err(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_seen_by_others_for_as_long_as_it_lives_and_there_is_one() {
        let state = tempfile::tempdir().expect("a folder");
        assert!(!held(state.path()));
        let hold = Hold::take(state.path()).expect("the hold");
        assert!(held(state.path()) && held(state.path()));
        assert!(Hold::take(state.path()).expect_err("one is there").to_string().contains("another backup"));
        drop(hold);
        assert!(!held(state.path()));
        Hold::take(state.path()).expect("the hold again");
    }
}
