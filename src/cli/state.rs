//! Where the platform of this machine keeps its state, and the token in it.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::args::Global;

/// The state folder: what was said, else the usual place.
pub(crate) fn folder(global: &Global) -> PathBuf {
    global.state.clone().unwrap_or_else(usual)
}

/// `/var/lib/rouse` for root, whose home the unprivileged processes could not enter; else the user's data folder
/// (XDG Base Directory Specification).
pub(crate) fn usual() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/var/lib/rouse".into();
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
    data.unwrap_or_else(|| PathBuf::from("/tmp")).join("rouse")
}

/// The control token that the platform keeps in its state folder; none when there is no platform.
pub(crate) fn token(state: &Path) -> Result<Option<String>, std::io::Error> {
    match std::fs::read_to_string(state.join("control/token")) {
        Ok(token) => Ok(Some(token.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
