//! What of a schedule is to run now: nothing missed, nothing twice, and after an outage as much as is wanted.

use std::time::Duration;

use rouse_types::{Timestamp, trigger::CatchUp};
use sha2::{Digest as _, Sha256};

use super::Schedule;

/// The longest window over which occurrences are spread: a day, as on AWS.
pub const JITTER_MAX: Duration = Duration::from_secs(86_400);
/// An occurrence that is late by more than this was missed: the platform was not there to run it.
pub const LATE_MAX: Duration = Duration::from_secs(60);
/// Missed occurrences that are counted, and made up for: so that a second's schedule costs no year's steps after a year's
/// outage, and no year's calls.
pub const MISSED_MAX: usize = 1_000;

/// One time at which a schedule fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// When by its text.
    pub scheduled: Timestamp,
    /// When to run: later than scheduled by the jitter.
    pub fires: Timestamp,
    /// The same wherever and however often it is computed: a UUID of version 8 (RFC 9562 §5.8).
    pub id: uuid::Uuid,
}

/// What to run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Oldest first.
    pub occurrences: Vec<Occurrence>,
    /// Missed ones that do not run; no more than [`MISSED_MAX`] are counted.
    pub missed: usize,
    /// Up to when it is acted once these are taken: to be kept, and given as `last` the next time.
    pub upto: Timestamp,
}

impl Schedule {
    /// What fires after `last` and not after `now`, of this trigger: at most `max` of them, the rest the next time.
    /// `last` of a new trigger is the time of its making.
    ///
    /// What was missed, and is late by more than [`LATE_MAX`], is left out, made up for by its newest, or by each of its
    /// newest [`MISSED_MAX`], oldest first.
    ///
    /// A clock that ran backwards gives nothing until it is past `last` again.
    #[must_use]
    pub fn due(&self, trigger: &str, last: Timestamp, now: Timestamp, catch_up: CatchUp, max: usize) -> Due {
        let mut due = Due { occurrences: Vec::new(), missed: 0, upto: last };
        if now <= last || max == 0 {
            return due;
        }
        let lost = Timestamp(now.0.saturating_sub(micros(LATE_MAX)));
        let mut from = last;
        if catch_up == CatchUp::All && last < lost {
            if self.fires(trigger, last, lost).nth(MISSED_MAX).is_some() {
                from = self.newest_missed(trigger, last, lost);
                due.missed = self.fires(trigger, last, from).take(MISSED_MAX).count();
            }
        } else if last < lost {
            due.missed = self.fires(trigger, last, lost).take(MISSED_MAX).count();
            from = lost;
            if catch_up == CatchUp::Once
                && let Some(newest) = self.newest(trigger, last, lost)
            {
                due.missed -= 1;
                due.occurrences.push(newest);
            }
        }
        let mut rest = self.fires(trigger, from, now);
        due.occurrences.extend(rest.by_ref().take(max - due.occurrences.len()));
        due.upto = match due.occurrences.last() {
            Some(newest) if rest.next().is_some() => newest.fires.max(from),
            _ => now,
        };
        due
    }

    /// When [`Schedule::due`] of this trigger gives the next one, if it was acted up to `last`.
    #[must_use]
    pub fn wakes(&self, trigger: &str, last: Timestamp) -> Option<Timestamp> {
        self.fires(trigger, last, Timestamp(u64::MAX)).next().map(|occurrence| occurrence.fires)
    }

    /// The occurrences that fire after `after` and not after `upto`, oldest first.
    fn fires(&self, trigger: &str, after: Timestamp, upto: Timestamp) -> impl Iterator<Item = Occurrence> {
        // One that was scheduled before may fire after.
        let before = self.last_scheduled(Timestamp(after.0.saturating_sub(micros(self.jitter))), after);
        let mut next = before.or_else(|| self.next_after(after));
        std::iter::from_fn(move || {
            loop {
                let scheduled = next.filter(|&scheduled| scheduled <= upto)?;
                next = self.next_after(scheduled);
                let occurrence = self.occurrence(trigger, scheduled, next);
                if occurrence.fires > upto {
                    return None;
                }
                if occurrence.fires > after {
                    return Some(occurrence);
                }
            }
        })
    }

    /// The time after which [`MISSED_MAX`] occurrences, or one less, fire until `upto`.
    fn newest_missed(&self, trigger: &str, after: Timestamp, upto: Timestamp) -> Timestamp {
        let mut oldest = Timestamp(upto.0.saturating_add(1));
        for _ in 0..MISSED_MAX {
            let Some(before) = self.last_scheduled(after, Timestamp(oldest.0 - 1)) else { return after };
            oldest = before;
        }
        // It fires no earlier than it is scheduled.
        let fires = self.occurrence(trigger, oldest, self.next_after(oldest)).fires;
        Timestamp(fires.0 - 1).max(after)
    }

    /// The newest that fires after `after` and not after `upto`.
    fn newest(&self, trigger: &str, after: Timestamp, upto: Timestamp) -> Option<Occurrence> {
        let start = Timestamp(after.0.saturating_sub(micros(self.jitter)));
        let newest = self.last_scheduled(start, upto)?;
        let of = |scheduled| self.occurrence(trigger, scheduled, self.next_after(scheduled));
        let mut occurrence = of(newest);
        if occurrence.fires > upto {
            occurrence = of(self.last_scheduled(start, Timestamp(newest.0 - 1))?);
        }
        (occurrence.fires > after).then_some(occurrence)
    }

    /// The last time after `after` and not after `upto` for which it is scheduled, by halving.
    fn last_scheduled(&self, after: Timestamp, upto: Timestamp) -> Option<Timestamp> {
        let comes_after = |t: u64| self.next_after(Timestamp(t)).filter(|&next| next <= upto);
        let mut found = comes_after(after.0)?;
        let (mut low, mut high) = (found.0, upto.0);
        // Everything after `high` holds none, `found` is the first after what was last tried.
        while low < high {
            let middle = low + (high - low) / 2;
            match comes_after(middle) {
                Some(later) => {
                    found = later;
                    low = later.0;
                }
                None => high = middle,
            }
        }
        Some(found)
    }

    fn occurrence(&self, trigger: &str, scheduled: Timestamp, next: Option<Timestamp>) -> Occurrence {
        let mut hash = Sha256::new();
        // The length keeps a trigger's name apart from what follows it.
        hash.update((trigger.len() as u64).to_be_bytes());
        hash.update(trigger);
        hash.update(scheduled.0.to_be_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let (mut id, mut chance) = ([0; 16], [0; 8]);
        id.copy_from_slice(&hash[..16]);
        chance.copy_from_slice(&hash[16..24]);
        // Never at or after the next one, so that the order stays.
        let gap = next.map_or(u64::MAX, |next| next.0 - scheduled.0);
        let delay = u64::from_be_bytes(chance) % micros(self.jitter).min(gap).max(1);
        Occurrence {
            scheduled,
            fires: Timestamp(scheduled.0.saturating_add(delay)),
            id: uuid::Builder::from_custom_bytes(id).into_uuid(),
        }
    }
}

/// Of a duration of at most a day.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
