//! What one invocation came to: its outcome, its time split into parts, and what is billed.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{AppName, FunctionName, FunctionVersion, InvocationId, TenantId, Timestamp, TraceContext};

/// How an invocation ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The code answered.
    Ok,
    /// The code raised, trapped, exited, or gave an answer that is none.
    FunctionError,
    /// It ran over its time.
    Timeout,
    /// It wanted more memory than it may have.
    OutOfMemory,
    /// The caller went away first.
    Cancelled,
    /// It could not be started.
    StartFailed,
    /// The platform failed. Never billed.
    PlatformError,
}

impl Outcome {
    /// The same words as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::FunctionError => "function-error",
            Self::Timeout => "timeout",
            Self::OutOfMemory => "out-of-memory",
            Self::Cancelled => "cancelled",
            Self::StartFailed => "start-failed",
            Self::PlatformError => "platform-error",
        }
    }
}

/// The time of one invocation, in microseconds, split so that the parts sum to the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Timing {
    /// From the request's head until an instance was there or begun: routing, limits, waiting.
    pub queue_us: u64,
    /// Making the sandbox: the platform's own time, never billed. Zero when warm.
    pub start_us: u64,
    /// From the code's first instruction until it asked for work. Zero when warm.
    pub init_us: u64,
    /// From the invocation's hand-over until its answer was complete.
    pub run_us: u64,
}

impl Timing {
    /// The whole.
    #[must_use]
    pub fn total_us(&self) -> u64 {
        self.queue_us + self.start_us + self.init_us + self.run_us
    }

    /// What is billed: the time the code itself took, init and run, in whole milliseconds, rounded up.
    /// At least one, since the code ran.
    #[must_use]
    pub fn billed_ms(&self) -> u64 {
        (self.init_us + self.run_us).div_ceil(1_000).max(1)
    }
}

/// The record of one invocation, as it is journalled and billed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Usage {
    /// Which invocation.
    pub id: InvocationId,
    /// Who pays.
    pub tenant: TenantId,
    /// The app.
    pub app: AppName,
    /// The function.
    pub function: FunctionName,
    /// The version's number.
    pub version: u64,
    /// When its request arrived.
    pub started: Timestamp,
    /// How long it took, by part.
    pub timing: Timing,
    /// What is billed, in milliseconds.
    pub billed_ms: u64,
    /// The memory that was set aside for it, in MiB.
    pub memory_mib: u32,
    /// CPU time that the code used, in microseconds.
    pub cpu_us: u64,
    /// Whether an instance was started for it.
    pub cold: bool,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The span that called, if the caller told. Without it the invocation began a trace:
    /// [`TraceContext::begin`] tells which.
    pub caller: Option<TraceContext>,
}

impl Usage {
    /// Memory times billed time, in MiB·ms: an exact integer, from which GB-seconds are priced.
    #[must_use]
    pub fn mib_ms(&self) -> u64 {
        u64::from(self.memory_mib) * self.billed_ms
    }
}

/// What invocations cost, for those who answer them: handed to them by whoever reads the price sheet.
#[derive(Clone)]
pub struct Pricing(Arc<Cost>);

type Cost = dyn Fn(&Usage) -> Option<u64> + Send + Sync;

impl Pricing {
    /// Prices by this function: billionths of the price sheet's currency, at list prices; nothing where there is no price.
    pub fn new(cost: impl Fn(&Usage) -> Option<u64> + Send + Sync + 'static) -> Self {
        Self(Arc::new(cost))
    }

    /// What an invocation costs, in billionths of the price sheet's currency.
    #[must_use]
    pub fn cost_nanos(&self, usage: &Usage) -> Option<u64> {
        (self.0)(usage)
    }

    /// The most that a call of this version can cost that arrives at this time; nothing where there is no price.
    #[must_use]
    pub fn worst_nanos(&self, version: &FunctionVersion, at: Timestamp) -> u64 {
        let usage = Usage {
            id: InvocationId::from_bytes([0; 16]),
            tenant: version.tenant.clone(),
            app: version.app.clone(),
            function: version.function.clone(),
            version: version.number,
            started: at,
            timing: Timing::default(),
            billed_ms: version.billed_ms_max(),
            memory_mib: version.limits.memory_mib,
            cpu_us: 0,
            cold: false,
            bytes_in: 0,
            bytes_out: 0,
            outcome: Outcome::Ok,
            caller: None,
        };
        self.cost_nanos(&usage).unwrap_or_default()
    }
}

impl Default for Pricing {
    /// Nothing has a price.
    fn default() -> Self {
        Self::new(|_| None)
    }
}

impl fmt::Debug for Pricing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pricing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_started_millisecond_is_billed_and_the_platforms_own_time_is_not() {
        let timing = Timing { queue_us: 900, start_us: 5_000, init_us: 1_500, run_us: 501 };
        assert_eq!(timing.billed_ms(), 3);
        assert_eq!(timing.total_us(), 7_901);
        assert_eq!(Timing::default().billed_ms(), 1);
    }
}
