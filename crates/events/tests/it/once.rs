//! Calls with an idempotency key, of which each is made once.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use rouse_types::{Clock as _, Event, EventCall, ManualClock, OnceHead, Refusal, SystemClock, framed};

use crate::harness::{Answer, World, event};

fn with_key(function: &str, key: &str) -> Event {
    Event { idempotency_key: Some(key.to_owned()), ..event(function) }
}

impl World {
    async fn once(&self, event: &Event, body: &[u8]) -> Result<(OnceHead, String), Refusal> {
        let (status, bytes) = self.post("/once?window_ms=60000", &event.encode(body)).await;
        if status != StatusCode::OK {
            return Err(serde_json::from_slice(&bytes).unwrap());
        }
        let (head, body) = framed::decode::<OnceHead>(&bytes).unwrap();
        Ok((head, String::from_utf8(body.to_vec()).unwrap()))
    }
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_until_its_window_is_over_whatever_restarts() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let by: Arc<dyn rouse_types::Clock> = clock.clone();
    let world = World::start_in(tempfile::tempdir().unwrap(), by, |call| {
        let status = if call.body.is_empty() { StatusCode::NOT_FOUND } else { StatusCode::CREATED };
        Answer { status, body: format!("answer {}", call.nth), ..Answer::ok() }
    })
    .await;
    let (first, body) = world.once(&with_key("pay", "order-7"), b"5 EUR").await.unwrap();
    assert_eq!((first.status, first.again, body.as_str()), (201, false, "answer 0"));
    let (second, body) = world.once(&with_key("pay", "order-7"), b"5 EUR").await.unwrap();
    assert_eq!((second.status, second.again, body.as_str()), (201, true, "answer 0"));
    assert_eq!(second.headers, first.headers);

    // Another key, another function, another request: a new call, or none.
    assert_eq!(world.once(&with_key("pay", "order-8"), b"5 EUR").await.unwrap().1, "answer 1");
    assert_eq!(world.once(&with_key("refund", "order-7"), b"5 EUR").await.unwrap().1, "answer 2");
    let refused = world.once(&with_key("pay", "order-7"), b"6 EUR").await.unwrap_err();
    assert_eq!(refused.code.as_str(), "idempotency-key-reused");
    // What the function does not find is an answer as any other.
    assert_eq!(world.once(&with_key("pay", "none"), b"").await.unwrap().0.status, 404);
    assert!(world.once(&with_key("pay", "none"), b"").await.unwrap().0.again);

    let world = world.restart().await;
    let (again, body) = world.once(&with_key("pay", "order-7"), b"5 EUR").await.unwrap();
    assert_eq!((again.again, body.as_str()), (true, "answer 0"));
    clock.advance(Duration::from_secs(61));
    let (anew, body) = world.once(&with_key("pay", "order-7"), b"5 EUR").await.unwrap();
    assert_eq!((anew.again, body.as_str()), (false, "answer 4"));
}

#[tokio::test]
async fn who_calls_is_part_of_the_key() {
    let world = World::start(|call| Answer { body: format!("answer {}", call.nth), ..Answer::ok() }).await;
    let by = |token: &str| Event {
        call: EventCall::Http {
            method: "POST".to_owned(),
            path: "/orders".to_owned(),
            headers: vec![("authorization".to_owned(), token.to_owned())],
            peer: None,
        },
        ..with_key("pay", "1")
    };
    assert_eq!(world.once(&by("Bearer ada"), b"").await.unwrap().1, "answer 0");
    assert_eq!(world.once(&by("Bearer bob"), b"").await.unwrap().1, "answer 1");
    assert_eq!(world.once(&by("Bearer ada"), b"").await.unwrap().1, "answer 0");
}

#[tokio::test]
async fn a_failure_is_forgotten_and_the_repeat_makes_the_call_again() {
    let world = World::start(|call| match call.nth {
        0 => Answer { status: StatusCode::INTERNAL_SERVER_ERROR, ..Answer::ok() },
        1 => Answer::refused("function-timeout", "it took too long"),
        2 => Answer { body: "x".repeat(1 << 20), ..Answer::ok() },
        _ => Answer { body: "done".to_owned(), ..Answer::ok() },
    })
    .await;
    let sent = with_key("pay", "1");
    assert_eq!(world.once(&sent, b"").await.unwrap().0.status, 500);
    assert_eq!(world.once(&sent, b"").await.unwrap().0.status, 502);
    assert_eq!(world.once(&sent, b"").await.unwrap_err().code.as_str(), "response-too-large");
    assert_eq!(world.once(&sent, b"").await.unwrap().1, "done");
    assert!(world.once(&sent, b"").await.unwrap().0.again);
    world.gateway_leaves().await;
    let refused = world.once(&with_key("pay", "2"), b"").await.unwrap_err();
    assert_eq!(refused.code.as_str(), "node-unavailable");
    world.gateway_comes().await;
    assert_eq!(world.once(&with_key("pay", "2"), b"").await.unwrap().1, "done");
}

#[tokio::test]
async fn calls_at_the_same_time_are_one() {
    let delay = Duration::from_millis(300);
    let world =
        World::start(move |call| Answer { body: format!("answer {}", call.nth), delay, ..Answer::ok() })
            .await;
    let sent = with_key("pay", "1");
    let (one, two, three) =
        tokio::join!(world.once(&sent, b""), world.once(&sent, b""), world.once(&sent, b""));
    let told = [one.unwrap(), two.unwrap(), three.unwrap()];
    assert!(told.iter().all(|(_, body)| body == "answer 0"), "{told:?}");
    assert_eq!(told.iter().filter(|(head, _)| head.again).count(), 2);
    assert_eq!(world.calls(1).await.len(), 1);
}
