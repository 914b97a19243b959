//! How the platform talks to code: each contract turns a started sandbox into a worker that takes an invocation
//! and gives its answer.
//!
//! Invariant: what the code sends is hostile until it was checked here; no contract decides when an instance
//! starts, waits or ends, and none knows how its sandbox confines.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub mod exit;
pub mod http;
mod image;
mod interpreter;
pub mod lambda;
mod logs;
mod running;

pub use logs::{Line, LogSink};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is one assignment, so a panic leaves none half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
