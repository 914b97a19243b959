//! How many sandboxes to have built ahead of their starts: decided from what was asked for in the last minute. Pure.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How far back demand counts. After this without a start, the pool is at its floor.
const SECONDS: usize = 60;
/// Memory of one that waits: its page tables and own pages, namespaces, mounts and groups. Some 0.5 MiB was
/// measured (32 that waited, Linux 6.18, two cores), and part of it grows with the number of cores.
pub(super) const WAITING_BYTES: u64 = 1 << 20;

/// Bounds of the pool of sandboxes that were built ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// How many wait although nothing is asked for. May be zero.
    pub floor: u32,
    /// How many wait at most.
    pub most: u32,
    /// What all that wait may take, in bytes.
    pub memory_bytes: u64,
    /// How many zygotes there may be. Zero is none.
    pub zygotes_most: u32,
    /// What all zygotes may hold, in bytes.
    pub zygotes_bytes: u64,
    /// How many forks of each zygote wait at most; one does as long as the zygote is there.
    pub forks_most: u32,
    /// How many interpreters of each kind and family wait at most to become the code themselves; one does as long as
    /// the family is in use. Zero is none.
    pub started_most: u32,
    /// What all of those may hold, in bytes.
    pub started_bytes: u64,
}

impl Default for Pool {
    /// Two for the first callers after a silence, and as many as a machine starts in the time that it takes to
    /// notice that more are wanted.
    fn default() -> Self {
        Self {
            floor: 2,
            most: 64,
            memory_bytes: 64 << 20,
            zygotes_most: 16,
            zygotes_bytes: 512 << 20,
            forks_most: 8,
            started_most: 4,
            started_bytes: 256 << 20,
        }
    }
}

impl Pool {
    /// How many shall wait now. `busiest` is [`Demand::busiest`]; `places` is how many more sandboxes the host may
    /// hold, those that wait included: half of them stay free for starts that none of the waiting ones fits.
    pub(super) fn size(&self, busiest: u32, places: usize) -> usize {
        let affordable = u32::try_from(self.memory_bytes / WAITING_BYTES).unwrap_or(u32::MAX);
        let wanted = busiest.max(self.floor).min(self.most).min(affordable);
        places.div_ceil(2).min(wanted as usize)
    }

    /// How many forks of a zygote shall wait now. `busiest` counts the starts of its specs.
    pub(super) fn forks(&self, busiest: u32, places: usize) -> usize {
        places.div_ceil(2).min(busiest.max(1).min(self.forks_most) as usize)
    }

    /// How many of the zygotes go for want of memory: `held` is what each holds, the one that was not needed for longest
    /// first.
    pub(super) fn zygotes_too_many(&self, held: &[u64]) -> usize {
        let mut all: u64 = held.iter().sum();
        let too_many = held.iter().take_while(|bytes| {
            let over = all > self.zygotes_bytes;
            all -= **bytes;
            over
        });
        too_many.count()
    }

    /// How many interpreters of one family shall wait now to become code. `busiest` counts the starts of its specs, `each`
    /// is what one holds, and `others` what those of all other families do.
    pub(super) fn started(&self, busiest: u32, places: usize, each: u64, others: u64) -> usize {
        let affordable = self.started_bytes.saturating_sub(others) / each.max(1);
        let wanted = u64::from(busiest.max(1).min(self.started_most)).min(affordable);
        places.div_ceil(2).min(usize::try_from(wanted).unwrap_or(usize::MAX))
    }
}

/// Starts of the last minute, by the second.
#[derive(Debug)]
pub(super) struct Demand {
    /// A ring: the second `s` is at `s % SECONDS`.
    counts: [u32; SECONDS],
    /// The last second that was seen.
    now: u64,
}

impl Demand {
    pub(super) fn new(now: u64) -> Self {
        Self { counts: [0; SECONDS], now }
    }

    /// Counts a start.
    pub(super) fn started(&mut self, now: u64) {
        self.pass(now);
        let count = &mut self.counts[Self::place(self.now)];
        *count = count.saturating_add(1);
    }

    /// Starts in the busiest second of the last minute: what may come again at once.
    pub(super) fn busiest(&mut self, now: u64) -> u32 {
        self.pass(now);
        self.counts.iter().copied().max().unwrap_or(0)
    }

    /// Forgets what is older than a minute.
    fn pass(&mut self, now: u64) {
        let passed = now.saturating_sub(self.now).min(SECONDS as u64);
        for second in 0..passed {
            self.counts[Self::place(now - second)] = 0;
        }
        self.now = self.now.max(now);
    }

    fn place(second: u64) -> usize {
        usize::try_from(second % SECONDS as u64).unwrap_or(0)
    }
}

/// When there is time for what nobody waits for.
#[derive(Debug, Default)]
pub(super) struct Lull {
    /// When a sandbox was last asked for, or was told to begin.
    last: Option<Instant>,
    /// Since when there was no lull.
    since: Option<Instant>,
}

impl Lull {
    /// How long after a start nothing is made ahead: its code begins then, and needs the processors.
    const CALM: Duration = Duration::from_millis(20);
    /// Under a stream of starts it is made all the same after so long, or they would soon find nothing.
    const STREAM: Duration = Duration::from_millis(100);

    /// Notes a start.
    pub(super) fn start(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// Whether this is such a time.
    pub(super) fn is_now(&mut self, now: Instant) -> bool {
        if self.last.is_none_or(|last| now.saturating_duration_since(last) >= Self::CALM) {
            self.since = None;
            return true;
        }
        let since = *self.since.get_or_insert(now);
        now.saturating_duration_since(since) >= Self::STREAM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: Pool = Pool {
        floor: 1,
        most: 10,
        memory_bytes: 8 * WAITING_BYTES,
        zygotes_most: 2,
        zygotes_bytes: 100,
        forks_most: 3,
        started_most: 3,
        started_bytes: 100,
    };

    #[test]
    fn the_pool_follows_demand_between_its_floor_and_what_is_affordable() {
        assert_eq!(POOL.size(0, 100), 1);
        assert_eq!(POOL.size(5, 100), 5);
        assert_eq!(POOL.size(50, 100), 8, "memory for eight");
        assert_eq!(Pool { memory_bytes: u64::MAX, ..POOL }.size(50, 100), 10);
        assert_eq!(Pool { floor: 0, ..POOL }.size(0, 100), 0);
    }

    #[test]
    fn a_host_that_is_nearly_full_keeps_half_of_its_places_free() {
        assert_eq!(POOL.size(5, 4), 2);
        assert_eq!(POOL.size(5, 1), 1);
        assert_eq!(POOL.size(5, 0), 0);
    }

    #[test]
    fn one_fork_waits_and_more_where_more_are_asked_for() {
        assert_eq!(POOL.forks(0, 100), 1);
        assert_eq!(POOL.forks(2, 100), 2);
        assert_eq!(POOL.forks(50, 100), 3);
        assert_eq!(POOL.forks(50, 0), 0);
        assert_eq!(Pool { forks_most: 0, ..POOL }.forks(50, 100), 0);
    }

    #[test]
    fn interpreters_wait_as_demand_asks_and_memory_allows() {
        assert_eq!(POOL.started(0, 100, 10, 0), 1);
        assert_eq!(POOL.started(2, 100, 10, 0), 2);
        assert_eq!(POOL.started(50, 100, 10, 0), 3);
        assert_eq!(POOL.started(50, 100, 40, 0), 2, "memory for two");
        assert_eq!(POOL.started(50, 100, 40, 70), 0, "the others have it");
        assert_eq!(POOL.started(50, 1, 10, 0), 1);
        assert_eq!(Pool { started_most: 0, ..POOL }.started(50, 100, 10, 0), 0);
    }

    #[test]
    fn zygotes_that_hold_too_much_go_beginning_with_the_one_that_was_not_needed_for_longest() {
        assert_eq!(POOL.zygotes_too_many(&[]), 0);
        assert_eq!(POOL.zygotes_too_many(&[40, 60]), 0);
        assert_eq!(POOL.zygotes_too_many(&[1, 40, 60]), 1);
        assert_eq!(POOL.zygotes_too_many(&[10, 40, 60, 30]), 1 + 1);
        assert_eq!(POOL.zygotes_too_many(&[101]), 1, "one alone can be too much");
    }

    #[test]
    fn the_busiest_second_counts_for_a_minute() {
        let mut demand = Demand::new(1_000);
        for second in [1_000, 1_000, 1_000, 1_030] {
            demand.started(second);
        }
        assert_eq!(demand.busiest(1_030), 3);
        assert_eq!(demand.busiest(1_059), 3);
        assert_eq!(demand.busiest(1_060), 1);
        assert_eq!(demand.busiest(1_089), 1);
        assert_eq!(demand.busiest(1_090), 0);
    }

    #[test]
    fn a_long_silence_and_a_clock_that_stands_still_are_nothing_special() {
        let mut demand = Demand::new(7);
        demand.started(7);
        assert_eq!(demand.busiest(u64::MAX), 0);
        demand.started(3);
        assert_eq!(demand.busiest(u64::MAX), 1);
    }

    #[test]
    fn a_lull_comes_after_a_start_and_under_a_stream_of_them_all_the_same() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut lull = Lull::default();
        assert!(lull.is_now(begun), "before the first");
        lull.start(begun);
        assert!(!lull.is_now(at(0)) && !lull.is_now(at(19)) && lull.is_now(at(20)));
        let over: Vec<_> = (3..30)
            .map(|n| at(n * 10))
            .filter(|now| {
                lull.start(*now);
                lull.is_now(*now)
            })
            .collect();
        assert_eq!(over.first(), Some(&at(130)), "after a tenth of a second of starts");
        assert!(lull.is_now(at(310)), "the last was long ago");
        lull.start(at(311));
        assert!(!lull.is_now(at(311)), "and it is counted anew");
    }
}
