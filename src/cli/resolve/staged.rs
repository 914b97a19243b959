//! What the tool sees of a function's folder: its bytes, which also name the result in the cache.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::{Context as _, bail};
use rouse_types::{Digest, limits::CODE_UNPACKED_BYTES_MAX};
use sha2::{Digest as _, Sha256};

use super::needs::Needs;
use crate::cli::{
    pack::{self, Entry, Kind},
    report::hinted,
};

/// Changes when what is made of the same files does: what was made before is then made anew.
const FORM: &str = "rouse build 1";

/// The files that resolving depends on.
#[derive(Debug)]
pub(super) struct Staged {
    entries: Vec<Entry>,
}

impl Staged {
    /// Of this folder, as much as the needs say.
    pub(super) fn of(source: &Path, needs: &Needs) -> anyhow::Result<Self> {
        let mut entries = pack::entries(source, &["node_modules"])?;
        if let Some(files) = &needs.files {
            entries.retain(|entry| files.contains(&entry.name));
            if entries.len() != files.len() {
                let lost = files.iter().find(|file| !entries.iter().any(|entry| entry.name == **file));
                bail!(hinted(
                    format!("{} is not packed, but is needed", lost.map_or("a file", String::as_str)),
                    "take it out of .rouseignore",
                ));
            }
        }
        Ok(Self { entries })
    }

    /// Names what comes out: the same for the same files, tool and machine.
    pub(super) fn key(&self, tool: &str) -> anyhow::Result<Digest> {
        let mut hash = Sha256::new();
        let part = |hash: &mut Sha256, bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        for text in [FORM, tool, std::env::consts::ARCH] {
            part(&mut hash, text.as_bytes());
        }
        let mut left = CODE_UNPACKED_BYTES_MAX;
        for Entry { name, kind, path } in &self.entries {
            part(&mut hash, name.as_bytes());
            match kind {
                Kind::Folder => part(&mut hash, b"folder"),
                Kind::Link { target } => part(&mut hash, format!("link {target}").as_bytes()),
                Kind::File { executable } => {
                    part(&mut hash, if *executable { b"program" } else { b"file" });
                    let mut bytes = Vec::new();
                    let file = fs::File::open(path).with_context(|| format!("read {}", path.display()))?;
                    file.take(left + 1)
                        .read_to_end(&mut bytes)
                        .with_context(|| format!("read {}", path.display()))?;
                    left = left
                        .checked_sub(bytes.len() as u64)
                        .context("the folder is larger than code may be")?;
                    part(&mut hash, &bytes);
                }
            }
        }
        Ok(Digest::from_hasher(hash))
    }

    /// Copies them into an empty folder, readable by everyone.
    pub(super) fn copy(&self, to: &Path) -> io::Result<()> {
        for Entry { name, kind, path } in &self.entries {
            let target = to.join(name);
            if let Some(parent) = target.parent() {
                folder(to, parent)?;
            }
            match kind {
                Kind::Folder => folder(to, &target)?,
                Kind::Link { target: leads_to } => std::os::unix::fs::symlink(leads_to, &target)?,
                Kind::File { executable } => {
                    fs::copy(path, &target)?;
                    let mode = if *executable { 0o755 } else { 0o644 };
                    fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
                }
            }
        }
        Ok(())
    }
}

/// Makes a folder and those above it, up to the root, whatever the umask.
fn folder(root: &Path, path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    for path in path.ancestors().take_while(|path| path.starts_with(root)) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
