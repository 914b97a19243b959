//! One probe, as it describes itself: see `probes/probe.py`.

use serde::Deserialize;

/// One probe.
#[derive(Debug, Clone, Deserialize)]
pub struct Probe {
    /// The file it is in.
    pub group: String,
    /// Its name, unique in its group.
    pub name: String,
    /// What it is after, to follow "it tries to".
    pub tries: String,
    /// Where it gets through.
    pub control: String,
    /// Why runc can be no oracle for it, or nothing.
    pub runc: String,
    /// Whether it needs another sandbox beside it.
    pub neighbour: bool,
    /// Whether that one is frozen.
    pub frozen: bool,
    /// Errors by which its control says that this host lacks the thing.
    pub lacks: Vec<String>,
    /// Whether it may end for want of memory instead of saying how it went.
    pub dies: bool,
    /// The control group that has to hold it: `memory`, `cpu` or nothing.
    pub needs: String,
    /// Whether it is tried in a sandbox with a full network: `also`, `only`, or nothing where it is not.
    pub full: String,
    /// What its sandbox may use.
    pub limits: Limits,
    /// Its place in the corpus.
    #[serde(skip)]
    pub place: usize,
}

/// A function's limits: the defaults of `rouse_types::Limits`, but for what the probe uses up.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory.
    pub memory_mib: u64,
    /// Its `/tmp`.
    pub tmp_mib: u64,
    /// Processes and threads.
    pub processes: u32,
    /// Open files of each process.
    pub open_files: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_mib: 128, tmp_mib: 512, processes: 256, open_files: 1_024 }
    }
}

impl Probe {
    /// Whether it is tried in sandboxes that have no network but sockets.
    #[must_use]
    pub fn is_for_sockets(&self) -> bool {
        self.full != "only"
    }

    /// Whether it is tried in a sandbox with a full network.
    #[must_use]
    pub fn is_for_full_network(&self) -> bool {
        !self.full.is_empty()
    }

    /// Group and name.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}::{}", self.group, self.name)
    }

    /// The arguments of Python that run it, once its folder is at `folder`.
    #[must_use]
    pub fn argv(&self, interpreter: &str, folder: &str) -> [String; 5] {
        [
            interpreter.to_owned(),
            "-S".to_owned(),
            format!("{folder}/run.py"),
            self.group.clone(),
            self.name.clone(),
        ]
    }

    /// The same as a module, from its folder: what a fork of a zygote can run.
    #[must_use]
    pub fn argv_of_fork(&self, interpreter: &str) -> [String; 5] {
        [interpreter.to_owned(), "-m".to_owned(), "run".to_owned(), self.group.clone(), self.name.clone()]
    }
}
