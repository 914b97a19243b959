//! Interpreters of this host. A sandbox sees the host's `/usr`, read-only, so they must lie there; one in a home folder
//! or under `/opt` cannot be used.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use rouse_types::{Code, Refusal};

/// Where interpreters are looked for: what lies below `/usr` is seen inside.
const BIN_FOLDERS: [&str; 2] = ["/usr/local/bin", "/usr/bin"];

/// Where this version of Python is.
///
/// # Errors
/// [`Code::RuntimeMissing`]: which versions are there, and the next step.
pub(crate) fn python(minor: u8) -> Result<String, Refusal> {
    let name = format!("python3.{minor}");
    find(&name).ok_or_else(|| {
        let there = (0..=u8::MAX).map(|minor| format!("python3.{minor}")).filter(|name| find(name).is_some());
        missing(&name, &there.collect::<Vec<_>>())
    })
}

/// Where this version of Node.js is. Runs `node --version` once for each that is there: some 50 ms.
///
/// # Errors
/// As [`python`].
pub(crate) fn node(major: u8) -> Result<String, Refusal> {
    let found: Vec<_> = [format!("node{major}"), "node".into()]
        .iter()
        .filter_map(|name| find(name))
        .filter_map(|path| Some((node_major(Path::new(&path))?, path)))
        .collect();
    if let Some((_, interpreter)) = found.iter().find(|(there, _)| *there == major) {
        return Ok(interpreter.clone());
    }
    let there: Vec<_> = found.iter().map(|(there, _)| format!("nodejs{there}")).collect();
    Err(missing(&format!("nodejs{major}"), &there))
}

fn missing(name: &str, there: &[String]) -> Refusal {
    let there =
        if there.is_empty() { "none of its kind is".into() } else { format!("{} is", there.join(", ")) };
    Refusal::new(Code::RuntimeMissing, format!("{name} is not on this host; {there}")).hint(format!(
        "install it below /usr, or set `runtime` to one that is there; looked for in {}",
        BIN_FOLDERS.join(" and ")
    ))
}

/// The path of an interpreter that exists inside a sandbox too: also its target, where it is a link.
pub(crate) fn find(name: &str) -> Option<String> {
    BIN_FOLDERS.iter().map(|dir| Path::new(dir).join(name)).find_map(|path| {
        let target = path.canonicalize().ok()?;
        (target.starts_with("/usr") && target.is_file()).then(|| path.to_string_lossy().into_owned())
    })
}

/// What `node --version` says, remembered as long as the file stays the same.
fn node_major(path: &Path) -> Option<u8> {
    static KNOWN: Mutex<Vec<(PathBuf, SystemTime, u8)>> = Mutex::new(Vec::new());
    let changed = path.metadata().and_then(|file| file.modified()).ok()?;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, _, major)) = known.iter().find(|(at, when, _)| at == path && *when == changed) {
        return Some(*major);
    }
    let output = std::process::Command::new(path).arg("--version").env_clear().output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let major = text.trim().strip_prefix('v')?.split('.').next()?.parse().ok()?;
    known.retain(|(at, _, _)| at != path);
    known.push((path.to_owned(), changed, major));
    Some(major)
}
