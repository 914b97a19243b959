//! Which idle instances go when memory is needed.
//!
//! Greedy-dual, after A. Fuerst and P. Sharma, "FaasCache: Keeping Serverless Computing Alive with Greedy-Dual
//! Caching", ASPLOS 2021, §4: the instance with the least `clock + frequency × cost / size` goes first, where
//! the clock rises to the priority of each one that went. So what is called often, starts slowly and is small
//! stays, and what nobody called since grows old.

use std::time::Duration;

/// The clock of the rule. One for all instances that share a budget.
#[derive(Debug, Clone, Copy, Default)]
pub struct GreedyDual {
    clock: f64,
}

/// An idle instance that could go.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<I> {
    /// Which.
    pub id: I,
    /// Its priority when it was last used: see [`GreedyDual::priority`].
    pub priority: f64,
    /// The memory that it sets free, in bytes.
    pub memory_bytes: u64,
}

impl GreedyDual {
    /// The priority of an instance that is used now: by a function that was called `calls` times since it has
    /// instances, with this cold start and size.
    #[must_use]
    pub fn priority(&self, calls: u64, cold: Duration, memory_bytes: u64) -> f64 {
        const MIB: f64 = (1 << 20) as f64;
        #[expect(clippy::cast_precision_loss, reason = "a rank, not a sum")]
        let (calls, mib) = (calls as f64, memory_bytes.max(1) as f64 / MIB);
        self.clock + calls * cold.as_secs_f64() / mib
    }

    /// The fewest of the cheapest candidates that set `needed_bytes` free; none if all together do not, for
    /// then nobody would gain by their end.
    #[must_use]
    pub fn evict<I: Copy>(&mut self, mut idle: Vec<Candidate<I>>, needed_bytes: u64) -> Vec<I> {
        let all: u64 = idle.iter().map(|candidate| candidate.memory_bytes).sum();
        if all < needed_bytes {
            return Vec::new();
        }
        idle.sort_by(|a, b| a.priority.total_cmp(&b.priority));
        let mut freed = 0;
        let mut gone = Vec::new();
        for candidate in idle {
            if freed >= needed_bytes {
                break;
            }
            freed += candidate.memory_bytes;
            self.clock = self.clock.max(candidate.priority);
            gone.push(candidate.id);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn candidate(id: u32, priority: f64, memory_bytes: u64) -> Candidate<u32> {
        Candidate { id, priority, memory_bytes }
    }

    #[test]
    fn what_is_rarely_called_quick_to_start_and_large_goes_first() {
        let rule = GreedyDual::default();
        let base = rule.priority(10, Duration::from_millis(100), 128 * MIB);
        assert!(rule.priority(5, Duration::from_millis(100), 128 * MIB) < base);
        assert!(rule.priority(10, Duration::from_millis(10), 128 * MIB) < base);
        assert!(rule.priority(10, Duration::from_millis(100), 1024 * MIB) < base);
    }

    #[test]
    fn what_was_once_popular_grows_old() {
        let mut rule = GreedyDual::default();
        let once_popular = rule.priority(50, Duration::from_secs(1), 128 * MIB);
        for round in 0..100 {
            let priority = rule.priority(2, Duration::from_secs(1), 128 * MIB);
            let gone = rule
                .evict(vec![candidate(0, once_popular, 128 * MIB), candidate(1, priority, 128 * MIB)], MIB);
            if gone == [0] {
                assert!(round > 1);
                return;
            }
        }
        panic!("the clock never reached it");
    }

    proptest! {
        #[test]
        fn enough_goes_or_nothing_and_never_one_more_than_needed(
            idle in prop::collection::vec((0u64..1_000, 1u64..512), 0..30), needed in 1u64..4_096,
        ) {
            let candidates: Vec<_> = (0u32..)
                .zip(&idle)
                .map(|(id, &(priority, mib))| candidate(id, f64::from(u32::try_from(priority).expect("small")), mib * MIB))
                .collect();
            let size = |id: &u32| candidates[*id as usize].memory_bytes;
            let gone = GreedyDual::default().evict(candidates.clone(), needed * MIB);
            let freed: u64 = gone.iter().map(size).sum();
            if gone.is_empty() {
                prop_assert!(candidates.iter().map(|c| c.memory_bytes).sum::<u64>() < needed * MIB);
            } else {
                prop_assert!(freed >= needed * MIB);
                prop_assert!(freed - size(gone.last().expect("not empty")) < needed * MIB);
            }
        }
    }
}
