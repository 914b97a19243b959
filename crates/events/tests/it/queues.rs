//! Queues as such: settings, batches of messages, waiting, dead letters, mappings.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::{Method, StatusCode};
use rouse_api::queues::{self, Attribute, Hold, Mapping, Move, Receive, Received, Send, Sent};
use rouse_types::{EventSettings, Trigger, trigger::On, trigger::QueueSource};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::harness::{Answer, Call, World};

/// Long for a test that goes wrong, and never waited for by one that goes well.
const LONG_MS: u64 = 20_000;

impl World {
    async fn queue(&self, queue: &str, change: Value) -> Value {
        let path = format!("/v1/tenants/default/queues/{queue}");
        let (status, body) = self.exchange(Method::PUT, &path, change.to_string().as_bytes()).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
        serde_json::from_slice(&body).unwrap()
    }

    async fn to<T: DeserializeOwned>(&self, queue: &str, what: &str, body: &impl Serialize) -> T {
        let path = format!("/queues/default/{queue}/{what}");
        let (status, answer) = self.post(&path, &serde_json::to_vec(body).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{answer:?}");
        serde_json::from_slice(&answer).unwrap()
    }

    async fn send(&self, queue: &str, bodies: &[&str]) -> Vec<Sent> {
        let number = AtomicU64::new(0);
        let id = || queue.ends_with(".fifo").then(|| number.fetch_add(1, Ordering::Relaxed).to_string());
        let group = queue.ends_with(".fifo").then(|| "g".to_owned());
        let send = |body: &&str| Send {
            body: (*body).to_owned(),
            group: group.clone(),
            deduplication: id().map(|id| format!("{body}-{id}")),
            ..Send::default()
        };
        let sends: Vec<_> = bodies.iter().map(send).collect();
        let sent = self.to::<Vec<queues::Answer>>(queue, "send", &sends).await.into_iter();
        sent.map(|answer| match answer {
            queues::Answer::Sent(sent) => sent,
            queues::Answer::Refused(refusal) => panic!("{refusal}"),
        })
        .collect()
    }

    async fn receive(&self, queue: &str, count: u32, wait_ms: u64) -> Vec<Received> {
        let how = Receive { count, wait_ms: Some(wait_ms), visibility_ms: None };
        self.to(queue, "receive", &how).await
    }
}

fn texts(received: &[Received]) -> Vec<&str> {
    received.iter().map(|message| message.body.as_str()).collect()
}

fn bodies(call: &Call) -> Vec<String> {
    let batch: Value = serde_json::from_slice(&call.body).unwrap();
    let records = batch["Records"].as_array().unwrap();
    records.iter().map(|record| record["body"].as_str().unwrap().to_owned()).collect()
}

fn mapping(queue: &str) -> Mapping {
    Mapping {
        id: "m-1".to_owned(),
        tenant: "default".parse().unwrap(),
        queue: queue.to_owned(),
        function: "handle".parse().unwrap(),
        aliases: vec![("latest".to_owned(), 0), ("live".to_owned(), 1)],
        arn: "arn:aws:lambda:eu-west-1:123456789012:function:Handle".to_owned(),
        batch_size: 10,
        batch_window_ms: 0,
        concurrency_max: 2,
        partial: true,
        filters: Vec::new(),
    }
}

async fn map(world: &World, mapping: &Mapping) {
    let path = format!("/mappings/default/{}", mapping.id);
    let (status, body) = world.exchange(Method::PUT, &path, &serde_json::to_vec(mapping).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
}

#[tokio::test]
async fn a_receiver_waits_until_a_message_is_sent_or_given_back() {
    let world = World::start(|_| Answer::ok()).await;
    assert_eq!(world.queue("q", json!({ "visibility_ms": 60_000 })).await["made"], true);
    assert_eq!(world.queue("q", json!({})).await["made"], false);
    let later = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.send("q", &["hello"]).await
    };
    let (received, sent) = tokio::join!(world.receive("q", 1, LONG_MS), later);
    assert_eq!((texts(&received), &received[0].id), (vec!["hello"], &sent[0].id));
    assert!(world.receive("q", 1, 0).await.is_empty(), "it is held");
    let back = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let hold = Hold { receipt: received[0].receipt.clone(), visibility_ms: 0 };
        world.to::<Vec<bool>>("q", "hold", &[hold]).await
    };
    let (again, held) = tokio::join!(world.receive("q", 1, LONG_MS), back);
    assert_eq!((held, again[0].attempt, again[0].first), (vec![true], 2, received[0].first));
    assert_eq!(world.to::<Vec<bool>>("q", "delete", &[&received[0].receipt]).await, [false], "it is older");
    assert_eq!(world.to::<Vec<bool>>("q", "delete", &[&again[0].receipt]).await, [true]);
    let (status, _) = world.post("/queues/default/none/receive", b"{\"count\": 1}").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_was_sent_and_is_held_is_there_after_a_restart_and_its_receipt_is_good() {
    let world = World::start(|_| Answer::ok()).await;
    world.queue("q", json!({ "visibility_ms": 600_000 })).await;
    let attributes = [("n".to_owned(), Attribute { ty: "Number".to_owned(), value: "1".to_owned() })];
    let send = Send { body: "a".to_owned(), attributes: attributes.into(), ..Send::default() };
    world.to::<Vec<queues::Answer>>("q", "send", &[send]).await;
    world.send("q", &["b"]).await;
    let held = world.receive("q", 1, 0).await;
    let world = world.restart().await;
    let other = world.receive("q", 9, 0).await;
    assert_eq!((texts(&held), texts(&other)), (vec!["a"], vec!["b"]));
    assert_eq!(held[0].attributes["n"].value, "1");
    assert_eq!(world.to::<Vec<bool>>("q", "delete", &[&held[0].receipt]).await, [true]);
}

#[tokio::test]
async fn what_is_received_too_often_goes_to_the_queue_for_dead_letters_and_back() {
    let world = World::start(|_| Answer::ok()).await;
    world.queue("failed", json!({})).await;
    let dead_letters = json!({ "queue": "failed", "receives_max": 2 });
    world.queue("q", json!({ "visibility_ms": 0, "dead_letters": dead_letters })).await;
    world.send("q", &["poison"]).await;
    for attempt in 1..=2 {
        assert_eq!(world.receive("q", 1, 0).await[0].attempt, attempt);
    }
    let (none, dead) = tokio::join!(world.receive("q", 1, 0), world.receive("failed", 1, LONG_MS));
    assert_eq!((none.len(), dead[0].source.as_deref()), (0, Some("q")));
    let hold = Hold { receipt: dead[0].receipt.clone(), visibility_ms: 0 };
    world.to::<Vec<bool>>("failed", "hold", &[hold]).await;
    world.to::<Value>("failed", "move", &Move::default()).await;
    assert_eq!(world.receive("q", 1, LONG_MS).await[0].attempt, 1, "it is as new");
    let moves = world.get("/queues/default/failed/moves").await.1;
    assert_eq!((&moves[0]["moved"], &moves[0]["wanted"]), (&1.into(), &1.into()), "{moves}");
    let refused = json!({ "dead_letters": { "queue": "none", "receives_max": 2 } });
    let (status, body) =
        world.exchange(Method::PATCH, "/v1/tenants/default/queues/q", refused.to_string().as_bytes()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body:?}");
}

#[tokio::test]
async fn a_mapping_drains_what_its_filters_take_and_goes_on_after_a_restart_until_it_goes() {
    let world = World::start(|_| Answer::ok()).await;
    world.deploy("handle", EventSettings::default()).await;
    let filters = vec![json!({ "body": { "kind": ["wanted"] } }).to_string()];
    map(&world, &Mapping { filters, ..mapping("orders") }).await;
    let (wanted, other) = (json!({ "kind": "wanted" }).to_string(), json!({ "kind": "other" }).to_string());
    world.send("orders", &[&other, "no JSON", &wanted]).await;
    let calls = world.calls(1).await;
    assert_eq!(bodies(&calls[0]), [wanted.as_str()]);
    let batch: Value = serde_json::from_slice(&calls[0].body).unwrap();
    assert_eq!(batch["Records"][0]["eventSourceARN"], "arn:aws:sqs:eu-west-1:123456789012:orders");
    assert_eq!(calls[0].delivery.alias.as_deref(), Some("live"));
    let lambda: Value = serde_json::from_slice(calls[0].headers["x-rouse-lambda"].as_bytes()).unwrap();
    assert_eq!(lambda["arn"], mapping("orders").arn);
    world.idle().await;
    assert_eq!(world.get("/v1/tenants/default/queues").await.1[0]["messages"], 0, "others are done, too");
    let world = world.restart().await;
    world.send("orders", &[&wanted]).await;
    world.calls(2).await;
    world.delete("/mappings/default/m-1").await;
    world.send("orders", &[&wanted]).await;
    assert_eq!(world.receive("orders", 1, LONG_MS).await.len(), 1, "nobody else takes it");
}

#[tokio::test]
async fn what_a_mapped_function_raises_at_comes_back_until_its_queue_gives_it_up() {
    let world = World::start(|_| Answer {
        raised: true,
        body: json!({ "errorType": "ValueError", "errorMessage": "no" }).to_string(),
        ..Answer::ok()
    })
    .await;
    world.deploy("handle", EventSettings { attempts: 1, ..EventSettings::default() }).await;
    world.queue("failed", json!({})).await;
    let dead_letters = json!({ "queue": "failed", "receives_max": 3 });
    world.queue("orders", json!({ "visibility_ms": 10, "dead_letters": dead_letters })).await;
    map(&world, &mapping("orders")).await;
    world.send("orders", &["poison"]).await;
    assert_eq!(texts(&world.receive("failed", 1, LONG_MS).await), ["poison"]);
    assert_eq!(world.calls(3).await.len(), 3);
}

#[tokio::test]
async fn a_batch_holds_several_messages_of_a_group_in_order_and_its_outcome_goes_where_the_function_says() {
    let world = World::start(|call| match bodies(call).contains(&"bad".to_owned()) {
        true => Answer::refused("function-error", "it was bad"),
        false => Answer { body: "{}".to_owned(), ..Answer::ok() },
    })
    .await;
    let source = |queue: &str| QueueSource {
        queue: queue.to_owned(),
        batch_size: 10,
        batch_window_ms: 0,
        concurrency_max: 2,
    };
    let trigger =
        |name: &str| Trigger { name: name.to_owned(), on: On::Queue(source("orders.fifo")), filter: None };
    for queue in ["orders.fifo", "well", "ill"] {
        world.queue(queue, json!({})).await;
    }
    world.send("orders.fifo", &["1", "2", "3"]).await;
    world
        .deploy_as("handle", |version| {
            version.triggers = vec![trigger("queue-1")];
            version.events = EventSettings {
                attempts: 1,
                on_success: Some("queue:well".parse().unwrap()),
                on_failure: Some("queue:ill".parse().unwrap()),
                ..EventSettings::default()
            };
        })
        .await;
    assert_eq!(bodies(&world.calls(1).await[0]), ["1", "2", "3"]);
    let told: Value = serde_json::from_str(&world.receive("well", 1, LONG_MS).await[0].body).unwrap();
    assert_eq!(told["requestContext"]["condition"], "Success");
    assert_eq!(told["requestPayload"]["Records"][2]["body"], "3");
    world.send("orders.fifo", &["bad"]).await;
    let told: Value = serde_json::from_str(&world.receive("ill", 1, LONG_MS).await[0].body).unwrap();
    assert_eq!(told["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(told["requestPayload"], "bad");
    world.idle().await;
    assert!(world.receive("well", 1, 0).await.is_empty(), "one call, one outcome");
}

#[tokio::test]
async fn the_queue_of_a_trigger_is_there_before_the_first_message_until_it_is_deleted() {
    let world = World::start(|_| Answer::ok()).await;
    let source =
        QueueSource { queue: "orders".to_owned(), batch_size: 1, batch_window_ms: 0, concurrency_max: 1 };
    let trigger = Trigger { name: "queue-1".to_owned(), on: On::Queue(source), filter: None };
    world.deploy_as("handle", |version| version.triggers = vec![trigger]).await;
    let at = "/v1/tenants/default/queues/orders";
    assert_eq!(world.get(at).await.1["settings"]["visibility_ms"], 30_000);
    assert_eq!(world.delete(at).await["count"], 1);
    assert_eq!(world.get(at).await.0, StatusCode::NOT_FOUND);
}
