//! Containers: code confined by the kernel's namespaces, control groups and seccomp.
//!
//! ```text
//!  node (no privileges)                       spawner (root, one thread)          sandbox
//!    ContainerDriver ── one connection for ──▶ forks, watches, removes ─ clone3 ─▶ init ─▶ code
//!    acts on what it was handed: the sandbox' listeners, its outputs, the files of its control group
//! ```
//!
//! In the order of one start: `client` asks; `spawner` checks (`check`), takes a sandbox that waits (`pool` says how
//! many should) or makes groups (`cgroup`, chosen by `layout`) and forks; `child` builds its files (`rootfs`), is
//! told the spec, drops all privileges, filters its system calls (`seccomp`) and becomes the code.
//!
//! A network of its own (`full`) is for specs that ask for it. What the code sees of files is the host's `/usr` (`rootfs`) or an image (`image`).
//!
//! Needs Linux 5.12 (`mount_setattr`), for images 5.19, and root.

mod cgroup;
mod check;
mod child;
mod client;
mod dial;
mod full;
mod image;
mod layout;
mod netlink;
mod network;
mod pool;
pub mod probe;
mod rootfs;
mod seccomp;
pub mod spawner;
mod sys;
mod wire;

use serde::{Deserialize, Serialize};

pub use cgroup::{Enforced, Version};
pub use client::{Container, ContainerDriver};
pub use pool::Pool;

/// What this host can enforce and measure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Why no container can be started here at all.
    pub unavailable: Option<String>,
    /// The limit of memory, and the measure of its peak.
    pub memory: Enforced,
    /// The limit of CPU time.
    pub cpu: Enforced,
    /// The limit of processes. Without it, each process' own limit (`RLIMIT_NPROC`) stands.
    pub processes: Enforced,
    /// Freezing.
    pub freezer: Enforced,
    /// The measure of CPU time.
    pub cpu_usage: Enforced,
    /// Why no sandbox can have [`crate::Network::Full`] here, and the next step.
    pub no_full_network: Option<String>,
}

impl Report {
    /// What this host cannot enforce or measure of a sandbox; nothing where it can start none.
    pub fn unenforced(&self) -> impl Iterator<Item = &'static str> {
        let limits = [
            ("their limit of memory", self.memory),
            ("their limit of CPU time", self.cpu),
            ("their number of processes", self.processes),
            ("standing still between calls", self.freezer),
            ("the measure of their CPU time", self.cpu_usage),
        ];
        let startable = self.unavailable.is_none();
        limits.into_iter().filter(move |(_, by)| startable && *by == Enforced::No).map(|(what, _)| what)
    }
}
