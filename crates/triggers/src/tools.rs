//! The programs of others that tests try ours with.

use std::{env, fs, path::PathBuf};

/// The packages of Google's Functions Framework for Python, which has the CloudEvents SDK with it, as `cargo xtask setup`
/// installs them; else says that the test is skipped.
#[expect(clippy::print_stderr, reason = "a skip is said")]
pub(crate) fn functions_framework(test: &str) -> Option<PathBuf> {
    const NAME: &str = "ROUSE_FUNCTIONS_FRAMEWORK_PYTHON";
    let written = || {
        let home = PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into()));
        let tools = env::var_os("ROUSE_TOOLS").map_or_else(|| home.join(".cache/rouse/tools"), PathBuf::from);
        let text = fs::read_to_string(tools.join("env")).ok()?;
        text.lines().find_map(|line| line.strip_prefix(NAME)?.strip_prefix('=').map(PathBuf::from))
    };
    let folder = env::var_os(NAME).map(PathBuf::from).or_else(written).filter(|folder| folder.is_dir());
    if folder.is_none() {
        eprintln!("SKIPPED {test}: the Functions Framework is not installed: run `cargo xtask setup`");
    }
    folder
}
