//! Calls a second: the generic cell rate algorithm (ITU-T I.371, in its form as virtual scheduling), which is a token
//! bucket kept in a single number. Pure.

/// How many calls may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// On average, in a second; at least 1.
    pub per_second: u32,
    /// At once after a rest; at least 1.
    pub burst: u32,
}

impl Rate {
    /// The rate of a setting, if there is one.
    #[must_use]
    pub fn of(per_second: Option<u32>, burst: Option<u32>) -> Option<Self> {
        let per_second = per_second?.max(1);
        Some(Self { per_second, burst: burst.unwrap_or(per_second).max(1) })
    }
}

/// Nanoseconds, which a million calls a second can be told apart in.
const SECOND: u64 = 1_000_000_000;

/// Whether a call may begin at `now`, both in nanoseconds since any one point. `due` is when the next call would be due
/// if all came evenly; zero for none so far.
///
/// # Errors
/// How long to wait, in nanoseconds, when it may not.
pub fn next(due: u64, now: u64, rate: Rate) -> Result<u64, u64> {
    let step = SECOND / u64::from(rate.per_second.max(1));
    let ahead = step.saturating_mul(u64::from(rate.burst.max(1)) - 1);
    // No call is ever let in that leaves it further ahead than this: the clock was put back.
    let due = if due > now.saturating_add(ahead).saturating_add(step) { now } else { due.max(now) };
    match due - now {
        early if early <= ahead => Ok(due.saturating_add(step)),
        early => Err(early - ahead),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_calls_pass_evenly() {
        let rate = Rate { per_second: 10, burst: 3 };
        let (mut due, now) = (0, 5 * SECOND);
        for _ in 0..3 {
            due = next(due, now, rate).expect("within the burst");
        }
        assert_eq!(next(due, now, rate), Err(SECOND / 10));
        due = next(due, now + SECOND / 10, rate).expect("one more");
        assert!(next(due, now + SECOND / 10, rate).is_err());
    }

    #[test]
    fn a_clock_that_was_put_back_locks_nobody_out() {
        let rate = Rate { per_second: 1, burst: 1 };
        let due = next(0, 3_600 * SECOND, rate).expect("the first");
        assert!(next(due, 5 * SECOND, rate).is_ok());
    }

    proptest! {
        #[test]
        fn in_no_window_do_more_begin_than_the_rate_and_the_burst(
            per_second in 1u32..1_000, burst in 1u32..50, steps in prop::collection::vec(0u64..50_000_000, 1..300),
        ) {
            let rate = Rate { per_second, burst };
            let (mut due, mut now, mut let_in) = (0, SECOND, Vec::new());
            for step in steps {
                now += step;
                if let Ok(next) = next(due, now, rate) {
                    due = next;
                    let_in.push(now);
                }
            }
            for (i, from) in let_in.iter().enumerate() {
                for (j, to) in let_in.iter().enumerate().skip(i) {
                    let allowed = u64::from(burst) + (to - from) / (SECOND / u64::from(per_second));
                    prop_assert!((j - i + 1) as u64 <= allowed, "{} in {} ns", j - i + 1, to - from);
                }
            }
        }

        #[test]
        fn who_waits_as_long_as_told_is_let_in(per_second in 1u32..=1_000_000, burst in 1u32..50, calls in 1usize..200) {
            let rate = Rate { per_second, burst };
            let (mut due, mut now) = (0, SECOND);
            for _ in 0..calls {
                due = match next(due, now, rate) {
                    Ok(due) => due,
                    Err(wait) => {
                        now += wait;
                        next(due, now, rate).map_err(|more| TestCaseError::fail(format!("{more} more")))?
                    }
                };
            }
        }
    }
}
