//! Topics: an event that is published rouses each function that wants it, once, and no other.

use std::collections::BTreeSet;

use http::{HeaderMap, StatusCode};
use rouse_types::{
    Contract, EventSettings, Trigger,
    trigger::{On, TopicSource},
};
use serde_json::{Value, json};

use crate::harness::{Answer, Call, World};

const PATH: &str = "/v1/tenants/default/topics/orders/events";

fn on_orders(filter: Option<Value>) -> Vec<Trigger> {
    let on = On::Topic(TopicSource { topic: "orders".to_owned() });
    vec![Trigger { name: "topic-1".to_owned(), on, filter }]
}

fn binary(id: &str, ty: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let pairs = [
        ("ce-specversion", "1.0"),
        ("ce-id", id),
        ("ce-source", "/shop"),
        ("ce-type", ty),
        ("ce-region", "eu"),
        ("content-type", "application/json"),
    ];
    for (name, value) in pairs {
        headers.insert(name, value.parse().unwrap());
    }
    headers
}

fn of_type(content_type: &str) -> HeaderMap {
    [(http::header::CONTENT_TYPE, content_type.parse().unwrap())].into_iter().collect()
}

async fn published(world: &World, headers: HeaderMap, body: &[u8]) -> Value {
    let (status, answer) = world.post_with(PATH, headers, body).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{}", String::from_utf8_lossy(&answer));
    serde_json::from_slice(&answer).unwrap()
}

fn of<'a>(calls: &'a [Call], function: &str) -> Vec<&'a Call> {
    calls.iter().filter(|call| call.delivery.function.as_str() == function).collect()
}

#[tokio::test]
async fn an_event_reaches_each_function_that_wants_it_in_the_shape_of_its_contract() {
    let world = World::start(|_| Answer::ok()).await;
    world.deploy_as("lambda", |version| version.triggers = on_orders(None)).await;
    for (name, contract) in [("server", Contract::Http), ("component", Contract::Component)] {
        world
            .deploy_as(name, |version| {
                version.contract = contract;
                version.triggers = on_orders(Some(json!({ "type": ["paid"] })));
            })
            .await;
    }
    world.deploy_as("other", |version| version.triggers = on_orders(Some(json!({ "type": ["sent"] })))).await;
    let told = published(&world, binary("1", "paid"), br#"{"n":1}"#).await;
    assert_eq!(told, json!({ "events": 1, "deliveries": 3, "duplicates": 0 }));
    let calls = world.calls(3).await;
    for name in ["server", "component"] {
        let call = of(&calls, name)[0];
        assert!(call.headers["ce-type"] == "paid" && call.headers["ce-region"] == "eu");
        assert!(call.path == "/" && call.body == r#"{"n":1}"#);
    }
    let event: Value = serde_json::from_slice(&of(&calls, "lambda")[0].body).unwrap();
    let sns = &event["Records"][0]["Sns"];
    assert_eq!((&sns["Message"], &sns["MessageId"]), (&r#"{"n":1}"#.into(), &"1".into()));
    assert_eq!(sns["MessageAttributes"]["type"], json!({ "Type": "String", "Value": "paid" }));
    world.idle().await;
    assert_eq!(world.calls(0).await.len(), 3, "whose filter does not take it is left alone");
}

#[tokio::test]
async fn structured_and_batched_events_are_taken_and_repeats_reach_nobody() {
    let world = World::start(|_| Answer::ok()).await;
    world
        .deploy_as("server", |version| {
            version.contract = Contract::Http;
            version.triggers = on_orders(None);
        })
        .await;
    let one = |id: &str| json!({ "specversion": "1.0", "id": id, "source": "/shop", "type": "paid", "data": { "n": id } });
    let structured = of_type("application/cloudevents+json");
    let batched = of_type("application/cloudevents-batch+json");
    let told = published(&world, structured, one("a").to_string().as_bytes()).await;
    assert_eq!(told["deliveries"], 1);
    let batch = json!([one("a"), one("b"), one("c")]).to_string();
    let told = published(&world, batched.clone(), batch.as_bytes()).await;
    assert_eq!(told, json!({ "events": 3, "deliveries": 2, "duplicates": 1 }));
    let calls = world.calls(3).await;
    let ids: BTreeSet<_> = calls.iter().map(|call| call.headers["ce-id"].to_str().unwrap()).collect();
    assert_eq!(ids, BTreeSet::from(["a", "b", "c"]));
    // One that is wrong, and none of its batch is taken.
    let wrong = json!([one("d"), { "specversion": "1.0", "id": "e" }]).to_string();
    let (status, answer) = world.post_with(PATH, batched, wrong.as_bytes()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{}", String::from_utf8_lossy(&answer));
    let (status, _) = world.post_with(PATH, of_type("application/json"), b"{}").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "what is no event is not guessed to be one");
    world.idle().await;
    assert_eq!(world.calls(0).await.len(), 3);
    let (_, topics) = world.get("/v1/tenants/default/topics").await;
    assert_eq!(
        topics,
        json!([{ "name": "orders", "subscriptions": [{ "function": "server", "trigger": "topic-1" }] }])
    );
}

#[tokio::test]
async fn a_chain_through_a_topic_or_a_queue_is_stopped_where_it_is_a_loop() {
    let world = World::start(|_| Answer::ok()).await;
    let settings = EventSettings { attempts: 1, ..EventSettings::default() };
    world
        .deploy_as("server", |version| {
            version.triggers = on_orders(None);
            version.events = settings;
        })
        .await;
    for (id, chain) in [("1", "server=15"), ("2", "server=16")] {
        let mut headers = binary(id, "paid");
        headers.insert("x-rouse-chain", chain.parse().unwrap());
        published(&world, headers, b"{}").await;
    }
    let calls = world.calls(1).await;
    world.idle().await;
    assert_eq!(calls[0].headers["x-rouse-chain"], "server=16");
    assert_eq!(world.calls(0).await.len(), 1);
    let dead = world.list("state=failed").await;
    let reason = dead["events"][0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("a loop"), "{dead}");
}
