//! The process of events against a gateway that answers as a test tells it to.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

mod adversity;
mod databases;
mod harness;
mod once;
mod outcomes;
#[allow(dead_code, unreachable_pub, reason = "the end-to-end tests have it too, as part of a library")]
#[path = "../../../../tests/e2e/src/postgres.rs"]
mod postgres;
mod queues;
mod topics;
mod triggers;

use std::time::Duration;

use harness::{Answer, World, event};
use http::StatusCode;
use rouse_types::{Chain, EventCall, EventSettings, EventTarget, event::Accepted};

fn quick() -> EventSettings {
    EventSettings { attempts: 3, backoff_ms: 1, backoff_max_ms: 5, ..Default::default() }
}

#[tokio::test]
async fn an_event_is_answered_for_delivered_as_it_was_sent_and_gone() {
    let world = World::start(|_| Answer::ok()).await;
    world.deploy("cart", quick()).await;
    let mut sent = event("cart");
    sent.call = EventCall::Http {
        method: "PUT".to_owned(),
        path: "/items/1?x=y".to_owned(),
        headers: vec![("x-name".to_owned(), "f\u{fc}r".to_owned())],
        peer: None,
    };
    let accepted = world.accept(&sent, b"body").await.unwrap();
    assert_eq!(accepted, Accepted { id: sent.id, duplicate: false });
    let call = &world.calls(1).await[0];
    assert_eq!(
        (call.method.as_str(), call.path.as_str(), &call.body[..]),
        ("PUT", "/items/1?x=y", &b"body"[..])
    );
    assert_eq!(call.headers["x-name"].as_bytes(), b"f\xfcr");
    assert_eq!((call.delivery.id, call.delivery.attempt), (sent.id, 1));
    assert_eq!(call.headers["x-rouse-chain"], "cart=1");
    world.idle().await;
    assert_eq!(world.stop().await.depth("fn/default/cart").await.unwrap(), Default::default());
}

#[tokio::test]
async fn a_failure_is_tried_again_and_then_a_dead_letter_with_its_reason_and_its_target_told() {
    let world = World::start(|call| match call.delivery.function.as_str() {
        "poison" => Answer::refused("function-error", "it raised"),
        _ => Answer::ok(),
    })
    .await;
    let target = Some("function:alert".parse::<EventTarget>().unwrap());
    world.deploy("poison", EventSettings { on_failure: target, ..quick() }).await;
    world.deploy("alert", quick()).await;
    let sent = event("poison");
    world.accept(&sent, br#"{"n":1}"#).await.unwrap();
    let calls = world.calls(4).await;
    let attempts: Vec<_> = calls[..3].iter().map(|call| (call.delivery.id, call.delivery.attempt)).collect();
    assert_eq!(attempts, [(sent.id, 1), (sent.id, 2), (sent.id, 3)]);
    let record: serde_json::Value = serde_json::from_slice(&calls[3].body).unwrap();
    assert_eq!(record["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(record["requestPayload"], serde_json::json!({ "n": 1 }));
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 3);
    assert_eq!(calls[3].headers["x-rouse-chain"], "alert=1, poison=1");
    world.idle().await;
    let queues = world.stop().await;
    let dead = queues.dead("fn/default/poison", None, 9).await.unwrap();
    assert_eq!((dead.len(), dead[0].attempts), (1, 3));
    assert_eq!(dead[0].reason, "function-error: it raised");
}

#[tokio::test]
async fn what_the_platform_could_not_try_uses_up_no_attempts() {
    let world = World::start(|call| match call.nth {
        0..5 => Answer::refused("too-many-requests", "full"),
        _ => Answer::ok(),
    })
    .await;
    world.deploy("cart", EventSettings { attempts: 1, ..quick() }).await;
    world.accept(&event("cart"), b"").await.unwrap();
    let calls = world.calls(6).await;
    assert!(calls.iter().all(|call| call.delivery.attempt == 1));
    world.idle().await;
    assert_eq!(world.stop().await.depth("fn/default/cart").await.unwrap().dead, 0);
}

#[tokio::test]
async fn an_event_waits_for_a_gateway_that_is_away() {
    let world = World::start(|_| Answer::ok()).await;
    world.deploy("cart", EventSettings { attempts: 1, ..quick() }).await;
    world.gateway_leaves().await;
    world.accept(&event("cart"), b"").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.calls(0).await.len(), 0);
    world.gateway_comes().await;
    world.calls(1).await;
}

#[tokio::test]
async fn a_repeat_of_a_key_gets_the_first_ones_id_and_runs_once() {
    let world = World::start(|_| Answer::ok()).await;
    world.deploy("cart", quick()).await;
    let with_key = || rouse_types::Event { idempotency_key: Some("order-7".to_owned()), ..event("cart") };
    let first = world.accept(&with_key(), b"1").await.unwrap();
    world.calls(1).await;
    world.idle().await;
    let second = world.accept(&with_key(), b"2").await.unwrap();
    assert_eq!(second, Accepted { id: first.id, duplicate: true });
    world.accept(&event("cart"), b"3").await.unwrap();
    assert_eq!(world.calls(2).await[1].body, "3");
}

#[tokio::test]
async fn events_of_one_key_run_one_after_the_other_and_others_beside_them() {
    let world = World::start(|call| Answer {
        delay: Duration::from_millis(30 / (call.nth as u64 + 1)),
        ..Answer::ok()
    })
    .await;
    world.deploy("cart", quick()).await;
    for n in 0..6 {
        let key = Some(if n % 2 == 0 { "even" } else { "odd" }.to_owned());
        let sent = rouse_types::Event { ordering_key: key, ..event("cart") };
        world.accept(&sent, n.to_string().as_bytes()).await.unwrap();
    }
    let calls = world.calls(6).await;
    let of = |rest: u8| -> Vec<String> {
        let bodies = calls.iter().map(|call| String::from_utf8(call.body.to_vec()).unwrap());
        bodies.filter(|body| body.as_bytes()[0] % 2 == rest).collect()
    };
    assert_eq!(
        (of(0), of(1)),
        (vec!["0".into(), "2".into(), "4".into()], vec!["1".into(), "3".into(), "5".into()])
    );
}

#[tokio::test]
async fn a_chain_that_passes_a_function_too_often_ends_among_the_dead_letters() {
    let world = World::start(|_| Answer::ok()).await;
    world.deploy("ping", quick()).await;
    let looped = rouse_types::Event { chain: Chain::read("ping=16"), ..event("ping") };
    world.accept(&looped, b"").await.unwrap();
    world.idle().await;
    assert_eq!(world.calls(0).await.len(), 0);
    let dead = world.stop().await.dead("fn/default/ping", None, 9).await.unwrap();
    assert!(dead[0].reason.contains("loop"), "{}", dead[0].reason);
}

#[tokio::test]
async fn what_was_under_way_when_the_process_died_is_delivered_again_at_once() {
    let world = World::start(|call| match call.nth {
        0 => Answer { delay: Duration::from_secs(3_600), ..Answer::ok() },
        _ => Answer::ok(),
    })
    .await;
    world.deploy("cart", EventSettings { attempts: 1, ..quick() }).await;
    let sent = event("cart");
    world.accept(&sent, b"").await.unwrap();
    world.calls(1).await;
    let world = world.restart().await;
    let calls = world.calls(2).await;
    assert_eq!(
        (calls[1].delivery.id, calls[1].delivery.attempt),
        (sent.id, 1),
        "the attempt was not its fault"
    );
    world.idle().await;
    assert_eq!(world.stop().await.depth("fn/default/cart").await.unwrap().dead, 0);
}

#[tokio::test]
async fn many_events_run_at_once_but_no_more_than_the_function_takes() {
    let world = World::start(|_| Answer { delay: Duration::from_millis(50), ..Answer::ok() }).await;
    world.deploy("cart", quick()).await;
    for n in 0..60 {
        world.accept(&event("cart"), n.to_string().as_bytes()).await.unwrap();
    }
    world.calls(60).await;
    let most = world.most_at_once();
    assert!((2..=harness::CONCURRENCY_MAX as usize).contains(&most), "{most} at once");
}

#[tokio::test]
async fn what_is_too_large_or_no_event_is_refused() {
    let world = World::start(|_| Answer::ok()).await;
    let large = vec![b'x'; rouse_types::trigger::EVENT_BYTES_MAX + 1];
    let refusal = world.accept(&event("cart"), &large).await.unwrap_err();
    assert_eq!(refusal.code, rouse_types::Code::PayloadTooLarge);
    assert_eq!(world.post("/accept", b"\0\0\0\x02{}").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(world.post("/nothing", b"").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn events_are_listed_shown_redriven_cancelled_and_purged() {
    let world = World::start(|call| match (call.delivery.function.as_str(), call.nth) {
        ("poison", 0..4) => Answer::refused("function-error", "it raised"),
        ("slow", _) => Answer { delay: Duration::from_secs(3_600), ..Answer::ok() },
        _ => Answer::ok(),
    })
    .await;
    world.deploy("poison", EventSettings { attempts: 2, ..quick() }).await;
    world.deploy("slow", quick()).await;
    let (first, second) = (event("poison"), event("poison"));
    world.accept(&first, b"1").await.unwrap();
    world.accept(&second, b"2").await.unwrap();
    world.calls(4).await;
    world.idle().await;
    let page = world.list("state=failed").await;
    let events = page["events"].as_array().unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!((&events[0]["attempts"], &events[0]["source"]), (&2.into(), &"invoke".into()));
    assert_eq!(events[0]["reason"], "function-error: it raised");
    // Page by page.
    let page = world.list("state=failed&limit=1").await;
    assert_eq!(page["events"].as_array().unwrap().len(), 1);
    let rest = world.list(&format!("state=failed&after={}", page["next"].as_str().unwrap())).await;
    assert_ne!(rest["events"][0]["id"], page["events"][0]["id"]);
    assert_eq!(world.list("state=pending").await["events"], serde_json::json!([]));
    // Another tenant sees nothing, and finds nothing.
    assert_eq!(world.get("/v1/tenants/other/events").await.1["events"], serde_json::json!([]));
    assert_eq!(world.get(&format!("/v1/tenants/other/events/{}", first.id)).await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.get(&format!("/v1/tenants/default/events/{}", first.id)).await.1["body"], "1");

    let redriven = world.ask("redrive", &serde_json::json!({ "id": first.id })).await;
    assert_eq!(redriven["count"], 1);
    assert_eq!(world.calls(5).await[4].delivery.id, first.id);
    assert_eq!(world.ask("purge", &serde_json::json!({ "function": "poison" })).await["count"], 1);
    let (status, refused) = world.post("/v1/tenants/default/events/purge", b"{}").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refused:?}");

    let slow = event("slow");
    world.accept(&slow, b"").await.unwrap();
    world.calls(6).await;
    assert_eq!(world.list("function=slow").await["events"][0]["state"], "running");
    assert_eq!(world.delete(&format!("/v1/tenants/default/events/{}", slow.id)).await["count"], 1);
    world.idle().await;
    assert_eq!(world.list("limit=1000").await["events"], serde_json::json!([]));
}
