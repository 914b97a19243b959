//! Instances that are there whether anyone calls or not, and calls that are refused rather than held.

use std::time::Duration;

use rouse_sandbox::sim::SimDriver;
use rouse_types::InstanceState;
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    code,
    harness::{Node, answer, sleep_ms, version},
    scaling::call,
};

#[tokio::test(start_paused = true)]
async fn provisioned_instances_start_before_any_call_and_stay() {
    let mut warm = version("f", 1);
    warm.scaling.instances_min = 2;
    let node = Node::with(&[warm]).await;
    sleep(Duration::from_secs(3_600)).await;
    let before = node.ps().await;
    assert_eq!(before.len(), 2, "{before:?}");
    assert!(before.iter().all(|one| [InstanceState::Idle, InstanceState::Frozen].contains(&one.state)));
    assert!(!node.invoke("f", 1, answer("hi")).await.outcome().cold);
    // One that is used up is replaced.
    let _ = node.invoke("f", 1, json!({ "exit": 3 })).await;
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(node.ps().await.len(), 2);
    // The next version has none.
    node.deploy(&[version("f", 2)]).await;
    sleep(Duration::from_secs(1)).await;
    assert!(node.ps().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn provisioned_instances_give_no_memory_to_others() {
    let mut warm = version("warm", 1);
    warm.scaling.instances_min = 2;
    let memory = u64::from(warm.limits.memory_mib);
    let node = Node::start(SimDriver::new(code::run), memory * 3).await;
    node.deploy(&[warm, version("other", 1)]).await;
    sleep(Duration::from_secs(1)).await;
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        call(&mut calls, &node, "other", 1, sleep_ms(100));
    }
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(node.ps().await.iter().filter(|one| one.function.as_str() == "warm").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_beyond_the_limit_of_a_function_that_throttles_is_refused_at_once() {
    let mut throttling = version("f", 1);
    (throttling.scaling.concurrency_max, throttling.scaling.throttle) = (2, true);
    let node = Node::with(&[throttling]).await;
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        call(&mut calls, &node, "f", 1, sleep_ms(500));
    }
    let answers = calls.join_all().await;
    let refused =
        answers.iter().filter(|answer| answer.status == 429 && answer.code() == "too-many-requests");
    assert_eq!(refused.count(), 2);
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 2);
}
