//! Puts in place what an interpreter needs to speak its contract, in `<state>/runtimes/`: AWS's runtime interface
//! client from PyPI in `python3.N`, Google's Functions Framework from PyPI or npm in
//! `functions-framework-<runtime>`.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail};
use rouse_contract::lambda::environment::RUNTIME_DIR;
use rouse_types::Runtime;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tokio::process::Command;

use super::{progress::Progress, report::hinted};

/// The client, in the version that was tried.
const CLIENT: &str = "awslambdaric==4.2.2";
/// Google's framework, in the versions that were tried.
const FRAMEWORK_PYTHON: &str = "functions-framework==3.10.2";
const FRAMEWORK_NODE: &str = "@google-cloud/functions-framework@5.0.5";
/// What stands before the runtime's name in the framework's.
const FRAMEWORK: &str = "functions-framework-";
/// Says, in a folder that is complete, what is in it.
const MARKER: &str = ".rouse-runtime";
/// Where the platform looks for interpreters: what sandboxes see of the host.
const INTERPRETER_FOLDERS: [&str; 2] = ["/usr/bin", "/usr/local/bin"];

/// What can be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Support {
    /// What a Python needs to speak the Lambda contract.
    Python(u8),
    /// Google's framework for a runtime.
    Framework(Runtime),
}

impl Support {
    /// By the name that people write.
    pub(crate) fn parse(name: &str) -> anyhow::Result<Self> {
        let (text, is_framework) = match name.strip_prefix(FRAMEWORK) {
            Some(runtime) => (runtime, true),
            None => (name, false),
        };
        let runtime: Runtime = text.parse().context("install a runtime")?;
        match (runtime, is_framework) {
            (Runtime::Python { minor }, false) => Ok(Self::Python(minor)),
            (runtime @ (Runtime::Python { .. } | Runtime::Node { .. }), true) => Ok(Self::Framework(runtime)),
            (runtime, true) => bail!("there is no Functions Framework for {runtime}"),
            (runtime, false) => Err(hinted(
                format!("{runtime} needs nothing installed"),
                "python3.N does, and functions-framework-python3.N or -nodejsN for Google's functions; for nodejsN, \
                 install Node.js itself",
            )),
        }
    }

    fn package(&self) -> &'static str {
        match self {
            Self::Python(_) => CLIENT,
            Self::Framework(Runtime::Python { .. }) => FRAMEWORK_PYTHON,
            Self::Framework(_) => FRAMEWORK_NODE,
        }
    }

    /// What is in a folder that is complete.
    fn content(&self) -> String {
        let compiled = matches!(self, Self::Python(_) | Self::Framework(Runtime::Python { .. }));
        format!("{}{}\n", self.package(), if compiled { ", compiled" } else { "" })
    }

    fn folder(&self, state: &Path) -> PathBuf {
        state.join("runtimes").join(self.to_string())
    }

    /// Whether it is there.
    pub(crate) fn is_there(&self, state: &Path) -> bool {
        let marker = self.folder(state).join(MARKER);
        std::fs::read_to_string(marker).is_ok_and(|text| text == self.content())
    }

    /// Installs it; at once done when it is there.
    pub(crate) async fn install(&self, state: &Path) -> anyhow::Result<PathBuf> {
        let (target, package) = (self.folder(state), self.package());
        if self.is_there(state) {
            return Ok(target);
        }
        let runtimes = state.join("runtimes");
        std::fs::create_dir_all(&runtimes).with_context(|| format!("create {}", runtimes.display()))?;
        // Beside its target, so that a rename brings it into place.
        let fresh =
            tempfile::Builder::new().prefix(".new-").tempdir_in(&runtimes).context("make a folder")?;
        let _progress = Progress::spinner(format!("installing {package} as {self}"));
        match self {
            Self::Python(minor) | Self::Framework(Runtime::Python { minor }) => {
                let interpreter = interpreter(*minor)?;
                pip(&interpreter, *minor, package, fresh.path()).await?;
                byte_compile(&interpreter, fresh.path()).await?;
            }
            Self::Framework(_) => npm(package, fresh.path()).await?,
        }
        std::fs::write(fresh.path().join(MARKER), self.content()).context("write the marker")?;
        // Processes without privileges read it.
        let readable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(fresh.path(), readable).context("make the runtime readable")?;
        let flags = if target.exists() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        renameat_with(CWD, fresh.path(), CWD, &target, flags)
            .with_context(|| format!("put {} in place", target.display()))?;
        // After an exchange, what the temporary folder holds is the old one, and goes with it.
        Ok(target)
    }
}

impl std::fmt::Display for Support {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Python(minor) => write!(f, "python3.{minor}"),
            Self::Framework(runtime) => write!(f, "{FRAMEWORK}{runtime}"),
        }
    }
}

/// Writes the interpreter's byte code beside the files: instances see them read-only, and each would compile them again.
async fn byte_compile(interpreter: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(interpreter);
    // The files never change, so nobody needs to look whether they did; and tracebacks name what the code sees.
    command.args(["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s"]).arg(folder);
    command.args(["-p", RUNTIME_DIR]).arg(folder).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.context("run compileall")?;
    if !output.status.success() {
        // A package may carry files for other versions of Python. What is not compiled is compiled at each start.
        tracing::debug!(told = %String::from_utf8_lossy(&output.stderr), "not all of it could be compiled");
    }
    Ok(())
}

async fn npm(package: &str, target: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("npm");
    command.arg("install").arg("--prefix").arg(target).args(["--no-audit", "--no-fund", "--loglevel=error"]);
    let output = command.arg(package).stdin(Stdio::null()).kill_on_drop(true).output().await;
    let install_npm = "apt-get install npm, or `npm install` the package in the function's own folder";
    let output = output.map_err(|error| hinted(format!("npm cannot be run: {error}"), install_npm))?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let first = told.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    bail!(hinted(
        format!("npm could not install {package}: {first}"),
        "it needs the npm registry, or the one that its settings name",
    ))
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

async fn pip(interpreter: &Path, minor: u8, package: &str, target: &Path) -> anyhow::Result<()> {
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
                .arg(package)
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
            format!("pip could not install {package} for python3.{minor}: {}", last.join(" / ")),
            "it needs PyPI (or an index named by PIP_INDEX_URL); where it must compile, \
             apt-get install gcc g++ make autoconf automake libtool",
        ));
    }
    bail!(hinted(
        format!("python3.{minor} has no pip"),
        format!("apt-get install python3-pip python3.{minor}-venv"),
    ))
}
