//! Calls with a key that are under way, and who waits for them.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rouse_types::{Code, Digest, Event, Refusal};
use tokio::sync::watch;

use super::{Same, Told};

/// Calls at once, of all functions: each holds a request and an answer in memory.
const RUNNING_MAX: usize = 256;

/// What one waits for.
pub(super) type Wait = watch::Receiver<Option<Told>>;

/// The calls under way, by key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<Mutex<HashMap<String, (Digest, Wait)>>>);

/// One's part in a call.
pub(super) enum Place {
    /// It is one's own to make.
    First(Making, Wait),
    /// Someone else makes it.
    Joined(Wait),
}

/// A call to be made. Dropped, all who wait learn that it broke off.
pub(super) struct Making {
    running: Running,
    key: String,
    told: watch::Sender<Option<Told>>,
}

impl Running {
    fn calls(&self) -> MutexGuard<'_, HashMap<String, (Digest, Wait)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn join(&self, same: &Same, event: &Event) -> Result<Place, Refusal> {
        let mut calls = self.calls();
        let full = calls.len() >= RUNNING_MAX;
        match calls.entry(same.key.clone()) {
            Entry::Occupied(entry) => {
                let (request, told) = entry.get();
                same.check(request, event)?;
                Ok(Place::Joined(told.clone()))
            }
            Entry::Vacant(_) if full => {
                let what = format!("{RUNNING_MAX} calls with an idempotency key run already");
                Err(Refusal::new(Code::TooManyRequests, what)
                    .hint("send it again later, with the same key")
                    .retry_after(Duration::from_secs(1)))
            }
            Entry::Vacant(entry) => {
                let (sender, told) = watch::channel(None);
                let key = entry.key().clone();
                entry.insert((same.request, told.clone()));
                Ok(Place::First(Making { running: self.clone(), key, told: sender }, told))
            }
        }
    }
}

impl Making {
    /// Tells all who wait.
    pub(super) fn end(self, ended: Told) {
        self.told.send_replace(Some(ended));
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.running.calls().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use rouse_types::{EventCall, Timestamp};

    use super::*;

    #[test]
    fn who_joins_is_told_as_the_first_and_who_comes_after_begins_anew() {
        let running = Running::default();
        let (tenant, function) = ("shop".parse().expect("a name"), "pay".parse().expect("a name"));
        let call = EventCall::Invoke { content_type: None };
        let event = Event::new(&tenant, &function, call, Timestamp(1));
        let same = Same::of(&event, b"");
        let Ok(Place::First(making, _)) = running.join(&same, &event) else { panic!("the first makes it") };
        let Ok(Place::Joined(told)) = running.join(&same, &event) else { panic!("the second joins") };
        let other = Same { request: Digest::of(b"other"), ..same.clone() };
        assert!(running.join(&other, &event).is_err_and(|error| error.code == Code::IdempotencyKeyReused));
        making.end(Err(Refusal::new(Code::NodeUnavailable, "gone")));
        assert!(told.borrow().as_ref().is_some_and(Result::is_err));

        let Ok(Place::First(making, _)) = running.join(&same, &event) else { panic!("the next is a first") };
        let Ok(Place::Joined(mut told)) = running.join(&same, &event) else { panic!("and another joins") };
        drop(making);
        assert!(told.borrow_and_update().is_none() && told.has_changed().is_err(), "it broke off");

        let one = |n: usize| Same { key: n.to_string(), ..same.clone() };
        let all: Vec<_> = (0..RUNNING_MAX).map(|n| running.join(&one(n), &event).ok()).collect();
        let full = running.join(&one(RUNNING_MAX), &event);
        assert!(full.is_err_and(|error| error.code == Code::TooManyRequests));
        assert!(all.iter().all(Option::is_some));
    }
}
