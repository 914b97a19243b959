//! What the tests of clients share: a function with its code and its log, run as a plain process or in a container.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use rouse_contract::lambda::{
    Answer, Body, Call, Launch, Line, LogSink, Options, StartError, StreamEnd, Worker, available,
    environment, http_answer, prelude, runtime,
};
use rouse_sandbox::{Driver, Sandbox, Spec};
use rouse_types::{
    Clock, Digest, FunctionVersion, HttpSettings, InvocationId, Isolation, Limits, Runtime, Scaling,
    SystemClock,
};

use crate::{
    host::Host,
    process::{Process, Processes},
    tools,
};

pub(crate) struct Function {
    pub(crate) launch: Launch,
    pub(crate) version: FunctionVersion,
    pub(crate) code: PathBuf,
    init_timeout: Duration,
    lines: Arc<Mutex<Vec<Line>>>,
    /// Removed with the function.
    _folders: Vec<tempfile::TempDir>,
}

impl Function {
    /// Of files, each a name and what it holds.
    pub(crate) fn new(runtime: &Runtime, launch: Launch, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            write(&folder.path().join(name), text);
        }
        let code = folder.path().to_owned();
        Self::of_folder(runtime, launch, code, vec![folder])
    }

    pub(crate) fn of_folder(
        runtime: &Runtime,
        launch: Launch,
        code: PathBuf,
        folders: Vec<tempfile::TempDir>,
    ) -> Self {
        // As the code's own user sees it.
        std::fs::set_permissions(&code, PermissionsExt::from_mode(0o755)).expect("permissions");
        let version = FunctionVersion {
            tenant: "acme".parse().expect("a tenant"),
            app: "shop".parse().expect("an app"),
            function: "hello".parse().expect("a function"),
            number: 1,
            digest: Digest::of(b"version"),
            code: Digest::of(b"code"),
            image: None,
            runtime: runtime.clone(),
            contract: runtime.default_contract(),
            handler: Some("app.handler".into()),
            http: HttpSettings::default(),
            isolation: Isolation::Container,
            env: std::collections::BTreeMap::new(),
            secrets: Default::default(),
            limits: Limits::default(),
            scaling: Scaling::default(),
            egress: rouse_types::Egress::default(),
            invoke: rouse_types::InvokePolicy::default(),
            triggers: Vec::new(),
            events: rouse_types::EventSettings::default(),
            lambda: None,
        };
        let init_timeout = Duration::from_secs(30);
        Self { launch, version, code, init_timeout, lines: Arc::default(), _folders: folders }
    }

    pub(crate) fn at_once(mut self, calls: u32) -> Self {
        self.version.scaling.concurrency_per_instance = calls;
        self
    }

    pub(crate) fn memory(mut self, mib: u32) -> Self {
        self.version.limits.memory_mib = mib;
        self
    }

    pub(crate) fn init_timeout(mut self, timeout: Duration) -> Self {
        self.init_timeout = timeout;
        self
    }

    pub(crate) fn spec(&self) -> Spec {
        self.launch.spec(&self.version, &self.code, "i1")
    }

    /// As a plain process.
    pub(crate) async fn start(&self) -> Result<Worker<Process>, StartError> {
        self.start_by(&Processes).await
    }

    pub(crate) async fn start_by<D: Driver>(&self, driver: &D) -> Result<Worker<D::Sandbox>, StartError> {
        let lines = Arc::clone(&self.lines);
        let log: LogSink = Arc::new(move |line| lines.lock().expect("no panic").push(line));
        let options = Options {
            arn: environment::arn(&self.version),
            init_timeout: self.init_timeout,
            response_bytes_max: 100_000,
            concurrency: self.version.scaling.concurrency_per_instance,
            clock: Arc::new(SystemClock),
            log,
        };
        let ready = Box::pin(Worker::start(driver, self.spec(), options)).await;
        ready.map(|ready| ready.worker).map_err(|failed| failed.error)
    }

    /// What starts it in containers; `None`, and a word about it, where there can be none.
    pub(crate) fn host(&self, test: &str) -> Option<Host> {
        let spec = self.spec();
        let ahead = spec.interpreter.into_iter().flat_map(|interpreter| interpreter.mounts);
        Host::new(test, spec.mounts.into_iter().chain(ahead).map(|mount| mount.source).collect())
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lines.lock().expect("no panic").clone()
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.lines().into_iter().map(|line| line.text).collect()
    }
}

/// Writes a file; what begins like a script can be executed.
pub(crate) fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
    std::fs::write(path, text).expect("a file");
    let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("permissions");
}

#[expect(clippy::print_stderr, reason = "a skipped test is reported")]
pub(crate) fn skipped(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
}

/// The same as [`python`], forked where that can be.
pub(crate) fn forked_python(test: &str) -> Option<(Runtime, Launch)> {
    let (runtime, _) = python(test)?;
    let state = tools::awslambdaric(python_minor()?)?;
    static INSTALLED: std::sync::Once = std::sync::Once::new();
    INSTALLED.call_once(|| runtime::install_clients(&state).expect("a file"));
    let launch = available(&runtime, &state).expect("installed");
    Some((runtime, launch))
}

/// A Python of this host, with AWS' client.
pub(crate) fn python(test: &str) -> Option<(Runtime, Launch)> {
    let Some(minor) = python_minor() else {
        skipped(test, "no python3.N below /usr/bin");
        return None;
    };
    let Some(state) = tools::awslambdaric(minor) else {
        skipped(test, "pip cannot install awslambdaric");
        return None;
    };
    let runtime = Runtime::Python { minor };
    let launch = available(&runtime, &state).expect("installed");
    Some((runtime, launch))
}

pub(crate) fn python_minor() -> Option<u8> {
    (9..20).find(|minor| Path::new(&format!("/usr/bin/python3.{minor}")).exists())
}

/// A Node.js of this host, with our client.
pub(crate) fn node(test: &str) -> Option<(Runtime, Launch)> {
    static STATE: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let state = STATE.get_or_init(|| {
        let state = tempfile::tempdir().expect("a folder");
        runtime::install_clients(state.path()).expect("a file");
        state
    });
    let found = (18..40).find_map(|major| {
        let runtime = Runtime::Node { major };
        available(&runtime, state.path()).ok().map(|launch| (runtime, launch))
    });
    if found.is_none() {
        skipped(test, "no node of version 18 or later below /usr");
    }
    found
}

pub(crate) fn call(payload: &str) -> Call {
    let timeout = Duration::from_secs(20);
    Call {
        id: InvocationId::new(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        deadline: SystemClock.now() + timeout,
        timeout,
        trace: "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1".into(),
        client_context: None,
        arn: None,
        cognito_identity: None,
        tenant_id: None,
        log_bytes: 1 << 20,
    }
}

/// Calls, and gives what was answered.
pub(crate) async fn ask<S: Sandbox>(worker: &Worker<S>, payload: &str) -> serde_json::Value {
    whole(worker.invoke(call(payload)).await.expect("an answer"))
}

pub(crate) fn whole(answer: Answer) -> serde_json::Value {
    match answer {
        Answer::Whole(body) => serde_json::from_slice(&body).expect("json"),
        other => panic!("no whole answer: {other:?}"),
    }
}

/// The type and the message of an error.
pub(crate) fn error(answer: Answer) -> (String, String) {
    match answer {
        Answer::Error(error) => (error.error_type, error.message),
        other => panic!("no error: {other:?}"),
    }
}

/// A streamed answer with a head, read to its end.
pub(crate) async fn streamed(answer: Answer) -> (http_answer::Head, String, StreamEnd) {
    let Answer::Streamed { content_type, body } = answer else { panic!("not streamed: {answer:?}") };
    assert_eq!(content_type.as_deref(), Some(prelude::CONTENT_TYPE));
    let mut body: Body = body;
    let (mut reader, mut head, mut text) = (prelude::Reader::default(), None, Vec::new());
    let end = loop {
        match body.chunk().await.expect("it goes on") {
            Ok(data) if head.is_some() => text.extend_from_slice(&data),
            Ok(data) => {
                if let Some((found, first)) = reader.push(&data).expect("a head") {
                    head = Some(found);
                    text.extend_from_slice(&first);
                }
            }
            Err(end) => break end,
        }
    };
    (head.expect("a head"), String::from_utf8(text).expect("text"), end)
}

/// Runs a program to its end, in silence; whether it went well.
pub(crate) fn works(command: &mut std::process::Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
