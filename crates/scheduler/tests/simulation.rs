//! The rules together, over a simulated clock: calls of several functions come as they like, a small pool acts on
//! what is decided, and what must hold is checked at every step.

use std::{collections::VecDeque, time::Duration};

use proptest::prelude::*;
use rouse_scheduler::{
    Admission, Arrivals, Candidate, GreedyDual, Load, admit, keep_alive, keepalive::KEEP_ALIVE_MAX,
    starts_wanted,
};
use rouse_types::Scaling;

const MIB: u64 = 1 << 20;
const BUDGET: u64 = 512 * MIB;
const FUNCTIONS: usize = 4;

#[derive(Debug, Clone, Copy)]
struct Arrival {
    after_ms: u64,
    function: usize,
    run_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Starting { until: u64 },
    Idle { until: u64 },
    Busy { until: u64 },
}

#[derive(Debug)]
struct Instance {
    function: usize,
    state: State,
    priority: f64,
}

#[derive(Default)]
struct Function {
    waiting: VecDeque<(u64, u64)>,
    arrivals: Arrivals,
    last: Option<u64>,
    calls: u64,
}

struct Simulation {
    now: u64,
    scaling: Scaling,
    functions: Vec<Function>,
    instances: Vec<Instance>,
    evictions: GreedyDual,
    served: usize,
    refused: usize,
}

fn memory(function: usize) -> u64 {
    [64, 128, 128, 256][function] * MIB
}

fn cold_ms(function: usize) -> u64 {
    [3, 50, 300, 2_000][function]
}

impl Simulation {
    fn load(&self, function: usize) -> Load {
        let count = |of: fn(&State) -> bool| {
            let mine = self.instances.iter().filter(|instance| instance.function == function);
            u32::try_from(mine.filter(|instance| of(&instance.state)).count()).expect("few")
        };
        Load {
            running: count(|state| matches!(state, State::Busy { .. })),
            free: count(|state| matches!(state, State::Idle { .. })),
            starting: count(|state| matches!(state, State::Starting { .. })),
            waiting: u32::try_from(self.functions[function].waiting.len()).expect("few"),
            elsewhere: 0,
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        let function = &mut self.functions[arrival.function];
        if let Some(last) = function.last.replace(self.now) {
            function.arrivals.count(Duration::from_millis(self.now - last));
        }
        function.calls += 1;
        match admit(self.load(arrival.function), &self.scaling) {
            Admission::Run | Admission::Hold { .. } => {
                self.functions[arrival.function].waiting.push_back((self.now, arrival.run_ms));
            }
            Admission::Refuse { .. } => self.refused += 1,
        }
    }

    /// Acts on everything that is due now.
    fn act(&mut self) {
        let now = self.now;
        for at in 0..self.instances.len() {
            let function = self.instances[at].function;
            let due = matches!(
                self.instances[at].state,
                State::Starting { until } | State::Busy { until } if until <= now
            );
            if due {
                let known = &self.functions[function];
                let cold = Duration::from_millis(cold_ms(function));
                let kept = u64::try_from(keep_alive(cold, &known.arrivals).as_millis()).expect("bounded");
                self.instances[at].state = State::Idle { until: now + kept };
                self.instances[at].priority = self.evictions.priority(known.calls, cold, memory(function));
            }
        }
        self.instances.retain(|instance| !matches!(instance.state, State::Idle { until } if until <= now));
        for function in 0..FUNCTIONS {
            let queue_timeout = self.scaling.queue_timeout_ms;
            while self.functions[function].waiting.front().is_some_and(|(at, _)| at + queue_timeout <= now) {
                self.functions[function].waiting.pop_front();
                self.refused += 1;
            }
            self.dispatch(function);
            let bytes = memory(function);
            for _ in 0..starts_wanted(self.load(function), &self.scaling, 1, u32::MAX) {
                if !self.make_room(bytes) {
                    break;
                }
                let until = now + cold_ms(function);
                self.instances.push(Instance { function, state: State::Starting { until }, priority: 0.0 });
            }
        }
    }

    fn dispatch(&mut self, function: usize) {
        loop {
            let load = self.load(function);
            if load.waiting == 0 || load.running >= self.scaling.concurrency_max {
                break;
            }
            let idle = |instance: &&mut Instance| {
                instance.function == function && matches!(instance.state, State::Idle { .. })
            };
            let Some(instance) = self.instances.iter_mut().find(idle) else { break };
            let Some((_, run_ms)) = self.functions[function].waiting.pop_front() else { break };
            instance.state = State::Busy { until: self.now + run_ms };
            self.served += 1;
        }
    }

    fn used(&self) -> u64 {
        self.instances.iter().map(|instance| memory(instance.function)).sum()
    }

    fn make_room(&mut self, bytes: u64) -> bool {
        let free = BUDGET - self.used();
        if free < bytes {
            let idle = self.instances.iter().enumerate();
            let idle = idle.filter(|(_, instance)| matches!(instance.state, State::Idle { .. }));
            let candidates = idle.map(|(id, instance)| Candidate {
                id,
                priority: instance.priority,
                memory_bytes: memory(instance.function),
            });
            let mut gone = self.evictions.evict(candidates.collect(), bytes - free);
            gone.sort_unstable();
            for at in gone.into_iter().rev() {
                self.instances.remove(at);
            }
        }
        BUDGET - self.used() >= bytes
    }

    fn next_event(&self) -> Option<u64> {
        let instances = self.instances.iter().map(|instance| match instance.state {
            State::Starting { until } | State::Idle { until } | State::Busy { until } => until,
        });
        let queues = self.functions.iter().filter_map(|function| function.waiting.front());
        instances.chain(queues.map(|(at, _)| at + self.scaling.queue_timeout_ms)).min()
    }

    fn check(&self) {
        assert!(self.used() <= BUDGET, "the budget is never exceeded");
        for function in 0..FUNCTIONS {
            let load = self.load(function);
            assert!(load.running <= self.scaling.concurrency_max);
            assert!(load.running + load.free + load.starting <= self.scaling.concurrency_max);
            assert!(load.waiting <= self.scaling.queue_max);
        }
    }

    fn run_until(&mut self, until: u64) {
        while let Some(next) = self.next_event().filter(|&next| next <= until) {
            self.now = next.max(self.now);
            self.act();
            self.check();
        }
        self.now = until;
    }
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let gap = prop_oneof![4 => 0u64..20, 2 => 20u64..2_000, 1 => 2_000u64..400_000];
    let one = (gap, 0..FUNCTIONS, 1u64..5_000);
    prop::collection::vec(
        one.prop_map(|(after_ms, function, run_ms)| Arrival { after_ms, function, run_ms }),
        1..200,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn limits_hold_every_call_is_served_or_refused_and_at_last_nothing_is_left(
        arrivals in arrivals(), concurrency_max in 1u32..6, queue_max in 0u32..20, queue_timeout_ms in 1u64..10_000,
    ) {
        let scaling = Scaling { concurrency_max, queue_max, queue_timeout_ms, ..Scaling::default() };
        let mut simulation = Simulation {
            now: 0,
            scaling,
            functions: (0..FUNCTIONS).map(|_| Function::default()).collect(),
            instances: Vec::new(),
            evictions: GreedyDual::default(),
            served: 0,
            refused: 0,
        };
        for &arrival in &arrivals {
            simulation.run_until(simulation.now + arrival.after_ms);
            simulation.arrive(arrival);
            simulation.act();
            simulation.check();
        }
        // The longest wait, start and run, and then the longest that an idle instance is kept.
        let most = queue_timeout_ms + 2_000 + 5_000 + u64::try_from(KEEP_ALIVE_MAX.as_millis()).expect("bounded");
        simulation.run_until(simulation.now + most);
        prop_assert_eq!(simulation.served + simulation.refused, arrivals.len());
        prop_assert!(simulation.instances.is_empty(), "an idle function ends with no instance");
    }
}
