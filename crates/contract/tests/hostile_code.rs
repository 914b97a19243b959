//! The Runtime API against code that does not keep to it: what AWS answers is answered, and the call that runs is
//! not hurt.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use rouse_contract::lambda::{Answer, Call, Failure, Line, LogSink, Options, Worker};
use rouse_sandbox::{
    Exit, Limits, Spec,
    sim::{Inside, SimDriver, SimSandbox},
};
use rouse_types::{InvocationId, Timestamp};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

const API: &str = "127.0.0.1:9001";

/// Sends bytes on a connection of its own and gives the first line of the answer, if one comes.
async fn raw(inside: &Inside, bytes: &[u8]) -> String {
    let mut stream = inside.dial(API.parse().expect("an address")).await.expect("it listens");
    let _ = stream.write_all(bytes).await;
    let mut answer = [0; 1024];
    let read = timeout(Duration::from_secs(1), stream.read(&mut answer)).await;
    let read = read.map_or(0, |read| read.unwrap_or(0));
    String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned()
}

fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST /2018-06-01/runtime/{path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}")
        .into()
}

const NEXT: &[u8] = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nhost: a\r\n\r\n";

async fn start<F, C>(code: C) -> Worker<SimSandbox>
where
    C: Fn(Inside) -> F + Send + Sync + 'static,
    F: Future<Output = Exit> + Send + 'static,
{
    start_with(1, Arc::new(|_| {}), code).await
}

/// For so many calls at once.
async fn start_with<F, C>(concurrency: u32, log: LogSink, code: C) -> Worker<SimSandbox>
where
    C: Fn(Inside) -> F + Send + Sync + 'static,
    F: Future<Output = Exit> + Send + 'static,
{
    let spec = Spec {
        id: "i1".into(),
        argv: vec!["code".into()],
        env: Vec::new(),
        cwd: "/".into(),
        mounts: Vec::new(),
        limits: Limits { memory_bytes: 1 << 20, cpu_millis: 1, processes: 1, tmp_bytes: 0, open_files: 1 },
        listeners: vec![API.parse().expect("an address")],
        resolver: None,
        hosts: vec![],
        network: rouse_sandbox::Network::Sockets,
        root: rouse_sandbox::Root::Host,
        interpreter: None,
    };
    let options = Options {
        arn: "arn".into(),
        init_timeout: Duration::from_secs(5),
        response_bytes_max: 100,
        concurrency,
        clock: Arc::new(rouse_types::SystemClock),
        log,
    };
    let started = Worker::start(&SimDriver::new(code), spec, options).await;
    started.map_err(|failed| failed.error.to_string()).expect("it starts").worker
}

fn call() -> Call {
    Call {
        id: InvocationId::from_bytes([7; 16]),
        payload: Bytes::from_static(b"{}"),
        deadline: Timestamp::from_millis(5_000),
        timeout: Duration::from_secs(20),
        trace: String::new(),
        client_context: None,
        arn: None,
        cognito_identity: None,
        tenant_id: None,
        log_bytes: 0,
    }
}

const ID: &str = "07070707-0707-0707-0707-070707070707";

fn whole(answer: &Answer) -> &[u8] {
    match answer {
        Answer::Whole(body) => body,
        other => panic!("no whole answer: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn posts_that_do_not_fit_are_refused_as_aws_refuses_them() {
    let worker = start(|inside| async move {
        assert_eq!(raw(&inside, NEXT).await, "HTTP/1.1 200 OK");
        for (bytes, expected) in [
            (post("invocation/other/response", "1"), "HTTP/1.1 400 Bad Request"),
            (post("invocation/00000000-0000-0000-0000-000000000000/error", "{}"), "HTTP/1.1 400 Bad Request"),
            (post("init/error", "{}"), "HTTP/1.1 403 Forbidden"),
            (NEXT.to_vec(), "HTTP/1.1 403 Forbidden"),
            (post("invocation/next", ""), "HTTP/1.1 405 Method Not Allowed"),
            (post("nothing", ""), "HTTP/1.1 404 Not Found"),
            (b"GET /../../etc/passwd HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), "HTTP/1.1 404 Not Found"),
            (post(&format!("invocation/{ID}/response"), "1"), "HTTP/1.1 202 Accepted"),
            (post(&format!("invocation/{ID}/response"), "2"), "HTTP/1.1 403 Forbidden"),
        ] {
            assert_eq!(raw(&inside, &bytes).await, expected, "{}", String::from_utf8_lossy(&bytes));
        }
        std::future::pending().await
    })
    .await;
    assert_eq!(whole(&worker.invoke(call()).await.expect("an answer")), b"1");
}

#[tokio::test(start_paused = true)]
async fn an_answer_over_the_limit_is_413_for_the_code_and_too_large_for_the_caller() {
    let worker = start(|inside| async move {
        raw(&inside, NEXT).await;
        let huge = post(&format!("invocation/{ID}/response"), &"x".repeat(101));
        assert_eq!(raw(&inside, &huge).await, "HTTP/1.1 413 Payload Too Large");
        std::future::pending().await
    })
    .await;
    assert!(matches!(worker.invoke(call()).await, Ok(Answer::TooLarge(100))));
}

#[tokio::test(start_paused = true)]
async fn junk_floods_and_bodies_that_break_off_do_not_hurt_the_answer() {
    let worker = start(|inside| async move {
        raw(&inside, NEXT).await;
        raw(&inside, b"\0\xff junk\r\n\r\n").await;
        raw(&inside, &[b'A'; 100_000]).await;
        // An answer that breaks off may be posted again.
        let path = format!("/2018-06-01/runtime/invocation/{ID}/response");
        let begun = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\nhalf");
        drop(raw(&inside, begun.as_bytes()).await);
        // Many idle connections: those too many are closed, and the API still answers.
        let mut held = Vec::new();
        for _ in 0..100 {
            held.push(inside.dial(API.parse().expect("an address")).await.expect("it listens"));
        }
        tokio::task::yield_now().await;
        held.truncate(3);
        tokio::time::sleep(Duration::from_millis(10)).await;
        let answer = post(&format!("invocation/{ID}/response"), "fine");
        assert_eq!(raw(&inside, &answer).await, "HTTP/1.1 202 Accepted");
        std::future::pending().await
    })
    .await;
    assert_eq!(whole(&worker.invoke(call()).await.expect("an answer")), b"fine");
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_byte_a_second_ends_with_the_calls_time() {
    let worker = start(|inside| async move {
        raw(&inside, NEXT).await;
        let mut stream = inside.dial(API.parse().expect("an address")).await.expect("it listens");
        let path = format!("/2018-06-01/runtime/invocation/{ID}/response");
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 90\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("it reads");
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stream.write_all(b"x").await.expect("it reads");
        }
    })
    .await;
    let begun = Instant::now();
    worker.invoke(call()).await.expect_err("its time is up");
    assert_eq!(begun.elapsed().as_secs(), 20);
}

/// Asks for a call, and gives the id of what came.
async fn take(inside: &Inside) -> String {
    let mut stream = inside.dial(API.parse().expect("an address")).await.expect("it listens");
    stream.write_all(NEXT).await.expect("it reads");
    let mut answer = [0; 1024];
    let read = stream.read(&mut answer).await.expect("it answers");
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    let id = answer.lines().find_map(|line| line.strip_prefix("lambda-runtime-aws-request-id: "));
    id.unwrap_or_else(|| panic!("no id in {answer}")).to_owned()
}

#[tokio::test(start_paused = true)]
async fn several_calls_run_at_once_and_are_answered_in_any_order_each_within_its_own_time() {
    let worker = start_with(3, Arc::new(|_| {}), |inside| async move {
        let mut ids = [take(&inside).await, take(&inside).await, take(&inside).await];
        ids.sort();
        assert_eq!(raw(&inside, NEXT).await, "HTTP/1.1 403 Forbidden", "three run, and no more may");
        for at in [2, 0] {
            let answer = post(&format!("invocation/{}/response", ids[at]), &format!("{at}"));
            assert_eq!(raw(&inside, &answer).await, "HTTP/1.1 202 Accepted");
            assert_eq!(raw(&inside, &answer).await, "HTTP/1.1 403 Forbidden", "answered already");
        }
        let fourth = take(&inside).await;
        raw(&inside, &post(&format!("invocation/{fourth}/response"), "3")).await;
        std::future::pending().await
    })
    .await;
    let with = |n, seconds| Call {
        id: InvocationId::from_bytes([n; 16]),
        timeout: Duration::from_secs(seconds),
        ..call()
    };
    let begun = Instant::now();
    let (first, second, third) =
        tokio::join!(worker.invoke(with(1, 20)), worker.invoke(with(2, 10)), worker.invoke(with(3, 20)));
    assert_eq!(whole(&first.expect("an answer")), b"0");
    assert_eq!(second.expect_err("never answered"), Failure::Timeout);
    assert_eq!(whole(&third.expect("an answer")), b"2");
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert_eq!(whole(&worker.invoke(with(4, 20)).await.expect("an answer")), b"3");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_stand_in_a_header_does_not_keep_a_call_from_the_code() {
    let worker = start(|inside| async move {
        let id = take(&inside).await;
        raw(&inside, &post(&format!("invocation/{id}/response"), "1")).await;
        std::future::pending().await
    })
    .await;
    let hostile = Call { client_context: Some("a\r\nset-cookie: b".into()), ..call() };
    assert_eq!(whole(&worker.invoke(hostile).await.expect("an answer")), b"1");
}

/// A request of the Extensions API, with these headers.
fn extension(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let headers: String =
        headers.iter().map(|(name, value)| format!("lambda-extension-{name}: {value}\r\n")).collect();
    let length = body.len();
    let path = format!("/2020-01-01/extension/{path}");
    format!("{method} {path} HTTP/1.1\r\nhost: a\r\n{headers}content-length: {length}\r\n\r\n{body}").into()
}

/// Registers an extension, and gives its identifier.
async fn register(inside: &Inside, name: &str) -> String {
    let mut stream = inside.dial(API.parse().expect("an address")).await.expect("it listens");
    let request = extension("POST", "register", &[("name", name)], r#"{"events": ["INVOKE"]}"#);
    stream.write_all(&request).await.expect("it reads");
    let mut answer = [0; 1024];
    let read = stream.read(&mut answer).await.expect("it answers");
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    let id = answer.lines().find_map(|line| line.strip_prefix("lambda-extension-identifier: "));
    id.unwrap_or_else(|| panic!("no identifier in {answer}")).to_owned()
}

#[tokio::test(start_paused = true)]
async fn extensions_that_do_not_keep_to_the_api_are_refused_and_do_not_hurt_the_call() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let log: LogSink = Arc::new({
        let lines = Arc::clone(&lines);
        move |line: Line| lines.lock().expect("no panic").push(line.text)
    });
    let worker = start_with(1, log, |inside| async move {
        let id = register(&inside, "good").await;
        let name = [("name", "x")];
        let ours = [("identifier", id.as_str())];
        for (request, expected) in [
            (extension("POST", "register", &[], "{}"), "400 Bad Request"),
            (extension("POST", "register", &name, "no json"), "400 Bad Request"),
            (extension("POST", "register", &name, r#"{"events": ["ALL"]}"#), "400 Bad Request"),
            (extension("POST", "register", &name, r#"{"events": ["SHUTDOWN"]}"#), "403 Forbidden"),
            (extension("POST", "register", &[("name", "good")], ""), "403 Forbidden"),
            (extension("GET", "register", &name, ""), "405 Method Not Allowed"),
            (extension("GET", "nothing", &ours, ""), "404 Not Found"),
            (extension("GET", "event/next", &[], ""), "403 Forbidden"),
            (extension("GET", "event/next", &[("identifier", "none")], ""), "403 Forbidden"),
            (extension("POST", "exit/error", &[("identifier", "none")], "{}"), "403 Forbidden"),
        ] {
            let told = raw(&inside, &request).await;
            assert_eq!(told, format!("HTTP/1.1 {expected}"), "{}", String::from_utf8_lossy(&request));
        }
        // It gives up waiting, which is no reason to think that it is at work.
        assert_eq!(raw(&inside, &extension("GET", "event/next", &ours, "")).await, "");
        let call = take(&inside).await;
        assert_eq!(raw(&inside, &extension("POST", "register", &name, "")).await, "HTTP/1.1 403 Forbidden");
        let failed = extension("POST", "exit/error", &ours, r#"{"errorMessage": "enough"}"#);
        assert_eq!(raw(&inside, &failed).await, "HTTP/1.1 202 Accepted");
        for _ in 0..100 {
            assert_eq!(raw(&inside, &failed).await, "HTTP/1.1 403 Forbidden");
        }
        raw(&inside, &post(&format!("invocation/{call}/response"), "1")).await;
        std::future::pending().await
    })
    .await;
    assert_eq!(whole(&worker.invoke(call()).await.expect("an answer")), b"1");
    worker.settled().await.expect("who said that it ends is not waited for");
    assert_eq!(*lines.lock().expect("no panic"), ["the extension good failed: Error: enough"]);
}
