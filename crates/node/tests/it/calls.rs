//! One call: how it is answered, how it fails, what is recorded.

use std::time::Duration;

use rouse_types::{Outcome, Source, log::Stream};
use serde_json::json;

use crate::harness::{MIB, Node, answer, request, version};

#[tokio::test(start_paused = true)]
async fn a_call_starts_an_instance_and_the_next_one_uses_it() {
    let node = Node::with(&[version("f", 1)]).await;
    let first = node.invoke("f", 1, answer("hi")).await;
    assert_eq!((first.status.as_u16(), first.json()), (200, json!("hi")));
    assert_eq!(first.outcome().outcome, Outcome::Ok);
    let second = node.invoke("f", 1, answer("again")).await;
    assert_eq!(second.json(), json!("again"));
    assert!(!second.outcome().cold);
    assert_eq!(node.driver.started(), 1);
    let (usage, _) = node.end().await;
    assert_eq!(usage.len(), 2);
    assert!(usage.iter().all(|usage| usage.outcome == Outcome::Ok && usage.billed_ms >= 1));
    assert_eq!((usage[0].bytes_in, usage[0].bytes_out), (15, 4));
}

#[tokio::test(start_paused = true)]
async fn a_request_over_http_is_an_event_and_the_answer_is_http() {
    let node = Node::with(&[version("f", 1)]).await;
    let echoed = node.http("f", json!({ "echo": true })).await.json();
    assert_eq!(echoed["rawPath"], "/some/path");
    assert_eq!(echoed["rawQueryString"], "x=1");
    assert_eq!(echoed["requestContext"]["http"]["sourceIp"], "192.0.2.7");
    assert_eq!(echoed["headers"]["host"], "f.acme.example");
    let strangers = echoed["headers"].as_object().expect("headers");
    assert!(strangers.keys().all(|name| !name.starts_with("x-rouse-")), "{strangers:?}");

    let made = json!({ "answer": { "statusCode": 201, "headers": { "x-a": "b" }, "body": "made",
        "cookies": ["c=d"] } });
    let made = node.http("f", made).await;
    assert_eq!((made.status.as_u16(), made.body.as_ref()), (201, b"made".as_slice()));
    assert_eq!(
        (&made.headers["x-a"], &made.headers["set-cookie"]),
        (&"b".parse().expect("ascii"), &"c=d".parse().expect("ascii"))
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_raises_is_told_to_its_developer_and_not_to_strangers() {
    let node = Node::with(&[version("f", 1)]).await;
    let told = node.invoke("f", 1, json!({ "raise": "secret" })).await;
    assert_eq!((told.status.as_u16(), told.code().as_str()), (502, "function-error"));
    assert!(told.json()["message"].as_str().expect("text").contains("ValueError: secret"));
    let stranger = node.http("f", json!({ "raise": "secret" })).await;
    assert_eq!(stranger.outcome().outcome, Outcome::FunctionError);
    assert!(!String::from_utf8_lossy(&stranger.body).contains("secret"));
    assert_eq!(node.invoke("f", 1, answer("fine")).await.json(), json!("fine"));
    assert_eq!(node.driver.started(), 1, "an error of the handler costs no instance");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_none_or_too_large_is_a_function_error() {
    let mut small = version("f", 1);
    small.limits.response_body_bytes = 100;
    let node = Node::with(&[small]).await;
    let none = node.http("f", json!({ "answer": { "statusCode": "what" } })).await;
    assert_eq!((none.code().as_str(), none.outcome().outcome), ("invalid-response", Outcome::FunctionError));
    let huge = node.invoke("f", 1, answer(&"x".repeat(1_000))).await;
    assert_eq!(
        (huge.code().as_str(), huge.outcome().outcome),
        ("response-too-large", Outcome::FunctionError)
    );
    let body = json!({ "answer": "x".repeat(7 << 20) });
    assert_eq!(node.invoke("f", 1, body).await.code(), "payload-too-large");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_runs_over_its_time_is_ended_with_its_instance() {
    let node = Node::with(&[version("f", 1)]).await;
    let late = node.invoke("f", 1, json!({ "sleep_ms": 60_000 })).await;
    assert_eq!((late.status.as_u16(), late.code().as_str()), (504, "function-timeout"));
    let outcome = late.outcome();
    assert_eq!(outcome.outcome, Outcome::Timeout);
    assert_eq!(outcome.billed_ms, 5_000);
    assert_eq!(node.invoke("f", 1, answer("fine")).await.json(), json!("fine"));
    assert_eq!(node.driver.started(), 2);
    let (usage, lines) = node.end().await;
    assert_eq!(usage[0].outcome, Outcome::Timeout);
    let said = lines.iter().find(|line| line.stream == Stream::Platform).expect("the platform says so");
    assert!(said.text.contains("ran over its 5000 ms"), "{said:?}");
    assert_eq!(said.invocation, Some(usage[0].id));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_exits_fails_its_call_and_names_the_exit() {
    let node = Node::with(&[version("f", 1)]).await;
    let gone = node.invoke("f", 1, json!({ "exit": 3 })).await;
    assert_eq!(gone.outcome().outcome, Outcome::FunctionError);
    assert!(gone.json()["message"].as_str().expect("text").contains("exited with status 3"));
    assert_eq!(node.invoke("f", 1, answer("fine")).await.json(), json!("fine"));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_eats_its_memory_ends_as_out_of_memory() {
    let node = Node::with(&[version("f", 1)]).await;
    let eaten = node.invoke("f", 1, json!({ "memory_bytes": 500 * MIB, "sleep_ms": 1 })).await;
    assert_eq!((eaten.code().as_str(), eaten.outcome().outcome), ("out-of-memory", Outcome::OutOfMemory));
    let message = eaten.json()["message"].as_str().expect("a message").to_owned();
    assert!(message.contains("MiB at its peak"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_says_why_and_is_recorded_once() {
    for (init, expected) in [
        (
            "exit",
            "it exited with status 1 before it asked for work; the last it wrote to standard error: cannot find my module",
        ),
        ("error", "ImportError: no module named x"),
        ("hang", "did not ask for work within 10000 ms"),
    ] {
        let mut broken = version("f", 1);
        broken.env.insert("INIT".into(), init.into());
        let node = Node::with(&[broken]).await;
        let failed = node.invoke("f", 1, answer("never")).await;
        assert_eq!(
            (failed.code().as_str(), failed.outcome().outcome),
            ("start-failed", Outcome::StartFailed)
        );
        let message = failed.json()["message"].as_str().expect("text").to_owned();
        assert!(message.contains(expected), "{message}");
        assert!(node.ps().await.is_empty());
        let (usage, _) = node.end().await;
        assert_eq!(usage.len(), 1);
        assert!(usage[0].cold);
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_make_a_sandbox_bills_nothing() {
    let node = Node::with(&[version("f", 1)]).await;
    node.driver.fail_starts(1);
    let failed = node.invoke("f", 1, answer("never")).await;
    assert_eq!((failed.code().as_str(), failed.outcome().billed_ms), ("start-failed", 0));
    assert_eq!(failed.outcome().outcome, Outcome::PlatformError);
    assert_eq!(node.invoke("f", 1, answer("fine")).await.json(), json!("fine"));
}

#[tokio::test(start_paused = true)]
async fn a_spawner_that_is_away_for_one_start_fails_no_call() {
    let node = Node::with(&[version("f", 1)]).await;
    node.away.store(1, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(node.invoke("f", 1, answer("fine")).await.json(), json!("fine"));
}

#[tokio::test(start_paused = true)]
async fn a_spawner_that_stays_away_fails_the_call_and_bills_nothing() {
    let node = Node::with(&[version("f", 1)]).await;
    node.away.store(2, std::sync::atomic::Ordering::Relaxed);
    let failed = node.invoke("f", 1, answer("never")).await;
    assert_eq!((failed.code().as_str(), failed.outcome().billed_ms), ("start-failed", 0));
    assert_eq!(failed.outcome().outcome, Outcome::PlatformError);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_ends_its_call_and_the_instance() {
    let node = Node::with(&[version("f", 1)]).await;
    let gone = tokio::time::timeout(
        Duration::from_secs(1),
        node.invoke("f", 1, json!({ "sleep_ms": 4_000, "print": "begun\n" })),
    );
    assert!(gone.await.is_err(), "the caller waits a second alone");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(node.ps().await.is_empty(), "an instance in an unknown state is not kept");
    assert_eq!(node.invoke("f", 1, answer("fine")).await.json(), json!("fine"));
    let (usage, _) = node.end().await;
    assert_eq!(usage[0].outcome, Outcome::Cancelled);
    assert_eq!(usage[0].billed_ms, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_streamed_answer_comes_with_its_head_and_its_outcome_in_a_trailer() {
    let node = Node::with(&[version("f", 1)]).await;
    let streamed =
        json!({ "stream": ["one ", "two"], "head": { "statusCode": 202, "headers": { "x-a": "b" } } });
    let whole = node.http("f", streamed).await;
    assert_eq!((whole.status.as_u16(), whole.body.as_ref()), (202, b"one two".as_slice()));
    assert_eq!(whole.headers["x-a"], "b");
    assert_eq!(whole.trailers.len(), 1);
    assert_eq!(whole.outcome().outcome, Outcome::Ok);
    let raw = node.http("f", json!({ "stream": ["raw"] })).await;
    assert_eq!(
        (&raw.headers["content-type"], raw.body.as_ref()),
        (&"text/plain".parse().expect("ascii"), b"raw".as_slice())
    );
    assert_eq!(node.driver.started(), 1);
    let (usage, _) = node.end().await;
    assert_eq!(usage[0].bytes_out, 7);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_grows_too_large_is_cut_and_says_so() {
    let mut small = version("f", 1);
    small.limits.response_body_bytes = 10;
    let node = Node::with(&[small]).await;
    let cut = node.http("f", json!({ "stream": ["12345", "67890", "x"] })).await;
    assert_eq!(cut.body.as_ref(), b"1234567890");
    assert_eq!(cut.outcome().outcome, Outcome::FunctionError);
}

#[tokio::test(start_paused = true)]
async fn what_code_prints_is_the_log_of_its_call_within_its_share() {
    let mut quiet = version("f", 1);
    quiet.limits.log_bytes = 20;
    let node = Node::with(&[quiet]).await;
    for text in ["first\n", "second\n", "a line that is far too long for it\n"] {
        node.invoke("f", 1, json!({ "print": text, "answer": 1, "sleep_ms": 1 })).await;
    }
    let (usage, lines) = node.end().await;
    let of = |at: usize| {
        let mine = lines.iter().filter(|line| line.invocation == Some(usage[at].id));
        mine.map(|line| line.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!((of(0), of(1)), (vec!["first".to_owned()], vec!["second".to_owned()]));
    assert_eq!(of(2), ["35 bytes of log were dropped: more than the function's log limit"]);
}

#[tokio::test(start_paused = true)]
async fn cpu_time_is_told_by_call() {
    let node = Node::with(&[version("f", 1)]).await;
    for us in [700, 40] {
        node.invoke("f", 1, json!({ "cpu_us": us, "answer": 1 })).await;
    }
    let (usage, _) = node.end().await;
    assert_eq!(usage.iter().map(|usage| usage.cpu_us).collect::<Vec<_>>(), [700, 40]);
}

#[tokio::test(start_paused = true)]
async fn what_is_unknown_or_malformed_is_refused() {
    let node = Node::with(&[version("f", 1)]).await;
    assert_eq!(node.invoke("nobody", 1, answer("")).await.code(), "function-not-found");
    assert_eq!(node.invoke("f", 2, answer("")).await.code(), "function-not-found");
    let mut bad = request("f", 1, Source::Invoke, String::new());
    bad.headers_mut().insert("x-rouse-invocation", "{".parse().expect("ascii"));
    assert_eq!(node.send(bad).await.code(), "bad-request");
    assert_eq!(node.get("/nothing").await.code(), "operation-not-found");
}
