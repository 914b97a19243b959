//! What `cargo xtask setup` installed, found again, so that plain `cargo test` works after it.

use std::{env, ffi::OsString, fs, path::PathBuf, process::Command};

/// The file that `xtask setup` writes: a variable a line; `PATH` stands for one folder to look in.
fn file() -> PathBuf {
    let folder = env::var_os("ROUSE_TOOLS").map_or_else(
        || {
            PathBuf::from(env::var_os("HOME").unwrap_or_else(|| OsString::from("/root")))
                .join(".cache/rouse/tools")
        },
        PathBuf::from,
    );
    folder.join("env")
}

/// Whether the set-up was done.
pub(crate) fn there() -> bool {
    file().is_file()
}

/// Lets a program find the tools.
pub(crate) fn apply(command: &mut Command) {
    let text = fs::read_to_string(file()).unwrap_or_default();
    let mut path: Vec<PathBuf> = Vec::new();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        if key == "PATH" {
            path.push(value.into());
        } else {
            command.env(key, value);
        }
    }
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    if let Ok(path) = env::join_paths(path) {
        command.env("PATH", path);
    }
}
