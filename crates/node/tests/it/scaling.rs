//! Many calls and none: holding, refusing, freezing, evicting, draining, vanishing.

use std::{sync::Arc, time::Duration};

use rouse_sandbox::sim::SimDriver;
use rouse_types::{InstanceState, Outcome};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    code,
    harness::{Answer, Node, answer, sleep_ms, version},
};

pub(crate) fn call(
    calls: &mut JoinSet<Answer>,
    node: &Arc<Node>,
    function: &'static str,
    number: u64,
    payload: Value,
) {
    let node = Arc::clone(node);
    calls.spawn(async move { node.invoke(function, number, payload).await });
}

#[tokio::test(start_paused = true)]
async fn calls_are_held_while_an_instance_starts() {
    let driver = SimDriver::new(code::run).start_delay(Duration::from_millis(300));
    let node = Node::start(driver, 1_000).await;
    let mut one = version("f", 1);
    one.scaling.concurrency_max = 1;
    node.deploy(&[one]).await;
    let mut calls = JoinSet::new();
    for _ in 0..5 {
        call(&mut calls, &node, "f", 1, answer("hi"));
    }
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(node.driver.started(), 1);
    for answer in answers {
        let timing = answer.outcome().timing;
        assert_eq!(timing.start_us / 1_000, 300, "all of them waited for the start: {timing:?}");
        assert_eq!(timing.queue_us / 1_000, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_parts_of_the_time_sum_to_the_whole() {
    let driver = SimDriver::new(code::run).start_delay(Duration::from_millis(50));
    let node = Node::start(driver, 1_000).await;
    let mut slow = version("f", 1);
    slow.env.insert("INIT".into(), "slow".into());
    node.deploy(&[slow]).await;
    let begun = tokio::time::Instant::now();
    let outcome = node.invoke("f", 1, sleep_ms(100)).await.outcome();
    let took = u64::try_from(begun.elapsed().as_millis()).expect("small");
    let timing = outcome.timing;
    assert_eq!((timing.start_us / 1_000, timing.init_us / 1_000, timing.run_us / 1_000), (50, 2_000, 100));
    assert!(took - timing.total_us() / 1_000 <= 1, "{took} {timing:?}");
    assert!(outcome.cold);
    assert_eq!(outcome.billed_ms, timing.billed_ms());
}

#[tokio::test(start_paused = true)]
async fn each_call_has_an_instance_of_its_own_up_to_the_limit() {
    let mut two = version("f", 1);
    two.scaling.concurrency_max = 2;
    let node = Node::with(&[two]).await;
    let mut calls = JoinSet::new();
    for _ in 0..6 {
        call(&mut calls, &node, "f", 1, sleep_ms(100));
    }
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(node.driver.started(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_with_retry_after() {
    let mut narrow = version("f", 1);
    (narrow.scaling.concurrency_max, narrow.scaling.queue_max) = (1, 2);
    let driver = SimDriver::new(code::run).start_delay(Duration::from_millis(100));
    let node = Node::start(driver, 1_000).await;
    node.deploy(&[narrow]).await;
    let mut calls = JoinSet::new();
    for _ in 0..5 {
        call(&mut calls, &node, "f", 1, sleep_ms(1_000));
    }
    let answers = calls.join_all().await;
    let (served, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((served.len(), refused.len()), (2, 3), "two wait for the start, three find the queue full");
    for answer in refused {
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "too-many-requests"));
        assert!(answer.headers.contains_key("retry-after"));
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_when_to_come_again() {
    let mut narrow = version("f", 1);
    (narrow.scaling.concurrency_max, narrow.scaling.queue_timeout_ms) = (1, 1_000);
    let node = Node::with(&[narrow]).await;
    let mut calls = JoinSet::new();
    call(&mut calls, &node, "f", 1, sleep_ms(3_000));
    call(&mut calls, &node, "f", 1, sleep_ms(3_000));
    let mut answers = calls.join_all().await;
    answers.sort_by_key(|answer| answer.status);
    assert_eq!((answers[0].status.as_u16(), answers[1].status.as_u16()), (200, 503));
    assert_eq!(answers[1].code(), "capacity-exhausted");
    assert!(answers[1].headers.contains_key("retry-after"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_instance_is_frozen_and_thawed_and_at_last_vanishes() {
    let node = Node::with(&[version("f", 1)]).await;
    node.invoke("f", 1, answer("hi")).await;
    assert_eq!(node.ps().await[0].state, InstanceState::Idle);
    sleep(Duration::from_millis(200)).await;
    let ps = node.ps().await;
    assert_eq!((ps[0].state, ps[0].invocations), (InstanceState::Frozen, 1));
    assert_eq!(node.invoke("f", 1, answer("awake")).await.json(), json!("awake"));
    assert_eq!(node.driver.started(), 1);
    sleep(rouse_scheduler::keepalive::KEEP_ALIVE_MAX).await;
    assert!(node.ps().await.is_empty());
    assert_eq!(node.driver.living(), 0);
    assert_eq!(node.invoke("f", 1, answer("back")).await.json(), json!("back"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_instance_goes_when_another_function_needs_its_memory() {
    let node = Node::start(SimDriver::new(code::run), 256).await;
    node.deploy(&[version("a", 1), version("b", 1), version("c", 1)]).await;
    for function in ["a", "b", "c", "a"] {
        assert_eq!(node.invoke(function, 1, answer(function)).await.json(), json!(function));
        assert!(node.driver.living() <= 2, "the budget takes two");
    }
    let metrics = String::from_utf8(node.get("/metrics").await.body.to_vec()).expect("text");
    assert!(metrics.contains("rouse_node_evictions_total 2"), "{metrics}");
    assert!(metrics.contains("rouse_node_invocations_total{outcome=\"ok\"} 4"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_busy_function_gives_way_to_one_that_finds_no_memory() {
    let node = Node::start(SimDriver::new(code::run), 128).await;
    node.deploy(&[version("busy", 1), version("other", 1)]).await;
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        call(&mut calls, &node, "busy", 1, sleep_ms(2_000));
        sleep(Duration::from_millis(1)).await;
    }
    call(&mut calls, &node, "other", 1, answer("hi"));
    sleep(Duration::from_millis(1)).await;
    for _ in 0..3 {
        call(&mut calls, &node, "busy", 1, sleep_ms(2_000));
    }
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200 || answer.code() == "capacity-exhausted"));
    let other = answers.iter().find(|answer| answer.body.as_ref() == b"\"hi\"");
    let waited = other.expect("it was served").outcome().timing.total_us();
    assert!(waited < 7_000_000, "it waited for the three before it alone: {waited}");
}

#[tokio::test(start_paused = true)]
async fn a_function_that_is_larger_than_the_node_is_refused_at_once() {
    let node = Node::start(SimDriver::new(code::run), 64).await;
    node.deploy(&[version("f", 1)]).await;
    assert_eq!(node.invoke("f", 1, answer("")).await.code(), "capacity-exhausted");
}

#[tokio::test(start_paused = true)]
async fn a_redeploy_loses_no_call_and_leaves_no_old_instance() {
    let node = Node::with(&[version("f", 1)]).await;
    let mut calls = JoinSet::new();
    for at in 0..60 {
        if at == 30 {
            node.deploy(&[version("f", 2)]).await;
        }
        // A gateway that has not heard of the new version yet still picks the old one.
        let number = if at < 40 { 1 } else { 2 };
        call(&mut calls, &node, "f", number, sleep_ms(500));
        sleep(Duration::from_millis(20)).await;
    }
    let answers = calls.join_all().await;
    assert_eq!(answers.len(), 60);
    assert!(answers.iter().all(|answer| answer.outcome().outcome == Outcome::Ok));
    sleep(Duration::from_millis(1)).await;
    assert!(node.ps().await.iter().all(|instance| instance.version == 2));
    sleep(Duration::from_secs(61)).await;
    assert_eq!(node.invoke("f", 1, answer("")).await.code(), "function-not-found");
}

/// The most calls that ran at once while `calls` were under way, and their answers.
async fn most_running(node: &Arc<Node>, mut calls: JoinSet<Answer>) -> (usize, Vec<Answer>) {
    let (mut most, mut answers) = (0, Vec::new());
    while !calls.is_empty() {
        let busy = node.ps().await.into_iter().filter(|instance| instance.state == InstanceState::Busy);
        most = most.max(busy.count());
        sleep(Duration::from_millis(7)).await;
        while let Some(answer) = calls.try_join_next() {
            answers.push(answer.expect("no panic"));
        }
    }
    (most, answers)
}

#[tokio::test(start_paused = true)]
async fn versions_of_one_function_share_its_limit_in_the_order_of_calls() {
    let driver = SimDriver::new(code::run).start_delay(Duration::from_millis(10));
    let node = Node::start(driver, 10_000).await;
    let (mut one, mut two) = (version("f", 1), version("f", 2));
    (one.scaling.concurrency_max, two.scaling.concurrency_max) = (2, 2);
    node.deploy(&[one, two]).await;
    let mut calls = JoinSet::new();
    // Version 1 alone could keep both slots until all its calls are done.
    for (number, count) in [(1, 6), (2, 2), (1, 6)] {
        for _ in 0..count {
            call(&mut calls, &node, "f", number, sleep_ms(100));
        }
        sleep(Duration::from_millis(1)).await;
    }
    let (most, answers) = most_running(&node, calls).await;
    assert_eq!(most, 2);
    assert!(answers.iter().all(|answer| answer.status == 200));
    let (usage, _) = node.end().await;
    let order: Vec<_> = usage.iter().map(|usage| usage.version).collect();
    let last_of_two = order.iter().rposition(|&version| version == 2).expect("it ran");
    assert!(last_of_two < order.len() - 4, "who came after them ran after them: {order:?}");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_cannot_start_holds_up_no_other_of_its_function() {
    let (mut good, mut broken) = (version("f", 1), version("f", 2));
    (good.scaling.concurrency_max, broken.scaling.concurrency_max) = (1, 1);
    broken.env.insert("INIT".into(), "exit".into());
    let node = Node::with(&[good, broken]).await;
    let mut calls = JoinSet::new();
    for number in [1, 2, 1, 2, 1, 2, 1] {
        call(&mut calls, &node, "f", number, sleep_ms(100));
        sleep(Duration::from_millis(1)).await;
    }
    let (most, answers) = most_running(&node, calls).await;
    assert_eq!(most, 1);
    let failed = answers.iter().filter(|answer| answer.status != 200);
    assert!(failed.clone().all(|answer| answer.code() == "start-failed"));
    assert_eq!((answers.len(), failed.count()), (7, 3));
}

#[tokio::test(start_paused = true)]
async fn a_redeploy_with_another_limit_leaves_no_caller_of_before_behind() {
    let (mut narrow, mut wide) = (version("f", 1), version("f", 2));
    (narrow.scaling.concurrency_max, wide.scaling.concurrency_max) = (1, 3);
    let node = Node::with(&[narrow]).await;
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        call(&mut calls, &node, "f", 1, sleep_ms(400));
    }
    sleep(Duration::from_millis(1)).await;
    node.deploy(&[wide]).await;
    for _ in 0..60 {
        call(&mut calls, &node, "f", 2, sleep_ms(400));
    }
    let (most, answers) = most_running(&node, calls).await;
    assert_eq!(most, 3);
    assert!(answers.iter().all(|answer| answer.status == 200));
}

#[tokio::test(start_paused = true)]
async fn one_broken_version_fails_all_that_wait_for_it_with_one_start() {
    let mut broken = version("f", 1);
    broken.scaling.concurrency_max = 1;
    broken.env.insert("INIT".into(), "hang".into());
    broken.scaling.queue_timeout_ms = 60_000;
    let node = Node::with(&[broken]).await;
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        call(&mut calls, &node, "f", 1, answer("never"));
    }
    assert!(calls.join_all().await.iter().all(|answer| answer.code() == "start-failed"));
    assert_eq!(node.driver.started(), 1);
    let (usage, _) = node.end().await;
    assert_eq!(usage.len(), 1, "one of them tried to start");
}

#[tokio::test(start_paused = true)]
async fn a_broken_version_is_left_alone_for_a_while_and_a_new_one_is_not() {
    let mut broken = version("f", 1);
    broken.env.insert("INIT".into(), "exit".into());
    let node = Node::with(&[broken]).await;
    for _ in 0..50 {
        assert_eq!(node.invoke("f", 1, answer("never")).await.code(), "start-failed");
    }
    let tried = node.driver.started();
    assert!(tried < 5, "{tried} starts for 50 calls that came at once");
    let refused = node.invoke("f", 1, answer("never")).await;
    assert!(refused.headers.contains_key("retry-after"));
    assert!(refused.json()["message"].as_str().expect("text").contains("cannot find my module"));
    tokio::time::sleep(rouse_scheduler::backoff::BACKOFF_MAX).await;
    node.invoke("f", 1, answer("never")).await;
    assert_eq!(node.driver.started(), tried + 1);
    node.deploy(&[version("f", 2)]).await;
    assert_eq!(node.invoke("f", 2, answer("fine")).await.json(), json!("fine"));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_told_to_end_lets_calls_end_first() {
    let node = Node::with(&[version("f", 1)]).await;
    let mut calls = JoinSet::new();
    call(&mut calls, &node, "f", 1, sleep_ms(1_000));
    call(&mut calls, &node, "f", 1, json!({ "sleep_ms": 4_900, "stream": ["late"] }));
    sleep(Duration::from_millis(100)).await;
    node.tell_to_end();
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| answer.outcome().outcome == Outcome::Ok));
    let (usage, _) = node.end().await;
    assert_eq!(usage.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_busy_until_its_extension_has_done_its_work_on_the_call() {
    let mut watched = version("f", 1);
    watched.env.insert("INIT".into(), "watched".into());
    let node = Node::with(&[watched]).await;
    assert_eq!(node.invoke("f", 1, answer("first")).await.json(), json!("first"));
    sleep(code::EXTENSION_WORKS / 2).await;
    assert_eq!(
        node.ps().await[0].state,
        InstanceState::Busy,
        "the caller was answered, the extension works on"
    );
    // It gets no other call meanwhile.
    assert_eq!(node.invoke("f", 1, answer("second")).await.json(), json!("second"));
    assert_eq!(node.driver.started(), 2);
    sleep(code::EXTENSION_WORKS * 2).await;
    assert!(node.ps().await.iter().all(|instance| instance.state == InstanceState::Frozen));
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_works_past_the_calls_time_ends_its_instance() {
    let mut watched = version("f", 1);
    watched.env.insert("INIT".into(), "watched".into());
    watched.limits.timeout_ms = 500;
    let node = Node::with(&[watched]).await;
    assert_eq!(node.invoke("f", 1, answer("first")).await.json(), json!("first"));
    sleep(code::EXTENSION_WORKS * 2).await;
    assert_eq!(node.ps().await.len(), 0);
    assert_eq!(node.driver.living(), 0);
}
