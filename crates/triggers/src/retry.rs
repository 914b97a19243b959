//! What comes after an attempt at an event that failed: another one, and when, or the end.
//!
//! ```text
//!  failed ──▶ worth another? ──no──▶ give up: permanent
//!                  │
//!            attempts left? ──no──▶ give up: attempts        not counted when the code had no chance to run
//!                  │
//!          would it be young enough? ──no──▶ give up: age
//!                  │
//!                  └──▶ again at …
//! ```

use std::time::Duration;

use rouse_types::{Outcome, Timestamp};

/// How an event is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Attempts that the code gets, the first one counted; at least 1.
    pub attempts_max: u32,
    /// No attempt begins later than this after the event was accepted.
    pub age_max: Duration,
    /// The longest pause before the second attempt; it doubles with each.
    pub pause_first: Duration,
    /// The longest pause of all.
    pub pause_max: Duration,
}

impl Default for Policy {
    /// What AWS Lambda does with asynchronous invocations: three attempts within six hours, about a minute and then
    /// two between them, five at most.
    fn default() -> Self {
        Self {
            attempts_max: 3,
            age_max: Duration::from_secs(6 * 3_600),
            pause_first: Duration::from_secs(60),
            pause_max: Duration::from_secs(300),
        }
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The code raised, or gave an answer that says so.
    Function,
    /// It ran over its time.
    Timeout,
    /// It could not be started, or wanted too much memory: its own fault, though it may be gone the next time.
    Start,
    /// There was no room: a limit, a full machine. The code had no chance.
    Throttled,
    /// The platform failed. The code had no chance, or nobody knows.
    Platform,
    /// Trying again changes nothing: the function is gone, the event is too large for it.
    Permanent,
}

impl Failure {
    /// Of an attempt that ended so; none if it ended well.
    #[must_use]
    pub fn of(outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Ok => None,
            Outcome::FunctionError => Some(Self::Function),
            Outcome::Timeout => Some(Self::Timeout),
            Outcome::OutOfMemory | Outcome::StartFailed => Some(Self::Start),
            // Nobody waits for an event's answer but ourselves.
            Outcome::Cancelled | Outcome::PlatformError => Some(Self::Platform),
        }
    }

    /// Of an attempt that an HTTP status ended (RFC 9110 §15): none for success, and for a refusal that will be the
    /// same the next time, [`Failure::Permanent`].
    #[must_use]
    pub fn of_status(status: u16) -> Option<Self> {
        match status {
            200..=299 => None,
            408 | 425 | 429 | 503 => Some(Self::Throttled),
            404 | 410 | 413 => Some(Self::Permanent),
            504 => Some(Self::Timeout),
            _ => Some(Self::Function),
        }
    }

    /// Whether the attempt counts as one of those that the code gets.
    #[must_use]
    pub fn is_counted(self) -> bool {
        !matches!(self, Self::Throttled | Self::Platform)
    }
}

/// What has become of an event so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// When it was accepted.
    pub accepted: Timestamp,
    /// Attempts that the code had before.
    pub attempts: u32,
    /// Attempts in a row, up to now, at which it had no chance.
    pub put_off: u32,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again.
    Again {
        /// When.
        at: Timestamp,
        /// To be kept until then.
        history: History,
    },
    /// Give up: the event goes to its failure destination or the dead-letter queue.
    GiveUp(Reason, History),
}

/// Why there is no further attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The code had all of its attempts.
    Attempts,
    /// The event is too old, or would be by the next attempt.
    Age,
    /// Trying again changes nothing.
    Permanent,
}

impl Reason {
    /// As AWS names it in the record for a destination (`requestContext.condition`).
    #[must_use]
    pub fn condition(self) -> &'static str {
        match self {
            Self::Attempts | Self::Permanent => "RetriesExhausted",
            Self::Age => "EventAgeExceeded",
        }
    }
}

/// What comes after an attempt that failed. `retry_after` is what the answer asked for. `chance` is a random number:
/// the pause is evenly distributed up to its bound ("full jitter"), so that what failed together is not tried together.
#[must_use]
pub fn next(
    policy: &Policy,
    history: History,
    failure: Failure,
    retry_after: Option<Duration>,
    now: Timestamp,
    chance: u64,
) -> Next {
    let history = if failure.is_counted() {
        History { attempts: history.attempts.saturating_add(1), put_off: 0, ..history }
    } else {
        History { put_off: history.put_off.saturating_add(1), ..history }
    };
    if failure == Failure::Permanent {
        return Next::GiveUp(Reason::Permanent, history);
    }
    if history.attempts >= policy.attempts_max {
        return Next::GiveUp(Reason::Attempts, history);
    }
    // Where the code had no chance, room may be there in a second: so the first pause is short, as on AWS.
    let (first, doublings) = if failure.is_counted() {
        (policy.pause_first, history.attempts - 1)
    } else {
        (policy.pause_first.min(Duration::from_secs(1)), history.put_off - 1)
    };
    let bound = first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(policy.pause_max);
    let bound = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
    let pause =
        Duration::from_micros(chance % bound.saturating_add(1).max(1)).max(retry_after.unwrap_or_default());
    let at = now + pause;
    // Since the age also bounds what an answer may ask for, nothing waits for ever.
    if at > history.accepted + policy.age_max {
        return Next::GiveUp(Reason::Age, history);
    }
    Next::Again { at, history }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_failure() -> impl Strategy<Value = Failure> {
        use Failure::*;
        prop::sample::select(vec![Function, Timeout, Start, Throttled, Platform])
    }

    proptest! {
        #[test]
        fn an_event_ends_within_its_attempts_and_its_age(
            failures in prop::collection::vec((any_failure(), any::<u64>(), prop::option::of(0..100_000_u64)), 50),
            attempts_max in 1..10_u32,
            (age_s, first_s, max_s) in (0..100_000_u64, 0..1_000_u64, 0..1_000_u64),
        ) {
            let policy = Policy {
                attempts_max,
                age_max: Duration::from_secs(age_s),
                pause_first: Duration::from_secs(first_s),
                pause_max: Duration::from_secs(max_s),
            };
            let accepted = Timestamp(1_000_000);
            let (mut now, mut counted) = (accepted, 0);
            let mut history = History { accepted, ..History::default() };
            for (failure, chance, retry_after_s) in failures {
                let retry_after = retry_after_s.map(Duration::from_secs);
                counted += u32::from(failure.is_counted());
                match next(&policy, history, failure, retry_after, now, chance) {
                    Next::Again { at, history: new } => {
                        prop_assert!(counted < attempts_max && at >= now && at <= accepted + policy.age_max);
                        prop_assert!(at >= now + retry_after.unwrap_or_default());
                        prop_assert!(at.since(now) <= policy.pause_max.max(retry_after.unwrap_or_default()));
                        (history, now) = (new, at);
                    }
                    Next::GiveUp(reason, _) => {
                        prop_assert_eq!(reason == Reason::Attempts, counted == attempts_max);
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn pauses_double_up_to_their_bound() {
        let policy = Policy { attempts_max: 9, ..Policy::default() };
        let pauses: Vec<u64> = (0..5)
            .map(|attempts| {
                let history = History { attempts, ..History::default() };
                let longest = (0..20_000).map(|i| i * 15_013).filter_map(|chance| {
                    match next(&policy, history, Failure::Function, None, Timestamp(0), chance) {
                        Next::Again { at, .. } => Some(at.0),
                        Next::GiveUp(..) => None,
                    }
                });
                longest.max().unwrap_or_default().div_ceil(1_000_000)
            })
            .collect();
        assert_eq!(pauses, [60, 120, 240, 300, 300]);
    }

    #[test]
    fn what_had_no_chance_uses_up_no_attempt_but_grows_old() {
        let policy = Policy::default();
        let history = History { attempts: 2, ..History::default() };
        let again = next(&policy, history, Failure::Throttled, None, Timestamp(0), 999_999);
        let Next::Again { at, history } = again else { panic!("{again:?}") };
        assert_eq!((at, history.attempts, history.put_off), (Timestamp(999_999), 2, 1));
        let old = Timestamp::default() + Duration::from_secs(6 * 3_600 + 1);
        let end = next(&policy, history, Failure::Platform, None, old, 0);
        assert!(matches!(end, Next::GiveUp(Reason::Age, _)), "{end:?}");
    }

    #[test]
    fn what_an_answer_asks_for_is_kept_unless_it_takes_too_long() {
        let policy = Policy::default();
        let history = History::default();
        let hour = Some(Duration::from_secs(3_600));
        let Next::Again { at, .. } = next(&policy, history, Failure::Throttled, hour, Timestamp(0), 7) else {
            panic!("no attempt")
        };
        assert_eq!(at.as_millis(), 3_600_000);
        let week = Some(Duration::from_secs(7 * 86_400));
        let end = next(&policy, history, Failure::Throttled, week, Timestamp(0), 7);
        assert!(matches!(end, Next::GiveUp(Reason::Age, _)), "{end:?}");
    }

    #[test]
    fn what_would_fail_again_is_not_tried_again() {
        let end = next(&Policy::default(), History::default(), Failure::Permanent, None, Timestamp(0), 0);
        assert!(matches!(end, Next::GiveUp(Reason::Permanent, _)), "{end:?}");
        assert_eq!(Failure::of_status(204), None);
        assert_eq!(Failure::of_status(413), Some(Failure::Permanent));
        assert_eq!(Failure::of_status(429), Some(Failure::Throttled));
        assert_eq!(Failure::of_status(500), Some(Failure::Function));
        assert_eq!(Failure::of(Outcome::Ok), None);
    }
}
