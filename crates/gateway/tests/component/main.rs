//! A gateway in this process, a real component, real HTTP: how calls go well, and how they fail.

mod callers;
mod harness;

use std::time::{Duration, Instant};

use harness::{Gateway, probe};
use rouse_types::{Outcome, Scaling};

macro_rules! gateway {
    ($($settings:tt)*) => {
        match probe() {
            Some(wasm) => Gateway::start(&wasm, $($settings)*),
            None => return,
        }
    };
}

#[test]
fn a_component_answers_with_its_path_its_time_and_its_bill() {
    let gateway = gateway!(|_| {});
    let answer = gateway.get("/fn/t/probe/some/path?q=1");
    assert_eq!((answer.status, answer.text()), (200, "/some/path?q=1".to_owned()));
    assert_eq!(answer.header("content-length"), Some("14"), "an answer from memory is whole");
    let timing = answer.header("server-timing").expect("server-timing");
    let parts: Vec<u64> = timing
        .split(", ")
        .map(|part| part.split_once("dur=").expect("a duration").1.replace('.', "").parse().expect("digits"))
        .collect();
    assert_eq!(parts[..4].iter().sum::<u64>(), parts[4], "{timing}");
    let id = answer.header("x-rouse-invocation-id").expect("an id");
    let usage = gateway.usage();
    assert_eq!(usage.len(), 1);
    assert_eq!((usage[0].id.to_string().as_str(), usage[0].outcome), (id, Outcome::Ok));
    assert_eq!(answer.header("x-rouse-billed-ms"), Some(usage[0].billed_ms.to_string().as_str()));
    assert_eq!(usage[0].billed_ms, usage[0].timing.billed_ms());
    assert!(usage[0].cold && usage[0].cpu_us > 0 && usage[0].bytes_out == 14, "{:?}", usage[0]);
}

#[test]
fn a_function_answers_by_host_too() {
    let gateway = gateway!(|_| {});
    let answer = gateway.request("GET", "/x", &[("host", "probe.t.localhost:1234")], b"");
    assert_eq!((answer.status, answer.text()), (200, "/x".to_owned()));
}

#[test]
fn a_body_comes_back_byte_by_byte_the_same() {
    let gateway = gateway!(|_| {});
    let body: Vec<u8> = (0..1_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
    let answer = gateway.request("POST", "/fn/t/probe/echo", &[], &body);
    assert_eq!(answer.status, 200);
    assert!(answer.body == body, "{} bytes came back of {}", answer.body.len(), body.len());
    assert_eq!(gateway.usage()[0].bytes_in, 1_000_000);
}

#[test]
fn a_component_sees_its_environment_and_who_called() {
    let gateway = gateway!(|_| {});
    assert_eq!(gateway.get("/fn/t/probe/env").text(), "hello from the manifest");
    let sent = [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("x-rouse-invocation", "{}"),
        ("x-mine", "1"),
    ];
    let seen = gateway.request("GET", "/fn/t/probe/headers", &sent, b"").text();
    assert!(seen.contains("x-mine: 1") && seen.contains("x-forwarded-for: 127.0.0.1"), "{seen}");
    assert!(seen.contains("traceparent: 00-0af7651916cd43dd8448eb211c80319c-"), "{seen}");
    assert!(!seen.contains("x-rouse-invocation: "), "{seen}");
}

#[test]
fn what_a_component_prints_is_its_log() {
    let gateway = gateway!(|_| {});
    let answer = gateway.get("/fn/t/probe/log?7");
    let id = answer.header("x-rouse-invocation-id").expect("an id").to_owned();
    let lines = gateway.log();
    let texts: Vec<_> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["a line on stdout: 7", "a line on stderr", "a line without end"]);
    assert!(lines.iter().all(|line| line.invocation.is_some_and(|i| i.to_string() == id)));
}

#[test]
fn a_flood_of_output_is_cut_and_said() {
    let gateway = gateway!(|version| {
        version.limits.log_bytes = 10_000;
        // It prints as much as it can: a busy machine may take its time.
        version.limits.timeout_ms = 60_000;
    });
    assert_eq!(gateway.get("/fn/t/probe/flood").status, 200);
    let lines = gateway.log();
    assert!(lines.len() < 1_000, "{} lines", lines.len());
    assert!(lines.last().expect("a line").text.contains("were dropped"), "{:?}", lines.last());
}

/// One call that fails, and what comes of it: the answer, the record, and the next call.
fn fails(path: &str, status: u16, code: &str, outcome: Outcome) {
    let gateway = gateway!(|_| {});
    let answer = gateway.get(&format!("/fn/t/probe{path}"));
    assert_eq!((answer.status, answer.header("x-rouse-error")), (status, Some(code)), "{}", answer.text());
    let error: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert!(error["message"].as_str().expect("a message").contains("probe"), "{error}");
    assert!(error["hint"].is_string(), "{error}");
    let usage = gateway.usage();
    assert_eq!((usage.len(), usage[0].outcome), (1, outcome));
    assert!(usage[0].billed_ms >= 1);
    assert!(!gateway.log().is_empty(), "the log says what happened");
    assert_eq!(gateway.get("/fn/t/probe/after").status, 200, "others do not notice");
}

#[test]
fn a_trap_is_a_clear_error() {
    fails("/panic", 502, "function-error", Outcome::FunctionError);
}

#[test]
fn where_a_component_trapped_stands_in_its_log_and_not_in_the_answer() {
    let gateway = gateway!(|_| {});
    let answer = gateway.get("/fn/t/probe/panic").text();
    assert!(answer.contains("unreachable") && !answer.contains("wasm function"), "{answer}");
    let log = gateway.log();
    assert!(log.iter().any(|line| line.text.contains("asked to panic")), "what it printed: {log:?}");
    assert!(log.iter().any(|line| line.text.contains("wasm function")), "its stack: {log:?}");
}

#[test]
fn an_exit_is_a_clear_error() {
    fails("/exit", 502, "function-error", Outcome::FunctionError);
}

#[test]
fn no_answer_is_a_clear_error() {
    fails("/nothing", 502, "invalid-response", Outcome::FunctionError);
}

#[test]
fn an_endless_loop_ends_at_its_time() {
    fails("/loop", 504, "function-timeout", Outcome::Timeout);
}

#[test]
fn a_sleep_beyond_the_time_ends_at_its_time() {
    fails("/sleep?60000", 504, "function-timeout", Outcome::Timeout);
}

#[test]
fn a_memory_bomb_ends_at_its_limit() {
    fails("/memory", 502, "out-of-memory", Outcome::OutOfMemory);
}

#[test]
fn a_loop_does_not_keep_others_from_answering() {
    let gateway = gateway!(|version| version.limits.timeout_ms = 600_000);
    let looping = gateway.open("/fn/t/probe/loop", &[]);
    for _ in 0..20 {
        assert_eq!(gateway.get("/fn/t/probe/x").status, 200);
    }
    assert_eq!(gateway.usage().len(), 20, "the loop still runs beside them");
    drop(looping);
    assert_eq!(gateway.wait_for_usage(21)[20].outcome, Outcome::Cancelled, "and ends with its caller");
}

#[test]
fn an_answer_that_never_ends_is_cut_at_its_limit() {
    let gateway = gateway!(|version| version.limits.response_body_bytes = 1 << 20);
    let answer = gateway.get("/fn/t/probe/huge");
    assert!(answer.broken || answer.status == 502, "half of an answer must not look like a whole one");
    assert!(answer.body.len() <= (1 << 20) + (128 << 10));
    assert_eq!(gateway.wait_for_usage(1)[0].outcome, Outcome::FunctionError);
}

#[test]
fn chunks_come_as_they_are_made_and_the_bill_comes_after_them() {
    let gateway = gateway!(|_| {});
    let begun = Instant::now();
    let mut stream = gateway.open("/fn/t/probe/drip?150", &[("te", "trailers")]);
    let first = stream.read_until(b"drip\n");
    let (first_at, text) = (begun.elapsed(), String::from_utf8_lossy(&first).into_owned());
    assert!(text.contains("200 OK") && text.to_lowercase().contains("trailer: "), "{text}");
    let rest = String::from_utf8(stream.read_to_end_of_chunks()).expect("text");
    assert!(
        begun.elapsed() > first_at + Duration::from_millis(300),
        "the first chunk did not wait for the last"
    );
    assert!(rest.contains("x-rouse-billed-ms: ") && rest.contains("server-timing: "), "{rest}");
    let usage = &gateway.usage()[0];
    assert_eq!(usage.outcome, Outcome::Ok);
    let cost = format!("x-rouse-cost-nanos: {}\r\n", usage.billed_ms * 7);
    assert!(rest.contains(&cost), "by the price that it was given: {rest}");
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    let gateway = gateway!(|_| {});
    let answer = gateway.get("/fn/t/probe/cut");
    assert!(answer.broken, "{}", answer.text());
    assert_eq!(gateway.wait_for_usage(1)[0].outcome, Outcome::FunctionError);
}

#[test]
fn a_caller_who_leaves_ends_the_call() {
    let gateway = gateway!(|version| version.limits.timeout_ms = 60_000);
    // One who leaves before the code runs costs nothing, and has no record.
    let asleep = gateway.open("/fn/t/probe/sleep?60000", &[]);
    gateway.wait_for_log("asleep");
    drop(asleep);
    let mut stream = gateway.open("/fn/t/probe/drip?100", &[]);
    stream.read_until(b"drip\n");
    drop(stream);
    let usage = gateway.wait_for_usage(2);
    assert!(usage.iter().all(|usage| usage.outcome == Outcome::Cancelled), "{usage:?}");
}

#[test]
fn a_body_over_the_limit_is_refused_whether_its_length_is_said_or_not() {
    let gateway = gateway!(|version| version.limits.request_body_bytes = 1_000);
    let said = gateway.request("POST", "/fn/t/probe/echo", &[], &[b'x'; 1_001]);
    assert_eq!((said.status, said.header("x-rouse-error")), (413, Some("payload-too-large")));
    assert!(gateway.usage().is_empty(), "what is refused beforehand costs nothing");
    let chunked = gateway.request_chunked("/fn/t/probe/read", &[b'x'; 5_000]);
    assert_eq!((chunked.status, chunked.header("x-rouse-error")), (413, Some("payload-too-large")));
    assert_eq!(gateway.request_chunked("/fn/t/probe/read", &[b'x'; 1_000]).text(), "1000");
    let begun = gateway.request_chunked("/fn/t/probe/echo", &[b'x'; 5_000]);
    assert!(begun.status == 413 || begun.broken, "an answer that has begun cannot change its status");
}

#[test]
fn calls_over_the_concurrency_wait_and_over_the_queue_are_refused() {
    let gateway = gateway!(|version| {
        version.limits.timeout_ms = 60_000;
        version.scaling =
            Scaling { concurrency_max: 1, queue_max: 1, queue_timeout_ms: 60_000, ..Scaling::default() };
    });
    std::thread::scope(|scope| {
        let call = || gateway.get("/fn/t/probe/sleep?3000");
        let first = scope.spawn(call);
        std::thread::sleep(Duration::from_millis(200));
        let second = scope.spawn(call);
        std::thread::sleep(Duration::from_millis(200));
        let third = call();
        assert_eq!((third.status, third.header("retry-after")), (429, Some("1")));
        assert_eq!(first.join().expect("an answer").status, 200);
        let second = second.join().expect("an answer");
        assert_eq!(second.status, 200);
        let queue: f64 = second.header("server-timing").expect("timing")["queue;dur=".len()..]
            .split(',')
            .next()
            .and_then(|ms| ms.parse().ok())
            .expect("milliseconds");
        assert!(queue > 100.0, "it waited for the first: {queue} ms");
    });
}

#[test]
fn egress_is_closed_unless_it_is_opened() {
    let server = harness::one_answer_server();
    let gateway = gateway!(|_| {});
    let refused = gateway.get(&format!("/fn/t/probe/fetch?{server}"));
    assert!(refused.text().contains("HttpRequestDenied"), "{}", refused.text());
    assert!(gateway.log()[0].text.contains(&format!("egress = [\"{server}\"]")), "{:?}", gateway.log());
    let open = gateway!(|version| version.egress =
        rouse_types::Egress::Only(vec![server.to_string().parse().expect("a destination")]));
    assert_eq!(open.get(&format!("/fn/t/probe/fetch?{server}")).text(), "answered 204");
}

#[test]
fn an_instance_is_new_for_each_call_unless_it_may_be_used_again() {
    let fresh = gateway!(|_| {});
    let counts: Vec<_> = (0..3).map(|_| fresh.get("/fn/t/probe/count").text()).collect();
    assert_eq!(counts, ["1", "1", "1"]);
    let reused = gateway!(|version| version.scaling.instance_reuse = 3);
    let counts: Vec<_> = (0..4).map(|_| reused.get("/fn/t/probe/count").text()).collect();
    assert_eq!(counts, ["1", "2", "3", "1"]);
    assert_eq!(reused.get("/fn/t/probe/panic").status, 502);
    assert_eq!(reused.get("/fn/t/probe/count").text(), "1", "what trapped is not used again");
}

#[test]
fn an_unknown_function_or_alias_is_said_with_the_next_step() {
    let gateway = gateway!(|_| {});
    for (path, code) in [
        ("/fn/t/nosuch/", "function-not-found"),
        ("/fn/nosuch/probe/", "function-not-found"),
        ("/", "function-not-found"),
        ("/fn/t/probe@nosuch/", "alias-not-found"),
        ("/fn/t/probe@99/", "alias-not-found"),
    ] {
        let answer = gateway.get(path);
        assert_eq!((answer.status, answer.header("x-rouse-error")), (404, Some(code)), "{path}");
        assert!(answer.text().contains("hint"), "{}", answer.text());
    }
    assert_eq!(gateway.get("/fn/t/probe@$LATEST/x").status, 200);
    assert_eq!(gateway.get("/fn/t/probe@1/x").status, 200);
}

#[test]
fn a_status_of_the_function_is_passed_on_as_it_is() {
    let gateway = gateway!(|_| {});
    assert_eq!(gateway.get("/fn/t/probe/status?503").status, 503);
    assert_eq!(gateway.usage()[0].outcome, Outcome::Ok, "the code answered");
}

#[test]
fn a_new_snapshot_is_in_force_when_the_order_is_answered() {
    let gateway = gateway!(|_| {});
    gateway.deploy("t", "other", "second", |_| {});
    assert_eq!(gateway.get("/fn/t/second/x").status, 200);
    gateway.remove("t", "other");
    assert_eq!(gateway.get("/fn/t/second/x").status, 404);
    assert_eq!(gateway.get("/fn/t/probe/x").status, 200);
}

#[test]
fn a_payload_reaches_a_component_as_a_post() {
    let gateway = gateway!(|_| {});
    let answer = gateway.internal("POST", "/invoke/t/probe?alias=live", b"payload");
    assert_eq!((answer.status, answer.text()), (200, "/".to_owned()));
    let metrics = gateway.internal("GET", "/metrics", b"").text();
    assert!(metrics.contains("rouse_gateway_invocations_total{outcome=\"ok\"} 1"), "{metrics}");
}

#[test]
fn a_component_of_wasi_0_3_answers_whole_and_in_pieces_and_fails_clearly() {
    let Some(wasm) = harness::guest("probe3") else { return };
    let gateway = Gateway::start(&wasm, |_| {});
    let whole = gateway.get("/fn/t/probe/some/path");
    assert_eq!((whole.status, whole.text()), (200, "/some/path".to_owned()));
    assert!(whole.header("server-timing").is_some(), "it was ready before its first byte left");
    let begun = Instant::now();
    let mut stream = gateway.open("/fn/t/probe/pieces", &[("te", "trailers")]);
    stream.read_until(b"one ");
    let first_at = begun.elapsed();
    let rest = String::from_utf8(stream.read_to_end_of_chunks()).expect("text");
    assert!(begun.elapsed() > first_at + Duration::from_millis(80), "pieces come as they are made");
    assert!(rest.contains("three") && rest.contains("x-rouse-billed-ms: "), "{rest}");
    assert_eq!(gateway.get("/fn/t/probe/panic").header("x-rouse-error"), Some("function-error"));
    let error = gateway.get("/fn/t/probe/error");
    assert_eq!(error.header("x-rouse-error"), Some("invalid-response"));
    assert!(error.text().contains("asked to fail"), "{}", error.text());
    let outcomes: Vec<_> = gateway.wait_for_usage(4).iter().map(|usage| usage.outcome).collect();
    assert_eq!(outcomes, [Outcome::Ok, Outcome::Ok, Outcome::FunctionError, Outcome::FunctionError]);
}
