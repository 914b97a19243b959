//! Where things are.

use std::path::{Path, PathBuf};

/// The folder of the repository.
pub(crate) fn root() -> PathBuf {
    // As cargo says now, not as it said when it built: two clones may share a target folder.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let here = Path::new(&here);
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
