//! Functions in Rust, by `lambda_runtime` and `lambda_http`, as an executable `bootstrap`: see
//! `tests/guests/lambda-rust`.

use std::{os::unix::fs::PermissionsExt, path::Path};

use bytes::Bytes;
use rouse_contract::lambda::{Failure, StreamEnd, available, http_answer, http_event};
use rouse_sandbox::Exit;
use rouse_types::{Clock as _, InvocationId, Runtime, SystemClock};

use crate::harness::{Function, ask, call, error, skipped, streamed, whole};

/// One of the guest's programs as a function's `bootstrap`.
fn function(test: &str, program: &str) -> Option<Function> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/lambda-rust/target/debug");
    if !built.join(program).is_file() {
        skipped(test, "tests/guests/lambda-rust is not built: run `cargo xtask setup`");
        return None;
    }
    let launch = available(&Runtime::Provided, Path::new("/")).expect("always there");
    let function = Function::new(&Runtime::Provided, launch, &[]);
    let bootstrap = function.code.join("bootstrap");
    std::fs::copy(built.join(program), &bootstrap).expect("a copy");
    std::fs::set_permissions(&bootstrap, PermissionsExt::from_mode(0o755)).expect("permissions");
    Some(function)
}

#[tokio::test]
async fn a_rust_handler_in_a_container_answers_fails_and_panics_and_is_called_again() {
    let test = "a_rust_handler_in_a_container_answers_fails_and_panics_and_is_called_again";
    let Some(function) = function(test, "events") else { return };
    let Some(host) = function.host(test) else { return };
    let worker = function.start_by(&host.driver()).await.expect("it starts");
    let mut first = call(r#"{"n": 1}"#);
    first.tenant_id = Some("blue".into());
    first.client_context = Some(
        r#"{"client":{"installation_id":"i","app_title":"t","app_version_name":"v",
        "app_version_code":"c","app_package_name":"p"},"custom":{},"env":{}}"#
            .replace('\n', ""),
    );
    let (id, trace) = (first.id, first.trace.clone());
    let answer = whole(worker.invoke(first).await.expect("an answer"));
    assert_eq!((&answer["n"], &answer["id"]), (&1.into(), &id.to_string().into()));
    assert_eq!((&answer["tenant"], &answer["trace"]), (&"blue".into(), &trace.into()));
    assert_eq!(
        (&answer["client"]["client"]["installationId"], &answer["name"]),
        (&"i".into(), &"hello".into())
    );
    assert_eq!(answer["arn"], "arn:aws:lambda:us-east-1:000000000000:function:hello:1");

    let (_, message) = error(worker.invoke(call(r#"{"do": "fail"}"#)).await.expect("an answer"));
    assert_eq!(message, "it was told to fail");
    let (_, message) = error(worker.invoke(call(r#"{"do": "panic"}"#)).await.expect("an answer"));
    assert!(message.contains("it was told to panic"), "{message}");
    assert_eq!(ask(&worker, r#"{"n": 2}"#).await["n"], 2);
    let failure = worker.invoke(call(r#"{"do": "exit"}"#)).await.expect_err("it exits");
    assert_eq!(failure, Failure::Exited(Exit::Code(3)));
    worker.stop().await;
}

#[tokio::test]
async fn a_rust_handler_streams_and_an_error_midway_is_no_part_of_the_body() {
    let test = "a_rust_handler_streams_and_an_error_midway_is_no_part_of_the_body";
    let Some(function) = function(test, "events") else { return };
    let worker = function.start().await.expect("it starts");
    for (payload, fails) in [("false", false), ("true", true), ("false", false)] {
        let payload = format!(r#"{{"do": "stream", "fails": {payload}}}"#);
        let (head, text, end) = streamed(worker.invoke(call(&payload)).await.expect("an answer")).await;
        assert_eq!(head.status, http::StatusCode::OK);
        assert_eq!(head.headers["content-type"], "application/octet-stream");
        if fails {
            assert_eq!(text, "part 0;part 1;");
            assert!(
                matches!(&end, StreamEnd::Error(error) if error.error_type == "Runtime.StreamError"),
                "{end:?}"
            );
        } else {
            assert_eq!((text.as_str(), end), ("part 0;part 1;part 2;", StreamEnd::Complete));
        }
    }
}

#[tokio::test]
async fn a_rust_handler_serves_several_calls_at_once() {
    let test = "a_rust_handler_serves_several_calls_at_once";
    let Some(function) = function(test, "events").map(|function| function.at_once(8)) else { return };
    let worker = function.start().await.expect("it starts");
    let ask = |n: u64| {
        let worker = &worker;
        async move {
            // The later ones end first.
            let payload = format!(r#"{{"do": "sleep", "ms": {}, "n": {n}}}"#, 800 - n * 100);
            let call = call(&payload);
            let id = call.id;
            let answer = whole(worker.invoke(call).await.expect("an answer"));
            worker.end_log(id);
            assert_eq!((&answer["n"], &answer["id"]), (&n.into(), &id.to_string().into()));
            n
        }
    };
    let mut running = futures_util::stream::FuturesUnordered::from_iter((0..8).map(ask));
    let mut ended = Vec::new();
    while let Some(n) = futures_util::StreamExt::next(&mut running).await {
        ended.push(n);
    }
    assert_eq!(ended.len(), 8);
    assert_ne!(ended, (0..8).collect::<Vec<_>>(), "they ran one after the other");
}

#[tokio::test]
async fn an_http_service_on_lambda_http_answers_a_request() {
    let test = "an_http_service_on_lambda_http_answers_a_request";
    let Some(function) = function(test, "web") else { return };
    let worker = function.start().await.expect("it starts");
    let mut headers = http::HeaderMap::new();
    headers.insert("user-agent", http::HeaderValue::from_static("a test"));
    headers.insert("host", http::HeaderValue::from_static("hello.test"));
    let mut request = call("");
    request.payload = http_event::write(&http_event::Input {
        tenant: &function.version.tenant,
        function: &function.version.function,
        id: InvocationId::new(),
        received: SystemClock.now(),
        peer: None,
        trace: "",
        method: &http::Method::POST,
        uri: &http::Uri::from_static("/there/and%20back?name=Ada"),
        version: http::Version::HTTP_11,
        headers: &headers,
        body: &Bytes::from_static(b"\xff\x00binary"),
        url: None,
    });
    let answer = whole(worker.invoke(request).await.expect("an answer"));
    let (head, body) = http_answer::read(&answer.to_string().into()).expect("an HTTP answer");
    assert_eq!(
        (head.status.as_u16(), &head.headers["x-made-by"]),
        (201, &http::HeaderValue::from_static("lambda_http"))
    );
    assert_eq!(body, "POST /there/and%20back from a test: hello, Ada; 8 bytes");
}
