//! Outcomes that go to topics and URLs: written with the end that they tell of, sent until they arrive or are given up.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rouse_types::{
    Contract, Egress, EventSettings, Trigger,
    trigger::{On, TopicSource},
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};

use crate::harness::{Answer, World, event, wait};

type Posts = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A server that notes what is posted, and answers with these statuses in turn, then with the last for ever.
struct Receiver {
    port: u16,
    posts: Posts,
    _tasks: JoinSet<()>,
}

impl Receiver {
    async fn start(statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let posts = Posts::default();
        let noted = Arc::clone(&posts);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                connections.spawn(async move {
                    let service = service_fn(|request: http::Request<hyper::body::Incoming>| async {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let mut noted = noted.lock().unwrap();
                        let status = statuses[noted.len().min(statuses.len() - 1)];
                        noted.push((head.headers, body));
                        let mut answer = Response::new(Full::new(Bytes::new()));
                        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
                        answer.headers_mut().insert("location", "/elsewhere".parse().unwrap());
                        Ok::<_, Infallible>(answer)
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { port, posts, _tasks: tasks }
    }

    async fn posts(&self, count: usize) -> Vec<(HeaderMap, Bytes)> {
        wait("posts", || self.posts.lock().unwrap().len() >= count).await;
        self.posts.lock().unwrap().clone()
    }

    fn egress(&self) -> Egress {
        Egress::Only(vec![format!("127.0.0.1:{}", self.port).parse().unwrap()])
    }
}

fn settings(on_success: &str) -> EventSettings {
    let on_success = Some(on_success.parse().unwrap());
    EventSettings { attempts: 2, backoff_ms: 1, backoff_max_ms: 2, on_success, ..Default::default() }
}

#[tokio::test]
async fn an_outcome_is_posted_to_its_url_and_again_after_a_failure() {
    let world = World::start(|_| Answer { body: "{\"done\":true}".to_owned(), ..Answer::ok() }).await;
    let receiver = Receiver::start(&[503, 204]).await;
    let url = format!("http://127.0.0.1:{}/hook?a=b", receiver.port);
    world
        .deploy_as("cart", |version| {
            version.events = settings(&url);
            version.egress = receiver.egress();
        })
        .await;
    let accepted = world.accept(&event("cart"), b"{\"n\":1}").await.unwrap();
    let posts = receiver.posts(2).await;
    world.idle().await;
    let (headers, body) = &posts[1];
    assert_eq!(headers["ce-type"], "dev.rouse.invocation.succeeded.v1");
    assert_eq!(headers["ce-subject"], accepted.id.to_string());
    assert_eq!(headers["ce-id"], posts[0].0["ce-id"], "an attempt more is the same event");
    assert_eq!(headers["x-rouse-chain"], "cart=1");
    let record: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(
        (&record["requestPayload"]["n"], &record["responsePayload"]["done"]),
        (&1.into(), &true.into())
    );
    assert_eq!(receiver.posts(2).await.len(), 2);
    assert_eq!(world.list("").await["events"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn what_a_url_does_not_take_is_a_dead_letter_of_the_function_and_redirects_are_not_followed() {
    let world = World::start(|_| Answer::ok()).await;
    let receiver = Receiver::start(&[307]).await;
    let url = format!("http://127.0.0.1:{}/hook", receiver.port);
    world
        .deploy_as("cart", |version| {
            version.events = settings(&url);
            version.egress = receiver.egress();
        })
        .await;
    world.accept(&event("cart"), b"{}").await.unwrap();
    receiver.posts(2).await;
    world.idle().await;
    assert_eq!(receiver.posts(2).await.len(), 2, "as often as its function's events are tried");
    let dead = world.list("state=failed&function=cart").await;
    let (found, reason) = (&dead["events"][0], dead["events"][0]["reason"].as_str().unwrap());
    assert!(reason.contains("307") && found["source"] == "on_success", "{dead}");
    let again = world.ask("redrive", &serde_json::json!({ "function": "cart" })).await;
    assert_eq!(again["count"], 1);
    receiver.posts(4).await;
}

#[tokio::test]
async fn a_url_that_the_functions_egress_does_not_name_is_not_called() {
    let world = World::start(|_| Answer::ok()).await;
    let receiver = Receiver::start(&[204]).await;
    for (function, host, egress) in [
        ("closed", "127.0.0.1", Egress::default()),
        // By a name, and by an address where everything is allowed: the machine itself is not meant.
        ("open", "127.0.0.1", Egress::All),
        ("mapped", "[::ffff:127.0.0.1]", Egress::All),
    ] {
        let url = format!("http://{host}:{}/hook", receiver.port);
        world
            .deploy_as(function, |version| {
                version.events = settings(&url);
                version.egress = egress;
            })
            .await;
        world.accept(&event(function), b"{}").await.unwrap();
    }
    world.calls(3).await;
    world.idle().await;
    let dead = world.list("state=failed").await;
    let reasons: Vec<_> = dead["events"].as_array().unwrap().iter().map(|event| &event["reason"]).collect();
    assert_eq!(reasons.len(), 3, "{dead}");
    assert!(receiver.posts(0).await.is_empty(), "{reasons:?}");
}

#[tokio::test]
async fn an_outcome_goes_to_all_who_want_it_of_a_topic_and_a_loop_of_them_is_stopped() {
    let world = World::start(|_| Answer::ok()).await;
    let on = || On::Topic(TopicSource { topic: "done".to_owned() });
    let topic = || EventSettings { attempts: 1, ..settings("topic:done") };
    world
        .deploy_as("first", |version| {
            version.events = topic();
            version.contract = Contract::Http;
            version.triggers = vec![Trigger { name: "again".to_owned(), on: on(), filter: None }];
        })
        .await;
    world
        .deploy_as("picky", |version| {
            let filter = Some(serde_json::json!({ "type": ["dev.rouse.invocation.failed.v1"] }));
            version.triggers = vec![Trigger { name: "failed".to_owned(), on: on(), filter }];
        })
        .await;
    world.accept(&event("first"), b"{}").await.unwrap();
    // By itself, and each time by the outcome of the time before.
    let calls = world.calls(16).await;
    world.idle().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.idle().await;
    assert_eq!(world.calls(0).await.len(), 16, "a chain passes a function 16 times at most");
    assert!(calls.iter().all(|call| call.delivery.function.as_str() == "first"), "no failure was told");
    let dead = world.list("state=failed").await;
    assert!(dead["events"][0]["reason"].as_str().unwrap().contains("a loop"), "{dead}");
}

#[tokio::test]
async fn a_loop_through_a_queue_is_stopped() {
    let world = World::start(|_| Answer::ok()).await;
    world.deploy("first", EventSettings { attempts: 1, ..settings("queue:work") }).await;
    let mut sent = event("first");
    sent.chain = rouse_types::Chain::read("first=3");
    world.accept(&sent, b"{}").await.unwrap();
    world.calls(1).await;
    world.idle().await;
    world
        .deploy_as("worker", |version| {
            let source = rouse_types::trigger::QueueSource {
                queue: "work".to_owned(),
                batch_size: 1,
                batch_window_ms: 0,
                concurrency_max: 1,
            };
            version.triggers = vec![Trigger { name: "q".to_owned(), on: On::Queue(source), filter: None }];
        })
        .await;
    let calls = world.calls(2).await;
    assert_eq!(calls[1].headers["x-rouse-chain"], "first=4, worker=1", "the chain is kept by the queue");
}
