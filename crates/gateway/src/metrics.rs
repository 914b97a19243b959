//! What this gateway counts, in Prometheus' form.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use rouse_types::{Code, Outcome, Timing};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCode {
    code: &'static str,
}

/// The metrics of one gateway. All are of the whole process: a label per function would grow without bound.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    invocations: Family<ByOutcome, Counter>,
    refused: Family<ByCode, Counter>,
    cold: Counter,
    seconds: Histogram,
    pub(crate) connections: Gauge,
    functions: Gauge,
    lost: Gauge,
}

/// From 50 µs, a call of a component, to the minutes that some functions take.
const SECONDS: [f64; 14] =
    [0.000_05, 0.000_1, 0.000_25, 0.001, 0.002_5, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0, 300.0];

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("rouse_gateway");
        let metrics = Self {
            invocations: Family::default(),
            refused: Family::default(),
            cold: Counter::default(),
            seconds: Histogram::new(SECONDS),
            connections: Gauge::default(),
            functions: Gauge::default(),
            lost: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("invocations", "Component calls by outcome", metrics.invocations.clone());
        registry.register("refused", "Requests that ran no code, by error code", metrics.refused.clone());
        registry.register(
            "cold_starts",
            "Component calls that had to load the component",
            metrics.cold.clone(),
        );
        registry.register(
            "duration_seconds",
            "Component calls, from request to answer",
            metrics.seconds.clone(),
        );
        registry.register("connections", "Open connections", metrics.connections.clone());
        registry.register("functions", "Functions that are deployed", metrics.functions.clone());
        registry.register("journal_lost", "Records that the journals could not take", metrics.lost.clone());
        Self { registry, ..metrics }
    }

    pub(crate) fn ended(&self, outcome: Outcome, timing: &Timing, cold: bool) {
        self.invocations.get_or_create(&ByOutcome { outcome: outcome.as_str() }).inc();
        #[expect(clippy::cast_precision_loss, reason = "a histogram's bucket, not money")]
        self.seconds.observe(timing.total_us() as f64 / 1e6);
        if cold {
            self.cold.inc();
        }
    }

    pub(crate) fn refused(&self, code: Code) {
        self.refused.get_or_create(&ByCode { code: code.as_str() }).inc();
    }

    /// The text that `GET /metrics` answers.
    pub(crate) fn text(&self, functions: usize, lost: u64) -> String {
        self.functions.set(i64::try_from(functions).unwrap_or(i64::MAX));
        self.lost.set(i64::try_from(lost).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
