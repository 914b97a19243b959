//! What AWS writes around each call in a function's log, told from the call's usage: `START`, `END` and `REPORT`.
//!
//! Source: AWS Lambda Developer Guide, "Sending Lambda function logs to CloudWatch Logs".

use std::collections::HashMap;

use rouse_types::{InvocationId, LogLine, Timestamp, Usage, log::Stream};

/// How long ago records of usage are looked at: as long as what functions print is kept.
const AGE_US_MAX: u64 = 14 * 24 * 3_600 * 1_000_000;

/// What a report says of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    /// From the hand-over to the answer, in microseconds.
    pub(crate) run_us: u64,
    /// In milliseconds.
    pub(crate) billed_ms: u64,
    /// In MiB.
    pub(crate) memory_mib: u64,
    /// The code's start, in microseconds, if it was started for this call.
    pub(crate) init_us: Option<u64>,
}

impl Report {
    /// The lines around a call of this version: before what it printed, and after.
    pub(crate) fn lines(self, id: &str, version: &str) -> [String; 3] {
        let Self { run_us, billed_ms, memory_mib, init_us } = self;
        let init = init_us.map_or_else(String::new, |us| format!("Init Duration: {} ms\t", ms(us)));
        [
            format!("START RequestId: {id} Version: {version}\n"),
            format!("END RequestId: {id}\n"),
            // How much of its memory a call used is known of no single call.
            format!(
                "REPORT RequestId: {id}\tDuration: {} ms\tBilled Duration: {billed_ms} ms\tMemory Size: \
                 {memory_mib} MB\tMax Memory Used: {memory_mib} MB\t{init}\n",
                ms(run_us)
            ),
        ]
    }
}

/// Two digits after the point, in integers.
fn ms(us: u64) -> String {
    let hundredths = us / 10;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// From when on usage is looked at for lines from this time on.
pub(super) fn since(from: Timestamp, now: Timestamp) -> Timestamp {
    from.max(Timestamp(now.0.saturating_sub(AGE_US_MAX)))
}

/// The lines around a call, with their times: what the call printed last may have been read after its end.
pub(super) fn around(
    usage: &Usage,
    version: &str,
    printed: &HashMap<InvocationId, Timestamp>,
) -> [LogLine; 3] {
    let timing = usage.timing;
    let report = Report {
        run_us: timing.run_us,
        billed_ms: usage.billed_ms,
        memory_mib: u64::from(usage.memory_mib),
        init_us: usage.cold.then_some(timing.init_us),
    };
    let ended = Timestamp(usage.started.0.saturating_add(timing.total_us()));
    let ended = printed.get(&usage.id).map_or(ended, |&last| ended.max(last));
    let line = |time, text: String| LogLine {
        time,
        tenant: usage.tenant.clone(),
        function: usage.function.clone(),
        version: usage.version,
        invocation: Some(usage.id),
        stream: Stream::Platform,
        text,
    };
    let [start, end, report] = report.lines(&usage.id.to_string(), version);
    [line(usage.started, start), line(ended, end), line(ended, report)]
}
