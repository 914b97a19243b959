//! Servers: requests and answers go through as they come, several at once; what breaks, and when it is tried again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rouse_types::{
    Contract, FunctionVersion, InstanceState, Outcome, OutcomeHead, Source, invocation::OUTCOME_HEADER,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
    task::JoinSet,
    time::sleep,
};

use crate::harness::{Answer, Node, request, version};

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

fn server() -> FunctionVersion {
    let mut server = version("f", 1);
    server.contract = Contract::Http;
    server.scaling.concurrency_per_instance = 10;
    server
}

fn get(path: &str) -> Request<Full<Bytes>> {
    post(path, "")
}

fn post(path: &str, body: &str) -> Request<Full<Bytes>> {
    let mut request = request("f", 1, Source::Http, body.to_owned());
    *request.uri_mut() = path.parse().expect("a path");
    request
}

fn outcome(trailers: &HeaderMap) -> OutcomeHead {
    serde_json::from_slice(trailers[OUTCOME_HEADER].as_bytes()).expect("json")
}

/// A connection of a gateway whose bodies stream.
struct Gateway {
    sender: http1::SendRequest<Body>,
    _connection: JoinSet<()>,
}

impl Gateway {
    async fn of(node: &Node) -> Self {
        let stream = UnixStream::connect(node.socket()).await.expect("it listens");
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("http");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.with_upgrades().await) });
        Self { sender, _connection: tasks }
    }

    async fn send(&mut self, path: &str, body: Body) -> Response<Incoming> {
        let mut request = get(path).map(|_| body);
        request.headers_mut().insert("te", "trailers".parse().expect("ascii"));
        self.sender.send_request(request).await.expect("an answer")
    }

    async fn switch(mut self, path: &str) -> (Response<Incoming>, Self) {
        let mut request = get(path).map(|_| Body::default());
        let headers = request.headers_mut();
        headers.insert("connection", "upgrade".parse().expect("ascii"));
        headers.insert("upgrade", "shout".parse().expect("ascii"));
        (self.sender.send_request(request).await.expect("an answer"), self)
    }
}

/// A body whose parts are sent by hand.
fn by_hand() -> (mpsc::Sender<&'static str>, Body) {
    let (parts, receiver) = mpsc::channel::<&str>(1);
    let frames = stream::unfold(receiver, |mut receiver| async {
        Some((Ok(Frame::data(Bytes::from(receiver.recv().await?))), receiver))
    });
    (parts, Body::new(StreamBody::new(Box::pin(frames))))
}

async fn part(response: &mut Response<Incoming>) -> Bytes {
    let frame = response.body_mut().frame().await.expect("a frame").expect("no error");
    frame.into_data().expect("data")
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_through_to_the_server_and_its_answer_comes_back() {
    let node = Node::with(&[server()]).await;
    let echo = node.send(post("/echo?a=b", "hello")).await;
    assert_eq!((echo.status.as_u16(), echo.body.as_ref()), (200, b"hello".as_slice()));
    let seen = |name: &str| echo.headers.get(name).map(|value| value.to_str().expect("ascii").to_owned());
    assert_eq!(seen("x-address").as_deref(), Some("/echo?a=b"));
    assert_eq!(seen("x-seen-host").as_deref(), Some("f.acme.example"));
    assert_eq!(seen("x-seen-x-forwarded-for").as_deref(), Some("192.0.2.7"));
    assert_eq!(seen("x-seen-content-length").as_deref(), Some("5"));
    assert!(seen("x-seen-traceparent").is_some());
    assert_eq!(seen("x-seen-x-rouse-invocation"), None, "our own words stay between us");
    assert!(echo.headers.contains_key(OUTCOME_HEADER), "what is there at once goes out at once");
    assert!(echo.outcome().cold);
    assert_eq!(node.send(get("/nowhere")).await.status, StatusCode::NOT_FOUND);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(node.ps().await[0].state, InstanceState::Frozen);
    assert_eq!(node.send(get("/cpu?70")).await.status, StatusCode::OK);
    assert_eq!(node.driver.started(), 1);
    let (usage, _) = node.end().await;
    assert!(usage.iter().all(|usage| usage.outcome == Outcome::Ok), "{usage:?}");
    assert_eq!((usage[0].bytes_in, usage[0].bytes_out), (5, 5));
    assert_eq!(usage[2].cpu_us, 70);
}

#[tokio::test(start_paused = true)]
async fn bodies_stream_both_ways_at_once() {
    let node = Node::with(&[server()]).await;
    let mut gateway = Gateway::of(&node).await;
    let (parts, body) = by_hand();
    parts.send("one").await.expect("it is read");
    let mut echo = gateway.send("/echo", body).await;
    assert_eq!(part(&mut echo).await, "one", "it is back before the next is sent");
    parts.send("two").await.expect("it is read");
    assert_eq!(part(&mut echo).await, "two");
    drop(parts);
    let rest = echo.into_body().collect().await.expect("an end");
    assert_eq!(outcome(rest.trailers().expect("trailers")).outcome, Outcome::Ok);
    drop(gateway);
    let (usage, _) = node.end().await;
    assert_eq!((usage[0].bytes_in, usage[0].bytes_out), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn many_calls_share_a_connection_over_http_2_and_one_that_goes_away_takes_no_other_with_it() {
    let node = Node::with(&[server()]).await;
    let stream = UnixStream::connect(node.socket()).await.expect("it listens");
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("http/2");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    let send = |path: &str, body: Body| {
        let mut request = get(path).map(|_| body);
        *request.uri_mut() = format!("http://node{path}").parse().expect("an address");
        request.headers_mut().insert("te", "trailers".parse().expect("ascii"));
        let mut sender = sender.clone();
        async move { sender.send_request(request).await.expect("an answer") }
    };
    let gone = tokio::time::timeout(Duration::from_secs(1), send("/sleep?4000", Body::default()));
    let (parts, body) = by_hand();
    parts.send("one").await.expect("it is read");
    let (gone, mut echo) = tokio::join!(gone, send("/echo", body));
    assert!(gone.is_err());
    assert_eq!(part(&mut echo).await, "one");
    parts.send("two").await.expect("it is read");
    assert_eq!(part(&mut echo).await, "two");
    drop(parts);
    let rest = echo.into_body().collect().await.expect("an end");
    assert_eq!(outcome(rest.trailers().expect("trailers")).outcome, Outcome::Ok);
    let sum = send("/trailers", Body::default()).await.into_body().collect().await.expect("a body");
    assert_eq!(sum.trailers().expect("trailers")["x-sum"], "42");
    drop((sender, tasks));
    let (usage, _) = node.end().await;
    assert_eq!(usage.len(), 3);
    assert_eq!(usage.iter().filter(|usage| usage.outcome == Outcome::Cancelled).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn events_come_as_they_are_made_and_trailers_with_the_outcome() {
    let node = Node::with(&[server()]).await;
    let mut gateway = Gateway::of(&node).await;
    let mut events = gateway.send("/events", Body::default()).await;
    assert_eq!(part(&mut events).await, "event 0\n");
    assert_eq!(part(&mut events).await, "event 1\n");
    drop(events.into_body().collect().await.expect("an end"));
    let sum = node.send(get("/trailers")).await;
    assert_eq!(sum.body.as_ref(), b"sum");
    assert_eq!(sum.trailers["x-sum"], "42");
    assert_eq!(sum.outcome().outcome, Outcome::Ok);
}

fn at_once(node: &Arc<Node>, paths: &[&'static str]) -> JoinSet<Answer> {
    let call = |path: &'static str| {
        let node = Arc::clone(node);
        async move { node.send(get(path)).await }
    };
    paths.iter().copied().map(call).collect()
}

#[tokio::test(start_paused = true)]
async fn a_server_takes_several_requests_at_once() {
    let node = Node::with(&[server()]).await;
    let answers = at_once(&node, &["/sleep?100"; 10]).join_all().await;
    assert!(answers.iter().all(|answer| answer.body.as_ref() == b"slept"));
    assert_eq!(node.driver.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_went_deaf_between_calls_costs_no_call() {
    let node = Node::with(&[server()]).await;
    assert_eq!(node.send(get("/deafen")).await.body.as_ref(), b"bye");
    sleep(Duration::from_millis(10)).await;
    let echo = node.send(post("/echo", "again")).await;
    assert_eq!((echo.status.as_u16(), echo.body.as_ref()), (200, b"again".as_slice()));
    assert_eq!(node.driver.started(), 2);
    let (usage, _) = node.end().await;
    assert_eq!(usage.len(), 2, "the try that reached nobody is not recorded");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_with_a_request_in_hand_is_not_given_it_again() {
    let node = Node::with(&[server()]).await;
    let gone = node.send(get("/exit")).await;
    assert_eq!((gone.code().as_str(), gone.outcome().outcome), ("function-error", Outcome::FunctionError));
    assert!(gone.json()["message"].as_str().expect("text").contains("exited with status 3"));
    assert_eq!(node.driver.started(), 1);
    assert_eq!(node.send(post("/echo", "fine")).await.body.as_ref(), b"fine");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_deaf_each_time_is_given_up() {
    let mut deaf = server();
    deaf.env.insert("INIT".into(), "deaf".into());
    let node = Node::with(&[deaf]).await;
    let refused = node.send(get("/echo")).await;
    assert_eq!(refused.code(), "function-error");
    assert!(refused.json()["message"].as_str().expect("text").contains("does not listen on port 8080"));
    assert_eq!(node.driver.started(), 3);
    let (usage, _) = node.end().await;
    assert_eq!(usage.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_listens_or_ends_at_once_says_why() {
    for (init, expected) in [("hang", "did not listen on port 8080"), ("exit", "no such module")] {
        let mut broken = server();
        broken.env.insert("INIT".into(), init.into());
        let node = Node::with(&[broken]).await;
        let failed = node.send(get("/echo")).await;
        assert_eq!(
            (failed.code().as_str(), failed.outcome().outcome),
            ("start-failed", Outcome::StartFailed)
        );
        let message = failed.json()["message"].as_str().expect("text").to_owned();
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_runs_over_its_time_ends_its_instance_once_the_others_have_ended() {
    let node = Node::with(&[server()]).await;
    let mut calls = JoinSet::new();
    for (after, path) in [(0, "/sleep?60000"), (3_000, "/sleep?4000"), (0, "/events")] {
        sleep(Duration::from_millis(after)).await;
        let node = Arc::clone(&node);
        calls.spawn(async move { (path, node.send(get(path)).await) });
    }
    for (path, answer) in calls.join_all().await {
        match path {
            "/sleep?60000" => {
                assert_eq!((answer.status.as_u16(), answer.code().as_str()), (504, "function-timeout"));
            }
            _ => assert_eq!(answer.outcome().outcome, Outcome::Ok, "{path}"),
        }
    }
    sleep(Duration::from_millis(1)).await;
    assert!(node.ps().await.is_empty());
    assert_eq!(node.driver.living(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_costs_no_instance() {
    let node = Node::with(&[server()]).await;
    let gone = tokio::time::timeout(Duration::from_secs(1), node.send(get("/sleep?4000")));
    assert!(gone.await.is_err());
    let mut gateway = Gateway::of(&node).await;
    let mut events = gateway.send("/events", Body::default()).await;
    part(&mut events).await;
    drop((events, gateway));
    assert_eq!(node.send(post("/echo", "fine")).await.body.as_ref(), b"fine");
    assert_eq!(node.driver.started(), 1);
    sleep(Duration::from_secs(1)).await;
    let (usage, _) = node.end().await;
    let cancelled: Vec<_> = usage.iter().filter(|usage| usage.outcome == Outcome::Cancelled).collect();
    assert_eq!((usage.len(), cancelled.len()), (3, 2));
    assert_eq!(cancelled[0].billed_ms, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_large_is_refused_whether_or_not_that_was_said_before() {
    let mut small = server();
    small.limits.request_body_bytes = 4;
    let node = Node::with(&[small]).await;
    let announced = node.send(post("/echo", "12345")).await;
    assert_eq!((announced.status.as_u16(), announced.code().as_str()), (413, "payload-too-large"));
    assert_eq!(node.driver.started(), 0);
    let mut gateway = Gateway::of(&node).await;
    let frames = ["123", "45"].map(|text| Ok(Frame::data(Bytes::from(text))));
    let found = gateway.send("/sleep?1000", Body::new(StreamBody::new(stream::iter(frames)))).await;
    assert_eq!(found.status(), StatusCode::PAYLOAD_TOO_LARGE);
    drop(gateway);
    assert_eq!(node.send(post("/echo", "1234")).await.body.as_ref(), b"1234");
    assert_eq!(node.driver.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_or_breaks_off_is_never_taken_for_a_whole_one() {
    let mut small = server();
    small.limits.response_body_bytes = 1_000;
    let node = Node::with(&[small]).await;
    assert_eq!(node.send(get("/large?1000")).await.body.len(), 1_000);
    assert_eq!(node.send(get("/large?1001")).await.code(), "response-too-large");
    let half = node.send(get("/half")).await;
    assert_eq!((half.body.as_ref(), half.outcome().outcome), (b"half".as_slice(), Outcome::FunctionError));
    assert_eq!(node.send(post("/echo", "fine")).await.body.as_ref(), b"fine");
    assert_eq!(node.driver.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_changes_its_protocol_is_a_tunnel_that_is_billed_until_it_ends() {
    let node = Node::with(&[server()]).await;
    let (mut response, gateway) = Gateway::of(&node).await.switch("/switch").await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "shout");
    let upgraded = hyper::upgrade::on(&mut response).await.expect("a tunnel");
    let mut tunnel = TokioIo::new(upgraded);
    for _ in 0..3 {
        tunnel.write_all(b"hello").await.expect("it is read");
        let mut heard = [0; 5];
        tunnel.read_exact(&mut heard).await.expect("an echo");
        assert_eq!(&heard, b"HELLO");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(node.send(post("/echo", "beside")).await.body.as_ref(), b"beside");
    }
    assert_eq!(node.ps().await[0].state, InstanceState::Busy);
    drop((tunnel, response, gateway));
    sleep(Duration::from_millis(200)).await;
    assert_eq!(node.ps().await[0].state, InstanceState::Frozen);
    assert_eq!(node.driver.started(), 1);
    let (usage, _) = node.end().await;
    let tunnel = usage.iter().find(|usage| usage.bytes_in == 15).expect("its record");
    assert_eq!((tunnel.bytes_out, tunnel.outcome), (15, Outcome::Ok));
    assert!((3_000..3_100).contains(&tunnel.billed_ms), "{}", tunnel.billed_ms);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_tunnel_and_one_that_runs_over_its_time_are_closed() {
    for (timeout_ms, expected) in [(3_600_000, Outcome::Ok), (60_000, Outcome::Timeout)] {
        let mut patient = server();
        patient.limits.timeout_ms = timeout_ms;
        let node = Node::with(&[patient]).await;
        let (mut response, gateway) = Gateway::of(&node).await.switch("/switch").await;
        let upgraded = hyper::upgrade::on(&mut response).await.expect("a tunnel");
        let mut tunnel = TokioIo::new(upgraded);
        let mut nothing = [0; 1];
        assert!(matches!(tunnel.read(&mut nothing).await, Ok(0) | Err(_)), "it is closed");
        drop((tunnel, response, gateway));
        assert_eq!(node.send(post("/echo", "fine")).await.body.as_ref(), b"fine");
        assert_eq!(node.driver.started(), 1, "its server lives on");
        let (usage, _) = node.end().await;
        let billed = usage[0].billed_ms;
        assert_eq!(usage[0].outcome, expected);
        assert!((60_000..=240_000).contains(&billed), "{billed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_outlasts_its_node_is_recorded() {
    let mut patient = server();
    patient.limits.timeout_ms = 600_000;
    let node = Node::with(&[patient]).await;
    let (mut response, gateway) = Gateway::of(&node).await.switch("/switch").await;
    let upgraded = hyper::upgrade::on(&mut response).await.expect("a tunnel");
    node.tell_to_end();
    let mut nothing = [0; 1];
    assert!(matches!(TokioIo::new(upgraded).read(&mut nothing).await, Ok(0) | Err(_)), "it is closed");
    drop((response, gateway));
    let (usage, _) = node.end().await;
    assert_eq!((usage.len(), usage[0].outcome), (1, Outcome::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_told_to_end_lets_a_server_answer_first() {
    let node = Node::with(&[server()]).await;
    let calls = at_once(&node, &["/sleep?1000", "/events"]);
    sleep(Duration::from_millis(50)).await;
    node.tell_to_end();
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| answer.outcome().outcome == Outcome::Ok));
    let (usage, _) = node.end().await;
    assert_eq!(usage.len(), 2);
}
