//! The examples do their job over HTTP and by `rouse invoke`, go idle, vanish, wake again, and are billed.

use std::time::Duration;

use rouse_e2e::{Answer, Platform, example, need, wait_for};
use serde_json::{Value, json};

/// An answer carries what every answer must: an id, its time in parts that sum, and what is billed.
fn check_headers(answer: &Answer) {
    assert_eq!(answer.header("x-rouse-invocation-id").len(), 36, "{answer:?}");
    let [queue, start, init, run, total] = answer.timing_us();
    assert_eq!(queue + start + init + run, total, "{answer:?}");
    let billed: u64 = answer.header("x-rouse-billed-ms").parse().expect("billed milliseconds");
    assert_eq!(billed, (init + run).div_ceil(1000).max(1), "{answer:?}");
}

async fn greets(platform: &Platform, function: &str, from: &str) {
    platform.deploy_once(&example(function)).await;
    for _ in 0..2 {
        let answer = platform.get(&format!("{function}/?name=Ada%20L&x=1")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), "application/json");
        let body =
            json!({ "greeting": "Hello, Ada L!", "from": from, "query": { "name": "Ada L", "x": "1" } });
        assert_eq!(answer.json(), body);
        check_headers(&answer);
    }
}

async fn does(platform: &Platform, function: &str, input: &str, output: Value) {
    platform.deploy_once(&example(function)).await;
    let answer = platform.post(&format!("{function}/"), input.to_owned()).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, output));
    check_headers(&answer);
}

async fn is_invoked(platform: &Platform, function: &str, from: &str) {
    platform.deploy_once(&example(function)).await;
    let cli = platform.rouse(&["invoke", function, r#"{"name":"Grace"}"#]).await;
    assert!(cli.ok && cli.out.contains("Hello, Grace!") && cli.out.contains(from), "{cli:?}");
}

#[tokio::test]
async fn the_rust_component_answers_over_http_and_by_invoke() {
    let platform = Platform::shared();
    need!(platform, "the_rust_component_answers_over_http_and_by_invoke", "component");
    greets(&platform, "hello-rust", "rust").await;
    let top = json!([{ "word": "a", "times": 2 }, { "word": "b", "times": 1 }]);
    does(&platform, "hello-rust", "A b a", json!({ "from": "rust", "lines": 1, "words": 3, "top": top }))
        .await;
    is_invoked(&platform, "hello-rust", "rust").await;
}

#[tokio::test]
async fn the_javascript_component_answers_over_http_and_by_invoke() {
    let platform = Platform::shared();
    need!(platform, "the_javascript_component_answers_over_http_and_by_invoke", "component");
    greets(&platform, "hello-js", "javascript").await;
    let greetings = json!({ "greetings": ["Hello, Ada!", "Hello, Grace!"], "from": "javascript" });
    does(&platform, "hello-js", r#"{"names":["Ada","Grace"]}"#, greetings).await;
    is_invoked(&platform, "hello-js", "javascript").await;
}

#[tokio::test]
async fn the_python_handler_answers_over_http_and_by_invoke() {
    let platform = Platform::shared();
    need!(platform, "the_python_handler_answers_over_http_and_by_invoke", "python");
    greets(&platform, "hello-python", "python").await;
    let statistics =
        json!({ "from": "python", "count": 3, "mean": 2.0, "median": 2, "deviation": 0.816_496_580_927_726 });
    does(&platform, "hello-python", "[1, 2, 3]", statistics).await;
    is_invoked(&platform, "hello-python", "python").await;
}

#[tokio::test]
async fn the_node_handler_answers_over_http_and_by_invoke() {
    let platform = Platform::shared();
    need!(platform, "the_node_handler_answers_over_http_and_by_invoke", "node");
    greets(&platform, "hello-node", "node").await;
    let cart = r#"{"items":[{"name":"tea","price":"0.1","count":1},{"name":"milk","price":"0.2"}]}"#;
    does(&platform, "hello-node", cart, json!({ "from": "node", "items": 2, "total": "0.30" })).await;
    is_invoked(&platform, "hello-node", "node").await;
}

#[tokio::test]
async fn a_function_is_also_found_by_its_host_name() {
    let platform = Platform::shared();
    need!(platform, "a_function_is_also_found_by_its_host_name", "component");
    platform.deploy_once(&example("hello-rust")).await;
    let mut request = platform.request("/?name=Host", None);
    let host = http::HeaderValue::from_static("hello-rust.default.localhost");
    request.headers_mut().insert("host", host);
    let answer = platform.send(request).await;
    assert_eq!(answer.json()["greeting"], "Hello, Host!");
}

#[tokio::test]
async fn what_a_function_prints_is_in_its_logs() {
    let platform = Platform::shared();
    need!(platform, "what_a_function_prints_is_in_its_logs", "python");
    platform.deploy_once(&example("hello-python")).await;
    platform.get("hello-python/?name=Logged").await;
    wait_for("the line is in the logs", Duration::from_secs(10), async || {
        platform.rouse(&["logs", "hello-python"]).await.out.contains("greeting Logged")
    })
    .await;
}
