//! How long an instance that has nothing to do is kept.
//!
//! Two questions. How long is it *worth* it? As long as holding costs less than starting again: the break-even
//! of renting against buying, so the wait is never worse than twice the best that hindsight could choose
//! (A. Karlin et al., "Competitive Randomized Algorithms for Non-Uniform Problems", SODA 1990). An instance that
//! starts in 3 ms is let go within seconds, one that takes 300 ms stays for minutes.
//! How long is it *of use*? As long as its next call probably comes: the tail of its inter-arrival times
//! (Shahrad et al., see [`crate::arrivals`]). The shorter of the two holds.

use std::time::Duration;

use crate::Arrivals;

/// Idle time that one unit of cold start time is worth. A frozen instance costs only memory, and a caller's wait
/// is dear: 300 ms of cold start buy ten minutes, the fixed time of the large clouds.
pub const IDLE_PER_COLD: u32 = 2_000;
/// The shortest: a person who tries a function twice meets it warm.
pub const KEEP_ALIVE_MIN: Duration = Duration::from_secs(5);
/// The longest, so that an idle function ends with no instance whatever its history.
pub const KEEP_ALIVE_MAX: Duration = Duration::from_secs(15 * 60);
/// Fewer arrivals than this are no history (Shahrad et al. fall back likewise).
pub const ARRIVALS_MIN: u32 = 8;
/// An instance that was idle this long is frozen, so that it uses no CPU and its timers do not run. Not at once:
/// what a handler left to do after its answer (a flush, a log line) gets its chance, and a freeze and thaw
/// cost more than a steady stream of calls should pay.
pub const FREEZE_GRACE: Duration = Duration::from_millis(100);

/// How long to keep an idle instance of a function whose cold start takes `cold` and whose calls came so.
#[must_use]
pub fn keep_alive(cold: Duration, arrivals: &Arrivals) -> Duration {
    let worth = cold.saturating_mul(IDLE_PER_COLD).clamp(KEEP_ALIVE_MIN, KEEP_ALIVE_MAX);
    if arrivals.counted() < ARRIVALS_MIN {
        return worth;
    }
    match (arrivals.percentile(5), arrivals.percentile(99)) {
        // Even the quickest successors come after the instance was let go: holding it buys nothing.
        (Some(head), _) if head > worth => KEEP_ALIVE_MIN,
        (None, _) => KEEP_ALIVE_MIN,
        // A tenth above the tail, since the future is a little wider than the past.
        (_, Some(tail)) => (tail + tail / 10).clamp(KEEP_ALIVE_MIN, worth),
        (_, None) => worth,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn every(ms: u64) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for _ in 0..50 {
            arrivals.count(Duration::from_millis(ms));
        }
        arrivals
    }

    #[test]
    fn what_starts_fast_is_let_go_soon_and_what_starts_slowly_is_kept() {
        let none = Arrivals::default();
        assert_eq!(keep_alive(Duration::from_millis(3), &none), Duration::from_secs(6));
        assert_eq!(keep_alive(Duration::from_millis(300), &none), Duration::from_secs(600));
    }

    #[test]
    fn a_function_that_is_called_each_minute_is_kept_for_a_little_over_a_minute() {
        let kept = keep_alive(Duration::from_millis(300), &every(60_000));
        assert!((60..90).contains(&kept.as_secs()), "{kept:?}");
    }

    #[test]
    fn a_function_that_is_called_once_an_hour_is_not_kept_for_nothing() {
        assert_eq!(keep_alive(Duration::from_millis(300), &every(3_600_000)), KEEP_ALIVE_MIN);
        assert_eq!(keep_alive(Duration::from_millis(300), &every(86_400_000)), KEEP_ALIVE_MIN);
    }

    proptest! {
        #[test]
        fn no_history_keeps_an_instance_for_ever(
            cold_ms in 0u64..100_000, times in prop::collection::vec(0u64..100_000_000, 0..100),
        ) {
            let mut arrivals = Arrivals::default();
            for ms in times {
                arrivals.count(Duration::from_millis(ms));
            }
            let kept = keep_alive(Duration::from_millis(cold_ms), &arrivals);
            prop_assert!((KEEP_ALIVE_MIN..=KEEP_ALIVE_MAX).contains(&kept));
        }
    }
}
