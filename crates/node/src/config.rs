//! What a node is started with, and why it cannot start.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rouse_types::Clock;

/// What a node is started with.
#[derive(Debug)]
pub struct Config<D> {
    /// The state folder: see `ARCHITECTURE.md`.
    pub state: PathBuf,
    /// Where gateways reach it: a unix socket, made anew.
    pub socket: PathBuf,
    /// What starts sandboxes.
    pub driver: D,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Memory of all instances together, in bytes: each counts with the whole of what it may use, so that the
    /// host's memory is never promised twice.
    pub memory_budget_bytes: u64,
    /// How many instances may be starting at the same time: see [`crate::starts_max`].
    pub starts_max: u32,
    /// What calls cost: told on their answers.
    pub pricing: rouse_types::Pricing,
    /// How long calls under way may go on after the node was told to end.
    pub drain: Duration,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system, or the kernel, said no.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The shared quotas cannot be mapped.
    #[error(transparent)]
    Quotas(#[from] rouse_quota::Error),
    /// A journal cannot be written.
    #[error("cannot open the journal")]
    Journal(#[from] rouse_store::journal::Error),
}
