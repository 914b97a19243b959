//! A platform's control process within the test's own, on free ports, with a gateway and a compiler that are
//! only played.

#![expect(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod issuer;

use std::{
    convert::Infallible,
    io::{Cursor, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rouse_api::{Client, DeployEvent, DeployFunction, DeployRequest, Deployment};
use rouse_control::{Config, Retention};
use rouse_types::{
    AppName, AppSnapshot, Code, Digest, FunctionName, Isolation, Limits, Refusal, Runtime, Scaling,
    SystemClock, TenantId,
};
use tokio::{net::UnixListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) fn tenant() -> TenantId {
    "default".parse().expect("a name")
}

pub(crate) fn app(name: &str) -> AppName {
    name.parse().expect("a name")
}

pub(crate) fn function(name: &str) -> FunctionName {
    name.parse().expect("a name")
}

/// What begins like a component; the played compiler looks no further.
pub(crate) fn component(text: &str) -> Bytes {
    [b"\0asm\x0d\0\x01\0", text.as_bytes()].concat().into()
}

pub(crate) fn archive(files: &[(&str, &str)]) -> Bytes {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("an entry");
        writer.write_all(text.as_bytes()).expect("its text");
    }
    writer.finish().expect("an archive").into_inner().into()
}

pub(crate) fn wanted(name: &str, code: Digest, runtime: Runtime) -> DeployFunction {
    let component = runtime == Runtime::Component;
    DeployFunction {
        name: function(name),
        code: Some(code),
        image: None,
        runtime,
        contract: None,
        http: rouse_types::HttpSettings::default(),
        handler: (!component).then(|| "app.handler".to_owned()),
        isolation: if component { Isolation::Wasm } else { Isolation::Container },
        env: [("GREETING".to_owned(), "hello".to_owned())].into(),
        secrets: Default::default(),
        limits: Limits::default(),
        scaling: Scaling::default(),
        egress: rouse_types::Egress::default(),
        invoke: rouse_types::InvokePolicy::default(),
        domains: Vec::new(),
        triggers: Vec::new(),
        events: rouse_types::EventSettings::default(),
        aliases: Vec::new(),
        lambda: None,
    }
}

/// Of each runtime but one there is nothing to miss here.
fn check(runtime: &Runtime, _: &Path) -> Result<(), Refusal> {
    match runtime {
        Runtime::Python { minor: 99 } => {
            Err(Refusal::new(Code::RuntimeMissing, "python3.99 is not here").hint("wait for it"))
        }
        _ => Ok(()),
    }
}

/// The state folder outlives a process that is killed and started again.
pub(crate) struct Platform {
    pub(crate) state: Arc<tempfile::TempDir>,
    pub(crate) client: Client,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) gateway: Arc<Gateway>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Platform {
    pub(crate) async fn start() -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().expect("a folder")), Duration::from_secs(3_600)).await
    }

    pub(crate) async fn start_in(state: Arc<tempfile::TempDir>, code_grace: Duration) -> Self {
        Self::start_with(state, code_grace, None).await
    }

    pub(crate) async fn start_with(
        state: Arc<tempfile::TempDir>,
        code_grace: Duration,
        otlp: Option<rouse_control::Otlp>,
    ) -> Self {
        let path = state.path().to_owned();
        std::fs::create_dir_all(path.join("run")).expect("a folder");
        rouse_quota::Table::create(&path.join("run/quotas")).expect("a table");
        let compiler = path.join("compiler.sh");
        std::fs::write(&compiler, COMPILER).expect("the compiler");
        let mut tasks = JoinSet::new();
        let gateway = Gateway::start(&path, &mut tasks);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let config = Config {
            state: path.clone(),
            listener,
            https: false,
            public_url: "http://functions.test".to_owned(),
            domain: "functions.test".to_owned(),
            version: "0.0.0-test".to_owned(),
            compile_command: vec!["sh".into(), compiler.into(), path.join("compiles").into()],
            engine_tag: "test-1".to_owned(),
            runtimes: vec![Runtime::Component, Runtime::Python { minor: 11 }, Runtime::Python { minor: 99 }],
            runtime_check: check,
            server_check: |_, _, _, _, _| Ok(()),
            isolations: Vec::new(),
            full_network: Err("there is no nft".to_owned()),
            prices: rouse_metering::PriceSheet::default(),
            retention: Retention::default(),
            otlp,
            acme: None,
            code_grace,
            insecure_registries: Vec::new(),
            closing: tokio_util::sync::CancellationToken::new(),
            clock: Arc::new(SystemClock),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tasks.spawn(async move { Box::pin(rouse_control::serve(config, stopped)).await.expect("it serves") });
        let token_file = path.join("control/token");
        let socket = path.join("run/control.sock");
        eventually("control listens", || socket.exists() && token_file.exists()).await;
        let token = std::fs::read_to_string(token_file).expect("the token");
        let client = Client::new(&url, Some(token.clone())).expect("a client");
        for _ in 0..100 {
            if client.info().await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { state, client, url, token, gateway, stop, tasks }
    }

    /// Ends without a farewell: whatever is under way is dropped where it stands.
    pub(crate) async fn kill(mut self) -> Arc<tempfile::TempDir> {
        self.tasks.shutdown().await;
        Arc::clone(&self.state)
    }

    /// Ends control as its supervisor does: it must end by itself, and soon.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        // The other task is the gateway's, which never ends.
        let ended = tokio::time::timeout(Duration::from_secs(8), self.tasks.join_next()).await;
        ended.expect("control ends when it is told to").expect("a task").expect("no task panicked");
        self.tasks.shutdown().await;
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    /// What gateways read of an app.
    pub(crate) fn snapshot(&self, name: &str) -> Option<AppSnapshot> {
        snapshot(self.state.path(), name)
    }

    /// The version that `live` names, of a function.
    pub(crate) fn live(&self, app: &str, name: &str) -> Option<u64> {
        let snapshot = self.snapshot(app)?;
        let route = snapshot.functions.into_iter().find(|route| route.function.as_str() == name)?;
        route.aliases["live"].pick(0)
    }

    pub(crate) async fn upload(&self, bytes: Bytes) -> Digest {
        self.client.put_blob_bytes(bytes).await.expect("an upload")
    }

    pub(crate) async fn events(&self, app_name: &str, functions: Vec<DeployFunction>) -> Vec<DeployEvent> {
        self.try_events(app_name, functions).await.expect("it begins")
    }

    /// Fails for a deployment that does not even begin, as where it cannot be noted in the audit log.
    async fn try_events(
        &self,
        app_name: &str,
        functions: Vec<DeployFunction>,
    ) -> Result<Vec<DeployEvent>, Refusal> {
        let request = DeployRequest { functions, message: Some("a test".to_owned()) };
        let mut lines = self.client.deploy(&tenant(), &app(app_name), &request).await?;
        let mut events = Vec::new();
        while let Some(event) = lines.next().await {
            events.push(event.expect("an event"));
        }
        Ok(events)
    }

    pub(crate) async fn try_deploy(
        &self,
        app: &str,
        functions: Vec<DeployFunction>,
    ) -> Result<Deployment, Refusal> {
        match self.try_events(app, functions).await?.pop() {
            Some(DeployEvent::Live { deployment }) => Ok(deployment),
            Some(DeployEvent::Failed { refusal }) => Err(refusal),
            other => panic!("the last event is {other:?}"),
        }
    }

    /// Deploys components of these texts.
    pub(crate) async fn deploy(&self, app: &str, components: &[(&str, &str)]) -> Deployment {
        let mut functions = Vec::new();
        for (name, text) in components {
            functions.push(wanted(name, self.upload(component(text)).await, Runtime::Component));
        }
        self.try_deploy(app, functions).await.expect("it is live")
    }

    /// How often the compiler ran.
    pub(crate) fn compiles(&self) -> usize {
        std::fs::read_to_string(self.path("compiles")).unwrap_or_default().lines().count()
    }
}

pub(crate) fn snapshot(state: &Path, name: &str) -> Option<AppSnapshot> {
    let bytes = std::fs::read(state.join("apps/default").join(format!("{name}.json"))).ok()?;
    Some(serde_json::from_slice(&bytes).expect("a whole snapshot"))
}

/// Waits for what comes, but not for ever.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: not within 20 s");
}

const COMPILER: &str = r#"
echo compiled >> "$1"
case "$(tail -c +9 "$2")" in
  broken*) printf '{"code":"code-invalid","message":"the component is not valid"}'; exit 1;;
  crash*) echo "out of luck" >&2; exit 139;;
  slow*) sleep 60;;
esac
cp "$2" "$3"
"#;

/// A gateway that is only played: notes what it is told, and answers invocations as a gateway does.
#[derive(Default)]
pub(crate) struct Gateway {
    /// The apps that it was told of, with what was live at that moment.
    pub(crate) told: Mutex<Vec<(String, Option<AppSnapshot>)>>,
    /// Requests for invocations: path and body.
    pub(crate) invoked: Mutex<Vec<(String, Bytes)>>,
    state: PathBuf,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

impl Gateway {
    fn start(state: &Path, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let socket = state.join("run/gateway-0.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(socket).expect("a socket");
        let gateway = Arc::new(Self { state: state.to_owned(), ..Self::default() });
        let served = Arc::clone(&gateway);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let gateway = Arc::clone(&served);
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        let gateway = Arc::clone(&gateway);
                        async move { Ok::<_, Infallible>(gateway.answer(request).await) }
                    });
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        gateway
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().to_string();
        let method = request.method().clone();
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        match (method, path.as_str()) {
            (Method::PUT, "/quotas") => answer(204, &[], "", &[]),
            (Method::PUT, path) => {
                let name = path.rsplit('/').next().expect("an app").to_owned();
                let live = snapshot(&self.state, &name);
                self.told.lock().expect("no panic").push((name, live));
                answer(204, &[], "", &[])
            }
            (Method::POST, path) if path.starts_with("/invoke/default/hello") => {
                self.invoked.lock().expect("no panic").push((path.to_owned(), body.clone()));
                let id = ("x-rouse-invocation-id", "0190163d-8694-739b-aea5-966c26f8ad91");
                match &body[..] {
                    b"fail" => answer(
                        504,
                        &[id, ("x-rouse-error", "function-timeout"), ("x-rouse-billed-ms", "30000")],
                        r#"{"error":{"code":"function-timeout","message":"it ran over its time"}}"#,
                        &[],
                    ),
                    b"busy" => answer(
                        429,
                        &[id, ("x-rouse-error", "too-many-requests")],
                        r#"{"error":{"code":"too-many-requests","message":"too many","retry_after_ms":1000}}"#,
                        &[],
                    ),
                    _ => answer(
                        200,
                        &[
                            id,
                            ("content-type", "text/plain"),
                            ("trailer", "x-rouse-billed-ms, x-rouse-cost-nanos, server-timing"),
                        ],
                        "done",
                        &[
                            ("x-rouse-billed-ms", "7"),
                            ("x-rouse-cost-nanos", "417"),
                            ("server-timing", "total;dur=6.500"),
                        ],
                    ),
                }
            }
            (Method::GET, "/metrics") => answer(200, &[], "# TYPE calls counter\ncalls 3\n", &[]),
            (Method::GET, "/ps") => answer(
                200,
                &[],
                r#"[{"tenant":"default","app":"shop","function":"hello","version":1,"id":"i-1","isolation":"container",
                    "state":"idle","started":1,"invocations":2,"memory_bytes":3,"cpu_us":4},
                    {"tenant":"other","app":"shop","function":"hello","version":1,"id":"i-2","isolation":"container",
                    "state":"busy","started":1,"invocations":2,"memory_bytes":3,"cpu_us":4}]"#,
                &[],
            ),
            _ => answer(404, &[], "", &[]),
        }
    }
}

fn answer(
    status: u16,
    headers: &[(&'static str, &str)],
    text: &str,
    trailers: &[(&'static str, &str)],
) -> Response<Body> {
    let mut frames = Vec::new();
    if !text.is_empty() {
        frames.push(Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes()))));
    }
    if !trailers.is_empty() {
        let mut map = HeaderMap::new();
        for (name, value) in trailers {
            map.insert(*name, value.parse().expect("a value"));
        }
        frames.push(Ok(Frame::trailers(map)));
    }
    let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync());
    *response.status_mut() = status.try_into().expect("a status");
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    response
}
