//! Many starts at once: some at a time, in turns, and none for ever.

use std::time::Duration;

use rouse_sandbox::sim::SimDriver;
use rouse_types::InstanceState;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    code,
    harness::{Node, answer, sleep_ms, version},
    scaling::call,
};

#[tokio::test(start_paused = true)]
async fn some_start_at_a_time_and_functions_take_turns() {
    let driver = SimDriver::new(code::run).start_delay(Duration::from_millis(300));
    let node = Node::start_with(driver, 10_000, 2).await;
    node.deploy(&[version("f", 1), version("g", 1)]).await;
    let (mut many, mut one) = (JoinSet::new(), JoinSet::new());
    for _ in 0..6 {
        call(&mut many, &node, "f", 1, sleep_ms(3_000));
    }
    sleep(Duration::from_millis(100)).await;
    call(&mut one, &node, "g", 1, answer("hi"));
    sleep(Duration::from_millis(100)).await;
    let ps = node.ps().await;
    assert_eq!(ps.len(), 2, "{ps:?}");
    assert!(ps.iter().all(|instance| instance.state == InstanceState::Starting), "{ps:?}");
    // f had the first two; of the next two it has one, although five of its calls came before.
    let timing = one.join_all().await[0].outcome().timing;
    assert_eq!((timing.queue_us / 1_000, timing.start_us / 1_000), (200, 300), "{timing:?}");
    let answers = many.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(node.driver.started(), 7);
}

#[tokio::test(start_paused = true)]
async fn code_that_takes_long_to_start_keeps_nobody_else_from_starting() {
    let node = Node::start_with(SimDriver::new(code::run), 10_000, 1).await;
    let mut hangs = version("hangs", 1);
    hangs.env.insert("INIT".into(), "hang".into());
    node.deploy(&[hangs, version("f", 1)]).await;
    let mut hanging = JoinSet::new();
    for _ in 0..3 {
        call(&mut hanging, &node, "hangs", 1, answer("never"));
    }
    sleep(Duration::from_millis(10)).await;
    let timing = node.invoke("f", 1, answer("hi")).await.outcome().timing;
    assert!(timing.queue_us <= 1_000_000, "it waited for its turn, and not for an end: {timing:?}");
    let answers = hanging.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 502));
}

#[tokio::test(start_paused = true)]
async fn an_instance_at_rest_is_held_to_what_is_known_of_its_function_later() {
    let mut slow = version("f", 1);
    slow.env.insert("INIT".into(), "slow".into());
    let node = Node::with(&[slow]).await;
    let mut calls = JoinSet::new();
    for _ in 0..2 {
        call(&mut calls, &node, "f", 1, sleep_ms(100));
    }
    calls.join_all().await;
    assert_eq!(
        node.ps().await.len(),
        2,
        "a start of two seconds is worth minutes, while nothing else is known"
    );
    for _ in 0..20 {
        sleep(Duration::from_secs(1)).await;
        node.invoke("f", 1, answer("hi")).await;
    }
    assert_eq!(node.ps().await.len(), 1, "one is enough for a call a second");
}
