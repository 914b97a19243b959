//! Topics and webhooks, from no instance to a delivered event and back to none, for each contract. What is filtered out,
//! not signed, or was there before starts nothing and costs nothing.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use ring::hmac;
use rouse_e2e::{Answer, App, Platform, Seen, fixture, need, tell, wait_for};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(90);
/// Calls in quick succession are a history that says that no more will come after a pause.
const CALLS: usize = 12;
/// GitHub's own example.
const SECRET: &str = "It's a Secret to Everybody";

/// The lines that let a function tell, and be called by a topic of its own name and by a webhook.
fn lines(name: &str, port: u16) -> String {
    format!(
        "egress = [\"127.0.0.1:{port}\"]\nenv = {{ TELL = \"{port}\", SECRET = \"{SECRET}\" }}\n\
         concurrency_max = 1\n\
         [[functions.{name}.triggers]]\ntopic = \"{name}\"\nfilter = {{ type = [\"paid\"] }}\n\
         [[functions.{name}.triggers]]\n\
         webhook = {{ path = \"/hook\", signer = \"github\", secrets = [\"env:SECRET\"] }}\n\
         filter = {{ headers = {{ x-github-event = [\"push\"] }} }}"
    )
}

fn lambda(port: u16) -> App {
    App::new("lambda").python("lambda", tell::PYTHON, &lines("lambda", port))
}

fn server(port: u16) -> App {
    let lines = format!("{}{}", tell::server("server"), lines("server", port));
    App::new("server").file("server/server.mjs", tell::NODE).function("server", &lines)
}

fn signature(body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = hmac::sign(&key, body.as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

/// A request as GitHub sends it.
async fn pushed(
    platform: &Platform,
    path: &str,
    id: &str,
    event: &str,
    signature: Option<&str>,
    body: &str,
) -> Answer {
    let mut request =
        platform.request(&format!("/fn/default/{path}"), Some(Bytes::copy_from_slice(body.as_bytes())));
    let headers = request.headers_mut();
    headers.insert("x-github-event", event.parse().expect("a header"));
    headers.insert("x-github-delivery", id.parse().expect("a header"));
    if let Some(signature) = signature {
        headers.insert("x-hub-signature-256", signature.parse().expect("a header"));
    }
    platform.send(request).await
}

async fn published(platform: &Platform, topic: &str, ty: &str, data: &str) -> Value {
    platform.json(&["topic", "publish", topic, data, "--type", ty, "--source", "/shop"]).await
}

async fn invocations(platform: &Platform) -> u64 {
    platform.json(&["usage"]).await["total"]["invocations"].as_u64().expect("a number")
}

/// What must start nothing and cost nothing, at a function with the triggers of [`lines`].
async fn nothing_comes_of_what_is_not_wanted(platform: &Platform, name: &str) {
    let told = published(platform, name, "refunded", "{}").await;
    assert_eq!(told, json!({ "events": 1, "deliveries": 0, "duplicates": 0 }));
    let hook = format!("{name}/hook");
    let body = "{\"zen\":true}";
    let answer = pushed(platform, &hook, "1", "ping", Some(&signature(body)), body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text().contains("filtered")),
        (200, true),
        "{}",
        answer.text()
    );
    let other = signature("{}");
    let changed = format!("{}0", &other[..other.len() - 1]);
    for (signed, what) in [
        (None, "no signature"),
        (Some(other.as_str()), "that of another body"),
        (Some(changed.as_str()), "a wrong one"),
        (Some("sha256=zz"), "none at all"),
    ] {
        let answer = pushed(platform, &hook, "2", "push", signed, body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (401, "signature-invalid"), "{what}");
        assert!(!answer.text().contains(SECRET) && !answer.text().contains(&signature(body)), "{what}");
    }
    for spelled in ["hook/", "%68ook", "/hook", "HOOK", "./hook", "x/../hook"] {
        let answer = pushed(platform, &format!("{name}/{spelled}"), "3", "push", None, body).await;
        assert_eq!(answer.status, 401, "{spelled}: {}", answer.text());
    }
    let aliased = pushed(platform, &format!("{name}@$LATEST/hook"), "4", "push", None, body).await;
    assert_eq!(aliased.status, 401, "{}", aliased.text());
    let get = platform.get(&hook).await;
    assert_eq!(get.status, 401, "another method is no way in: {}", get.text());
}

#[tokio::test]
async fn a_topic_and_a_webhook_rouse_a_lambda_function_and_it_goes_to_nothing() {
    let platform = Platform::start();
    need!(platform, "a_topic_and_a_webhook_rouse_a_lambda_function_and_it_goes_to_nothing", "python");
    let seen = Seen::listen().await;
    platform.deploy(lambda(seen.port()).path()).await;
    nothing_comes_of_what_is_not_wanted(&platform, "lambda").await;
    assert_eq!(platform.functions(), [], "nothing runs before the first event");

    let told = published(&platform, "lambda", "paid", "{\"n\":1}").await;
    assert_eq!(told["deliveries"], 1, "{told}");
    wait_for("the event is handled", LIMIT, async || seen.count() == 1).await;
    let record = &seen.lines()[0]["event"]["Records"][0];
    assert_eq!((&record["EventSource"], &record["Sns"]["Message"]), (&"aws:sns".into(), &"{\"n\":1}".into()));
    assert_eq!(record["Sns"]["MessageAttributes"]["source"]["Value"], "/shop");

    // The body as it was signed, byte by byte, and the headers; a second delivery of the same id runs nothing.
    let body = "{\"ref\": \"refs/heads/main\" }";
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer = pushed(&platform, "lambda/hook?a=b", "d-1", "push", Some(&signature(body)), body).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        ids.push((answer.json()["id"].as_str().map(str::to_owned), answer.json()["duplicate"].clone()));
    }
    assert!(ids[0].0 == ids[1].0 && ids[0].1 == false && ids[1].1 == true, "{ids:?}");
    wait_for("the webhook is handled", LIMIT, async || seen.count() == 2).await;
    let told = &seen.lines()[1];
    assert_eq!(told["id"].as_str().map(str::to_owned), ids[0].0);
    let event = &told["event"];
    assert_eq!((&event["rawPath"], &event["rawQueryString"]), (&"/hook".into(), &"a=b".into()));
    assert_eq!((&event["body"], &event["headers"]["x-github-event"]), (&body.into(), &"push".into()));

    for n in 2..CALLS {
        let body = format!("{{\"n\":{n}}}");
        let answer =
            pushed(&platform, "lambda/hook", &format!("d-{n}"), "push", Some(&signature(&body)), &body).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        wait_for("the event is handled", LIMIT, async || seen.count() > n).await;
    }
    platform.goes_to_nothing().await;
    wait_for("all calls are on the bill", LIMIT, async || invocations(&platform).await == CALLS as u64).await;
    assert_eq!(seen.count(), CALLS);
    assert_eq!(platform.json(&["events", "list"]).await["events"], json!([]));
}

#[tokio::test]
async fn a_topic_and_a_webhook_rouse_a_server_as_cloud_events_and_as_they_were_sent() {
    let platform = Platform::start();
    need!(platform, "a_topic_and_a_webhook_rouse_a_server_as_cloud_events_and_as_they_were_sent", "node");
    let seen = Seen::listen().await;
    platform.deploy(server(seen.port()).path()).await;
    nothing_comes_of_what_is_not_wanted(&platform, "server").await;
    assert_eq!(platform.functions(), [], "nothing runs before the first event");
    for n in 0..CALLS {
        if n % 2 == 0 {
            let data = format!("{{\"n\":{n}}}");
            published(&platform, "server", "paid", &data).await;
            wait_for("the event is handled", LIMIT, async || seen.count() > n).await;
            let told = &seen.lines()[n];
            assert_eq!(
                (&told["method"], &told["url"], &told["body"]),
                (&"POST".into(), &"/".into(), &data.into())
            );
            let headers = &told["headers"];
            assert_eq!((&headers["ce-type"], &headers["ce-source"]), (&"paid".into(), &"/shop".into()));
            assert_eq!(
                (&headers["ce-specversion"], &headers["content-type"]),
                (&"1.0".into(), &"application/json".into())
            );
        } else {
            let body = format!("n={n}");
            let answer =
                pushed(&platform, "server/hook?x", &format!("d-{n}"), "push", Some(&signature(&body)), &body)
                    .await;
            assert_eq!(answer.status, 202, "{}", answer.text());
            wait_for("the webhook is handled", LIMIT, async || seen.count() > n).await;
            let told = &seen.lines()[n];
            assert_eq!((&told["url"], &told["body"]), (&"/hook?x".into(), &body.clone().into()));
            assert_eq!(told["headers"]["x-hub-signature-256"], signature(&body).as_str());
        }
    }
    platform.goes_to_nothing().await;
    wait_for("all calls are on the bill", LIMIT, async || invocations(&platform).await == CALLS as u64).await;
}

#[tokio::test]
async fn a_topic_and_a_webhook_rouse_a_component() {
    let platform = Platform::start();
    need!(platform, "a_topic_and_a_webhook_rouse_a_component", "component");
    platform.deploy(&fixture("tells")).await;
    nothing_comes_of_what_is_not_wanted(&platform, "tells").await;
    let told = published(&platform, "component", "refunded", "{}").await;
    assert_eq!(told["deliveries"], 0, "{told}");
    let told = published(&platform, "component", "paid", "{\"n\":1}").await;
    assert_eq!(told["deliveries"], 1, "{told}");
    let body = "{\"ref\":\"main\"}";
    for _ in 0..2 {
        let answer = pushed(&platform, "tells/hook", "d-1", "push", Some(&signature(body)), body).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    let printed = async || tell::printed(&platform, "tells").await;
    wait_for("both are handled", LIMIT, async || printed().await.len() == 2).await;
    let mut lines = printed().await;
    lines.sort_by_key(|line| line["path"].to_string());
    assert_eq!((&lines[0]["path"], &lines[0]["body"]), (&"/".into(), &"{\"n\":1}".into()));
    assert_eq!(
        (&lines[0]["headers"]["ce-type"], &lines[0]["headers"]["ce-source"]),
        (&"paid".into(), &"/shop".into())
    );
    assert_eq!((&lines[1]["path"], &lines[1]["body"]), (&"/hook".into(), &body.into()));
    assert_eq!(lines[1]["headers"]["x-github-event"], "push");
    wait_for("both are on the bill, and nothing else", LIMIT, async || invocations(&platform).await == 2)
        .await;
    assert_eq!(platform.functions(), []);
}

#[tokio::test]
async fn strangers_cannot_publish_and_what_could_never_match_is_refused_with_its_place() {
    let platform = Platform::start();
    let path = "/v1/tenants/default/topics/lambda/events";
    let request = http::Request::post(format!("http://{}{path}", platform.control));
    let request = request.header("ce-specversion", "1.0").body(Full::new(Bytes::from_static(b"{}")));
    let answer = platform.send(request.expect("a request")).await;
    assert_eq!((answer.status.as_u16(), answer.json()["code"].clone()), (401, json!("unauthorized")));

    let refused = async |triggers: &str, more: &str| {
        let lines = format!("{more}\n[[functions.f.triggers]]\n{triggers}");
        let app = App::new("f").python("f", "return 1", &lines);
        let cli = platform.rouse(&["deploy", &app.path().display().to_string()]).await;
        assert!(!cli.ok, "{triggers} {more} was taken");
        cli.err
    };
    let said = refused("topic = \"t\"\nfilter = { data = { total = [{ numeric = [\">\"] }] } }", "").await;
    assert!(said.contains("data.total[0].numeric"), "{said}");
    let said = refused("topic = \"t\"\nfilter = { type = [] }", "").await;
    assert!(said.contains("at type"), "{said}");
    let webhook = "webhook = { path = \"/h\", signer = \"github\", secrets = [\"env:NOT_THERE\"] }";
    let said = refused(webhook, "").await;
    assert!(said.contains("NOT_THERE"), "{said}");
    let said = refused("topic = \"t\"", "events = { on_failure = \"https://hooks.example.com/x\" }").await;
    assert!(said.contains("egress = [\"hooks.example.com:443\"]"), "{said}");
}
