//! How long a version that does not start is left alone before it is tried again.
//!
//! Each try of a broken version costs a sandbox and the CPU of its initialisation, and its callers may come back
//! at once. So the time between tries doubles, up to a bound that its developer can still wait for.

use std::time::Duration;

/// Failed starts in a row after which the next is tried at once: one may be chance.
pub const FREE_FAILURES: u32 = 1;
/// The first wait.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest: what broke outside the code (a database that was away) is found mended this soon.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// How long to start no instance of a version after this many of its starts have failed in a row.
#[must_use]
pub fn backoff(failed_in_a_row: u32) -> Duration {
    match failed_in_a_row.saturating_sub(FREE_FAILURES) {
        0 => Duration::ZERO,
        repeated => BACKOFF_MIN.saturating_mul(2u32.saturating_pow(repeated - 1)).min(BACKOFF_MAX),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_failure_is_free_and_the_wait_then_doubles_to_its_bound() {
        let waits: Vec<_> = (0..=10).map(|failed| backoff(failed).as_millis()).collect();
        assert_eq!(waits, [0, 0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    }

    proptest! {
        #[test]
        fn more_failures_never_wait_less_nor_longer_than_the_bound(failed in 0u32..u32::MAX) {
            prop_assert!(backoff(failed) <= backoff(failed + 1));
            prop_assert!(backoff(failed + 1) <= BACKOFF_MAX);
        }
    }
}
