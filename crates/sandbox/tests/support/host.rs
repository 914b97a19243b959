//! A spawner of its own for one test, and what the tests ask of the host.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    future::Future,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use rouse_sandbox::{Limits, Output, Spec, container::ContainerDriver};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use tokio::io::AsyncReadExt;

/// Who drives the containers: like the node, somebody without any privilege.
pub(crate) const NODE_UID: u32 = 54_321;

/// A spawner with folders of its own; stopped when dropped.
pub(crate) struct Host {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) instance: String,
    pub(crate) first_uid: u32,
    /// How many sandboxes its spawner keeps waiting.
    pub(crate) pool: usize,
    spawner: Child,
}

impl Host {
    /// `None`, and a word about it, where containers cannot be tested.
    pub(crate) fn new(test: &str) -> Option<Self> {
        Self::with_pool(test, 0)
    }

    /// The same, with so many sandboxes that are built ahead.
    pub(crate) fn with_pool(test: &str, pool: usize) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            skipped(test, "containers need root");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o711)).expect("permissions");
        std::fs::create_dir(folder.path().join("code")).expect("a folder for code");
        let first_uid = 1_000_000 + (pid % 10_000) * 4_096 + number * 64;
        let instance = format!("test-{pid}-{number}");
        let spawner = command(folder.path(), &instance, first_uid, pool).spawn().expect("the spawner starts");
        Some(Self { folder, instance, first_uid, pool, spawner })
    }

    pub(crate) fn code(&self) -> PathBuf {
        self.folder.path().join("code")
    }

    pub(crate) fn driver(&self) -> ContainerDriver {
        ContainerDriver::new(&self.socket())
    }

    /// The command of this host's spawner.
    pub(crate) fn command(&self) -> Command {
        command(self.folder.path(), &self.instance, self.first_uid, self.pool)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("spawner.sock")
    }

    /// Kills the spawner as a crash would, without starting another.
    pub(crate) fn crash(&mut self) {
        self.spawner.kill().expect("killed");
        self.spawner.wait().expect("reaped");
    }

    /// Returns when the new spawner has its socket: a child that the old one was just forking may hold the old one
    /// for a moment longer, and who dials that is turned away.
    pub(crate) fn start_again(&mut self) {
        let number = |socket: &Path| std::fs::metadata(socket).map(|socket| socket.ino()).ok();
        let old = number(&self.socket());
        self.spawner = self.command().spawn().expect("the spawner starts");
        while number(&self.socket()) == old {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Every group of this host's spawner.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let name = format!("rouse-{}", self.instance);
        let mut found = Vec::new();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        for line in mounts.lines().filter(|line| line.contains(" - cgroup")) {
            let point = PathBuf::from(line.split(' ').nth(4).expect("a mount point"));
            walk(&point, &mut |folder| {
                if folder.parent().and_then(Path::file_name).is_some_and(|parent| parent == name.as_str()) {
                    found.push(folder.to_owned());
                }
            });
        }
        found
    }

    /// The processes that the spawner forked itself.
    pub(crate) fn children(&self) -> Vec<Pid> {
        let id = self.spawner.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.unwrap_or_default();
        children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }

    /// Processes of this host's sandboxes whose command has this word, the oldest first.
    pub(crate) fn with_command(&self, word: &str) -> Vec<Pid> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let (Ok(status), Ok(command)) = (
                std::fs::read_to_string(entry.path().join("status")),
                std::fs::read_to_string(entry.path().join("cmdline")),
            ) else {
                continue;
            };
            if command.contains(word) && self.is_of_a_sandbox(&status) {
                found.extend(entry.file_name().to_str().and_then(|pid| pid.parse::<i32>().ok()));
            }
        }
        found.sort_unstable();
        found.into_iter().filter_map(Pid::from_raw).collect()
    }

    fn is_of_a_sandbox(&self, status: &str) -> bool {
        let uids = self.first_uid..self.first_uid + 64;
        let uid = status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
        let zombie = status.lines().any(|line| line.starts_with("State:") && line.contains('Z'));
        uid.is_some_and(|uid: u32| uids.contains(&uid)) && !zombie
    }

    /// How many sandboxes have a group, in any hierarchy.
    pub(crate) fn sandboxes(&self) -> usize {
        let names: std::collections::HashSet<_> =
            self.groups().iter().filter_map(|group| group.file_name().map(ToOwned::to_owned)).collect();
        names.len()
    }

    /// Processes whose user is one of this host's sandboxes.
    pub(crate) fn processes(&self) -> usize {
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let statuses = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("status")).ok());
        statuses.filter(|status| self.is_of_a_sandbox(status)).count()
    }

    /// Those of them that run code, and do not wait to be told which.
    pub(crate) fn running(&self) -> usize {
        let spawner = std::fs::read(format!("/proc/{}/cmdline", self.spawner.id()));
        let spawner = spawner.expect("the spawner's arguments, which its forks keep until they are code");
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let paths = entries.map(|entry| entry.path());
        let runs = |path: &std::path::PathBuf| {
            let status = std::fs::read_to_string(path.join("status"));
            status.is_ok_and(|status| self.is_of_a_sandbox(&status))
                && std::fs::read(path.join("cmdline")).is_ok_and(|arguments| arguments != spawner)
        };
        paths.filter(runs).count()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.spawner.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.spawner.wait();
        if !std::thread::panicking() {
            assert_eq!(self.groups(), Vec::<PathBuf>::new(), "groups are left");
            assert_eq!(self.processes(), 0, "processes are left");
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
            assert!(!mounts.contains(&*self.folder.path().to_string_lossy()), "mounts are left");
            let left: Vec<_> = std::fs::read_dir(self.folder.path())
                .expect("the folder")
                .flatten()
                .map(|e| e.file_name())
                .collect();
            assert_eq!(left, ["code"], "files are left");
        }
    }
}

fn command(folder: &Path, instance: &str, first_uid: u32, pool: usize) -> Command {
    // The others that share this file build the same program under names of their own.
    let here = option_env!("CARGO_BIN_EXE_rouse-test-spawner");
    let theirs = option_env!("CARGO_BIN_EXE_rouse-escape-spawner")
        .or(option_env!("CARGO_BIN_EXE_rouse-contract-spawner"));
    let spawner = here.or(theirs).expect("cargo built a spawner");
    let mut command = Command::new(spawner);
    command
        .arg(folder.join("spawner.sock"))
        .args([instance, &NODE_UID.to_string(), &first_uid.to_string(), &pool.to_string()])
        .arg(folder.join("code"));
    command
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path());
            walk(&entry.path(), visit);
        }
    }
}

/// Says that a test did not run.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(crate) fn skipped(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
}

/// Runs a test on a thread that has given up root for good, as the node has.
pub(crate) fn as_the_node<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    as_user(NODE_UID, test);
}

/// Runs a test on a thread that has become another user for good.
pub(crate) fn as_user<F: Future<Output = ()>>(user: u32, test: impl FnOnce() -> F + Send) {
    let run = || {
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        set_thread_groups(&[]).expect("groups");
        set_thread_res_gid(gid, gid, gid).expect("group");
        set_thread_res_uid(uid, uid, uid).expect("user");
        block_on(test());
    };
    let joined = std::thread::scope(|scope| scope.spawn(run).join());
    if let Err(panic) = joined {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let limited = tokio::time::timeout(std::time::Duration::from_secs(60), test);
        limited.await.expect("the test hangs");
    });
}

/// A spec that runs this program, with ordinary limits.
pub(crate) fn spec(argv: &[&str]) -> Spec {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    Spec {
        id: format!("s{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
        argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
        env: vec![],
        cwd: "/".into(),
        mounts: vec![],
        limits: Limits {
            memory_bytes: 128 << 20,
            cpu_millis: 1_000,
            processes: 32,
            tmp_bytes: 4 << 20,
            open_files: 256,
        },
        listeners: vec![],
        resolver: None,
        hosts: vec![],
        network: rouse_sandbox::Network::Sockets,
        root: rouse_sandbox::Root::Host,
        interpreter: None,
    }
}

/// All that an output says until its end.
pub(crate) async fn text(mut output: Output) -> String {
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes).await.expect("the output is read");
    String::from_utf8_lossy(&bytes).into_owned()
}
