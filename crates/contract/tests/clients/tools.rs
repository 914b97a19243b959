//! What tests install: from the packages' own registries, by their own clients, once, into the folder of
//! `cargo xtask setup`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::works;

/// The version of AWS' client for Python.
const AWSLAMBDARIC: &str = "4.2.2";

/// A state folder with AWS' client for a minor version of Python 3, as `rouse runtime install` makes it.
pub(crate) fn awslambdaric(minor: u8) -> Option<PathBuf> {
    let state = format!("awslambdaric-{AWSLAMBDARIC}");
    let name = format!("{state}/runtimes/python3.{minor}");
    let client = pip(minor, &name, &format!("awslambdaric=={AWSLAMBDARIC}"))?;
    client.ancestors().nth(2).map(Path::to_owned)
}

/// A package of PyPI, with what it needs, for a minor version of Python 3.
pub(crate) fn pip(minor: u8, name: &str, package: &str) -> Option<PathBuf> {
    installed(name, |folder| {
        let install = |python: &mut Command| {
            works(
                python
                    .args(["-m", "pip", "install", "--quiet", "--only-binary=:all:", "--python-version"])
                    .args([&format!("3.{minor}"), "--target"])
                    .arg(folder)
                    .arg(package),
            )
        };
        if install(&mut Command::new("python3")) {
            return true;
        }
        // A system's Python often has no pip but the one that it gives a virtual environment.
        let venv = tempfile::tempdir().expect("a folder");
        works(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(venv.path()))
            && install(&mut Command::new(venv.path().join("bin/python")))
    })
}

/// Packages of npm, in a folder's `node_modules`.
pub(crate) fn npm(name: &str, packages: &[&str]) -> Option<PathBuf> {
    installed(name, |folder| {
        let mut npm = Command::new("npm");
        npm.arg("install").arg("--prefix").arg(folder);
        works(npm.args(["--no-audit", "--no-fund", "--ignore-scripts"]).args(packages))
    })
}

/// A folder that is there whole or not at all.
fn installed(name: &str, fill: impl FnOnce(&Path) -> bool) -> Option<PathBuf> {
    let tools = env::var_os("ROUSE_TOOLS").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/rouse/tools"),
        PathBuf::from,
    );
    let folder = tools.join("functions").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    fs::create_dir_all(folder.parent()?).ok()?;
    let part = tempfile::tempdir_in(folder.parent()?).ok()?;
    if !fill(part.path()) {
        return None;
    }
    works(Command::new("chmod").args(["-R", "a+rX"]).arg(part.path()));
    // Another test may have been first: then its folder stands.
    drop(fs::rename(part.keep(), &folder));
    Some(folder)
}
