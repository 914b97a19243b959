//! Runs a probe in a container of runc's, with the same user, the same code and the same limits, and the rest as
//! `runc spec` proposes it.
//!
//! It is no judge: a way that gets through in ours fails the test, whatever runc makes of it. It shows what another
//! engine holds back without being told more, and that the probes work inside of namespaces as well.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rouse_escape::{Limits, Probe, Told};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    confined::PROBE_MAX,
    control::finish,
    corpus::{CPU_MILLIS, Corpus, PYTHON, TASK},
};

/// Users of the containers: one for the probes and one for their neighbour.
const PROBE_UID: u32 = 60_001;
const NEIGHBOUR_UID: u32 = 60_002;

pub(crate) struct Oracle {
    corpus: Arc<Corpus>,
    folder: tempfile::TempDir,
    /// What `runc spec` proposes.
    proposed: Value,
    number: AtomicU32,
    neighbour: Option<(String, Child)>,
}

impl Oracle {
    /// Says why there is none on this host.
    pub(crate) async fn new(corpus: Arc<Corpus>) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let spec = Command::new("runc").arg("spec").current_dir(folder.path()).output().await;
        let spec = spec.map_err(|_| "runc is not there: run `cargo xtask setup`".to_owned())?;
        if !spec.status.success() {
            return Err(format!("runc has no spec: {}", String::from_utf8_lossy(&spec.stderr)));
        }
        let proposed = fs::read(folder.path().join("config.json")).map_err(|error| error.to_string())?;
        let proposed = serde_json::from_slice(&proposed).map_err(|error| error.to_string())?;
        root(&folder.path().join("root")).map_err(|error| error.to_string())?;
        let mut oracle = Self { corpus, folder, proposed, number: AtomicU32::new(0), neighbour: None };
        let argv = [PYTHON.to_owned(), format!("{TASK}/victim.py")];
        let id = oracle.bundle(&argv, NEIGHBOUR_UID, &Limits::default());
        let mut command = oracle.runc(&["run", "--bundle"]);
        command.arg(oracle.path(&id)).arg(&id).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        let mut stdout = BufReader::new(stdout);
        match timeout(PROBE_MAX, stdout.read_line(&mut line)).await {
            Ok(Ok(_)) if line == "READY\n" => {}
            _ => return Err(format!("runc starts no container on this host: {line}")),
        }
        oracle.neighbour = Some((id, child));
        Ok(oracle)
    }

    /// Runs it, unless runc can say nothing of it.
    pub(crate) async fn run(&self, probe: &Probe) -> Option<Told> {
        if !probe.runc.is_empty() {
            assert!(probe.runc.starts_with("none: "), "{}: {}", probe.path(), probe.runc);
            return None;
        }
        let id = self.bundle(&probe.argv(PYTHON, TASK), PROBE_UID, &probe.limits);
        let mut command = self.runc(&["run", "--bundle"]);
        command.arg(self.path(&id)).arg(&id);
        let mut told = finish(command).await;
        // That it ended early for want of memory is not told by runc; nothing else ends these.
        told.out_of_memory = probe.dies && !told.done;
        self.delete(&id).await;
        Some(told)
    }

    /// A bundle for one container, named by its id.
    fn bundle(&self, argv: &[String], uid: u32, limits: &Limits) -> String {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let id = format!("rouse-escape-{}-{number}", std::process::id());
        let mut config = self.proposed.clone();
        let env: Vec<String> =
            self.corpus.env(limits).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let process = &mut config["process"];
        process["terminal"] = json!(false);
        process["user"] = json!({ "uid": uid, "gid": uid });
        process["args"] = json!(argv);
        process["env"] = json!(env);
        process["cwd"] = json!(TASK);
        process["capabilities"] =
            json!({ "bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": [] });
        process["rlimits"] = json!([
            { "type": "RLIMIT_NOFILE", "hard": limits.open_files, "soft": limits.open_files },
            { "type": "RLIMIT_CORE", "hard": 0, "soft": 0 },
        ]);
        config["root"] = json!({ "path": self.folder.path().join("root"), "readonly": true });
        if let Some(mounts) = config["mounts"].as_array_mut() {
            let tmp = format!("size={}m", limits.tmp_mib);
            mounts.push(bind(Path::new("/usr"), "/usr"));
            mounts.push(bind(&self.corpus.folder, TASK));
            mounts.push(json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmp",
                                "options": ["nosuid", "nodev", "mode=1777", tmp] }));
        }
        let resources = &mut config["linux"]["resources"];
        resources["memory"] = json!({ "limit": limits.memory_mib << 20 });
        resources["pids"] = json!({ "limit": limits.processes });
        resources["cpu"] = json!({ "quota": CPU_MILLIS * 100, "period": 100_000 });
        fs::create_dir(self.path(&id)).expect("a folder");
        fs::write(self.path(&id).join("config.json"), config.to_string()).expect("written");
        id
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.path().join(id)
    }

    fn runc(&self, args: &[&str]) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.folder.path().join("state")).args(args);
        command
    }

    async fn delete(&self, id: &str) {
        let mut command = self.runc(&["delete", "--force", id]);
        // Mostly it is gone already.
        let _ = command.stdin(Stdio::null()).stderr(Stdio::null()).status().await;
    }

    pub(crate) async fn stop(mut self) {
        if let Some((id, mut child)) = self.neighbour.take() {
            self.delete(&id).await;
            let _ = child.wait().await;
        }
    }
}

fn bind(source: &Path, destination: &str) -> Value {
    json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind", "ro"] })
}

/// A root file system to mount the rest on.
fn root(root: &Path) -> std::io::Result<()> {
    for folder in ["proc", "dev", "sys", "usr", "tmp", "etc", "var/task"] {
        fs::create_dir_all(root.join(folder))?;
    }
    // The mode of a folder is what runc gives to what it mounts there.
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    for name in ["bin", "sbin", "lib", "lib64"] {
        if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
            symlink(target, root.join(name))?;
        }
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/usr/sbin/nologin\n")?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n")
}
