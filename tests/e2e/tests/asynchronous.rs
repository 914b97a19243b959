//! Asynchronous calls: accepted once they are on the disk, run later, tried again, given up visibly.

use std::time::Duration;

use bytes::Bytes;
use rouse_e2e::{App, Platform, Seen, need, tell, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
const CALLS: usize = 12;

/// Tells the test's listener what the event was, and fails as often as the event says.
const TELL: &str = "import socket
line = json.dumps({'event': event, 'id': context.aws_request_id})
with socket.create_connection(('127.0.0.1', int(os.environ['TELL']))) as tell:
    tell.sendall(line.encode() + b'\\n')
    tell.recv(1)
body = event.get('body') if 'requestContext' in event else None
if 'poison' in (body or json.dumps(event)):
    raise ValueError('it is poison')
return {'done': True}";

fn teller(name: &str, port: u16, events: &str) -> App {
    App::new(name).python(name, TELL, &format!("{}{events}", tell::lines(port)))
}

#[tokio::test]
async fn an_asynchronous_call_is_answered_at_once_wakes_its_function_and_leaves_nothing() {
    let platform = Platform::start();
    need!(
        platform,
        "an_asynchronous_call_is_answered_at_once_wakes_its_function_and_leaves_nothing",
        "python"
    );
    let seen = Seen::listen().await;
    platform.deploy(teller("later", seen.port(), "").path()).await;
    assert_eq!(platform.functions(), [], "nothing runs before the first event");

    let mut request = platform.request("/fn/default/later/a/b?c=d", Some(Bytes::from_static(b"{\"n\":1}")));
    request.headers_mut().insert("prefer", "respond-async".parse().expect("a header"));
    let answer = platform.send(request).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(answer.header("preference-applied"), "respond-async");
    let id = answer.header("x-rouse-invocation-id").to_owned();
    assert_eq!(answer.json()["id"], id.as_str());

    wait_for("the event is handled", LIMIT, async || seen.count() == 1).await;
    let told = &seen.lines()[0];
    assert_eq!((told["id"].as_str(), told["event"]["rawPath"].as_str()), (Some(id.as_str()), Some("/a/b")));
    assert_eq!(told["event"]["body"], "{\"n\":1}");

    // A repeat of a key is answered as the first, and runs nothing.
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut request = platform.request("/fn/default/later", Some(Bytes::from_static(b"{}")));
        request.headers_mut().insert("x-rouse-async", "true".parse().expect("a header"));
        request.headers_mut().insert("idempotency-key", "order-7".parse().expect("a header"));
        let answer = platform.send(request).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        ids.push(answer.header("x-rouse-invocation-id").to_owned());
    }
    assert_eq!(ids[0], ids[1]);
    wait_for("it is handled", LIMIT, async || seen.count() == 2).await;
    // Calls in quick succession are a history that says that no more will come after a pause.
    for n in 3..=CALLS {
        let mut request = platform.request("/fn/default/later", Some(Bytes::from_static(b"{}")));
        request.headers_mut().insert("x-rouse-async", "true".parse().expect("a header"));
        assert_eq!(platform.send(request).await.status, 202);
        wait_for("it is handled", LIMIT, async || seen.count() == n).await;
    }
    platform.goes_to_nothing().await;
    assert_eq!(seen.count(), CALLS, "nothing ran twice");
    let metrics = platform.metrics().await;
    assert!(metrics.contains("rouse_events_consumers{process=\"events\"} 0"), "{metrics}");
}

#[tokio::test]
async fn without_the_process_of_events_nothing_is_promised_and_what_was_is_kept() {
    let platform = Platform::start();
    need!(platform, "without_the_process_of_events_nothing_is_promised_and_what_was_is_kept", "python");
    let seen = Seen::listen().await;
    platform.deploy(teller("kept", seen.port(), "").path()).await;
    let mut accepted = Vec::new();
    for n in 0..30 {
        if n % 10 == 5 {
            platform.kill("events");
        }
        let mut request = platform.request("/fn/default/kept", Some(Bytes::from(n.to_string())));
        request.headers_mut().insert("x-rouse-async", "true".parse().expect("a header"));
        let answer = platform.send(request).await;
        match answer.status.as_u16() {
            202 => accepted.push(answer.header("x-rouse-invocation-id").to_owned()),
            503 => {
                assert_eq!(answer.code(), "events-unavailable", "{}", answer.text());
                assert!(!answer.header("retry-after").is_empty());
            }
            _ => panic!("{}: {}", answer.status, answer.text()),
        }
    }
    assert!(accepted.len() >= 20, "it came back: {}", accepted.len());
    wait_for("all that was accepted is handled", LIMIT, async || {
        let ids = seen.ids();
        accepted.iter().all(|id| ids.contains(id))
    })
    .await;
}

#[tokio::test]
async fn a_call_with_a_key_is_made_once_and_costs_once() {
    let platform = Platform::start();
    need!(platform, "a_call_with_a_key_is_made_once_and_costs_once", "python");
    let seen = Seen::listen().await;
    let app = teller("pay", seen.port(), "events = { idempotency = \"1h\" }\n");
    platform.deploy(app.path()).await;
    let call = async |key: Option<&str>, body: &'static str| {
        let mut request =
            platform.request("/fn/default/pay/orders", Some(Bytes::from_static(body.as_bytes())));
        if let Some(key) = key {
            request.headers_mut().insert("idempotency-key", key.parse().expect("a header"));
        }
        platform.send(request).await
    };
    let calls = tokio::join!(call(Some("7"), "{}"), call(Some("7"), "{}"), call(Some("7"), "{}"));
    let mut answers = Vec::from(<[_; 3]>::from(calls));
    answers.push(call(Some("7"), "{}").await);
    assert_eq!(seen.count(), 1, "it ran once");
    let costs: Vec<u64> =
        answers.iter().map(|answer| answer.header("x-rouse-cost-nanos").parse().expect("a cost")).collect();
    for answer in &answers {
        assert_eq!((answer.status.as_u16(), answer.json()), (200, serde_json::json!({ "done": true })));
        assert_eq!(answer.header("x-rouse-invocation-id"), answers[0].header("x-rouse-invocation-id"));
    }
    let replayed = answers.iter().filter(|answer| answer.header("idempotent-replayed") == "true").count();
    assert_eq!((replayed, costs.iter().filter(|cost| **cost > 0).count()), (3, 1), "{costs:?}");

    let other = call(Some("7"), "{\"n\":1}").await;
    assert_eq!((other.status.as_u16(), other.code()), (422, "idempotency-key-reused"));
    // What failed is tried again by the repeat, and without a key each call is its own.
    for n in 2..4 {
        assert_eq!(call(Some("8"), "poison").await.status, 502);
        assert_eq!(seen.count(), n);
    }
    assert_eq!(call(None, "{}").await.status, 200);
    assert_eq!(seen.count(), 4);
    wait_for("the bill is what the answers said", LIMIT, async || {
        platform.json(&["usage"]).await["total"]["invocations"] == 4
    })
    .await;
}
