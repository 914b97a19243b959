//! Simulated code: a Lambda runtime that does what each payload tells it to.

use std::time::Duration;

use crate::server;
use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Frame, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rouse_sandbox::{Exit, sim::Inside};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::sleep};

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// How long the extension works on after each call.
pub(crate) const EXTENSION_WORKS: Duration = Duration::from_millis(700);

/// Runs until its sandbox ends. The variable `INIT` says what goes wrong at its start.
pub(crate) async fn run(mut inside: Inside) -> Exit {
    if inside.env("PORT").is_some() {
        return Box::pin(server::run(inside)).await;
    }
    match inside.env("INIT") {
        Some("exit") => {
            inside.print_error("cannot find my module\n").await;
            return Exit::Code(1);
        }
        Some("hang") => return std::future::pending().await,
        Some("slow") => sleep(Duration::from_secs(2)).await,
        _ => {}
    }
    let watched = inside.env("INIT") == Some("watched");
    let several = inside.env("AWS_LAMBDA_MAX_CONCURRENCY").map_or(1, |text| text.parse().expect("a number"));
    let inside = Mutex::new(inside);
    // Polled together, so that a frozen sandbox makes no progress at all.
    let mut workers: FuturesUnordered<_> = (0..several).map(|_| worker(&inside)).collect();
    if !watched {
        return workers.next().await.expect("at least one");
    }
    let identifier = register(&inside).await;
    tokio::select! {
        exit = workers.next() => exit.expect("at least one"),
        exit = watch(&inside, &identifier) => exit,
    }
}

/// Registers an internal extension that wants to be told of calls.
async fn register(inside: &Mutex<Inside>) -> String {
    let request = Request::post("/2020-01-01/extension/register").header("lambda-extension-name", "watcher");
    let answer = extension(inside, request, r#"{"events": ["INVOKE"]}"#).await;
    answer.headers()["lambda-extension-identifier"].to_str().expect("ascii").to_owned()
}

/// Works on for a while after it was told of a call.
async fn watch(inside: &Mutex<Inside>, identifier: &str) -> Exit {
    loop {
        let request = Request::get("/2020-01-01/extension/event/next");
        let request = request.header("lambda-extension-identifier", identifier);
        assert_eq!(extension(inside, request, "").await.status(), 200);
        sleep(EXTENSION_WORKS).await;
    }
}

/// Sends one request on a connection of its own, and waits for the head of its answer.
async fn extension(
    inside: &Mutex<Inside>,
    request: http::request::Builder,
    body: &'static str,
) -> Response<Incoming> {
    let address = "127.0.0.1:9001".parse().expect("an address");
    let stream = inside.lock().await.dial(address).await.expect("it listens");
    let (mut api, connection) = http1::handshake(TokioIo::new(stream)).await.expect("it answers");
    let body: Body = UnsyncBoxBody::new(Full::new(Bytes::from(body)));
    let request = request.header("host", "api").body(body).expect("a request");
    tokio::select! {
        answer = api.send_request(request) => answer.expect("an answer"),
        _ = connection => panic!("the connection broke"),
    }
}

async fn worker(inside: &Mutex<Inside>) -> Exit {
    let address = "127.0.0.1:9001".parse().expect("an address");
    let stream = inside.lock().await.dial(address).await.expect("it listens");
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("it answers");
    tokio::select! {
        exit = serve(inside, sender) => exit,
        _ = connection => Exit::Code(70),
    }
}

async fn serve(inside: &Mutex<Inside>, mut api: http1::SendRequest<Body>) -> Exit {
    if inside.lock().await.env("INIT") == Some("error") {
        let body = json!({ "errorType": "ImportError", "errorMessage": "no module named x" });
        post(&mut api, "init/error", body.to_string()).await;
        return Exit::Code(1);
    }
    loop {
        let next = send(&mut api, "GET", "invocation/next", Body::default()).await;
        let id = next.headers()["lambda-runtime-aws-request-id"].to_str().expect("ascii").to_owned();
        let payload = next.into_body().collect().await.expect("a body").to_bytes();
        let event: Value = serde_json::from_slice(&payload).expect("json");
        // What came over HTTP says what to do in its body.
        let told = event["body"].as_str().map(|body| serde_json::from_str(body).expect("json"));
        let told = told.unwrap_or_else(|| event.clone());
        if let Some(text) = told["print"].as_str() {
            inside.lock().await.print(text).await;
        }
        if let Some(us) = told["cpu_us"].as_u64() {
            inside.lock().await.use_cpu_us(us);
        }
        if let Some(bytes) = told["memory_bytes"].as_u64() {
            inside.lock().await.use_memory_bytes(bytes);
            tokio::task::yield_now().await;
        }
        if let Some(ms) = told["sleep_ms"].as_u64() {
            sleep(Duration::from_millis(ms)).await;
        }
        if let Some(code) = told["exit"].as_i64() {
            return Exit::Code(i32::try_from(code).expect("small"));
        }
        if let Some(message) = told["raise"].as_str() {
            let body = json!({ "errorType": "ValueError", "errorMessage": message });
            post(&mut api, &format!("invocation/{id}/error"), body.to_string()).await;
            continue;
        }
        let path = format!("invocation/{id}/response");
        if let Some(parts) = told["stream"].as_array().cloned() {
            stream(&mut api, &path, parts, told["head"].clone()).await;
            continue;
        }
        let answer = if told["echo"].as_bool() == Some(true) { event } else { told["answer"].clone() };
        post(&mut api, &path, answer.to_string()).await;
    }
}

async fn stream(api: &mut http1::SendRequest<Body>, path: &str, parts: Vec<Value>, head: Value) {
    let first = if head.is_null() { None } else { Some(format!("{head}\0\0\0\0\0\0\0\0")) };
    let content_type =
        if head.is_null() { "text/plain" } else { "application/vnd.awslambda.http-integration-response" };
    let texts =
        first.into_iter().chain(parts.into_iter().map(|part| part.as_str().expect("text").to_owned()));
    let frames = futures_util::stream::iter(texts.map(|text| Ok(Frame::data(Bytes::from(text)))));
    let request = Request::post(format!("/2018-06-01/runtime/{path}"))
        .header("host", "api")
        .header("lambda-runtime-function-response-mode", "streaming")
        .header("content-type", content_type)
        .body(UnsyncBoxBody::new(StreamBody::new(frames)))
        .expect("a request");
    api.ready().await.expect("ready");
    drop(api.send_request(request).await.expect("an answer").into_body().collect().await);
}

async fn post(api: &mut http1::SendRequest<Body>, path: &str, body: String) -> u16 {
    let answer = send(api, "POST", path, UnsyncBoxBody::new(Full::new(Bytes::from(body)))).await;
    let status = answer.status().as_u16();
    drop(answer.into_body().collect().await);
    status
}

async fn send(
    api: &mut http1::SendRequest<Body>,
    method: &str,
    path: &str,
    body: Body,
) -> Response<Incoming> {
    let request = Request::builder()
        .method(method)
        .uri(format!("/2018-06-01/runtime/{path}"))
        .header("host", "api")
        .body(body)
        .expect("a request");
    api.ready().await.expect("ready");
    api.send_request(request).await.expect("an answer")
}
