//! Triggers: schedules and queues rouse their functions.

use std::time::Duration;

use http::StatusCode;
use rouse_types::{
    Contract, EventSettings, Trigger,
    trigger::{CatchUp, On, QueueSource, Schedule, When},
};

use crate::harness::{Answer, World};

fn each_second(name: &str) -> Trigger {
    let schedule = Schedule {
        when: When::EveryMs(1_000),
        timezone: "UTC".to_owned(),
        jitter_ms: 0,
        catch_up: CatchUp::Once,
        input: None,
    };
    Trigger { name: name.to_owned(), on: On::Schedule(schedule), filter: None }
}

fn drains(queue: &str, batch_size: u32, batch_window_ms: u64) -> Trigger {
    let source = QueueSource { queue: queue.to_owned(), batch_size, batch_window_ms, concurrency_max: 2 };
    Trigger { name: "queue-1".to_owned(), on: On::Queue(source), filter: None }
}

fn quick() -> EventSettings {
    EventSettings { attempts: 3, backoff_ms: 1, backoff_max_ms: 5, ..Default::default() }
}

#[tokio::test]
async fn a_schedule_rouses_its_function_in_the_shape_of_its_contract_until_it_goes() {
    let world = World::start(|_| Answer::ok()).await;
    world.deploy_as("nightly", |version| version.triggers = vec![each_second("nightly")]).await;
    world
        .deploy_as("server", |version| {
            version.triggers = vec![each_second("tick")];
            version.contract = Contract::Http;
        })
        .await;
    let calls = world.calls(5).await;
    let of = |function: &str| calls.iter().find(|call| call.delivery.function.as_str() == function).unwrap();
    let event: serde_json::Value = serde_json::from_slice(&of("nightly").body).unwrap();
    assert_eq!(event["detail-type"], "Scheduled Event");
    assert_eq!(of("server").headers["ce-type"], "google.cloud.scheduler.job.v1.executed");
    assert_eq!(of("server").path, "/");
    let ids: std::collections::BTreeSet<_> = calls.iter().map(|call| call.delivery.id).collect();
    assert_eq!(ids.len(), calls.len(), "no time comes twice");

    for function in ["nightly", "server"] {
        world.deploy_as(function, |_| ()).await;
    }
    world.idle().await;
    let before = world.calls(0).await.len();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(world.calls(0).await.len() <= before, "what has no trigger any more is left alone");
}

#[tokio::test]
async fn a_schedule_goes_on_after_a_restart_without_a_time_twice() {
    let world = World::start(|_| Answer::ok()).await;
    world.deploy_as("nightly", |version| version.triggers = vec![each_second("nightly")]).await;
    world.calls(2).await;
    let world = world.restart().await;
    let calls = world.calls(4).await;
    let time = |call: &crate::harness::Call| -> String {
        let event: serde_json::Value = serde_json::from_slice(&call.body).unwrap();
        event["time"].as_str().unwrap().to_owned()
    };
    // A call that the end of the process broke off comes again, as the same event.
    let ids: std::collections::BTreeMap<_, _> =
        calls.iter().map(|call| (call.delivery.id, time(call))).collect();
    let times: std::collections::BTreeSet<_> = ids.values().collect();
    assert_eq!(times.len(), ids.len(), "{ids:?}");
}

#[tokio::test]
async fn messages_come_in_batches_and_those_that_failed_come_again() {
    let world = World::start(|call| {
        let batch: serde_json::Value = serde_json::from_slice(&call.body).unwrap();
        let failed = |record: &serde_json::Value| record["body"] == "bad";
        let failed: Vec<_> =
            batch["Records"].as_array().unwrap().iter().filter(|record| failed(record)).collect();
        let failures: Vec<_> = failed
            .iter()
            .map(|record| serde_json::json!({ "itemIdentifier": record["messageId"] }))
            .collect();
        Answer { body: serde_json::json!({ "batchItemFailures": failures }).to_string(), ..Answer::ok() }
    })
    .await;
    // What was sent before there was a trigger waits for it.
    for body in ["1", "bad", "3"] {
        let (status, answer) =
            world.post("/v1/tenants/default/queues/orders/messages", body.as_bytes()).await;
        assert_eq!(status, StatusCode::OK, "{answer:?}");
    }
    world
        .deploy_as("handle", |version| {
            version.triggers = vec![drains("orders", 10, 0)];
            version.events = quick();
        })
        .await;
    let calls = world.calls(3).await;
    let bodies = |call: &crate::harness::Call| -> Vec<String> {
        let batch: serde_json::Value = serde_json::from_slice(&call.body).unwrap();
        let records = batch["Records"].as_array().unwrap();
        records.iter().map(|record| record["body"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(bodies(&calls[0]), ["1", "bad", "3"]);
    assert_eq!(bodies(&calls[1]), ["bad"]);
    assert_eq!(calls[2].headers["x-rouse-attempt"], "3");
    world.idle().await;
    assert_eq!(world.calls(0).await.len(), 3, "it was given up");
    let queues = world.get("/v1/tenants/default/queues").await.1;
    assert_eq!((&queues[0]["messages"], &queues[0]["dead"]), (&0.into(), &1.into()), "{queues}");
}

#[tokio::test]
async fn groups_of_a_fifo_queue_keep_their_order_and_servers_get_cloud_events() {
    let world = World::start(|_| Answer::ok()).await;
    world
        .deploy_as("handle", |version| {
            version.triggers = vec![drains("orders.fifo", 1, 0)];
            version.contract = Contract::Http;
        })
        .await;
    for n in 0..4 {
        let path = "/v1/tenants/default/queues/orders.fifo/messages?group=a";
        assert_eq!(world.post(path, n.to_string().as_bytes()).await.0, StatusCode::OK);
    }
    let (status, _) = world.post("/v1/tenants/default/queues/orders.fifo/messages", b"no group").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let calls = world.calls(4).await;
    assert_eq!(calls[0].headers["ce-type"], "google.cloud.pubsub.topic.v1.messagePublished");
    let data = |call: &crate::harness::Call| -> String {
        let event: serde_json::Value = serde_json::from_slice(&call.body).unwrap();
        event["message"]["data"].as_str().unwrap().to_owned()
    };
    // Base64 of 0, 1, 2, 3.
    assert_eq!(calls.iter().map(data).collect::<Vec<_>>(), ["MA==", "MQ==", "Mg==", "Mw=="]);
}

#[tokio::test]
async fn messages_are_received_deleted_and_purged_by_people_too() {
    let world = World::start(|_| Answer::ok()).await;
    let at = "/v1/tenants/default/queues/plain";
    for body in ["a", "b", "c"] {
        world.post(&format!("{at}/messages"), body.as_bytes()).await;
    }
    let received: serde_json::Value =
        serde_json::from_slice(&world.post(&format!("{at}/receive?limit=2"), b"").await.1).unwrap();
    assert_eq!((&received[0]["body"], &received[1]["body"]), (&"a".into(), &"b".into()));
    let receipt = received[0]["receipt"].as_str().unwrap();
    let other = format!("/v1/tenants/other/queues/plain/messages/{receipt}");
    assert_eq!(world.delete(&other).await["code"], "bad-request", "it is none of another tenant's");
    assert_eq!(world.delete(&format!("{at}/messages/{receipt}")).await["count"], 1);
    assert_eq!(world.delete(&format!("{at}/messages/{receipt}")).await["count"], 0);
    let purged: serde_json::Value =
        serde_json::from_slice(&world.post(&format!("{at}/purge"), b"").await.1).unwrap();
    assert_eq!(purged["count"], 1, "what is held is left");
}
