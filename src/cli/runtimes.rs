//! Puts in place what an interpreter needs to speak the Lambda contract: AWS's runtime interface client,
//! from PyPI, in `<state>/runtimes/python3.N`.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tokio::process::Command;

use super::{progress::Progress, report::hinted};

/// The client, in the version that was tried.
const CLIENT: &str = "awslambdaric==4.2.2";
/// Says, in a folder that is complete, what is in it.
const MARKER: &str = ".rouse-runtime";
/// Where the platform looks for interpreters: what sandboxes see of the host.
const INTERPRETER_FOLDERS: [&str; 2] = ["/usr/bin", "/usr/local/bin"];

/// Whether the support for this Python is there.
pub(crate) fn has_python(state: &Path, minor: u8) -> bool {
    let marker = folder(state, minor).join(MARKER);
    std::fs::read_to_string(marker).is_ok_and(|text| text.trim() == CLIENT)
}

/// Installs the support for this Python; at once done when it is there.
pub(crate) async fn install_python(state: &Path, minor: u8) -> anyhow::Result<PathBuf> {
    let target = folder(state, minor);
    if has_python(state, minor) {
        return Ok(target);
    }
    let interpreter = interpreter(minor)?;
    let runtimes = state.join("runtimes");
    std::fs::create_dir_all(&runtimes).with_context(|| format!("create {}", runtimes.display()))?;
    // Beside its target, so that a rename brings it into place.
    let fresh = tempfile::Builder::new().prefix(".new-").tempdir_in(&runtimes).context("make a folder")?;
    let _progress = Progress::spinner(format!("installing {CLIENT} for python3.{minor}"));
    pip(&interpreter, minor, fresh.path()).await?;
    std::fs::write(fresh.path().join(MARKER), CLIENT).context("write the marker")?;
    // Processes without privileges read it.
    let readable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(fresh.path(), readable).context("make the runtime readable")?;
    let flags = if target.exists() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    renameat_with(CWD, fresh.path(), CWD, &target, flags)
        .with_context(|| format!("put {} in place", target.display()))?;
    // After an exchange, what the temporary folder holds is the old one, and goes with it.
    Ok(target)
}

fn folder(state: &Path, minor: u8) -> PathBuf {
    state.join(format!("runtimes/python3.{minor}"))
}

fn interpreter(minor: u8) -> anyhow::Result<PathBuf> {
    let name = format!("python3.{minor}");
    let found =
        INTERPRETER_FOLDERS.iter().map(|folder| Path::new(folder).join(&name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        hinted(
            format!("this machine has no {name} in {}", INTERPRETER_FOLDERS.join(" or ")),
            format!("apt-get install {name} {name}-venv python3-pip, or use a version that is there"),
        )
    })
}

async fn pip(interpreter: &Path, minor: u8, target: &Path) -> anyhow::Result<()> {
    let interpreter = interpreter.to_str().context("the interpreter's path is not UTF-8")?;
    // The interpreter's own pip; else any that can work for another interpreter (pip 22.3 and newer).
    let candidates: [&[&str]; 3] =
        [&[interpreter, "-m", "pip"], &["pip3", "--python", interpreter], &["pip", "--python", interpreter]];
    for candidate in candidates {
        let run = |arguments: &[&str]| {
            let mut command = Command::new(candidate[0]);
            command.args(&candidate[1..]).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
            command
        };
        let works = run(&["--version"]).output().await.is_ok_and(|output| output.status.success());
        if !works {
            continue;
        }
        let output =
            run(&["install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-compile"])
                .arg("--target")
                .arg(target)
                .arg(CLIENT)
                .output()
                .await
                .context("run pip")?;
        if output.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&output.stderr);
        let last: Vec<_> = told.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
        let last: Vec<_> = last.into_iter().rev().collect();
        bail!(hinted(
            format!("pip could not install {CLIENT} for python3.{minor}: {}", last.join(" / ")),
            "it needs PyPI (or an index named by PIP_INDEX_URL); where it must compile, \
             apt-get install gcc g++ make autoconf automake libtool",
        ));
    }
    bail!(hinted(
        format!("python3.{minor} has no pip"),
        format!("apt-get install python3-pip python3.{minor}-venv"),
    ))
}
