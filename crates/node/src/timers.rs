//! All timers of the owner, in one place: it sleeps until the first of them, or not at all.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// Names a timer, to cancel it.
pub(crate) type Id = (Instant, u64);

/// Things to do at a time.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    at: BTreeMap<Id, T>,
    next: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { at: BTreeMap::new(), next: 0 }
    }
}

impl<T> Timers<T> {
    pub(crate) fn set(&mut self, at: Instant, what: T) -> Id {
        self.next += 1;
        let id = (at, self.next);
        self.at.insert(id, what);
        id
    }

    pub(crate) fn cancel(&mut self, id: Option<Id>) {
        if let Some(id) = id {
            self.at.remove(&id);
        }
    }

    pub(crate) fn first(&self) -> Option<Instant> {
        self.at.keys().next().map(|&(at, _)| at)
    }

    pub(crate) fn due(&mut self, now: Instant) -> Option<T> {
        let first = self.at.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
