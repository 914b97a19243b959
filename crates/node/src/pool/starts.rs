//! The starts that are under way, and the versions that wait because too many are.

use std::collections::{HashMap, VecDeque};

use rouse_types::function::VersionKey;

use super::Pool;
use crate::{instance::Id, timers};

pub(super) struct Starts {
    most: usize,
    /// Each with the timer after which it counts no more.
    under_way: HashMap<Id, timers::Id>,
    /// Each once. They take turns, so that many starts of one do not keep a single one of another waiting.
    waiting: VecDeque<VersionKey>,
}

impl Starts {
    pub(super) fn new(most: u32) -> Self {
        Self { most: most as usize, under_way: HashMap::new(), waiting: VecDeque::new() }
    }

    pub(super) fn has_room(&self) -> bool {
        self.under_way.len() < self.most
    }

    pub(super) fn begin(&mut self, id: Id, timer: timers::Id) {
        self.under_way.insert(id, timer);
    }

    pub(super) fn wait(&mut self, key: &VersionKey) {
        if !self.waiting.contains(key) {
            self.waiting.push_back(key.clone());
        }
    }

    pub(super) fn forget(&mut self, key: &VersionKey) {
        self.waiting.retain(|waiting| waiting != key);
    }
}

impl Pool {
    /// An instance has started, will not, or takes long.
    pub(super) fn start_over(&mut self, id: Id) {
        let timer = self.starts.under_way.remove(&id);
        self.timers.cancel(timer);
    }

    /// Others may start now.
    pub(super) fn feed_starts(&mut self) {
        while self.starts.has_room() {
            let Some(key) = self.starts.waiting.pop_front() else { return };
            self.scale(&key);
        }
    }
}
