//! Each kind of trigger rouses a function that has no process, delivers its event, and lets it go to nothing again.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use rouse_e2e::{App, Platform, Seen, fixture, need, tell, wait_for};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
/// Calls in quick succession are a history that says that no more will come after a pause.
const CALLS: usize = 12;

/// Tells the test's listener what the event was.
fn told_by(name: &str, port: u16, trigger: &str) -> App {
    let lines = format!("{}[[functions.{name}.triggers]]\n{trigger}", tell::lines(port));
    App::new(name).python(name, tell::PYTHON, &lines)
}

#[tokio::test]
async fn messages_of_a_queue_rouse_a_function_and_it_goes_to_nothing() {
    let platform = Platform::start();
    need!(platform, "messages_of_a_queue_rouse_a_function_and_it_goes_to_nothing", "python");
    let seen = Seen::listen().await;
    let trigger = "queue = { name = \"orders\", batch_size = 1 }";
    platform.deploy(told_by("handle", seen.port(), trigger).path()).await;
    assert_eq!(platform.functions(), [], "nothing runs before the first message");
    for n in 0..CALLS {
        let sent = platform.json(&["queue", "send", "orders", &n.to_string()]).await;
        wait_for("the message is handled", LIMIT, async || seen.count() > n).await;
        let record = &seen.lines()[n]["event"]["Records"][0];
        assert_eq!((&record["body"], &record["messageId"]), (&n.to_string().into(), &sent["id"]));
        assert_eq!(record["eventSource"], "aws:sqs");
    }
    platform.goes_to_nothing().await;
    let left = platform.json(&["queue", "attributes", "orders"]).await;
    assert_eq!((&left["ready"], &left["held"], &left["dead"]), (&0.into(), &0.into(), &0.into()), "{left}");
    assert_eq!(seen.count(), CALLS);
}

#[tokio::test]
async fn a_schedule_rouses_a_function_until_it_is_taken_away() {
    let platform = Platform::start();
    need!(platform, "a_schedule_rouses_a_function_until_it_is_taken_away", "python");
    let seen = Seen::listen().await;
    let trigger = "name = \"tick\"\nschedule = \"* * * * * *\"";
    platform.deploy(told_by("report", seen.port(), trigger).path()).await;
    wait_for("it is called again and again", LIMIT, async || seen.count() >= CALLS).await;
    let event = &seen.lines()[0]["event"];
    assert_eq!((&event["detail-type"], &event["source"]), (&"Scheduled Event".into(), &"aws.events".into()));
    assert_eq!(seen.ids().len(), seen.count(), "each time is an event of its own");
    platform.deploy(told_by("report", seen.port(), "name = \"tick\"\nschedule = \"0 0 1 1 *\"").path()).await;
    platform.goes_to_nothing().await;
}

#[tokio::test]
async fn a_trigger_that_cannot_act_is_refused_with_its_reason() {
    let platform = Platform::start();
    let refused = async |trigger: &str| {
        let app = told_by("f", 1, trigger);
        let cli = platform.rouse(&["deploy", &app.path().display().to_string()]).await;
        assert!(!cli.ok, "{trigger} was taken");
        cli.err
    };
    let said = refused("schedule = \"0 0 30 2 *\"").await;
    assert!(said.contains("30 2"), "{said}");
    let said =
        refused("database = { url = \"env:URL\", tables = [\"public.a\"], operations = [\"insert\"] }").await;
    assert!(said.contains("database"), "{said}");
}

/// What a call, a message and a schedule send to a function of the name `f`, which has a queue of that name.
async fn called_and_sent(platform: &Platform, n: usize) {
    if n.is_multiple_of(2) {
        let sent = platform.json(&["queue", "send", "f", &n.to_string()]).await;
        assert!(sent["id"].is_string(), "{sent}");
        return;
    }
    let mut request = platform.request("/fn/default/f/a?b=c", Some(Bytes::from(n.to_string())));
    request.headers_mut().insert("x-rouse-async", "true".parse().expect("a header"));
    assert_eq!(platform.send(request).await.status, 202);
}

/// Checks what a server or a component was sent for that.
fn is_right(n: usize, path: &Value, headers: &Value, body: &str) {
    if n.is_multiple_of(2) {
        assert_eq!(headers["ce-type"], "google.cloud.pubsub.topic.v1.messagePublished");
        let body: Value = serde_json::from_str(body).expect("JSON");
        let data = STANDARD.encode(n.to_string());
        assert_eq!((path, &body["message"]["data"]), (&"/".into(), &data.into()));
    } else {
        assert_eq!((path, body), (&"/a?b=c".into(), n.to_string().as_str()));
    }
}

const TRIGGERS: &str = "[[functions.f.triggers]]\nqueue = { name = \"f\", batch_size = 1 }\n";
const TICK: &str = "[[functions.f.triggers]]\nname = \"tick\"\nschedule = \"* * * * * *\"\n";

#[tokio::test]
async fn calls_messages_and_a_schedule_rouse_a_server_and_it_goes_to_nothing() {
    let platform = Platform::start();
    need!(platform, "calls_messages_and_a_schedule_rouse_a_server_and_it_goes_to_nothing", "node");
    let seen = Seen::listen().await;
    let app = |triggers: &str| {
        let lines = format!("{}{}{triggers}", tell::server("server"), tell::lines(seen.port()));
        App::new("f").file("server/server.mjs", tell::NODE).function("f", &lines)
    };
    platform.deploy(app(TRIGGERS).path()).await;
    assert_eq!(platform.functions(), [], "nothing runs before the first event");
    for n in 0..CALLS {
        called_and_sent(&platform, n).await;
        wait_for("it is handled", LIMIT, async || seen.count() > n).await;
        let told = &seen.lines()[n];
        is_right(n, &told["url"], &told["headers"], told["body"].as_str().expect("text"));
    }
    platform.goes_to_nothing().await;

    platform.deploy(app(TICK).path()).await;
    wait_for("it is called again and again", LIMIT, async || seen.count() >= CALLS + 3).await;
    assert_eq!(seen.lines()[CALLS]["headers"]["ce-type"], "google.cloud.scheduler.job.v1.executed");
    platform.deploy(app("").path()).await;
    platform.goes_to_nothing().await;
}

#[tokio::test]
async fn calls_messages_and_a_schedule_rouse_a_component() {
    let platform = Platform::start();
    need!(platform, "calls_messages_and_a_schedule_rouse_a_component", "component");
    // Its deployment builds the component.
    platform.deploy(&fixture("tells")).await;
    let wasm = std::fs::read(fixture("tells").join("target/wasm32-wasip2/release/tells.wasm"));
    let wasm = wasm.expect("the component");
    let app = |triggers: &str| {
        let lines = format!("source = \"tells.wasm\"\n{triggers}");
        App::new("f").file("tells.wasm", &wasm).function("f", &lines)
    };
    platform.deploy(app(TRIGGERS).path()).await;
    for n in 0..4 {
        called_and_sent(&platform, n).await;
        wait_for("it is handled", LIMIT, async || tell::printed(&platform, "f").await.len() > n).await;
        let told = &tell::printed(&platform, "f").await[n];
        is_right(n, &told["path"], &told["headers"], told["body"].as_str().expect("text"));
    }
    platform.deploy(app(TICK).path()).await;
    wait_for("it is called", LIMIT, async || tell::printed(&platform, "f").await.len() > 4).await;
    let told = &tell::printed(&platform, "f").await[4];
    assert_eq!(told["headers"]["ce-type"], "google.cloud.scheduler.job.v1.executed");
    assert_eq!(platform.functions(), [], "a component has no process");
}
