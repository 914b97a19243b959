//! A node with a state folder of its own, and a gateway's view of it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rouse_sandbox::{
    Driver, Error, Spec, Started,
    sim::{SimDriver, SimSandbox},
};
use rouse_store::journal::{Cursor, Reader};
use rouse_types::{
    Alias, AppSnapshot, Clock, Digest, FunctionRoute, FunctionVersion, InstanceInfo, Invocation,
    InvocationId, Isolation, LIVE, Limits, LogLine, ManualClock, OutcomeHead, Runtime, Scaling, Source,
    Timestamp, Usage,
    invocation::{INVOCATION_HEADER, OUTCOME_HEADER},
};
use serde_json::{Value, json};
use tokio::{net::UnixStream, sync::oneshot, task::JoinSet};

use crate::code;

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) struct Node {
    pub(crate) driver: SimDriver,
    /// How many of the next starts find no spawner.
    pub(crate) away: Arc<AtomicU32>,
    state: tempfile::TempDir,
    shutdown: std::sync::Mutex<Option<oneshot::Sender<()>>>,
    served: JoinSet<()>,
    revision: AtomicU64,
}

/// The simulator behind a spawner that can be away.
struct Spawned {
    sim: SimDriver,
    away: Arc<AtomicU32>,
}

impl Driver for Spawned {
    type Sandbox = SimSandbox;

    async fn start(&self, spec: Spec) -> Result<Started<SimSandbox>, Error> {
        let away = self.away.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if away.is_ok() {
            return Err(Error::Spawner(std::io::ErrorKind::UnexpectedEof.into()));
        }
        self.sim.start(spec).await
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("json")
    }

    pub(crate) fn outcome(&self) -> OutcomeHead {
        let head = self.headers.get(OUTCOME_HEADER).or_else(|| self.trailers.get(OUTCOME_HEADER));
        serde_json::from_slice(head.expect("code ran").as_bytes()).expect("json")
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().expect("a refusal").to_owned()
    }
}

pub(crate) fn version(function: &str, number: u64) -> FunctionVersion {
    FunctionVersion {
        tenant: "acme".parse().expect("a tenant"),
        app: "shop".parse().expect("an app"),
        function: function.parse().expect("a function"),
        number,
        digest: Digest::of(b"version"),
        code: Digest::of(b"code"),
        image: None,
        runtime: Runtime::Provided,
        contract: rouse_types::Contract::Lambda,
        http: rouse_types::HttpSettings::default(),
        handler: None,
        isolation: Isolation::Container,
        env: BTreeMap::new(),
        secrets: Default::default(),
        limits: Limits { timeout_ms: 5_000, ..Limits::default() },
        scaling: Scaling::default(),
        egress: rouse_types::Egress::default(),
        invoke: rouse_types::InvokePolicy::default(),
        triggers: Vec::new(),
        events: rouse_types::EventSettings::default(),
        lambda: None,
    }
}

impl Node {
    pub(crate) async fn start(driver: SimDriver, memory_mib: u64) -> Arc<Self> {
        Self::start_with(driver, memory_mib, 1_000).await
    }

    pub(crate) async fn start_with(driver: SimDriver, memory_mib: u64, starts_max: u32) -> Arc<Self> {
        let state = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(state.path().join("run")).expect("a folder");
        rouse_quota::Table::create(&state.path().join("run/quotas")).expect("quotas");
        let (shutdown, told) = oneshot::channel();
        let away = Arc::new(AtomicU32::new(0));
        let config = rouse_node::Config {
            state: state.path().to_owned(),
            socket: state.path().join("run/node.sock"),
            driver: Spawned { sim: driver.clone(), away: Arc::clone(&away) },
            clock: Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000))),
            memory_budget_bytes: memory_mib * MIB,
            starts_max,
            pricing: rouse_types::Pricing::default(),
            drain: Duration::from_secs(10),
        };
        let mut served = JoinSet::new();
        served.spawn(async move {
            let until = async move { drop(told.await) };
            rouse_node::serve(config, until).await.expect("it serves");
        });
        let node = Self {
            driver,
            away,
            state,
            shutdown: Some(shutdown).into(),
            served,
            revision: AtomicU64::new(0),
        };
        while !node.socket().exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Arc::new(node)
    }

    /// A node with these versions, whose instances start in no time.
    pub(crate) async fn with(versions: &[FunctionVersion]) -> Arc<Self> {
        let node = Self::start(SimDriver::new(code::run), 100_000).await;
        node.deploy(versions).await;
        node
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.state.path().join("run/node.sock")
    }

    /// Makes these versions the whole of the app.
    pub(crate) async fn deploy(&self, versions: &[FunctionVersion]) {
        let mut functions: BTreeMap<_, FunctionRoute> = BTreeMap::new();
        for version in versions {
            let route = functions.entry(version.function.clone()).or_insert_with(|| FunctionRoute {
                function: version.function.clone(),
                slot: 0,
                domains: Vec::new(),
                aliases: BTreeMap::from([(LIVE.parse().expect("an alias"), Alias::of(version.number))]),
                latest: version.number,
                versions: BTreeMap::new(),
            });
            route.versions.insert(version.number, Arc::new(version.clone()));
        }
        let snapshot = AppSnapshot {
            tenant: "acme".parse().expect("a tenant"),
            app: "shop".parse().expect("an app"),
            revision: self.revision.fetch_add(1, Ordering::SeqCst) + 1,
            functions: functions.into_values().collect(),
        };
        let dir = self.state.path().join("apps/acme");
        std::fs::create_dir_all(&dir).expect("a folder");
        let json = serde_json::to_vec(&snapshot).expect("json");
        std::fs::write(dir.join("shop.json"), json).expect("a file");
        let put = Request::put("/apps/acme/shop").body(Full::default()).expect("a request");
        assert_eq!(self.send(put).await.status, StatusCode::NO_CONTENT);
    }

    pub(crate) async fn send(&self, mut request: Request<Full<Bytes>>) -> Answer {
        let stream = UnixStream::connect(self.socket()).await.expect("it listens");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("http");
        request.headers_mut().entry("host").or_insert(http::HeaderValue::from_static("node"));
        request.headers_mut().insert("te", http::HeaderValue::from_static("trailers"));
        let exchange = async move {
            let answer = sender.send_request(request).await.expect("an answer");
            let (head, body) = answer.into_parts();
            let body = body.collect().await.expect("a whole body");
            let trailers = body.trailers().cloned().unwrap_or_default();
            Answer { status: head.status, headers: head.headers, body: body.to_bytes(), trailers }
        };
        tokio::pin!(connection, exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            _ = &mut connection => exchange.await,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Full::default()).expect("a request")).await
    }

    pub(crate) async fn ps(&self) -> Vec<InstanceInfo> {
        serde_json::from_slice(&self.get("/ps").await.body).expect("json")
    }

    /// A call by `rouse invoke`.
    pub(crate) async fn invoke(&self, function: &str, number: u64, payload: Value) -> Answer {
        let request = request(function, number, Source::Invoke, payload.to_string());
        self.send(request).await
    }

    /// A call over HTTP.
    pub(crate) async fn http(&self, function: &str, payload: Value) -> Answer {
        self.send(request(function, 1, Source::Http, payload.to_string())).await
    }

    /// What the supervisor's signal does.
    pub(crate) fn tell_to_end(&self) {
        drop(self.shutdown.lock().expect("no panic").take());
    }

    /// Ends the node, and gives what it journalled.
    pub(crate) async fn end(self: Arc<Self>) -> (Vec<Usage>, Vec<LogLine>) {
        let Ok(mut node) = Arc::try_unwrap(self) else { panic!("calls are still under way") };
        node.tell_to_end();
        while node.served.join_next().await.is_some() {}
        assert_eq!(node.driver.living(), 0, "a node that has ended leaves no sandbox");
        (node.journal("usage", Usage::read), node.journal("log", LogLine::read))
    }

    fn journal<T>(
        &self,
        what: &str,
        read: fn(&[u8]) -> Result<T, rouse_types::journalled::RecordError>,
    ) -> Vec<T> {
        let mut reader = Reader::open(&self.state.path().join("journal").join(what), Cursor::default());
        let batch = reader.read(10_000).expect("a journal");
        assert!(batch.corruptions.is_empty());
        batch.records.iter().map(|record| read(&record.payload).expect("a record")).collect()
    }
}

pub(crate) fn request(function: &str, number: u64, source: Source, payload: String) -> Request<Full<Bytes>> {
    let id = InvocationId::new();
    let invocation = Invocation {
        id,
        tenant: "acme".parse().expect("a tenant"),
        function: function.parse().expect("a function"),
        version: number,
        source,
        received: ManualClock::at(Timestamp::from_millis(1_000_000)).now(),
        attempt: 1,
        caller: None,
        peer: "192.0.2.7".parse().ok(),
        lambda: None,
    };
    Request::post("/some/path?x=1")
        .header(INVOCATION_HEADER, serde_json::to_string(&invocation).expect("json"))
        .header("host", "f.acme.example")
        .header("content-type", "application/json")
        .body(Full::new(payload.into()))
        .expect("a request")
}

pub(crate) fn answer(value: &str) -> Value {
    json!({ "answer": value })
}

pub(crate) fn sleep_ms(ms: u64) -> Value {
    json!({ "sleep_ms": ms, "answer": "slept" })
}
