//! The API as clients meet it: who is let in, what is refused and how, what is told of calls.

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use rouse_api::{
    AuditQuery, Client, LogsQuery, UsageBy, UsageQuery,
    wire::{self, Address, Timeouts},
};
use rouse_store::journal::{Options, Writer};
use rouse_types::{
    Clock as _, Code, Digest, InvocationId, LogLine, Outcome, Refusal, SystemClock, Timestamp, Timing, Usage,
    log::Stream,
};
use support::{Platform, app, component, function, tenant};

async fn raw(
    platform: &Platform,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: &'static str,
) -> (StatusCode, Bytes) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Full::new(Bytes::from_static(body.as_bytes()))).expect("a request");
    let second = Duration::from_secs(10);
    let timeouts = Timeouts { connect: second, head: second, idle: second };
    let address = Address::Tcp(platform.url.trim_start_matches("http://").to_owned());
    let answer = wire::exchange(&address, request, timeouts).await.expect("an answer");
    let status = answer.status();
    (status, answer.into_body().collect().await.expect("a body").to_bytes())
}

#[tokio::test]
async fn only_the_bearer_of_the_token_gets_in() {
    let platform = Platform::start().await;
    for token in [None, Some("wrong"), Some("")] {
        let (status, body) = raw(&platform, Method::GET, "/v1/info", token, "").await;
        assert_eq!(status, 401);
        let refusal: Refusal = serde_json::from_slice(&body).expect("a refusal");
        assert_eq!(refusal.code, Code::Unauthorized);
        assert!(refusal.hint.is_some());
    }
    for open in ["/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(raw(&platform, Method::GET, open, None, "").await.0, 200, "{open}");
    }
    let socket = format!("unix:{}", platform.path("run/control.sock").display());
    let client = Client::new(&socket, Some(platform.token.clone())).expect("a client");
    assert_eq!(client.info().await.expect("info").version, "0.0.0-test");
    assert!(Client::new(&socket, None).expect("a client").info().await.is_err());
    platform.stop().await;
}

#[tokio::test]
async fn what_is_unknown_or_malformed_is_refused_by_name() {
    let platform = Platform::start().await;
    let deployments = "/v1/tenants/default/apps/shop/deployments";
    let cases = [
        (Method::GET, "/v1/nothing", "", 404, "/v1/nothing"),
        (Method::PATCH, "/v1/info", "", 404, "PATCH"),
        (Method::POST, deployments, r#"{"functions":[],"extra":1}"#, 400, "extra"),
        (Method::POST, deployments, "{", 400, "EOF"),
        (Method::GET, "/v1/tenants/Not%20A%20Name/apps", "", 400, "Not A Name"),
        (Method::GET, "/v1/tenants/default/logs?limit=x", "", 400, "'x'"),
        (Method::GET, "/v1/tenants/default/logs?fnction=x", "", 400, "fnction"),
        (Method::GET, "/v1/tenants/default/usage?by=day", "", 400, "day"),
        (Method::PUT, "/v1/blobs/sha256:zz", "x", 400, "sha256:zz"),
        (Method::GET, "/v1/tenants/default/apps/none", "", 404, "none"),
    ];
    for (method, path, body, status, told) in cases {
        let (found, body) = raw(&platform, method, path, Some(&platform.token), body).await;
        let refusal: Refusal = serde_json::from_slice(&body).expect("a refusal");
        assert_eq!(found.as_u16(), status, "{path}: {refusal}");
        assert!(refusal.message.contains(told), "{path}: {refusal}");
    }
    platform.stop().await;
}

#[tokio::test]
async fn an_upload_is_checked_and_can_be_made_again() {
    let platform = Platform::start().await;
    let file = platform.path("upload.wasm");
    let bytes = component(&"x".repeat(3 << 20));
    std::fs::write(&file, &bytes).expect("a file");
    let digest = Digest::of(&bytes);
    assert!(!platform.client.has_blob(&digest).await.expect("an answer"));
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let progress = std::sync::Arc::clone(&sent);
    let store = move |bytes| progress.store(bytes, std::sync::atomic::Ordering::SeqCst);
    platform.client.put_blob(&digest, &file, store).await.expect("uploaded");
    assert_eq!(sent.load(std::sync::atomic::Ordering::SeqCst), bytes.len() as u64);
    assert!(platform.client.has_blob(&digest).await.expect("an answer"));
    platform.client.put_blob(&digest, &file, |_| {}).await.expect("uploaded again");
    let other = Digest::of(b"something else");
    let refusal = platform.client.put_blob(&other, &file, |_| {}).await.expect_err("another content");
    assert_eq!(refusal.code, Code::BadRequest);
    assert!(!platform.client.has_blob(&other).await.expect("an answer"));
    platform.stop().await;
}

#[tokio::test]
async fn an_invocation_tells_what_it_came_to() {
    let platform = Platform::start().await;
    let (tenant, hello) = (tenant(), function("hello"));
    let invoke = |alias: Option<&'static str>, payload: &'static str| {
        platform.client.invoke(&tenant, &hello, alias, "application/json", payload.into())
    };
    let unknown = invoke(None, "x").await.expect_err("nothing is deployed");
    assert_eq!(unknown.code, Code::FunctionNotFound);
    platform.deploy("shop", &[("hello", "1")]).await;
    let answer = invoke(None, "payload").await.expect("an answer");
    assert_eq!((answer.status, &answer.body[..], answer.outcome), (200, &b"done"[..], Outcome::Ok));
    assert_eq!((answer.billed_ms, answer.server_timing.as_deref()), (Some(7), Some("total;dur=6.500")));
    assert_eq!(answer.cost_nanos, Some(417), "as the gateway said");
    assert!(answer.invocation.is_some() && answer.refusal.is_none());
    invoke(Some("$LATEST"), "payload").await.expect("an answer");
    let invoked = platform.gateway.invoked.lock().expect("no panic").clone();
    assert_eq!(invoked[0], ("/invoke/default/hello".to_owned(), Bytes::from_static(b"payload")));
    assert_eq!(invoked[1].0, "/invoke/default/hello?alias=$LATEST");
    // It ran and failed: an answer. It was not run: a refusal.
    let failed = invoke(None, "fail").await.expect("an answer");
    assert_eq!((failed.status, failed.outcome), (504, Outcome::Timeout));
    assert_eq!(failed.refusal.expect("why").code, Code::FunctionTimeout);
    let busy = invoke(None, "busy").await.expect_err("refused");
    assert_eq!((busy.code, busy.retry_after_ms), (Code::TooManyRequests, Some(1_000)));
    assert!(invoke(Some("a&b=c"), "x").await.is_err());
    platform.stop().await;
}

fn line(time: u64, name: &str, text: &str) -> LogLine {
    LogLine {
        time: Timestamp(time),
        tenant: tenant(),
        function: function(name),
        version: 1,
        invocation: None,
        stream: Stream::Stdout,
        text: text.to_owned(),
    }
}

fn append(writer: &mut Writer, line: &LogLine) {
    writer.append(line.time, &line.to_bytes()).expect("appended");
}

#[tokio::test]
async fn logs_are_filtered_sorted_and_followed() {
    let platform = Platform::start().await;
    let dir = platform.path("journal/log");
    let writer = |name: &str| Writer::open(&dir, Options::new(name)).expect("a writer");
    let (mut gateway, mut node) = (writer("gateway-0"), writer("node"));
    append(&mut gateway, &line(3, "a", "third"));
    append(&mut node, &line(2, "a", "second"));
    append(&mut node, &line(4, "b", "fourth"));
    append(&mut node, &LogLine { tenant: "other".parse().expect("a name"), ..line(5, "a", "secret") });
    let read = |query: LogsQuery| {
        let client = platform.client.clone();
        async move {
            let mut lines = client.logs(&tenant(), &query).await.expect("logs");
            let mut texts = Vec::new();
            while let Some(line) = lines.next().await {
                texts.push(line.expect("a line").text);
            }
            texts
        }
    };
    assert_eq!(read(LogsQuery::default()).await, ["second", "third", "fourth"]);
    assert_eq!(read(LogsQuery { limit: Some(1), ..LogsQuery::default() }).await, ["fourth"]);
    let of_a = LogsQuery { function: Some(function("a")), ..LogsQuery::default() };
    assert_eq!(read(LogsQuery { since: Some(Timestamp(3)), ..of_a.clone() }).await, ["third"]);
    let follow = LogsQuery { follow: true, ..of_a };
    let mut lines = platform.client.logs(&tenant(), &follow).await.expect("logs");
    for expected in ["second", "third"] {
        assert_eq!(lines.next().await.expect("more").expect("a line").text, expected);
    }
    append(&mut gateway, &line(6, "b", "not asked for"));
    append(&mut gateway, &line(7, "a", "new"));
    let new = tokio::time::timeout(Duration::from_secs(10), lines.next()).await.expect("it comes");
    assert_eq!(new.expect("more").expect("a line").text, "new");
    platform.stop().await;
}

#[tokio::test]
async fn usage_sums_exactly_what_was_recorded() {
    let platform = Platform::start().await;
    let mut writer =
        Writer::open(&platform.path("journal/usage"), Options::new("gateway-0")).expect("a writer");
    // Older records would be sealed, and forgotten, at any moment.
    let now = SystemClock.now();
    for (name, billed_ms, outcome) in
        [("a", 10, Outcome::Ok), ("a", 5, Outcome::Timeout), ("b", 1, Outcome::Ok)]
    {
        let usage = Usage {
            id: InvocationId::new(),
            tenant: tenant(),
            app: app("shop"),
            function: function(name),
            version: 1,
            started: now,
            timing: Timing::default(),
            billed_ms,
            memory_mib: 128,
            cpu_us: 100,
            cold: false,
            bytes_in: 1,
            bytes_out: 2,
            outcome,
            caller: None,
        };
        writer
            .append(usage.started, usage.write(&mut [0; Usage::BYTES_MAX]).expect("bytes"))
            .expect("appended");
    }
    let report = platform.client.usage(&tenant(), &UsageQuery::default()).await.expect("usage");
    let rows: Vec<_> = report
        .rows
        .iter()
        .map(|row| (row.function.as_ref().expect("a name").to_string(), row.sums.billed_ms, row.sums.errors))
        .collect();
    assert_eq!(rows, [("a".to_owned(), 15, 1), ("b".to_owned(), 1, 0)]);
    assert_eq!(
        (report.total.invocations, report.total.mib_ms, report.currency.as_str()),
        (3, 16 * 128, "USD")
    );
    let costs: u64 = report.rows.iter().map(|row| row.sums.cost_nanos).sum();
    assert!(costs > 0 && costs == report.total.cost_nanos);
    let by_hour = UsageQuery { by: UsageBy::Hour, ..UsageQuery::default() };
    let report = platform.client.usage(&tenant(), &by_hour).await.expect("usage");
    assert_eq!((report.rows.len(), report.rows[0].hour), (1, Some(now.hour())));
    // The same records, as evidence.
    let mut lines = platform.client.audit_export(&tenant(), &AuditQuery::default()).await.expect("an export");
    let mut text = String::new();
    while let Some(line) = lines.next().await {
        text += line.expect("a line").get();
        text.push('\n');
    }
    let key = platform.client.audit_key().await.expect("a key");
    assert_eq!(key.algorithm, "ed25519");
    let key = key.key.parse().expect("a public key");
    let verified =
        rouse_metering::audit::verify::verify(text.as_bytes(), Some(&key)).expect("it proves itself");
    assert_eq!(verified.records, 3);
    assert_eq!(verified.cost_nanos, u128::from(report.total.cost_nanos));
    platform.stop().await;
}

#[tokio::test]
async fn instances_and_metrics_of_all_processes_are_told() {
    let platform = Platform::start().await;
    let instances = platform.client.ps(&tenant()).await.expect("instances");
    assert_eq!(instances.len(), 1, "another tenant's are not shown");
    let metrics = platform.client.metrics().await.expect("metrics");
    assert!(metrics.contains("calls{process=\"gateway-0\"} 3\n"), "{metrics}");
    assert!(metrics.contains("rouse_control_requests_total{process=\"control\"}"), "{metrics}");
    let info = platform.client.info().await.expect("info");
    let available: Vec<_> = info.runtimes.iter().map(|runtime| runtime.available).collect();
    assert_eq!(available, [true, true, false]);
    assert!(info.runtimes[2].detail.as_ref().expect("why").contains("wait for it"));
    platform.stop().await;
}

#[tokio::test]
async fn clients_that_send_too_slowly_are_cut_off() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let platform = Platform::start().await;
    let address = platform.url.trim_start_matches("http://").to_owned();
    // Nothing, half of a preface of HTTP/2, half of a head, one request and then silence.
    let begins: [&[u8]; 4] = [
        b"",
        b"PRI * HT",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    ];
    let waits = begins.map(|begin| async {
        let mut stream = tokio::net::TcpStream::connect(&address).await.expect("a connection");
        stream.write_all(begin).await.expect("sent");
        let mut all = Vec::new();
        // The bound is ten seconds; what is asserted is only that there is one.
        let ended = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut all)).await;
        ended.expect("it is cut off").expect("in order");
        all
    });
    let answers = futures_util::future::join_all(waits).await;
    assert!(answers[3].starts_with(b"HTTP/1.1 200"), "what was asked whole was answered");
    platform.stop().await;
}

#[tokio::test]
async fn http_2_is_spoken_too() {
    let platform = Platform::start().await;
    let address = platform.url.trim_start_matches("http://").to_owned();
    let stream = tokio::net::TcpStream::connect(&address).await.expect("a connection");
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.expect("a handshake");
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let request = Request::get(format!("{}/healthz", platform.url)).body(Full::new(Bytes::new()));
    let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    platform.stop().await;
}

/// A collector of traces that is away once, then takes what comes and passes it on.
async fn collector() -> (String, tokio::sync::mpsc::Receiver<serde_json::Value>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
    let (send, received) = tokio::sync::mpsc::channel(10);
    let serve = async move {
        for status in std::iter::once(503).chain(std::iter::repeat(200)) {
            let (stream, _) = listener.accept().await.expect("a connection");
            let send = send.clone();
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let send = send.clone();
                async move {
                    assert_eq!(request.uri().path(), "/v1/traces");
                    assert_eq!(request.headers()["x-key"], "secret");
                    let body = request.into_body().collect().await.expect("a body").to_bytes();
                    if status == 200 {
                        let json = serde_json::from_slice(&body).expect("JSON");
                        send.send(json).await.expect("the test waits");
                    }
                    let answer = http::Response::builder().status(status).body(Full::<Bytes>::default());
                    Ok::<_, std::convert::Infallible>(answer.expect("an answer"))
                }
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            // The exporter closes its connection after each request.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        }
    };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(serve);
    tasks.detach_all();
    (endpoint, received)
}

#[tokio::test]
async fn calls_become_spans_at_a_collector_that_was_away_for_a_moment() {
    let (endpoint, mut received) = collector().await;
    let otlp = rouse_control::Otlp::new(&endpoint, "x-key=secret").expect("an endpoint");
    let state = std::sync::Arc::new(tempfile::tempdir().expect("a folder"));
    let platform = Platform::start_with(state, Duration::from_secs(3_600), Some(otlp)).await;
    let mut writer =
        Writer::open(&platform.path("journal/usage"), Options::new("gateway-0")).expect("a writer");
    let usage = Usage {
        id: InvocationId::new(),
        tenant: tenant(),
        app: app("shop"),
        function: function("cart"),
        version: 1,
        started: Timestamp(1_000),
        timing: Timing { run_us: 7, ..Timing::default() },
        billed_ms: 1,
        memory_mib: 128,
        cpu_us: 5,
        cold: false,
        bytes_in: 0,
        bytes_out: 0,
        outcome: Outcome::Ok,
        caller: None,
    };
    writer.append(usage.started, usage.write(&mut [0; Usage::BYTES_MAX]).expect("bytes")).expect("appended");
    let sent = tokio::time::timeout(Duration::from_secs(30), received.recv()).await.expect("it comes");
    let spans = sent.expect("a batch")["resourceSpans"][0]["scopeSpans"][0]["spans"].clone();
    let id = usage.id.to_string().replace('-', "");
    assert_eq!(spans[0]["traceId"], id, "a trace that begins here is found by the invocation's id");
    assert_eq!((spans[0]["name"].as_str(), spans[1]["name"].as_str()), (Some("cart"), Some("run")));
    platform.stop().await;
}
