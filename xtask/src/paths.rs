//! Where things are.

use std::path::{Path, PathBuf};

/// The folder of the repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where tools are installed: outside the repository, so that a fresh clone need not fetch them again.
pub(crate) fn tools() -> PathBuf {
    match std::env::var_os("ROUSE_TOOLS") {
        Some(folder) => folder.into(),
        None => home().join(".cache/rouse/tools"),
    }
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// What this tool itself writes: logs and the like.
pub(crate) fn scratch() -> PathBuf {
    target().join("xtask")
}

fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| "/root".into(), PathBuf::from)
}
