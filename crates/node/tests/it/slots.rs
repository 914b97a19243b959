//! Several calls at once in one instance.

use std::time::Duration;

use rouse_sandbox::sim::SimDriver;
use rouse_types::{FunctionVersion, InstanceState, Outcome};
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    code,
    harness::{Node, answer, sleep_ms, version},
    scaling::call,
};

fn several(function: &str, slots: u32) -> FunctionVersion {
    let mut several = version(function, 1);
    several.scaling.concurrency_per_instance = slots;
    several
}

#[tokio::test(start_paused = true)]
async fn an_instance_runs_as_many_calls_at_once_as_it_has_slots() {
    let node = Node::with(&[several("f", 4)]).await;
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        call(&mut calls, &node, "f", 1, sleep_ms(100));
    }
    sleep(Duration::from_millis(50)).await;
    let ps = node.ps().await;
    assert_eq!((ps.len(), ps[0].state), (1, InstanceState::Busy));
    call(&mut calls, &node, "f", 1, sleep_ms(100));
    let answers = calls.join_all().await;
    assert_eq!(node.driver.started(), 2, "the fifth found no slot");
    for answer in answers {
        assert_eq!(answer.outcome().timing.run_us / 1_000, 100, "each is billed its own time");
    }
    let invocations: u64 = node.ps().await.iter().map(|instance| instance.invocations).sum();
    assert_eq!(invocations, 5);
    sleep(Duration::from_millis(200)).await;
    assert!(node.ps().await.iter().all(|instance| instance.state == InstanceState::Frozen));
    assert_eq!(node.invoke("f", 1, answer("awake")).await.json(), json!("awake"));
}

#[tokio::test(start_paused = true)]
async fn the_busiest_instance_with_a_free_slot_is_used_first() {
    let node = Node::with(&[several("f", 3)]).await;
    let mut calls = JoinSet::new();
    // Three fill the first instance, the fourth starts another.
    for ms in [4_000, 4_000, 500, 700] {
        call(&mut calls, &node, "f", 1, sleep_ms(ms));
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_millis(600)).await;
    call(&mut calls, &node, "f", 1, sleep_ms(1_000));
    sleep(Duration::from_millis(300)).await;
    let states: Vec<_> = node.ps().await.iter().map(|instance| instance.state).collect();
    assert_eq!(node.driver.started(), 2);
    assert!(states.contains(&InstanceState::Busy) && states.contains(&InstanceState::Frozen), "{states:?}");
    assert!(calls.join_all().await.iter().all(|answer| answer.status == 200));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_spoils_its_instance_lets_the_others_end_and_no_new_one_in() {
    let mut two = several("f", 2);
    two.scaling.concurrency_max = 2;
    let node = Node::with(&[two]).await;
    let mut calls = JoinSet::new();
    call(&mut calls, &node, "f", 1, sleep_ms(60_000));
    sleep(Duration::from_secs(2)).await;
    let mut beside = JoinSet::new();
    call(&mut beside, &node, "f", 1, sleep_ms(4_000));
    sleep(Duration::from_millis(3_500)).await;
    let late = calls.join_next().await.expect("a call").expect("no panic");
    assert_eq!(late.outcome().outcome, Outcome::Timeout);
    // One still runs in the old instance, so that one of these can run.
    call(&mut calls, &node, "f", 1, sleep_ms(1_000));
    call(&mut calls, &node, "f", 1, sleep_ms(1_000));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(node.driver.started(), 2);
    let metrics = String::from_utf8(node.get("/metrics").await.body.to_vec()).expect("text");
    assert!(metrics.contains("rouse_node_waiting 1"), "{metrics}");
    assert!(beside.join_all().await.iter().all(|answer| answer.outcome().outcome == Outcome::Ok));
    assert!(calls.join_all().await.iter().all(|answer| answer.status == 200));
    let ps = node.ps().await;
    assert_eq!((ps.len(), ps[0].invocations), (1, 2), "the spoiled instance is gone");
}

#[tokio::test(start_paused = true)]
async fn code_that_exits_fails_all_its_calls_and_those_that_wait_get_another_instance() {
    let mut two = several("f", 2);
    (two.scaling.concurrency_max, two.limits.timeout_ms) = (2, 8_000);
    let node = Node::with(&[two]).await;
    let mut calls = JoinSet::new();
    for payload in [sleep_ms(3_000), json!({ "sleep_ms": 1_000, "exit": 3 }), answer("later")] {
        call(&mut calls, &node, "f", 1, payload);
        sleep(Duration::from_millis(1)).await;
    }
    let answers = calls.join_all().await;
    let failed = answers.iter().filter(|answer| answer.status != 200);
    assert!(failed.clone().all(|answer| answer.outcome().outcome == Outcome::FunctionError));
    assert_eq!(failed.count(), 2);
    assert_eq!(node.driver.started(), 2);
    let (usage, _) = node.end().await;
    assert_eq!(usage.len(), 3, "each is recorded once");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_leaves_the_others_of_its_instance_alone() {
    let node = Node::with(&[several("f", 2)]).await;
    let mut calls = JoinSet::new();
    call(&mut calls, &node, "f", 1, sleep_ms(3_000));
    let gone = tokio::time::timeout(Duration::from_secs(1), node.invoke("f", 1, sleep_ms(4_000)));
    assert!(gone.await.is_err());
    assert!(calls.join_all().await.iter().all(|answer| answer.status == 200));
    sleep(Duration::from_millis(10)).await;
    assert!(node.ps().await.is_empty(), "an instance in an unknown state is not kept");
}

#[tokio::test(start_paused = true)]
async fn the_cpu_time_of_calls_that_overlap_sums_to_that_of_their_instance() {
    let node = Node::with(&[several("f", 3)]).await;
    let mut calls = JoinSet::new();
    for (ms, us) in [(10, 301), (20, 500), (30, 1_000), (15, 77), (5, 3)] {
        call(&mut calls, &node, "f", 1, json!({ "cpu_us": us, "sleep_ms": ms, "answer": 1 }));
        sleep(Duration::from_millis(1)).await;
    }
    calls.join_all().await;
    let instances: u64 = node.ps().await.iter().map(|instance| instance.cpu_us).sum();
    assert_eq!(instances, 301 + 500 + 1_000 + 77 + 3);
    let (usage, _) = node.end().await;
    assert_eq!(usage.iter().map(|usage| usage.cpu_us).sum::<u64>(), instances);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_never_idle_gives_way_to_a_function_that_finds_no_memory() {
    let node = Node::start(SimDriver::new(code::run), 128).await;
    node.deploy(&[several("busy", 2), version("other", 1)]).await;
    let mut calls = JoinSet::new();
    for at in 0..20 {
        call(&mut calls, &node, "busy", 1, sleep_ms(1_000));
        if at == 3 {
            call(&mut calls, &node, "other", 1, answer("hi"));
        }
        sleep(Duration::from_millis(600)).await;
    }
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let other = answers.iter().find(|answer| answer.body.as_ref() == b"\"hi\"").expect("it was served");
    assert!(other.outcome().timing.total_us() < 3_000_000, "{:?}", other.outcome());
}
