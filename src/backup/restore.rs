//! Makes a state folder of a backup: all of it, or nothing.

use std::{
    fs::{self, DirBuilder, File},
    io::Read,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use anyhow::{Context as _, bail};
use rouse_store::{
    backup::{Summary, Target, unpack},
    settled,
};

use crate::{cli::hinted, roles::Unprivileged};

/// Below the state folder, while a backup is restored: what is in it is not checked to its end yet.
pub(crate) const STAGING: &str = ".restore";
/// What file systems put into an empty folder.
const OF_THE_FILE_SYSTEM: &str = "lost+found";

const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Checks a backup to its end, and writes nothing.
pub(crate) fn check(input: impl Read) -> anyhow::Result<Summary> {
    Ok(unpack(input, RELEASE, None)?)
}

/// Makes a state folder of a backup. The folder is empty, or not there.
pub(crate) fn restore(input: impl Read, state: &Path) -> anyhow::Result<Summary> {
    let made = !state.exists();
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(state)
        .with_context(|| format!("make the folder {}", state.display()))?;
    for entry in fs::read_dir(state).with_context(|| format!("list {}", state.display()))? {
        if entry.context("list the folder")?.file_name() != OF_THE_FILE_SYSTEM {
            return Err(hinted(
                format!("{} is not empty: a backup is restored into an empty folder alone", state.display()),
                "name another with --state, or move away what is there",
            ));
        }
    }
    let staging = state.join(STAGING);
    DirBuilder::new().mode(0o700).create(&staging).context("make a folder in it")?;
    let restored = unpack_into(input, &staging);
    if restored.is_err() {
        // Nothing of it may be taken for a platform's state.
        let _ = fs::remove_dir_all(&staging);
        if made {
            let _ = fs::remove_dir(state);
        }
    }
    let summary = restored?;
    for entry in fs::read_dir(&staging).context("list what was restored")? {
        let entry = entry.context("list what was restored")?;
        let place = state.join(entry.file_name());
        fs::rename(entry.path(), &place).with_context(|| format!("name {}", place.display()))?;
    }
    File::open(state).and_then(|folder| folder.sync_all()).context("flush the state folder")?;
    // Until this is gone, no platform starts on it.
    fs::remove_dir(&staging).context("remove the folder in it")?;
    Ok(summary)
}

fn unpack_into(input: impl Read, staging: &Path) -> anyhow::Result<Summary> {
    let unprivileged = Unprivileged::find();
    let owner = |path: &Path| {
        let operators = ["runtimes", "hosts", "prices.toml"].iter().any(|own| path.starts_with(own));
        unprivileged.filter(|_| !operators).map(|user| (user.uid, user.gid))
    };
    let summary = unpack(input, RELEASE, Some(&Target { folder: staging, owner: &owner }))?;
    if !staging.join("control").is_dir() {
        bail!("the backup holds no platform's state");
    }
    // What is deployed gets its place at the start, before what waits is delivered.
    settled::begin(staging).context("note that it is new")?;
    // One call for all files.
    let folder = File::open(staging).context("open what was restored")?;
    rustix::fs::syncfs(&folder).context("flush what was restored")?;
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use rouse_store::backup::{FORMAT, Head, Pack};
    use rouse_types::Timestamp;

    use super::*;

    fn backup() -> Vec<u8> {
        let head = Head { rouse_backup: FORMAT, release: RELEASE.to_owned(), made: Timestamp(1), node: None };
        let mut pack = Pack::begin(Vec::new(), head).expect("begun");
        pack.file(Path::new("control/ledger.key"), 0o600, 3, &mut &b"key"[..]).expect("packed");
        pack.end().expect("ended").0
    }

    #[test]
    fn a_folder_that_is_not_empty_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("mine"), "x").expect("written");
        let said = restore(&*backup(), folder.path()).expect_err("refused").to_string();
        assert!(said.contains("is not empty"), "{said}");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_damaged_backup_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        let bytes = backup();
        restore(&bytes[..bytes.len() - 1], &state).expect_err("it is cut off");
        assert!(!state.exists());
        fs::create_dir_all(state.join(OF_THE_FILE_SYSTEM)).expect("made");
        restore(&bytes[..bytes.len() - 1], &state).expect_err("it is cut off");
        assert_eq!(fs::read_dir(&state).expect("listed").count(), 1);
        restore(&*bytes, &state).expect("restored");
        assert_eq!(fs::read(state.join("control/ledger.key")).expect("read"), b"key");
        assert!(!state.join(STAGING).exists());
    }
}
