//! A call, as the ledger's tests have it.

use rouse_types::{InvocationId, Outcome, Timestamp, Timing, Usage};

pub(crate) const HOUR_US: u64 = 3_600_000_000;

pub(crate) fn usage(function: &str, hour: u64, billed_ms: u64) -> Usage {
    Usage {
        id: InvocationId::from_bytes([7; 16]),
        tenant: "acme".parse().unwrap(),
        app: "shop".parse().unwrap(),
        function: function.parse().unwrap(),
        version: 1,
        started: Timestamp(hour * HOUR_US + 5),
        timing: Timing { queue_us: 1, start_us: 2, init_us: 3, run_us: billed_ms * 1_000 },
        billed_ms,
        memory_mib: 128,
        cpu_us: 42,
        cold: false,
        bytes_in: 10,
        bytes_out: 20,
        outcome: Outcome::Ok,
        caller: None,
    }
}
