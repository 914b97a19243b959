//! Rolling up: pure sums of usage records.

use std::collections::BTreeMap;

use rouse_store::journal::{Position, Record};
use rouse_types::{AppName, FunctionName, Outcome, TenantId, Timestamp, Usage};

use crate::price::{PriceSheet, Quantity};

/// Sums over invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// How many.
    pub invocations: u64,
    /// How many of them did not end well.
    pub errors: u64,
    /// How many of them started an instance.
    pub cold: u64,
    /// Billed time, in milliseconds.
    pub billed_ms: u64,
    /// Memory times billed time, in MiB·ms.
    pub mib_ms: u64,
    /// CPU time of the code, in microseconds.
    pub cpu_us: u64,
    /// Bytes of the requests' bodies.
    pub bytes_in: u64,
    /// Bytes of the answers' bodies.
    pub bytes_out: u64,
    /// The price, in billionths of the currency.
    pub cost_nanos: u64,
}

impl Sums {
    /// Both together; none if a figure is too large for a database's integer (63 bits).
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        let (a, b) = (self.figures(), other.figures());
        let mut sum = [0; 9];
        for (n, figure) in sum.iter_mut().enumerate() {
            *figure = a[n].checked_add(b[n]).filter(|&figure| i64::try_from(figure).is_ok())?;
        }
        Some(Self::from_figures(sum))
    }

    /// The figures in the order of the fields.
    pub(crate) fn figures(self) -> [u64; 9] {
        let Self { invocations, errors, cold, billed_ms, mib_ms, cpu_us, bytes_in, bytes_out, cost_nanos } =
            self;
        [invocations, errors, cold, billed_ms, mib_ms, cpu_us, bytes_in, bytes_out, cost_nanos]
    }

    pub(crate) fn from_figures(figures: [u64; 9]) -> Self {
        let [invocations, errors, cold, billed_ms, mib_ms, cpu_us, bytes_in, bytes_out, cost_nanos] = figures;
        Self { invocations, errors, cold, billed_ms, mib_ms, cpu_us, bytes_in, bytes_out, cost_nanos }
    }
}

/// What is summed apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) tenant: TenantId,
    pub(crate) app: AppName,
    pub(crate) function: FunctionName,
    pub(crate) version: u64,
    pub(crate) hour: Timestamp,
    pub(crate) outcome: Outcome,
}

/// What one segment of the journal came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) sums: Sums,
    /// The least and greatest hour of its records.
    pub(crate) hours: (Timestamp, Timestamp),
}

/// A record that cannot be billed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) writer: String,
    pub(crate) position: Position,
    pub(crate) reason: &'static str,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Billed {
    pub(crate) tenant: TenantId,
    pub(crate) hour: Timestamp,
    pub(crate) cost_nanos: u64,
}

/// Sums of some records.
#[derive(Debug, Default)]
pub(crate) struct Rollup {
    pub(crate) rows: BTreeMap<Key, Sums>,
    pub(crate) segments: BTreeMap<(String, u64), Segment>,
    pub(crate) refused: Vec<Refused>,
    /// What is billed, by tenant and hour: what free amounts and tiers go by.
    pub(crate) billed: BTreeMap<(TenantId, Timestamp), Quantity>,
}

impl Rollup {
    /// Adds a record, priced by this sheet. What cannot be billed is set aside, for one record must not
    /// stop all others.
    pub(crate) fn add(&mut self, record: &Record, prices: &PriceSheet) -> Option<Billed> {
        match self.try_add(record, prices) {
            Ok(billed) => Some(billed),
            Err(reason) => {
                let writer = record.writer.to_string();
                self.refused.push(Refused { writer, position: record.position, reason });
                None
            }
        }
    }

    fn try_add(&mut self, record: &Record, prices: &PriceSheet) -> Result<Billed, &'static str> {
        let usage =
            Usage::read(&record.payload).map_err(|_| "the record is not a usage record of this release")?;
        let sums = bill(&usage, prices)?;
        let Usage { tenant, app, function, version, started, outcome, .. } = usage;
        let hour = started.hour();
        let billed = Billed { tenant: tenant.clone(), hour, cost_nanos: sums.cost_nanos };
        let key = Key { tenant, app, function, version, hour, outcome };
        let segment = (record.writer.to_string(), record.position.segment);
        let too_large = "the sums are too large";
        let row = self.rows.get(&key).copied().unwrap_or_default().plus(sums).ok_or(too_large)?;
        let empty = Segment { sums: Sums::default(), hours: (hour, hour) };
        let before = self.segments.get(&segment).copied().unwrap_or(empty);
        let after = Segment {
            sums: before.sums.plus(sums).ok_or(too_large)?,
            hours: (before.hours.0.min(hour), before.hours.1.max(hour)),
        };
        self.rows.insert(key, row);
        self.segments.insert(segment, after);
        if sums.billed_ms > 0 && outcome != Outcome::PlatformError {
            let quantity = self.billed.entry((billed.tenant.clone(), hour)).or_default();
            quantity.requests += 1;
            quantity.mib_ms += sums.mib_ms;
        }
        Ok(billed)
    }
}

/// One record as sums. Figures are bounded so that even a million of the largest can be summed.
fn bill(usage: &Usage, prices: &PriceSheet) -> Result<Sums, &'static str> {
    const LARGE: u64 = 1 << 40;
    let figures = [usage.cpu_us, usage.bytes_in, usage.bytes_out, usage.started.hour().0 >> 20];
    let memory = usage.memory_mib > rouse_types::limits::MEMORY_MIB_MAX;
    if memory || usage.billed_ms >= 1 << 29 || figures.into_iter().any(|figure| figure >= LARGE) {
        return Err("a figure of the record is beyond what an invocation can come to");
    }
    let cost = prices.cost(usage).map_err(|_| "the cost is too large to be computed")?;
    if cost.0 >= LARGE {
        return Err("the cost is too large to be summed");
    }
    Ok(Sums {
        invocations: 1,
        errors: u64::from(usage.outcome != Outcome::Ok),
        cold: u64::from(usage.cold),
        billed_ms: usage.billed_ms,
        mib_ms: usage.mib_ms(),
        cpu_us: usage.cpu_us,
        bytes_in: usage.bytes_in,
        bytes_out: usage.bytes_out,
        cost_nanos: cost.0,
    })
}
