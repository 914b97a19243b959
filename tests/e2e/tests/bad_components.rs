//! Components that do what code does wrong: the caller learns it, it is metered, and no other call is hurt.

use std::time::{Duration, Instant};

use rouse_e2e::{Load, Platform, example, fixture, need, wait_for};

async fn fails(platform: &Platform, what: &str, status: u16, code: &str) {
    let answer = platform.get(&format!("misbehave?do={what}")).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{what}: {}", answer.text());
    assert!(!answer.header("x-rouse-billed-ms").is_empty(), "{what} is metered: {answer:?}");
}

#[tokio::test]
async fn a_component_that_misbehaves_is_told_to_its_caller_and_hurts_no_other_call() {
    let platform = Platform::shared();
    let test = "a_component_that_misbehaves_is_told_to_its_caller_and_hurts_no_other_call";
    if let Some(reason) = platform.lacks("component") {
        rouse_e2e::skipped(test, &reason);
        return;
    }
    platform.deploy_once(&fixture("misbehave")).await;
    platform.deploy_once(&example("hello-rust")).await;
    let load = Load::start(&platform, 2, "/fn/default/hello-rust", |answer| answer.status == 200);
    load.answer_more(5).await;

    fails(&platform, "trap", 502, "function-error").await;
    fails(&platform, "recurse", 502, "function-error").await;
    fails(&platform, "silent", 502, "invalid-response").await;
    fails(&platform, "eat", 502, "out-of-memory").await;
    let begun = Instant::now();
    fails(&platform, "loop", 504, "function-timeout").await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(platform.get("misbehave").await.text(), "fine", "it answers when it does nothing wrong");

    load.answer_more(5).await;
    let (answered, failures) = load.stop().await;
    assert_eq!(failures, [] as [String; 0], "of {answered} calls");
}

#[tokio::test]
async fn a_component_that_loops_lets_others_of_its_gateway_answer_meanwhile() {
    let platform = Platform::shared();
    need!(platform, "a_component_that_loops_lets_others_of_its_gateway_answer_meanwhile", "component");
    platform.deploy_once(&fixture("misbehave")).await;
    platform.deploy_once(&example("hello-rust")).await;
    let mut looping = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let platform = std::sync::Arc::clone(&platform);
        looping.spawn(async move { platform.get("misbehave?do=loop").await.status.as_u16() });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    assert_eq!(platform.get("hello-rust").await.status, 200);
    assert!(begun.elapsed() < Duration::from_millis(1500), "it waited for the loop: {:?}", begun.elapsed());
    assert_eq!(looping.join_all().await, [504; 4]);
}

#[tokio::test]
async fn a_huge_answer_is_cut_off() {
    let platform = Platform::shared();
    need!(platform, "a_huge_answer_is_cut_off", "component");
    platform.deploy_once(&fixture("misbehave")).await;
    // It is streamed, so its head may be out before it is too large: then the connection breaks, and no
    // caller takes a part for the whole.
    let request = platform.request("/fn/default/misbehave?do=huge", None);
    let client =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    match rouse_e2e::call_on(&client, request).await {
        Ok(answer) => assert_eq!((answer.status.as_u16(), answer.code()), (502, "response-too-large")),
        Err(error) => assert!(error.contains("body"), "{error}"),
    }
}

#[tokio::test]
async fn output_over_the_limit_is_dropped_and_the_call_goes_on() {
    let platform = Platform::shared();
    need!(platform, "output_over_the_limit_is_dropped_and_the_call_goes_on", "component");
    platform.deploy_once(&fixture("misbehave")).await;
    let answer = platform.get("patient?do=shout").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "shouted"));
    wait_for("what was kept is in the logs", Duration::from_secs(10), async || {
        let logs = platform.rouse(&["logs", "patient"]).await.out;
        logs.contains("0123456789") && logs.len() < 1 << 20
    })
    .await;
}
