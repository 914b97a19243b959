//! Which certificate is to be got next, and when. Pure: time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rouse_types::{Domain, Timestamp};
use serde::{Deserialize, Serialize};

/// The pause after a first failure; each further one doubles it. Authorities allow five failures an hour for a name.
const PAUSE_FIRST: Duration = Duration::from_secs(60);
/// The longest pause: names whose DNS is put right are found within it.
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3_600);
/// The longest sleep: the wall clock may be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

/// From when until when a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Life {
    /// When it is to be renewed: two thirds of its life.
    pub(super) fn renewal(self) -> Timestamp {
        self.not_before + self.not_after.since(self.not_before) / 3 * 2
    }
}

/// What became of attempts that failed, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    /// How many.
    pub(crate) times: u32,
    /// When the last one was.
    pub(crate) at: Timestamp,
    /// What it came to.
    pub(crate) error: String,
}

impl Failed {
    /// When the next attempt is made.
    pub(crate) fn next(&self) -> Timestamp {
        let doubled = PAUSE_FIRST.saturating_mul(1 << self.times.saturating_sub(1).min(16));
        self.at + doubled.min(PAUSE_MAX)
    }
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Get a certificate for this domain.
    Order(Domain),
    /// Wait so long, or until the domains change.
    Wait(Duration),
}

/// The domain whose certificate is due first; one that has none goes before one that has.
pub(super) fn next(
    wanted: &BTreeSet<Domain>,
    held: &BTreeMap<Domain, Life>,
    failed: &BTreeMap<Domain, Failed>,
    now: Timestamp,
) -> Next {
    let due = |domain: &Domain| {
        let needed = held.get(domain).map_or(Timestamp::default(), |life| life.renewal());
        failed.get(domain).map_or(needed, |failed| needed.max(failed.next()))
    };
    let first = wanted.iter().map(|domain| (due(domain), held.contains_key(domain), domain)).min();
    match first {
        None => Next::Wait(SLEEP_MAX),
        Some((due, _, domain)) if due <= now => Next::Order(domain.clone()),
        Some((due, ..)) => Next::Wait(due.since(now).min(SLEEP_MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn domain(text: &str) -> Domain {
        text.parse().expect("a domain")
    }

    fn at(days: u32) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000) + DAY * days
    }

    #[test]
    fn a_certificate_is_got_at_once_and_renewed_at_two_thirds_of_its_life() {
        let (a, b) = (domain("a.example"), domain("b.example"));
        let wanted = BTreeSet::from([a.clone(), b.clone()]);
        let life = Life { not_before: at(0), not_after: at(90) };
        let mut held = BTreeMap::from([(a.clone(), life)]);
        let none = BTreeMap::new();
        assert_eq!(next(&wanted, &held, &none, at(1)), Next::Order(b.clone()));
        held.insert(b.clone(), Life { not_before: at(1), not_after: at(91) });
        assert_eq!(next(&wanted, &held, &none, at(1)), Next::Wait(SLEEP_MAX));
        let almost = at(60) + Duration::from_millis(0);
        assert_eq!(next(&wanted, &held, &none, almost), Next::Order(a.clone()));
        held.insert(a, Life { not_before: at(60), not_after: at(150) });
        let second = Duration::from_secs(1);
        let before = Timestamp(at(61).0 - 1_000_000);
        assert_eq!(next(&wanted, &held, &none, before), Next::Wait(second));
        assert_eq!(next(&wanted, &held, &none, at(61)), Next::Order(b));
        assert_eq!(next(&BTreeSet::new(), &held, &none, at(500)), Next::Wait(SLEEP_MAX), "nobody wants them");
    }

    #[test]
    fn what_fails_is_tried_less_and_less_often_and_holds_up_no_other() {
        let (a, b) = (domain("a.example"), domain("b.example"));
        let failed = |times| Failed { times, at: at(0), error: "no".to_owned() };
        let pauses: Vec<u64> =
            [1, 2, 3, 9, 10, 4_000_000].map(|times| failed(times).next().since(at(0)).as_secs()).to_vec();
        assert_eq!(pauses, [60, 120, 240, 15_360, 21_600, 21_600]);
        let wanted = BTreeSet::from([a.clone(), b.clone()]);
        let failures = BTreeMap::from([(a.clone(), failed(1))]);
        assert_eq!(next(&wanted, &BTreeMap::new(), &failures, at(0)), Next::Order(b.clone()));
        let only = BTreeSet::from([a.clone()]);
        assert_eq!(next(&only, &BTreeMap::new(), &failures, at(0)), Next::Wait(PAUSE_FIRST));
        assert_eq!(next(&only, &BTreeMap::new(), &failures, at(1)), Next::Order(a));
    }
}
