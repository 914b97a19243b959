//! Locks by name, few enough to be kept for ever: two names may share one and then wait for each other.

use std::hash::{BuildHasher as _, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// More than commits that one disk takes at once.
const LOCKS: usize = 1_024;

#[derive(Debug)]
pub(super) struct Locks {
    hash: RandomState,
    locks: Vec<Mutex<()>>,
}

impl Locks {
    pub(super) fn new() -> Self {
        Self { hash: RandomState::new(), locks: (0..LOCKS).map(|_| Mutex::new(())).collect() }
    }

    pub(super) async fn lock(&self, name: &str) -> MutexGuard<'_, ()> {
        let number = self.hash.hash_one(name) % LOCKS as u64;
        self.locks[usize::try_from(number).unwrap_or_default()].lock().await
    }
}
