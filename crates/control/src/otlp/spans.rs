//! Spans of usage records, in OTLP's JSON (the protocol buffers' JSON mapping, ids in hexadecimal).

use std::collections::BTreeMap;

use rouse_types::{Outcome, TraceContext, Usage};
use serde_json::{Value, json};

/// `SPAN_KIND_SERVER` and `SPAN_KIND_INTERNAL`.
const SERVER: u8 = 2;
const INTERNAL: u8 = 1;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// Whether an invocation is to be traced: unless its caller said that its trace is not sampled.
pub(super) fn is_sampled(usage: &Usage) -> bool {
    usage.caller.is_none_or(|caller| caller.flags & 1 == 1)
}

/// The body of one export: a resource for each app.
pub(super) fn encode(usages: &[Usage]) -> Value {
    let mut apps: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
    for usage in usages {
        apps.entry((usage.tenant.as_str(), usage.app.as_str())).or_default().extend(spans(usage));
    }
    let resources = apps.into_iter().map(|((tenant, app), spans)| {
        json!({
            "resource": { "attributes": [text("service.name", app), text("service.namespace", tenant)] },
            "scopeSpans": [{ "scope": { "name": "rouse" }, "spans": spans }],
        })
    });
    json!({ "resourceSpans": resources.collect::<Vec<_>>() })
}

/// One span for the invocation, and one for each part of its time.
fn spans(usage: &Usage) -> Vec<Value> {
    let own = TraceContext::of(usage.caller, usage.id);
    let trace = format!("{:032x}", own.trace_id);
    let timing = &usage.timing;
    let parts = [
        ("queue", timing.queue_us),
        ("start", timing.start_us),
        ("init", timing.init_us),
        ("run", timing.run_us),
    ];
    let begin = usage.started.0;
    let end = parts.iter().fold(begin, |at, (_, us)| at.saturating_add(*us));
    let mut root = json!({
        "traceId": trace,
        "spanId": id(own.span_id),
        "name": usage.function.as_str(),
        "kind": SERVER,
        "startTimeUnixNano": nanos(begin),
        "endTimeUnixNano": nanos(end),
        "attributes": [
            text("faas.name", usage.function.as_str()),
            text("faas.version", &usage.version.to_string()),
            text("faas.invocation_id", &usage.id.to_string()),
            json!({ "key": "faas.coldstart", "value": { "boolValue": usage.cold } }),
            integer("faas.max_memory", u64::from(usage.memory_mib) << 20),
            text("rouse.outcome", usage.outcome.as_str()),
            integer("rouse.billed_ms", usage.billed_ms),
            integer("rouse.cpu_us", usage.cpu_us),
        ],
    });
    if let Some(caller) = usage.caller {
        root["parentSpanId"] = id(caller.span_id).into();
    }
    if usage.outcome != Outcome::Ok {
        root["status"] = json!({ "code": ERROR, "message": usage.outcome.as_str() });
    }
    let mut spans = vec![root];
    let mut at = begin;
    for (index, (name, us)) in (1u64..).zip(parts) {
        let from = at;
        at = at.saturating_add(us);
        if us == 0 {
            continue;
        }
        spans.push(json!({
            "traceId": trace,
            "spanId": id(part_id(own.span_id, index)),
            "parentSpanId": id(own.span_id),
            "name": name,
            "kind": INTERNAL,
            "startTimeUnixNano": nanos(from),
            "endTimeUnixNano": nanos(at),
        }));
    }
    spans
}

/// The id of a part: of its invocation's, so that sending twice makes the same spans. Never zero.
fn part_id(own: u64, index: u64) -> u64 {
    (own ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1)
}

fn id(id: u64) -> String {
    format!("{id:016x}")
}

/// 64-bit numbers are strings in this mapping.
fn nanos(us: u64) -> String {
    us.saturating_mul(1_000).to_string()
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn integer(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rouse_types::{InvocationId, Timestamp, Timing};

    use super::*;

    fn usage(timing: Timing, caller: Option<TraceContext>, outcome: Outcome) -> Usage {
        Usage {
            id: InvocationId::from_bytes([7; 16]),
            tenant: "acme".parse().expect("a name"),
            app: "shop".parse().expect("a name"),
            function: "cart".parse().expect("a name"),
            version: 3,
            started: Timestamp(1_000_000),
            timing,
            billed_ms: 2,
            memory_mib: 128,
            cpu_us: 9,
            cold: true,
            bytes_in: 1,
            bytes_out: 2,
            outcome,
            caller,
        }
    }

    #[test]
    fn an_invocation_hangs_below_its_caller_and_its_parts_below_it() {
        let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().expect("a caller");
        let timing = Timing { queue_us: 5, start_us: 0, init_us: 0, run_us: 10 };
        let body = encode(&[usage(timing, Some(caller), Outcome::Timeout)]);
        let resource = &body["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "shop");
        let spans = resource["scopeSpans"][0]["spans"].as_array().expect("spans");
        let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().expect("a name")).collect();
        assert_eq!(names, ["cart", "queue", "run"], "parts that took no time are left out");
        assert!(spans.iter().all(|span| span["traceId"] == "0af7651916cd43dd8448eb211c80319c"));
        assert_eq!(spans[0]["parentSpanId"], "b7ad6b7169203331");
        assert_eq!(spans[0]["spanId"], "0707070707070707");
        assert_eq!(spans[0]["startTimeUnixNano"], "1000000000");
        assert_eq!(spans[0]["endTimeUnixNano"], "1000015000");
        assert_eq!(spans[0]["status"]["message"], "timeout");
        assert_eq!(spans[2]["parentSpanId"], spans[0]["spanId"]);
        assert_eq!(spans[2]["startTimeUnixNano"], "1000005000");
    }

    #[test]
    fn what_its_caller_does_not_sample_is_not_traced() {
        let unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00".parse().expect("a caller");
        assert!(!is_sampled(&usage(Timing::default(), Some(unsampled), Outcome::Ok)));
        assert!(is_sampled(&usage(Timing::default(), None, Outcome::Ok)));
    }

    proptest! {
        #[test]
        fn the_parts_fill_the_whole_and_no_two_ids_are_equal(us in prop::array::uniform4(1u64..u64::MAX)) {
            let [queue_us, start_us, init_us, run_us] = us;
            let timing = Timing { queue_us, start_us, init_us, run_us };
            let spans = spans(&usage(timing, None, Outcome::Ok));
            prop_assert_eq!(spans.len(), 5);
            prop_assert_eq!(&spans[0]["startTimeUnixNano"], &spans[1]["startTimeUnixNano"]);
            prop_assert_eq!(&spans[0]["endTimeUnixNano"], &spans[4]["endTimeUnixNano"]);
            for pair in spans[1..].windows(2) {
                prop_assert_eq!(&pair[0]["endTimeUnixNano"], &pair[1]["startTimeUnixNano"]);
            }
            let ids: std::collections::BTreeSet<_> = spans.iter().map(|s| s["spanId"].to_string()).collect();
            prop_assert_eq!(ids.len(), 5);
        }
    }
}
