//! Whether a call runs, waits or is refused, and how many instances to start for those that wait.
//!
//! A call is held rather than refused while there is hope: an instance starts, or one is busy and will be
//! free. Both the number that waits and the time of each are bounded by the function's own [`Scaling`].

use std::time::Duration;

use rouse_types::Scaling;

/// The calls and instances of one function, counted.
///
/// Where making an instance is part of the call itself (Wasm), every permit that is left counts as a free slot
/// and nothing ever starts: see [`Load::in_place`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Calls that run.
    pub running: u32,
    /// Calls that instances which are there could take at once.
    pub free: u32,
    /// Calls that instances which are starting will be able to take.
    pub starting: u32,
    /// Calls that wait.
    pub waiting: u32,
    /// Calls that other versions of the same function run, or start instances for: they count against the limit
    /// of the function, and their slots are of no use to this one.
    pub elsewhere: u32,
}

impl Load {
    /// The load of a function whose calls make their own instance.
    #[must_use]
    pub fn in_place(running: u32, waiting: u32, scaling: &Scaling) -> Self {
        Self {
            running,
            free: scaling.concurrency_max.saturating_sub(running),
            starting: 0,
            waiting,
            elsewhere: 0,
        }
    }

    /// Calls that run, in whatever version.
    fn running_in_all(&self) -> u32 {
        self.running.saturating_add(self.elsewhere)
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It runs now, in a free slot.
    Run,
    /// It waits, at most this long. How many instances to start for it is [`starts_wanted`]'s to say.
    Hold {
        /// [`Scaling::queue_timeout_ms`].
        at_most: Duration,
    },
    /// It is refused; trying again makes sense after this time.
    Refuse {
        /// Why.
        reason: Reason,
        /// A guess at when there is room again.
        retry_after: Duration,
    },
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// As many calls wait as may: [`Scaling::queue_max`].
    QueueFull,
    /// The function may not run at all: [`Scaling::concurrency_max`] is zero.
    Disabled,
    /// As many calls run, or are about to, as may: [`Scaling::throttle`].
    Throttled,
}

/// The shortest time after which a refused caller is told to come back: `Retry-After` counts in seconds.
pub const RETRY_AFTER_MIN: Duration = Duration::from_secs(1);

/// Decides on one call that has just arrived and is not counted in `load` yet.
#[must_use]
pub fn admit(load: Load, scaling: &Scaling) -> Admission {
    let at_most = Duration::from_millis(scaling.queue_timeout_ms);
    if scaling.concurrency_max == 0 {
        return Admission::Refuse { reason: Reason::Disabled, retry_after: at_most.max(RETRY_AFTER_MIN) };
    }
    if scaling.throttle && load.running_in_all().saturating_add(load.waiting) >= scaling.concurrency_max {
        return Admission::Refuse { reason: Reason::Throttled, retry_after: RETRY_AFTER_MIN };
    }
    let permitted = load.running_in_all() < scaling.concurrency_max;
    // Those that wait came first.
    if permitted && load.free > load.waiting {
        return Admission::Run;
    }
    if load.waiting < scaling.queue_max {
        return Admission::Hold { at_most };
    }
    // Half of the longest wait: by then about half of those that wait now have run or given up.
    Admission::Refuse { reason: Reason::QueueFull, retry_after: (at_most / 2).max(RETRY_AFTER_MIN) }
}

/// How many further instances to start for the calls that wait, when there is memory for `room` more.
///
/// One start per waiting call that no free or starting slot will take, never so many that all slots together
/// exceed [`Scaling::concurrency_max`]. `slots` is what one instance runs at once.
#[must_use]
pub fn starts_wanted(load: Load, scaling: &Scaling, slots: u32, room: u32) -> u32 {
    let slots = slots.max(1);
    let uncovered = load.waiting.saturating_sub(load.free.saturating_add(load.starting));
    let taken = load.running_in_all().saturating_add(load.free).saturating_add(load.starting);
    let permitted = scaling.concurrency_max.saturating_sub(taken);
    uncovered.min(permitted).div_ceil(slots).min(room)
}

/// One version of a function, as it stands beside the others when a slot of the function is to be given away.
#[derive(Debug, Clone, Copy)]
pub struct Contender<'a, V> {
    /// Which.
    pub version: V,
    /// Its calls and instances.
    pub load: Load,
    /// Its limits.
    pub scaling: &'a Scaling,
    /// How long the call has waited that would be served: the first that no starting slot will take.
    pub waited: Duration,
    /// Whether a start may be tried: its last ones did not fail, and there is memory.
    pub may_start: bool,
}

/// What is done next for a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn<V> {
    /// A call of this version runs, in a free slot.
    Run(V),
    /// An instance of this version is started.
    Start(V),
}

/// Which version of a function is served next: of those that can be, the one whose call has waited longest. So
/// versions that share one limit, as while an alias moves, share it by the order in which calls came, and one
/// that cannot start holds up no other.
#[must_use]
pub fn turn<'a, V>(contenders: impl IntoIterator<Item = Contender<'a, V>>) -> Option<Turn<V>> {
    let able = contenders.into_iter().filter_map(|contender| {
        let Contender { version, load, scaling, waited, may_start } = contender;
        let turn = if load.waiting > 0 && load.free > 0 && load.running_in_all() < scaling.concurrency_max {
            Turn::Run(version)
        } else if may_start && starts_wanted(load, scaling, scaling.concurrency_per_instance, 1) > 0 {
            Turn::Start(version)
        } else {
            return None;
        };
        Some((waited, turn))
    });
    // Of equals the first: `max_by` would take the last.
    able.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, turn)| turn)
}

/// Whether an instance that has just become free is given up for another function, which has no memory to
/// start in: when that function's oldest caller has waited longer than its own. Without this, two functions
/// that are always busy would never let a third one in.
#[must_use]
pub fn gives_way(own_oldest: Option<Duration>, starved_oldest: Duration) -> bool {
    own_oldest.is_none_or(|own| starved_oldest > own)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scaling(concurrency_max: u32, queue_max: u32) -> Scaling {
        Scaling { concurrency_max, queue_max, ..Scaling::default() }
    }

    #[test]
    fn a_call_runs_on_a_free_instance() {
        let load = Load { free: 1, ..Load::default() };
        assert_eq!(admit(load, &scaling(1, 0)), Admission::Run);
    }

    #[test]
    fn a_call_does_not_overtake_those_that_wait() {
        let load = Load { free: 1, waiting: 1, ..Load::default() };
        assert!(matches!(admit(load, &scaling(5, 5)), Admission::Hold { .. }));
    }

    #[test]
    fn a_full_queue_refuses_and_says_when_to_come_back() {
        let load = Load { running: 1, waiting: 3, ..Load::default() };
        let Admission::Refuse { reason, retry_after } = admit(load, &scaling(1, 3)) else {
            panic!("the queue is full")
        };
        assert_eq!(reason, Reason::QueueFull);
        assert!(retry_after >= RETRY_AFTER_MIN);
    }

    #[test]
    fn a_function_that_may_not_run_is_refused_at_once() {
        let refused = admit(Load::default(), &scaling(0, 9));
        assert!(matches!(refused, Admission::Refuse { reason: Reason::Disabled, .. }));
    }

    #[test]
    fn one_that_throttles_holds_no_call_but_for_its_start() {
        let throttling = Scaling { throttle: true, ..scaling(2, 9) };
        let busy = Load { running: 1, ..Load::default() };
        assert!(matches!(admit(busy, &throttling), Admission::Hold { .. }));
        for full in [Load { waiting: 1, ..busy }, Load { running: 2, ..busy }, Load { elsewhere: 1, ..busy }]
        {
            let refused = admit(full, &throttling);
            assert!(matches!(refused, Admission::Refuse { reason: Reason::Throttled, .. }), "{full:?}");
        }
    }

    #[test]
    fn one_waiting_call_starts_one_instance_and_no_second_one_while_it_starts() {
        let scaling = scaling(10, 10);
        let load = Load { waiting: 1, ..Load::default() };
        assert_eq!(starts_wanted(load, &scaling, 1, 9), 1);
        assert_eq!(starts_wanted(Load { starting: 1, ..load }, &scaling, 1, 9), 0);
    }

    proptest! {
        #[test]
        fn what_runs_and_waits_never_exceeds_the_limits(
            running in 0u32..20, free in 0u32..20, starting in 0u32..20, waiting in 0u32..20,
            elsewhere in 0u32..20, concurrency_max in 0u32..20, queue_max in 0u32..20,
        ) {
            let load = Load { running, free, starting, waiting, elsewhere };
            match admit(load, &scaling(concurrency_max, queue_max)) {
                Admission::Run => prop_assert!(running + elsewhere < concurrency_max && free > 0),
                Admission::Hold { .. } => prop_assert!(waiting < queue_max),
                Admission::Refuse { retry_after, .. } => prop_assert!(retry_after >= RETRY_AFTER_MIN),
            }
        }

        #[test]
        fn in_place_calls_run_exactly_up_to_their_limit(running in 0u32..20, max in 1u32..20) {
            let scaling = scaling(max, 1);
            let runs = admit(Load::in_place(running, 0, &scaling), &scaling) == Admission::Run;
            prop_assert_eq!(runs, running < max);
        }

        #[test]
        fn starts_cover_those_that_wait_and_stay_within_every_limit(
            running in 0u32..20, free in 0u32..20, starting in 0u32..20, waiting in 0u32..20,
            elsewhere in 0u32..20, concurrency_max in 0u32..80, slots in 1u32..4, room in 0u32..20,
        ) {
            let load = Load { running, free, starting, waiting, elsewhere };
            let starts = starts_wanted(load, &scaling(concurrency_max, 100), slots, room);
            prop_assert!(starts <= room);
            if starts > 0 {
                // All but the last instance are filled by permitted calls.
                prop_assert!(running + elsewhere + free + starting + (starts - 1) * slots < concurrency_max);
                prop_assert!(free + starting + (starts - 1) * slots < waiting);
            }
            let plenty = starts_wanted(load, &scaling(1_000, 100), slots, 1_000);
            prop_assert!(free + starting + plenty * slots >= waiting);
        }

        #[test]
        fn a_turn_goes_to_the_longest_wait_that_can_be_served_within_the_limit(
            versions in prop::collection::vec(
                (0u32..4, 0u32..4, 0u32..4, 0u32..6, 0u64..50, any::<bool>()), 0..5,
            ),
            concurrency_max in 0u32..20, slots in 1u32..4,
        ) {
            let scaling = Scaling { concurrency_per_instance: slots, ..scaling(concurrency_max, 100) };
            let all: u32 = versions.iter().map(|&(running, ..)| running).sum();
            let contenders: Vec<_> = versions.iter().enumerate().map(|(version, &(running, free, starting, waiting, ms, may_start))| {
                let load = Load { running, free, starting, waiting, elsewhere: all - running };
                Contender { version, load, scaling: &scaling, waited: Duration::from_millis(ms), may_start }
            }).collect();
            let alone = |contender: &Contender<'_, usize>| turn([*contender]).is_some();
            match turn(contenders.iter().copied()) {
                Some(Turn::Run(version) | Turn::Start(version)) => {
                    prop_assert!(all < concurrency_max && contenders[version].load.waiting > 0);
                    let longest = contenders.iter().filter(|c| alone(c)).map(|c| c.waited).max();
                    prop_assert_eq!(Some(contenders[version].waited), longest);
                }
                // Whoever could be served alone would have been.
                None => prop_assert!(!contenders.iter().any(alone)),
            }
        }

        #[test]
        fn turns_end_and_serve_or_cover_every_call_that_the_limit_permits(
            waiting in prop::collection::vec(0u32..8, 1..4), concurrency_max in 1u32..20,
        ) {
            let scaling = scaling(concurrency_max, 100);
            let mut loads: Vec<_> = waiting.iter().map(|&waiting| Load { waiting, ..Load::default() }).collect();
            let total: u32 = waiting.iter().sum();
            for _ in 0..=total {
                let busy: u32 = loads.iter().map(|load| load.running + load.starting).sum();
                prop_assert!(busy <= concurrency_max);
                let contenders: Vec<_> = loads.iter().enumerate().map(|(version, load)| {
                    let load = Load { elsewhere: busy - load.running - load.starting, ..*load };
                    Contender { version, load, scaling: &scaling, waited: Duration::ZERO, may_start: true }
                }).collect();
                match turn(contenders) {
                    Some(Turn::Start(version)) => loads[version].starting += 1,
                    Some(Turn::Run(_)) => prop_assert!(false, "nothing is free"),
                    None => {
                        prop_assert_eq!(busy, total.min(concurrency_max));
                        return Ok(());
                    }
                }
            }
            prop_assert!(false, "more starts than calls");
        }
    }
}
