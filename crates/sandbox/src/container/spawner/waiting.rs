//! The pool: sandboxes that were built before anybody asked for them. Filled and emptied in moments in which no
//! start waits.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    super::wire::Refused,
    Spawner,
    making::{Child, Kind, Make, Phase},
};
use crate::Ahead;

/// How long nothing may have happened before one more is forked: the starts of a burst come closer together, and
/// each would wait for the fork.
pub(super) const FILL_PAUSE: Duration = Duration::from_millis(2);
/// After a failure the pool is left alone for so long: what fails once fails again.
const FILL_RETRY: Duration = Duration::from_secs(10);
/// How often the demand of the last minute is looked at again while the pool is above its floor.
pub(super) const SHRINK_PAUSE: Duration = Duration::from_secs(1);

impl Spawner {
    /// Gives a sandbox that waits to a session, if there is one.
    pub(super) fn take_waiting(&mut self, number: u64) -> bool {
        while let Some(waiting) = self.waiting.pop_front() {
            // One that has ended, which may not have been noticed yet, stays where it is and is removed.
            match self.child(waiting) {
                Some(Child { phase: Phase::Waiting { .. }, pidfd: Some(pidfd), .. }) if !has_ended(pidfd) => {
                }
                _ => continue,
            }
            self.hand_on(waiting, number);
            return true;
        }
        false
    }

    /// Forks or ends one sandbox of the pool, if it has not the size that it should have. Gives the time until it
    /// is to be looked at again.
    pub(super) fn tend_pool(&mut self, quiet: bool) -> Option<Duration> {
        if self.powerless.is_some() {
            return None;
        }
        let now = self.second();
        let busiest = self.demand.busiest(now);
        let size = self.config.pool.size(busiest, self.uids_free.len() + self.waiting.len());
        if self.waiting.len() < size {
            let left = self.fill_after.saturating_duration_since(Instant::now());
            if !left.is_zero() || !quiet {
                return Some(left.max(FILL_PAUSE));
            }
            let number = self.session_number();
            if let Err(refused) = self.fork(number, Make::Plain) {
                self.failed_waiting(number, &refused);
                return Some(FILL_RETRY);
            }
            self.waiting.push_back(number);
            return Some(FILL_PAUSE);
        }
        if self.waiting.len() > size
            && quiet
            && let Some(number) = self.waiting.pop_front()
        {
            self.kill(number);
        }
        // At its floor it needs no clock: what raises it is a start.
        (busiest > 0).then_some(SHRINK_PAUSE)
    }

    /// What is held for starts that are to come.
    pub(super) fn ahead(&self) -> Ahead {
        let mut ahead = Ahead::default();
        for child in self.sessions.values().filter_map(|session| session.child.as_ref()) {
            // A start that has taken one has given it its name.
            let held = match &child.kind {
                Kind::Zygote(_) => &mut ahead.zygotes,
                _ if !child.id.is_empty() => continue,
                Kind::Plain => &mut ahead.sandboxes,
                Kind::Fork(_) => &mut ahead.forks,
                Kind::Started(_) => &mut ahead.interpreters,
            };
            if !matches!(child.phase, Phase::Removing { .. }) {
                held.count += 1;
                held.memory_bytes += self.cgroups.memory_bytes(&child.group);
            }
        }
        ahead
    }

    /// One that nobody waits for came to nothing.
    pub(super) fn failed_waiting(&mut self, number: u64, refused: &Refused) {
        if self.stopping {
            tracing::debug!(?refused, "a sandbox that was being built ahead ends with the spawner");
        } else {
            tracing::warn!(?refused, "a sandbox could not be built ahead");
        }
        self.waiting.retain(|waiting| *waiting != number);
        self.fill_after = Instant::now() + FILL_RETRY;
    }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
