//! A process of events with a state folder, and a gateway that does as it is told.

use std::{
    convert::Infallible,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rouse_api::wire::{self, Address, Timeouts};
use rouse_events::Config;
use rouse_store::{Queues, queues::DEDUPLICATION_WINDOW_DEFAULT};
use rouse_types::{
    Alias, AppSnapshot, Clock, Delivery, Event, EventCall, EventSettings, FunctionRoute, FunctionVersion,
    Refusal, Scaling, SystemClock,
    event::{Accepted, DELIVERY_HEADER},
};
use tokio::{
    net::UnixListener,
    runtime::Runtime,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// Of every function here.
pub(crate) const CONCURRENCY_MAX: u32 = 8;
const LIMIT: Duration = Duration::from_secs(30);

/// What the gateway answers.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) error: Option<&'static str>,
    /// Whether it is the error of a Lambda function, as that API answers it.
    pub(crate) raised: bool,
    pub(crate) body: String,
    pub(crate) delay: Duration,
}

impl Answer {
    pub(crate) fn ok() -> Self {
        Self {
            status: StatusCode::OK,
            error: None,
            raised: false,
            body: String::new(),
            delay: Duration::ZERO,
        }
    }

    pub(crate) fn refused(error: &'static str, message: &str) -> Self {
        let body = serde_json::json!({ "code": error, "message": message }).to_string();
        Self { status: StatusCode::BAD_GATEWAY, error: Some(error), body, ..Self::ok() }
    }
}

/// A delivery that the gateway was given.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) nth: usize,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) delivery: Delivery,
}

type Script = Arc<dyn Fn(&Call) -> Answer + Send + Sync>;

struct Gateway {
    script: Script,
    calls: Mutex<Vec<Call>>,
    busy: AtomicUsize,
    most: AtomicUsize,
}

pub(crate) struct World {
    folder: Arc<tempfile::TempDir>,
    clock: Arc<dyn Clock>,
    gateway: Arc<Gateway>,
    listening: tokio::sync::Mutex<JoinSet<()>>,
    /// A runtime of its own: what is killed leaves no task behind that would go on.
    process: Option<(Runtime, JoinHandle<()>)>,
    stop: CancellationToken,
}

/// What a process left in its store.
pub(crate) struct Left {
    queues: Queues,
    _folder: Arc<tempfile::TempDir>,
}

impl std::ops::Deref for Left {
    type Target = Queues;
    fn deref(&self) -> &Queues {
        &self.queues
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some((runtime, _)) = self.process.take() {
            runtime.shutdown_background();
        }
    }
}

/// A call with a payload, by nobody in particular.
pub(crate) fn event(function: &str) -> Event {
    let (tenant, function) = ("default".parse().unwrap(), function.parse().unwrap());
    Event::new(&tenant, &function, EventCall::Invoke { content_type: None }, SystemClock.now())
}

impl World {
    pub(crate) async fn start(script: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Arc::new(SystemClock), script).await
    }

    /// In this folder, and by this clock.
    pub(crate) async fn start_in(
        folder: tempfile::TempDir,
        clock: Arc<dyn Clock>,
        script: impl Fn(&Call) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let folder = Arc::new(folder);
        for name in ["run", "apps/default", "events"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let gateway = Gateway {
            script: Arc::new(script),
            calls: Mutex::default(),
            busy: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        };
        Self::with(folder, clock, Arc::new(gateway)).await
    }

    async fn with(folder: Arc<tempfile::TempDir>, clock: Arc<dyn Clock>, gateway: Arc<Gateway>) -> Self {
        let stop = CancellationToken::new();
        let config = Config {
            state: folder.path().to_owned(),
            gateways: 1,
            drain: Duration::from_secs(1),
            clock: Arc::clone(&clock),
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let stopping = stop.clone();
        let process = runtime.spawn(async move { rouse_events::serve(config, stopping).await.unwrap() });
        let process = Some((runtime, process));
        let world = Self { folder, clock, gateway, listening: tokio::sync::Mutex::default(), process, stop };
        world.gateway_comes().await;
        let socket = world.folder.path().join("run/events.sock");
        // A socket is there a moment before it listens.
        wait("the socket", || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
        world
    }

    /// Kills the process as far as that can be done to a thread, and starts another on the same folder.
    pub(crate) async fn restart(mut self) -> Self {
        let (runtime, process) = self.process.take().unwrap();
        runtime.shutdown_background();
        // Its tasks are gone once this one is.
        let _ = process.await;
        self.gateway_leaves().await;
        std::fs::remove_file(self.folder.path().join("run/events.sock")).unwrap();
        Self::with(Arc::clone(&self.folder), Arc::clone(&self.clock), Arc::clone(&self.gateway)).await
    }

    /// Stops the process, and gives what it leaves in the store.
    pub(crate) async fn stop(mut self) -> Left {
        self.stop.cancel();
        let (runtime, process) = self.process.take().unwrap();
        process.await.unwrap();
        runtime.shutdown_background();
        let folder = Arc::clone(&self.folder);
        let path = folder.path().join("events/queues.db");
        let queues = Queues::open(&path, Arc::clone(&self.clock), DEDUPLICATION_WINDOW_DEFAULT).unwrap();
        Left { queues, _folder: folder }
    }

    pub(crate) async fn gateway_leaves(&self) {
        self.listening.lock().await.shutdown().await;
    }

    pub(crate) async fn gateway_comes(&self) {
        let path = self.folder.path().join("run/gateway-0.sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        let gateway = Arc::clone(&self.gateway);
        self.listening.lock().await.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let gateway = Arc::clone(&gateway);
                connections.spawn(async move {
                    let service = service_fn(|request| take(&gateway, request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    }

    /// Puts a function live, with these settings of its events.
    pub(crate) async fn deploy(&self, function: &str, events: EventSettings) {
        self.deploy_as(function, |version| version.events = events).await;
    }

    /// Puts a Lambda function live, changed as a test wants it.
    pub(crate) async fn deploy_as(&self, function: &str, change: impl FnOnce(&mut FunctionVersion)) {
        let mut version = FunctionVersion {
            tenant: "default".parse().unwrap(),
            app: function.parse().unwrap(),
            function: function.parse().unwrap(),
            number: 1,
            digest: rouse_types::Digest::of(b"d"),
            code: rouse_types::Digest::of(b"c"),
            image: None,
            runtime: rouse_types::Runtime::Provided,
            contract: rouse_types::Contract::Lambda,
            http: Default::default(),
            handler: None,
            isolation: rouse_types::Isolation::Container,
            env: Default::default(),
            secrets: Default::default(),
            limits: Default::default(),
            scaling: Scaling { concurrency_max: CONCURRENCY_MAX, ..Default::default() },
            egress: Default::default(),
            invoke: rouse_types::InvokePolicy::default(),
            triggers: Vec::new(),
            events: EventSettings::default(),
            lambda: None,
        };
        change(&mut version);
        let snapshot = AppSnapshot {
            tenant: version.tenant.clone(),
            app: version.app.clone(),
            revision: 1,
            functions: vec![FunctionRoute {
                function: version.function.clone(),
                slot: 0,
                domains: Vec::new(),
                aliases: [("live".parse().unwrap(), Alias::of(1))].into(),
                latest: 1,
                versions: [(1, Arc::new(version))].into(),
            }],
        };
        let path = self.folder.path().join(format!("apps/default/{function}.json"));
        std::fs::write(path, serde_json::to_vec(&snapshot).unwrap()).unwrap();
        let (status, _) = self.exchange(Method::PUT, &format!("/apps/default/{function}"), b"").await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }

    pub(crate) async fn exchange(&self, method: Method, path: &str, body: &[u8]) -> (StatusCode, Bytes) {
        exchange(&self.folder.path().join("run/events.sock"), method, path, HeaderMap::new(), body).await
    }

    pub(crate) async fn post_with(&self, path: &str, headers: HeaderMap, body: &[u8]) -> (StatusCode, Bytes) {
        exchange(&self.folder.path().join("run/events.sock"), Method::POST, path, headers, body).await
    }

    pub(crate) async fn post(&self, path: &str, body: &[u8]) -> (StatusCode, Bytes) {
        self.exchange(Method::POST, path, body).await
    }

    pub(crate) async fn accept(&self, event: &Event, body: &[u8]) -> Result<Accepted, Refusal> {
        let (status, answer) = self.post("/accept", &event.encode(body)).await;
        if status == StatusCode::ACCEPTED {
            return Ok(serde_json::from_slice(&answer).unwrap());
        }
        Err(serde_json::from_slice(&answer).unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, serde_json::Value) {
        let (status, body) = self.exchange(Method::GET, path, b"").await;
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub(crate) async fn delete(&self, path: &str) -> serde_json::Value {
        serde_json::from_slice(&self.exchange(Method::DELETE, path, b"").await.1).unwrap()
    }

    /// Events of the tenant, by a query.
    pub(crate) async fn list(&self, query: &str) -> serde_json::Value {
        self.get(&format!("/v1/tenants/default/events?{query}")).await.1
    }

    /// Does something to the events that a filter takes.
    pub(crate) async fn ask(&self, what: &str, filter: &serde_json::Value) -> serde_json::Value {
        let path = format!("/v1/tenants/default/events/{what}");
        serde_json::from_slice(&self.post(&path, filter.to_string().as_bytes()).await.1).unwrap()
    }

    /// The calls so far, once there are so many.
    pub(crate) async fn calls(&self, count: usize) -> Vec<Call> {
        wait("calls", || self.gateway.calls.lock().unwrap().len() >= count).await;
        self.gateway.calls.lock().unwrap().clone()
    }

    /// How many deliveries were under way together.
    pub(crate) fn most_at_once(&self) -> usize {
        self.gateway.most.load(Ordering::Relaxed)
    }

    /// Waits until no queue has a consumer: nothing is left to do.
    pub(crate) async fn idle(&self) {
        self.until("rouse_events_consumers 0").await;
    }

    /// Waits until its metrics say this.
    pub(crate) async fn until(&self, metric: &str) {
        let end = tokio::time::Instant::now() + LIMIT;
        loop {
            let (_, text) = self.exchange(Method::GET, "/metrics", b"").await;
            if String::from_utf8_lossy(&text).contains(metric) {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "{metric}: not within {LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
    headers: HeaderMap,
    body: &[u8],
) -> (StatusCode, Bytes) {
    let mut request =
        Request::builder().method(method).uri(path).body(Full::new(Bytes::copy_from_slice(body))).unwrap();
    request.headers_mut().extend(headers);
    let timeouts = Timeouts { connect: LIMIT, head: LIMIT, idle: LIMIT };
    let answer = wire::exchange(&Address::Unix(socket.to_owned()), request, timeouts).await.unwrap();
    (answer.status(), answer.into_body().collect().await.unwrap().to_bytes())
}

async fn take(gateway: &Gateway, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let delivery = serde_json::from_slice(head.headers[DELIVERY_HEADER].as_bytes()).unwrap();
    let body = body.collect().await.unwrap().to_bytes();
    let busy = gateway.busy.fetch_add(1, Ordering::Relaxed) + 1;
    gateway.most.fetch_max(busy, Ordering::Relaxed);
    let answer = {
        let mut calls = gateway.calls.lock().unwrap();
        let path = head.uri.to_string();
        let call =
            Call { nth: calls.len(), method: head.method, path, headers: head.headers, body, delivery };
        calls.push(call.clone());
        (gateway.script)(&call)
    };
    tokio::time::sleep(answer.delay).await;
    gateway.busy.fetch_sub(1, Ordering::Relaxed);
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    if answer.raised {
        response.headers_mut().insert("x-amz-function-error", "Unhandled".parse().unwrap());
    }
    if let Some(error) = answer.error {
        response.headers_mut().insert("x-rouse-error", error.parse().unwrap());
    }
    Ok(response)
}

pub(crate) async fn wait(what: &str, holds: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + LIMIT;
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
