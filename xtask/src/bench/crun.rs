//! The same handlers in a fresh crun container each: what a container runtime of others takes for the same job.
//!
//! It is given less to do than Rouse does: no network namespace (it reaches the Runtime API on the host's loopback), no
//! seccomp filter, and no control groups.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::runtime_api::RuntimeApi;
use crate::paths;

/// What is run.
pub(super) struct Payload<'a> {
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(&'static str, String)>,
    /// Seen as /var/task.
    pub(super) code: &'a Path,
    /// Seen as /var/runtime.
    pub(super) runtime: Option<PathBuf>,
}

/// From the start of crun until the answer to the first invocation had been read.
pub(super) fn cold(payload: &Payload<'_>, number: usize) -> Result<Duration> {
    let api = RuntimeApi::start(1)?;
    let bundle = paths::scratch().join(format!("crun-{}-{number}", std::process::id()));
    prepare(&bundle, payload, &api)?;
    let id = format!("rouse-bench-{}-{number}", std::process::id());
    let mut child = crun(&["run", "--bundle", &bundle.display().to_string(), &id])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start crun")?;
    let (Some(stdout), Some(stdin)) = (&mut child.stdout, &mut child.stdin) else { bail!("no pipes") };
    stdout.read_exact(&mut [0; 1])?;
    let begun = Instant::now();
    stdin.write_all(b"\n")?;
    let answered = api.answered();
    let deleted = delete(&id);
    let said = child.wait_with_output()?;
    fs::remove_dir_all(&bundle)?;
    let answered =
        answered.with_context(|| format!("crun said: {}", String::from_utf8_lossy(&said.stderr)))?;
    deleted?;
    Ok(answered.at - begun)
}

/// It refuses to run where both versions of control groups are mounted, so it is shown the first alone, by a shell that
/// says when that is done and becomes crun when it is told to.
const SHELL: &str =
    "umount -l /sys/fs/cgroup/unified 2>&-; echo; read -r go; exec crun \"$@\" </dev/null >/dev/null";

fn crun(args: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", SHELL, "sh"]);
    command.args(["--cgroup-manager", "disabled", "--root"]).arg(state()).args(args);
    command
}

/// Where crun notes what runs.
fn state() -> PathBuf {
    paths::scratch().join("crun-state")
}

fn delete(id: &str) -> Result<()> {
    let mut delete = crun(&["delete", "--force", id]);
    let mut child = delete.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    drop(child.stdin.take());
    // `crun run` deletes it too, once its program is dead: whoever comes second finds nothing.
    if child.wait()?.success() || !state().join(id).exists() {
        return Ok(());
    }
    bail!("crun cannot delete {id}")
}

/// A bundle with the host's `/usr`, read-only, as Rouse shows it.
fn prepare(bundle: &Path, payload: &Payload<'_>, api: &RuntimeApi) -> Result<()> {
    let root = bundle.join("rootfs");
    for folder in ["usr", "proc", "dev", "tmp", "etc", "var/task", "var/runtime"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
            std::os::unix::fs::symlink(target, root.join(name))?;
        }
    }
    let bind = |source: &Path, target: &str| {
        json!({
            "destination": target, "type": "bind", "source": source, "options": ["rbind", "ro", "nosuid", "nodev"],
        })
    };
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }),
        json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"] }),
        bind(Path::new("/usr"), "/usr"),
        bind(payload.code, "/var/task"),
    ];
    mounts.extend(payload.runtime.as_ref().map(|runtime| bind(runtime, "/var/runtime")));
    let mut env = vec![format!("AWS_LAMBDA_RUNTIME_API={}", api.address), "PATH=/usr/bin:/bin".to_owned()];
    env.extend(payload.env.iter().map(|(name, value)| format!("{name}={value}")));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 61_000, "gid": 61_000 }, "cwd": "/var/task", "args": payload.argv, "env": env,
            "noNewPrivileges": true,
            "capabilities": { "bounding": [], "effective": [], "permitted": [], "inheritable": [] },
        },
        "root": { "path": root, "readonly": true },
        "hostname": "sandbox",
        "mounts": mounts,
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }],
        },
    });
    fs::write(bundle.join("config.json"), serde_json::to_vec(&config)?).context("write a bundle")
}
