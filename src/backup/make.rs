//! Makes a backup of a state folder, whether the platform runs on it or not.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rouse_store::{
    backup::{FORMAT, Head, Hold, Pack, Summary, database, journal, tree},
    journal::cut,
};
use rouse_types::{Clock as _, SystemClock};
use serde::Serialize;

use super::{
    contents::{self, DATABASES, FILES, FOLDERS, JOURNALS, SECRET_KEYS},
    node::Node,
};
use crate::cli::hinted;

/// What was made.
#[derive(Debug, Serialize)]
pub(crate) struct Made {
    /// What is in it.
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// Files that went away while it was made: nothing that it holds names them.
    pub(crate) gone: u64,
    /// What of the state folder this release does not know, and so left out.
    pub(crate) unknown: Vec<String>,
    /// Whether the keys of secrets are in it.
    pub(crate) secret_keys: bool,
    /// Where the bytes of objects lie instead, if it is a bucket: they are not in it.
    pub(crate) objects_in: Option<String>,
}

/// Writes a backup. `scratch` takes copies of the databases meanwhile. On a node of a cluster, what all nodes share is in it as on
/// one machine.
pub(crate) fn make<W: Write>(
    state: &Path,
    node: Option<&Node>,
    out: W,
    scratch: &Path,
    secret_keys: bool,
) -> anyhow::Result<(W, Made)> {
    if !state.join("control").is_dir() {
        return Err(hinted(
            format!("{} is no platform's state folder", state.display()),
            "name it with --state, and run this on the platform's machine",
        ));
    }
    let head = Head {
        rouse_backup: FORMAT,
        release: env!("CARGO_PKG_VERSION").to_owned(),
        made: SystemClock.now(),
        node: node.map(|node| node.name.clone()),
    };
    let _hold = Hold::take(state)?;
    // All copies first, one after the other: so they are of moments close together.
    let (mut copies, mut ledger_key) = (Vec::new(), None);
    for name in DATABASES {
        let (from, copy) = (state.join(name), scratch.join(name.replace('/', "-")));
        let shared = node.map(|node| node.copy(state, name, &copy)).transpose()?.flatten();
        if let Some(shared) = shared {
            ledger_key = shared.key.or(ledger_key);
            copies.push((shared.name, copy));
        } else if from.exists() {
            database(&from, &copy)?;
            copies.push((name, copy));
        }
    }
    let journals: Vec<_> =
        JOURNALS.into_iter().map(|name| cut(&state.join(name))).collect::<Result<_, _>>()?;

    let mut pack = Pack::begin(out, head)?;
    for (name, copy) in copies {
        file(&mut pack, Path::new(name), &copy, 0o600)?;
        // Its room is free for what comes.
        fs::remove_file(&copy).with_context(|| format!("remove {}", copy.display()))?;
    }
    for cuts in journals {
        journal(&mut pack, state, cuts)?;
    }
    let mut gone = 0;
    for name in FILES.into_iter().map(PathBuf::from).chain(acme_accounts(state)?) {
        gone += tree(&mut pack, state, &state.join(name), &|_| true)?;
    }
    if let Some(key) = ledger_key {
        pack.file(Path::new("control/ledger.key"), 0o600, key.len() as u64, &mut key.as_slice())?;
    }
    if secret_keys {
        // It may be a link to where the operator holds keys: what it says is in the backup.
        file(&mut pack, Path::new(SECRET_KEYS), &state.join(SECRET_KEYS), 0o600)?;
    }
    for name in FOLDERS.into_iter().map(PathBuf::from).chain(images(state)?) {
        gone += tree(&mut pack, state, &state.join(&name), &|path| !is_half_made(&name, path))?;
    }
    if let Some(node) = node {
        node.blobs(state, scratch, |name, path| file(&mut pack, name, path, 0o644))?;
    }
    let (out, summary) = pack.end()?;
    let unknown = contents::unknown(state).context("list the state folder")?;
    let objects_in = objects_in(state);
    Ok((out, Made { summary, gone, unknown, secret_keys, objects_in }))
}

fn file<W: Write>(pack: &mut Pack<W>, name: &Path, path: &Path, mode: u32) -> anyhow::Result<()> {
    let mut file = fs::File::open(path).with_context(|| format!("read {}", path.display()))?;
    let bytes = file.metadata().with_context(|| format!("look at {}", path.display()))?.len();
    Ok(pack.file(name, mode, bytes, &mut file)?)
}

fn acme_accounts(state: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(state.join("control")).context("list the folder of control")? {
        let name = format!("control/{}", entry?.file_name().to_string_lossy());
        found.extend(Some(name).filter(|name| contents::is_acme_account(name)).map(PathBuf::from));
    }
    Ok(found)
}

/// What is kept of images is beside unpacked code, which is made again from blobs.
fn images(state: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(state.join("code")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.context("list the folder of code")?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.context("list the folder of code")?;
        if entry.path().join(rouse_types::Image::FILE).is_file() {
            found.push(Path::new("code").join(entry.file_name()));
        }
    }
    Ok(found)
}

/// What begins with a dot directly below such a folder is being made. Further below, it is somebody's.
fn is_half_made(folder: &Path, path: &Path) -> bool {
    let below = path.strip_prefix(folder).ok().and_then(|below| below.components().next());
    below.is_some_and(|first| first.as_os_str().to_string_lossy().starts_with('.'))
}

/// The bucket with the bytes of objects, if there is one.
fn objects_in(state: &Path) -> Option<String> {
    let text = fs::read(state.join("objects").join(rouse_services::objects::place::FILE)).ok()?;
    let written: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let place = &written["place"]["s3"];
    let text = |name: &str| place[name].as_str();
    Some(format!("s3://{}/{}", text("bucket")?, text("prefix")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_made_files_are_told_from_hidden_ones() {
        for (folder, path, half) in [
            ("blobs", "blobs/.upload-1", true),
            ("layers", "layers/.new-1/x", true),
            ("layers", "layers/aa/.bashrc", false),
            ("blobs", "blobs", false),
        ] {
            assert_eq!(is_half_made(Path::new(folder), Path::new(path)), half, "{path}");
        }
    }
}
