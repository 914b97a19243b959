//! What this process counts, in Prometheus' form.

use std::collections::BTreeMap;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::database::{Of, State, Status};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct By {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: &'static str,
}

/// The metrics of events. All are of the whole process: a label per function would grow without bound.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    accepted: Family<By, Counter>,
    attempts: Family<By, Counter>,
    databases: Family<InState, Gauge>,
    /// Deliveries under way.
    pub(crate) running: Gauge,
    /// Queues that are being drained.
    pub(crate) consumers: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("rouse_events");
        let (accepted, attempts) = (Family::default(), Family::default());
        let databases = Family::default();
        let (running, consumers) = (Gauge::default(), Gauge::default());
        registry.register("accepted", "Events that came, by what became of them", Family::clone(&accepted));
        registry.register("attempts", "Deliveries, by what came of them", Family::clone(&attempts));
        registry.register(
            "databases",
            "Database triggers, by how their connection fares",
            Family::clone(&databases),
        );
        registry.register("running", "Deliveries under way", Gauge::clone(&running));
        registry.register("consumers", "Queues that are being drained", Gauge::clone(&consumers));
        Self { registry, accepted, attempts, databases, running, consumers }
    }

    pub(crate) fn accepted(&self, result: &'static str) {
        self.accepted.get_or_create(&By { result }).inc();
    }

    pub(crate) fn attempt(&self, result: &'static str) {
        self.attempts.get_or_create(&By { result }).inc();
    }

    /// Sets how many database triggers are in which state.
    pub(crate) fn databases(&self, all: &BTreeMap<Of, Status>) {
        let of = |status: &Status| match status.state {
            State::Starting => "starting",
            State::Streaming => "streaming",
            State::Failing(_) => "failing",
            State::Removing(_) => "removing",
        };
        for state in ["starting", "streaming", "failing", "removing"] {
            let count = all.values().filter(|status| of(status) == state).count();
            self.databases.get_or_create(&InState { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
