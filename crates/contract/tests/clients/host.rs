//! A driver with containers: a spawner of its own for one test.

use std::{
    path::PathBuf,
    process::{Child, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use rouse_sandbox::container::ContainerDriver;

use crate::harness::{skipped, works};

/// A spawner with a folder of its own; stopped when dropped.
pub(crate) struct Host {
    folder: tempfile::TempDir,
    spawner: Child,
}

impl Host {
    /// Shows sandboxes these folders. `None`, and a word about it, where containers cannot be tested.
    pub(crate) fn new(test: &str, roots: Vec<PathBuf>) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !works(Command::new("sh").args(["-c", "test $(id -u) = 0"])) {
            skipped(test, "containers need root");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let folder = tempfile::tempdir().expect("a folder");
        // Other tests' spawners have other users.
        let first_uid = 400_000_000 + (pid % 10_000) * 4_096 + number * 64;
        let spawner = Command::new(env!("CARGO_BIN_EXE_rouse-contract-spawner"))
            .arg(folder.path().join("spawner.sock"))
            .args([format!("lambda-{pid}-{number}"), "0".into(), first_uid.to_string(), "0".into()])
            .args(roots)
            .spawn()
            .expect("the spawner starts");
        Some(Self { folder, spawner })
    }

    pub(crate) fn driver(&self) -> ContainerDriver {
        ContainerDriver::new(&self.folder.path().join("spawner.sock"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Asked, not killed: then it leaves nothing on the host.
        works(Command::new("kill").arg(self.spawner.id().to_string()));
        let _ = self.spawner.wait();
    }
}
