//! The state folder: what lies in it, who may enter, and that one platform at a time uses it.

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::backup::STAGING;

/// The folders below the state folder. All belong to the unprivileged user.
const FOLDERS: [&str; 17] = [
    "aws",
    "control",
    "events",
    "objects",
    "code",
    "layers",
    "compiled",
    "apps",
    "keys",
    "journal",
    "journal/usage",
    "journal/log",
    "blobs",
    "runtimes",
    "secrets",
    "tls",
    "run",
];

/// The user of the processes without privileges where there is no user `rouse`: of the range that systemd
/// gives to services without a user of their own.
const FALLBACK_ID: u32 = 61_927;

/// Who the processes without privileges are. None when the platform itself has no privileges to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unprivileged {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Unprivileged {
    /// The user `rouse` if this machine has one. None if we are not root.
    pub(crate) fn find() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Some(Self::in_passwd(&passwd).unwrap_or(Self { uid: FALLBACK_ID, gid: FALLBACK_ID }))
    }

    fn in_passwd(passwd: &str) -> Option<Self> {
        let line = passwd.lines().find_map(|line| line.strip_prefix("rouse:"))?;
        let mut fields = line.split(':').skip(1);
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { uid, gid })
    }
}

/// A state folder that this process holds alone, until it ends.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) path: PathBuf,
    pub(crate) unprivileged: Option<Unprivileged>,
    _lock: File,
}

impl State {
    /// Makes what is missing of the folder and takes it.
    pub(crate) fn take(path: &Path) -> anyhow::Result<Self> {
        let unprivileged = Unprivileged::find();
        // Others may pass through the folder, since each process reaches its own; they may list nothing.
        make(path, 0o711, None)?;
        let path = path.canonicalize().with_context(|| format!("find {}", path.display()))?;
        let lock =
            File::create(path.join("lock")).with_context(|| format!("make a lock in {}", path.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!(
                "another platform runs on {}\nhint: stop it, or name another folder with --state",
                path.display()
            );
        }
        if path.join(STAGING).exists() {
            bail!(
                "a restore into {} was not ended\nhint: empty the folder, and restore the backup again",
                path.display()
            );
        }
        for folder in FOLDERS {
            // What `rouse runtime install` writes is code that functions run: only its owner changes it.
            make(&path.join(folder), 0o750, unprivileged.filter(|_| folder != "runtimes"))?;
        }
        std::fs::set_permissions(path.join("runtimes"), PermissionsExt::from_mode(0o755))
            .context("open the folder of runtimes")?;
        Ok(Self { path, unprivileged, _lock: lock })
    }

    /// A path below `run`.
    pub(crate) fn run(&self, name: &str) -> PathBuf {
        self.path.join("run").join(name)
    }

    /// Gives a file to the unprivileged user.
    pub(crate) fn give(&self, path: &Path) -> anyhow::Result<()> {
        give(path, self.unprivileged)
    }
}

fn make(path: &Path, mode: u32, owner: Option<Unprivileged>) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("make the folder {}", path.display()))?;
    give(path, owner)
}

fn give(path: &Path, owner: Option<Unprivileged>) -> anyhow::Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    let now = std::fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
    if (now.uid(), now.gid()) == (owner.uid, owner.gid) {
        return Ok(());
    }
    chown(path, Some(owner.uid), Some(owner.gid))
        .with_context(|| format!("give {} to another user", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_platforms_never_share_a_state_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = State::take(&dir.path().join("state")).expect("the first takes it");
        let second = State::take(&dir.path().join("state")).expect_err("it is taken").to_string();
        assert!(second.contains("another platform") && second.contains("--state"), "{second}");
        drop(first);
        State::take(&dir.path().join("state")).expect("it is free again");
    }

    #[test]
    fn a_state_folder_that_is_half_restored_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join(STAGING)).expect("made");
        let refused = State::take(dir.path()).expect_err("it is half restored").to_string();
        assert!(refused.contains("was not ended") && refused.contains("hint:"), "{refused}");
    }

    #[test]
    fn the_user_rouse_is_taken_where_there_is_one() {
        let passwd = "root:x:0:0::/:/bin/sh\nrouse:x:990:991::/:/bin/false\n";
        assert_eq!(Unprivileged::in_passwd(passwd), Some(Unprivileged { uid: 990, gid: 991 }));
        assert_eq!(Unprivileged::in_passwd("root:x:0:0::/:/bin/sh\n"), None);
    }
}
