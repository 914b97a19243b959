//! What a node counts, in Prometheus' text form. Labels are of fixed sets: ten thousand functions make no series.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use rouse_sandbox::Ahead;
use rouse_types::{InstanceState, Outcome, Timing, Work};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPart {
    part: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfJournal {
    journal: &'static str,
}

/// All metrics of a node.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    invocations: Family<OfOutcome, Counter>,
    cold_starts: Counter,
    refused: Counter,
    evicted: Counter,
    seconds: Family<OfPart, Histogram>,
    instances: Family<OfState, Gauge>,
    waiting: Gauge,
    reserved: Gauge,
    lost: Family<OfJournal, Gauge>,
    ahead: Family<OfKind, Gauge>,
    ahead_bytes: Family<OfKind, Gauge>,
}

/// What is read off when the metrics are asked for.
#[derive(Debug, Default, Clone)]
pub(crate) struct Levels {
    /// By state, in the order of [`InstanceState::ALL`].
    pub(crate) instances: [u32; 4],
    pub(crate) running: u32,
    pub(crate) waiting: u32,
    pub(crate) reserved_bytes: u64,
    /// Records of usage and of logs.
    pub(crate) lost: (u64, u64),
}

impl Levels {
    /// What is under way.
    pub(crate) fn work(&self) -> Work {
        Work { calls: self.running.saturating_add(self.waiting), events: 0 }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("rouse_node");
        // 50 µs to 50 s.
        let seconds = Family::<OfPart, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(50e-6, 2.0, 21))
        });
        let (invocations, cold_starts) = (Family::<OfOutcome, Counter>::default(), Counter::default());
        let (refused, evicted) = (Counter::default(), Counter::default());
        let (instances, waiting, reserved) =
            (Family::<OfState, Gauge>::default(), Gauge::default(), Gauge::default());
        let lost = Family::<OfJournal, Gauge>::default();
        registry.register("invocations", "Invocations that ran or tried to, by outcome", invocations.clone());
        registry.register("cold_starts", "Invocations that waited for a start", cold_starts.clone());
        registry.register("refused", "Invocations that were refused before any code ran", refused.clone());
        registry.register("evictions", "Idle instances that went for want of memory", evicted.clone());
        registry.register("invocation_seconds", "Time of invocations, by part", seconds.clone());
        registry.register("instances", "Living instances, by state", instances.clone());
        registry.register("waiting", "Invocations that wait for an instance", waiting.clone());
        registry.register("memory_reserved_bytes", "Memory set aside for instances", reserved.clone());
        registry.register("journal_lost", "Records that could not be journalled", lost.clone());
        let (ahead, ahead_bytes) = (Family::<OfKind, Gauge>::default(), Family::<OfKind, Gauge>::default());
        registry.register("ahead", "What is held ready for starts, by kind", ahead.clone());
        registry.register("ahead_memory_bytes", "Memory of what is held ready, by kind", ahead_bytes.clone());
        Self {
            registry,
            invocations,
            cold_starts,
            refused,
            evicted,
            seconds,
            instances,
            waiting,
            reserved,
            lost,
            ahead,
            ahead_bytes,
        }
    }

    pub(crate) fn ended(&self, outcome: Outcome, timing: &Timing, cold: bool) {
        self.invocations.get_or_create(&OfOutcome { outcome: outcome.as_str() }).inc();
        let mut parts = vec![("queue", timing.queue_us), ("run", timing.run_us)];
        if cold {
            self.cold_starts.inc();
            parts.extend([("start", timing.start_us), ("init", timing.init_us)]);
        }
        for (part, us) in parts {
            #[expect(clippy::cast_precision_loss, reason = "a histogram's bucket is coarser")]
            self.seconds.get_or_create(&OfPart { part }).observe(us as f64 / 1e6);
        }
    }

    pub(crate) fn refused(&self) {
        self.refused.inc();
    }

    pub(crate) fn evicted(&self, count: usize) {
        self.evicted.inc_by(count as u64);
    }

    pub(crate) fn text(&self, levels: &Levels, ahead: &Ahead) -> String {
        for (state, count) in InstanceState::ALL.iter().zip(levels.instances) {
            self.instances.get_or_create(&OfState { state: state.as_str() }).set(count.into());
        }
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.waiting.set(levels.waiting.into());
        self.reserved.set(signed(levels.reserved_bytes));
        self.lost.get_or_create(&OfJournal { journal: "usage" }).set(signed(levels.lost.0));
        self.lost.get_or_create(&OfJournal { journal: "log" }).set(signed(levels.lost.1));
        for (kind, held) in [
            ("sandbox", ahead.sandboxes),
            ("zygote", ahead.zygotes),
            ("fork", ahead.forks),
            ("interpreter", ahead.interpreters),
        ] {
            self.ahead.get_or_create(&OfKind { kind }).set(held.count.into());
            self.ahead_bytes.get_or_create(&OfKind { kind }).set(signed(held.memory_bytes));
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
