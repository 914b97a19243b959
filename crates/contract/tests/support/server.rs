//! A server in a real container, and how tests call it.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use rouse_contract::{
    Line, LogSink,
    http::{AnswerBody, Call, Failure, Launch, Options, Ready, RequestBody, StartFailed, Worker},
};
use rouse_sandbox::{Driver, container::ContainerDriver};
use rouse_types::{
    Contract, Digest, FunctionVersion, HttpSettings, InvocationId, Isolation, Limits, Scaling, TraceContext,
};

use crate::host::Host;

pub(crate) type Server = Worker<<ContainerDriver as Driver>::Sandbox>;

/// One version and its code, to be started.
pub(crate) struct Function {
    pub(crate) version: FunctionVersion,
    pub(crate) lines: Arc<Mutex<Vec<Line>>>,
    state: std::path::PathBuf,
    driver: ContainerDriver,
}

impl Function {
    /// A function whose code is these files, each a name and a text.
    pub(crate) fn new(host: &Host, runtime: &str, files: &[(&str, &str)]) -> Self {
        for (name, text) in files {
            write(&host.code().join("function").join(name), text);
        }
        let version = FunctionVersion {
            tenant: "acme".parse().expect("a tenant"),
            app: "shop".parse().expect("an app"),
            function: "hello".parse().expect("a function"),
            number: 1,
            digest: Digest::of(b"version"),
            code: Digest::of(b"code"),
            image: None,
            runtime: runtime.parse().expect("a runtime"),
            contract: Contract::Http,
            http: HttpSettings::default(),
            handler: None,
            isolation: Isolation::Container,
            env: BTreeMap::new(),
            secrets: Default::default(),
            // A loaded machine is slow, and nothing here is about limits of time unless it says so.
            limits: Limits { init_timeout_ms: 30_000, memory_mib: 256, ..Limits::default() },
            scaling: Scaling { concurrency_per_instance: 8, ..Scaling::default() },
            egress: rouse_types::Egress::default(),
            invoke: rouse_types::InvokePolicy::default(),
            triggers: Vec::new(),
            events: rouse_types::EventSettings::default(),
            lambda: None,
        };
        Self { version, lines: Arc::default(), state: host.code(), driver: host.driver() }
    }

    /// A function whose server is this program for Node.js.
    pub(crate) fn node(host: &Host, program: &str) -> Self {
        let mut function = Self::new(host, "provided", &[("server.mjs", program)]);
        function.version.http.command = vec!["node".into(), "server.mjs".into()];
        function
    }

    /// A function whose server is this program for Python.
    pub(crate) fn python(host: &Host, program: &str) -> Self {
        let mut function = Self::new(host, "provided", &[("server.py", program)]);
        function.version.http.command = vec!["python3".into(), "server.py".into()];
        function
    }

    pub(crate) async fn try_start(&self) -> Result<Ready<<ContainerDriver as Driver>::Sandbox>, StartFailed> {
        let launch = Launch::of(&self.version, &self.state.join("function"), &self.state).expect("launched");
        let lines = Arc::clone(&self.lines);
        let log: LogSink = Arc::new(move |line| lines.lock().expect("no panic").push(line));
        let options = Options {
            settings: self.version.http.clone(),
            init_timeout: Duration::from_millis(self.version.limits.init_timeout_ms),
            response_bytes_max: self.version.limits.response_body_bytes,
            log,
        };
        Worker::start(&self.driver, launch.spec(&self.version, "i1"), options).await
    }

    pub(crate) async fn start(&self) -> Server {
        self.try_start()
            .await
            .unwrap_or_else(|failed| {
                let lines: Vec<_> =
                    self.lines.lock().expect("no panic").drain(..).map(|line| line.text).collect();
                panic!("it did not start: {failed}\n{}", lines.join("\n"))
            })
            .worker
    }

    /// All that was logged, once it holds this text.
    pub(crate) async fn logged(&self, text: &str) -> Vec<Line> {
        loop {
            let lines = self.lines.lock().expect("no panic").clone();
            if lines.iter().any(|line| line.text.contains(text)) {
                return lines;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Whether this host has a program that sandboxes see.
pub(crate) fn has(test: &str, program: &str) -> bool {
    let there = ["/usr/bin", "/usr/local/bin"].iter().any(|folder| Path::new(folder).join(program).exists());
    if !there {
        crate::host::skipped(test, &format!("{program} is not in /usr/bin"));
    }
    there
}

/// Writes a file that the sandbox' user can read.
pub(crate) fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = path.parent().expect("a folder");
    std::fs::create_dir_all(folder).expect("a folder");
    std::fs::write(path, text).expect("a file");
    for (path, mode) in [(folder, 0o755), (path, 0o644)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
    }
}

pub(crate) fn call() -> Call {
    let id = InvocationId::new();
    Call {
        id,
        trace: TraceContext::of(None, id),
        peer: "192.0.2.7".parse().ok(),
        timeout: Duration::from_secs(30),
        log_bytes: 1 << 20,
    }
}

pub(crate) fn body(bytes: impl Into<Bytes>) -> RequestBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn get(path: &str) -> Request<RequestBody> {
    let builder = Request::get(path).header("host", "shop.example");
    builder.body(body("")).expect("a request")
}

pub(crate) fn post(path: &str, text: &str) -> Request<RequestBody> {
    let builder = Request::post(path).header("host", "shop.example").header("content-length", text.len());
    builder.body(body(text.to_owned())).expect("a request")
}

/// Calls and reads the whole answer.
pub(crate) async fn ask(server: &Server, request: Request<RequestBody>) -> Result<Response<String>, Failure> {
    let call = call();
    let id = call.id;
    let answered = server.call(call, request).await;
    let answer = match answered {
        Ok(response) => {
            let (head, body) = response.into_parts();
            let body = body.collect().await.expect("the answer is read").to_bytes();
            Ok(Response::from_parts(head, String::from_utf8_lossy(&body).into_owned()))
        }
        Err(failure) => Err(failure),
    };
    server.end_log(id);
    answer
}

/// The next piece of a body as text.
pub(crate) async fn piece(body: &mut AnswerBody) -> String {
    let frame = body.frame().await.expect("a piece").expect("it is whole");
    String::from_utf8_lossy(&frame.into_data().expect("data")).into_owned()
}
