//! Whose CPU time it was: what an instance used, split among the calls that it ran at once.
//!
//! The kernel counts for the whole sandbox. Between two beginnings or ends of calls, what was used is split evenly
//! among those that ran: over its life a call gets its part in proportion to the time that it shared. What code does
//! between calls, such as to ask for the next one, goes to the next. No microsecond is given twice or lost.

use rouse_types::InvocationId;

/// The calls that run, with what each has had so far.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// The instance's own figure when it was last looked at.
    seen_us: u64,
    /// Oldest first.
    running: Vec<(InvocationId, u64)>,
    /// A call has begun, so that the start's time was taken or lost.
    begun: bool,
}

impl Shares {
    /// A call begins when the instance has used this much. The start's time goes to the first call, if that one
    /// waited for it, and else to none.
    pub(super) fn begin(&mut self, call: InvocationId, cpu_us: u64, cold: bool) {
        let first = !std::mem::replace(&mut self.begun, true);
        if !self.running.is_empty() {
            self.split(cpu_us);
        } else if first && !cold {
            self.seen_us = cpu_us;
        }
        self.running.push((call, 0));
    }

    /// A call ends: what it used.
    pub(super) fn end(&mut self, call: InvocationId, cpu_us: u64) -> u64 {
        self.split(cpu_us);
        let at = self.running.iter().position(|(running, _)| *running == call);
        at.map_or(0, |at| self.running.remove(at).1)
    }

    fn split(&mut self, cpu_us: u64) {
        let used = cpu_us.saturating_sub(self.seen_us);
        self.seen_us = self.seen_us.max(cpu_us);
        let calls = self.running.len() as u64;
        let (Some(each), Some(rest)) = (used.checked_div(calls), used.checked_rem(calls)) else { return };
        for ((_, share), at) in self.running.iter_mut().zip(0u64..) {
            *share += each + u64::from(at < rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_call_alone_has_all_and_calls_that_overlap_share_what_they_overlap() {
        let (a, b) = (InvocationId::new(), InvocationId::new());
        let mut shares = Shares::default();
        shares.begin(a, 500, false);
        shares.begin(b, 600, false);
        assert_eq!(shares.end(a, 800), 100 + 100);
        assert_eq!(shares.end(b, 1_000), 100 + 200);
    }

    #[test]
    fn a_start_is_paid_once_and_by_a_call_that_waited_for_it() {
        let mut shares = Shares::default();
        let [a, b, c] = [(); 3].map(|()| InvocationId::new());
        shares.begin(a, 70, true);
        assert_eq!(shares.end(a, 100), 100);
        shares.begin(b, 130, true);
        assert_eq!(shares.end(b, 150), 50, "it waited too, but the start is paid; what came between is not");
        let mut shares = Shares::default();
        shares.begin(c, 70, false);
        assert_eq!(shares.end(c, 100), 30, "nobody waited for it");
    }

    proptest! {
        #[test]
        fn shares_sum_to_what_was_used_from_the_first_call_to_the_last(
            steps in prop::collection::vec((0u64..10_000, any::<bool>(), 0usize..8), 1..80),
        ) {
            let (mut shares, mut open) = (Shares::default(), Vec::new());
            let (mut now, mut given, mut first, mut last) = (0, 0, None, 0);
            for (us, begins, which) in steps {
                now += us;
                first.get_or_insert(now);
                if begins || open.is_empty() {
                    let call = InvocationId::new();
                    shares.begin(call, now, false);
                    open.push(call);
                } else {
                    let call = open.remove(which % open.len());
                    given += shares.end(call, now);
                    last = now;
                }
            }
            for call in open {
                given += shares.end(call, now);
                last = now;
            }
            prop_assert_eq!(given, last.saturating_sub(first.unwrap_or_default()));
        }

        #[test]
        fn calls_that_run_for_the_same_time_have_the_same_but_for_a_microsecond_a_step(
            calls in 1usize..10, steps in prop::collection::vec(0u64..10_000, 1..20),
        ) {
            let mut shares = Shares::default();
            let ids: Vec<_> = (0..calls).map(|_| InvocationId::new()).collect();
            for &id in &ids {
                shares.begin(id, 0, false);
            }
            let mut now = 0;
            for us in &steps {
                now += us;
                shares.split(now);
            }
            let all: Vec<_> = ids.iter().map(|&id| shares.end(id, now)).collect();
            let (least, most) = (all.iter().min().expect("some"), all.iter().max().expect("some"));
            prop_assert!(most - least <= steps.len() as u64, "{all:?}");
        }
    }
}
