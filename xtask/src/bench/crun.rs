//! The same handlers in a fresh crun container each: what a container runtime of others takes for the same job.
//!
//! It is given less to do than Rouse does: no network namespace (it reaches the Runtime API on the host's loopback)
//! and no seccomp filter.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::json;

use super::runtime_api::RuntimeApi;
use crate::{paths, sh};

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
    let begun = Instant::now();
    let child = crun(&["run", "--bundle", &bundle.display().to_string(), &id])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start crun")?;
    let answered = api.answered();
    let deleted = sh::quiet(&mut crun(&["delete", "--force", &id]));
    let said = child.wait_with_output()?;
    fs::remove_dir_all(&bundle)?;
    let answered =
        answered.with_context(|| format!("crun said: {}", String::from_utf8_lossy(&said.stderr)))?;
    deleted?;
    Ok(answered.at - begun)
}

fn crun(args: &[&str]) -> Command {
    let mut command = Command::new("crun");
    command.arg("--root").arg(paths::scratch().join("crun-state")).args(args);
    command
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
            "resources": { "memory": { "limit": 256 << 20 }, "pids": { "limit": 256 } },
        },
    });
    fs::write(bundle.join("config.json"), serde_json::to_vec(&config)?).context("write a bundle")
}
