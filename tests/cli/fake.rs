//! A server that answers as the control API does, from the API's own types, and remembers what it was asked.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rouse_api::{
    AppDetail, COST_HEADER, DeleteAnswer, DeployEvent, DeployedFunction, Deployment, FunctionSummary, Info,
    OUTCOME_HEADER, RollbackAnswer, UsageBy, UsageReport, UsageRow, UsageSums,
};
use rouse_types::{
    Alias, AliasWeight, AppName, Code, FunctionName, InvocationId, Isolation, LogLine, Refusal, Runtime,
    TenantId, Timestamp, invocation, log::Stream,
};
use serde::Serialize;
use tokio::sync::oneshot;

pub(crate) const TOKEN: &str = "the-token";

type Asked = Arc<Mutex<Vec<(String, Bytes)>>>;

/// The server; it stops when dropped.
pub(crate) struct Fake {
    pub(crate) url: String,
    asked: Asked,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        listener.set_nonblocking(true).expect("nonblocking");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (stop, mut stopped) = oneshot::channel();
        let asked = Asked::default();
        let seen = Arc::clone(&asked);
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let mut connections = tokio::task::JoinSet::new();
                loop {
                    let stream = tokio::select! {
                        accepted = listener.accept() => accepted.expect("a connection").0,
                        _ = &mut stopped => break,
                    };
                    let seen = Arc::clone(&seen);
                    let service = service_fn(move |request| serve(Arc::clone(&seen), request));
                    connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                }
            });
        });
        Self { url, asked, stop: Some(stop), thread: Some(thread) }
    }

    /// The body of the last request of this method and path.
    pub(crate) fn body_of(&self, what: &str) -> Bytes {
        let asked = self.asked.lock().expect("a lock");
        let found = asked.iter().rev().find(|(line, _)| line == what);
        found.unwrap_or_else(|| panic!("{what} was not asked: {asked:?}")).1.clone()
    }

    /// How often this method and path was asked.
    pub(crate) fn times_asked(&self, what: &str) -> usize {
        self.asked.lock().expect("a lock").iter().filter(|(line, _)| line == what).count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(asked: Asked, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let line = format!("{} {}", request.method(), request.uri().path());
    let token = request.headers().get("authorization").cloned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    asked.lock().expect("a lock").push((line.clone(), body));
    if token.is_none_or(|token| token != format!("Bearer {TOKEN}")) {
        return Ok(refuse(
            &Refusal::new(Code::Unauthorized, "the control API needs its token").hint("set it"),
        ));
    }
    Ok(answer(&line))
}

fn answer(line: &str) -> Response<Full<Bytes>> {
    let (method, path) = line.split_once(' ').expect("a method and a path");
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method, parts.as_slice()) {
        ("GET", ["v1", "info"]) => json(&Info {
            version: "0".into(),
            gateway: "http://127.0.0.1:8080".into(),
            domain: "localhost".into(),
            runtimes: vec![],
            isolations: vec![],
        }),
        ("HEAD", ["v1", "blobs", _]) => status(404),
        ("PUT", ["v1", "blobs", _]) => status(201),
        ("POST", ["v1", "tenants", _, "apps", "taken", "deployments"]) => {
            let refusal = Refusal::new(Code::NameTaken, "function 'hello' belongs to app 'shop'");
            lines(&[DeployEvent::Failed { refusal: refusal.hint("choose another name") }])
        }
        ("POST", ["v1", "tenants", _, "apps", _, "deployments"]) => lines(&[
            DeployEvent::Unpacking { function: name("hello") },
            DeployEvent::Unpacked { function: name("hello"), ms: 1, cached: false },
            DeployEvent::Live { deployment: deployment(7, 3) },
        ]),
        ("POST", ["v1", "tenants", _, "apps", _, "rollback"]) => {
            json(&RollbackAnswer { deployment: deployment(6, 2), warnings: vec![] })
        }
        ("GET", ["v1", "tenants", _, "apps", _]) => {
            let app = AppName::new("shop").expect("a name");
            json(&AppDetail { app, revision: 1, live: 7, functions: vec![summary()], deployments: vec![] })
        }
        ("DELETE", ["v1", "tenants", _, "apps", _]) => {
            json(&DeleteAnswer { functions: vec![name("hello")], warnings: vec![] })
        }
        ("GET", ["v1", "tenants", _, "functions"]) => json(&vec![summary()]),
        ("POST", ["v1", "tenants", _, "functions", function, "invocations"]) => invoke(function),
        ("GET", ["v1", "tenants", _, "logs"]) => lines(&[LogLine {
            time: Timestamp::from_millis(1_700_000_000_000),
            tenant: tenant(),
            function: name("hello"),
            version: 3,
            invocation: Some(InvocationId::from_bytes([7; 16])),
            stream: Stream::Stdout,
            text: "printed this".into(),
        }]),
        ("GET", ["v1", "tenants", _, "usage"]) => {
            let sums = UsageSums {
                invocations: 1,
                billed_ms: 13,
                mib_ms: 1_664,
                cost_nanos: 417,
                ..UsageSums::default()
            };
            let row =
                UsageRow { tenant: tenant(), app: None, function: Some(name("hello")), hour: None, sums };
            json(&UsageReport { by: UsageBy::Function, currency: "USD".into(), rows: vec![row], total: sums })
        }
        _ => refuse(&Refusal::new(Code::OperationNotFound, format!("no operation {line}"))),
    }
}

fn invoke(function: &str) -> Response<Full<Bytes>> {
    let failed = function == "broken";
    let body = if failed {
        let refusal = Refusal::new(Code::FunctionError, format!("function '{function}' failed: boom"));
        serde_json::to_vec(&refusal).expect("json")
    } else {
        b"{\"hello\":\"you\"}".to_vec()
    };
    Response::builder()
        .status(if failed { 502 } else { 200 })
        .header(invocation::ID_HEADER, InvocationId::from_bytes([7; 16]).to_string())
        .header(OUTCOME_HEADER, if failed { "function-error" } else { "ok" })
        .header(invocation::BILLED_HEADER, "13")
        .header(COST_HEADER, "417")
        .header("server-timing", "queue;dur=0.125, start;dur=2.5, run;dur=12.5")
        .body(Full::new(body.into()))
        .expect("an answer")
}

fn tenant() -> TenantId {
    TenantId::new("default").expect("a name")
}

fn name(text: &str) -> FunctionName {
    FunctionName::new(text).expect("a name")
}

fn deployment(number: u64, version: u64) -> Deployment {
    Deployment {
        tenant: tenant(),
        app: AppName::new("shop").expect("a name"),
        number,
        created: Timestamp::from_millis(1_700_000_000_000),
        message: None,
        live: true,
        functions: vec![DeployedFunction {
            function: name("hello"),
            version,
            changed: true,
            url: "http://hello.default.localhost:8080/".into(),
            domains: Vec::new(),
        }],
    }
}

fn summary() -> FunctionSummary {
    let live = Alias {
        versions: vec![AliasWeight { version: 2, weight: 9 }, AliasWeight { version: 3, weight: 1 }],
    };
    FunctionSummary {
        app: AppName::new("shop").expect("a name"),
        function: name("hello"),
        runtime: Runtime::Python { minor: 11 },
        isolation: Isolation::Container,
        latest: 3,
        aliases: [("live".parse().expect("a name"), live)].into(),
        created: Timestamp::from_millis(1_700_000_000_000),
        url: "http://hello.default.localhost:8080/".into(),
    }
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    Response::new(Full::new(serde_json::to_vec(value).expect("json").into()))
}

fn lines(values: &[impl Serialize]) -> Response<Full<Bytes>> {
    let text: String =
        values.iter().map(|value| serde_json::to_string(value).expect("json") + "\n").collect();
    Response::new(Full::new(text.into()))
}

fn status(code: u16) -> Response<Full<Bytes>> {
    Response::builder().status(code).body(Full::default()).expect("an answer")
}

fn refuse(refusal: &Refusal) -> Response<Full<Bytes>> {
    let mut response = json(refusal);
    *response.status_mut() = hyper::StatusCode::from_u16(refusal.code.status()).expect("a status");
    response
}
