//! The Runtime API against the clients that people's functions use: `awslambdaric` for Python and our own client
//! for Node.js, as plain processes of this host, without a sandbox.

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use bytes::Bytes;
use rouse_contract::lambda::{
    Answer, Call, Failure, Launch, Line, LogSink, Options, StartError, StreamEnd, Worker, available,
    environment, http_answer, prelude, runtime,
};
use rouse_sandbox::{Driver, Error, Exit, Listener, Output, Sandbox, Spec, Started, Stats, Stream};
use rouse_types::{
    Clock, Digest, FunctionVersion, InvocationId, Isolation, Limits, Runtime, Scaling, SystemClock,
};
use tokio::{net::unix::pipe, sync::watch, task::JoinSet};

/// Runs a spec as a plain process, with its mounts' paths put in place of their targets.
struct Processes;

struct Process {
    kill: watch::Sender<bool>,
    exit: watch::Receiver<Option<Exit>>,
    _task: JoinSet<()>,
}

impl Driver for Processes {
    type Sandbox = Process;

    async fn start(&self, spec: Spec) -> Result<Started<Process>, Error> {
        let host = |source| Error::Host { step: "start a process".into(), source };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(host)?;
        let address = listener.local_addr().map_err(host)?.to_string();
        let place = |text: &str| {
            let text = text.replace(environment::RUNTIME_API, &address);
            spec.mounts.iter().fold(text, |text, mount| {
                text.replace(&*mount.target.to_string_lossy(), &mount.source.to_string_lossy())
            })
        };
        let mut child = tokio::process::Command::new(place(&spec.argv[0]))
            .args(spec.argv[1..].iter().map(|text| place(text)))
            .env_clear()
            .envs(spec.env.iter().map(|(name, value)| (name, place(value))))
            .current_dir(place(&spec.cwd.to_string_lossy()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(host)?;
        let stdout = child.stdout.take().expect("piped").into_owned_fd().map_err(host)?;
        let stderr = child.stderr.take().expect("piped").into_owned_fd().map_err(host)?;
        let output = |fd| pipe::Receiver::from_owned_fd(fd).map(Output::Pipe).map_err(host);
        let (kill, mut killed) = watch::channel(false);
        let (tell, exit) = watch::channel(None);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let until_killed = async move { drop(killed.wait_for(|killed| *killed).await) };
            let status = tokio::select! {
                status = child.wait() => Some(status),
                () = until_killed => None,
            };
            let status = match status {
                Some(status) => status,
                None => {
                    child.start_kill().expect("ours");
                    child.wait().await
                }
            };
            let code = status.ok().and_then(|status| status.code());
            tell.send_replace(Some(code.map_or(Exit::Signal(9), Exit::Code)));
        });
        let sandbox = Process { kill, exit, _task: task };
        let listeners = vec![Listener::Tcp(listener)];
        Ok(Started { sandbox, listeners, resolver: None, stdout: output(stdout)?, stderr: output(stderr)? })
    }
}

impl Sandbox for Process {
    async fn freeze(&self) -> Result<(), Error> {
        Ok(())
    }
    async fn thaw(&self) -> Result<(), Error> {
        Ok(())
    }
    async fn dial(&self, address: std::net::SocketAddr) -> Result<Stream, Error> {
        let connected = tokio::net::TcpStream::connect(address).await;
        connected.map(Stream::Tcp).map_err(|_| Error::NotListening(address))
    }
    fn stats(&self) -> Stats {
        Stats::default()
    }
    fn kill(&self) {
        self.kill.send_replace(true);
    }
    async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit).unwrap_or(Exit::Signal(9))
    }
}

struct Function {
    launch: Launch,
    version: FunctionVersion,
    code: tempfile::TempDir,
    _state: tempfile::TempDir,
    lines: Arc<std::sync::Mutex<Vec<Line>>>,
}

impl Function {
    fn new(runtime: &str, launch: Launch, state: tempfile::TempDir, file: &str, source: &str) -> Self {
        let code = tempfile::tempdir().expect("a folder");
        std::fs::write(code.path().join(file), source).expect("a file");
        let version = FunctionVersion {
            tenant: "acme".parse().expect("a tenant"),
            app: "shop".parse().expect("an app"),
            function: "hello".parse().expect("a function"),
            number: 1,
            digest: Digest::of(b"version"),
            code: Digest::of(b"code"),
            runtime: runtime.parse().expect("a runtime"),
            contract: rouse_types::Contract::Lambda,
            http: rouse_types::HttpSettings::default(),
            handler: Some("app.handler".into()),
            isolation: Isolation::Container,
            env: std::collections::BTreeMap::new(),
            limits: Limits::default(),
            scaling: Scaling::default(),
            egress: rouse_types::Egress::default(),
        };
        Self { launch, version, code, _state: state, lines: Arc::default() }
    }

    async fn start(&self) -> Result<Worker<Process>, StartError> {
        let lines = Arc::clone(&self.lines);
        let log: LogSink = Arc::new(move |line| lines.lock().expect("no panic").push(line));
        let options = Options {
            arn: environment::arn(&self.version),
            init_timeout: Duration::from_secs(30),
            response_bytes_max: 100_000,
            concurrency: self.version.scaling.concurrency_per_instance,
            log,
        };
        let spec = self.launch.spec(&self.version, self.code.path(), "i1");
        let ready = Worker::start(&Processes, spec, options).await;
        ready.map(|ready| ready.worker).map_err(|failed| failed.error)
    }

    fn texts(&self) -> Vec<String> {
        self.lines.lock().expect("no panic").iter().map(|line| line.text.clone()).collect()
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test is reported")]
fn skipped(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
}

fn python(test: &str, source: &str) -> Option<Function> {
    let minor = (9..20).find(|minor| Path::new(&format!("/usr/bin/python3.{minor}")).exists());
    let Some(minor) = minor else {
        skipped(test, "no python3.N below /usr/bin");
        return None;
    };
    let state = tempfile::tempdir().expect("a folder");
    let target = state.path().join(format!("runtimes/python3.{minor}"));
    let cached = std::env::temp_dir().join(format!("rouse-test-awslambdaric-3.{minor}"));
    if !cached.join("awslambdaric/__main__.py").exists() {
        let fresh = tempfile::tempdir().expect("a folder");
        let installed = std::process::Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--only-binary=:all:", "--python-version"])
            .args([format!("3.{minor}"), "--target".into(), fresh.path().to_string_lossy().into_owned()])
            .arg("awslambdaric")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !installed.is_ok_and(|status| status.success()) {
            skipped(test, "pip cannot install awslambdaric");
            return None;
        }
        // Another test may have been first: then its folder stands.
        drop(std::fs::rename(fresh.keep(), &cached));
    }
    std::fs::create_dir_all(target.parent().expect("below state")).expect("a folder");
    std::os::unix::fs::symlink(&cached, &target).expect("a link");
    let runtime = Runtime::Python { minor: u8::try_from(minor).expect("small") };
    let launch = available(&runtime, state.path()).expect("installed");
    Some(Function::new(&runtime.to_string(), launch, state, "app.py", source))
}

fn node(test: &str, file: &str, source: &str) -> Option<Function> {
    let state = tempfile::tempdir().expect("a folder");
    runtime::install_node_client(state.path()).expect("a file");
    let found = (18..40).find_map(|major| {
        let runtime = Runtime::Node { major };
        available(&runtime, state.path()).ok().map(|launch| (runtime, launch))
    });
    let Some((runtime, launch)) = found else {
        skipped(test, "no node of version 18 or later below /usr");
        return None;
    };
    Some(Function::new(&runtime.to_string(), launch, state, file, source))
}

fn call(payload: &str) -> Call {
    let timeout = Duration::from_secs(20);
    Call {
        id: InvocationId::new(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        deadline: SystemClock.now() + timeout,
        timeout,
        trace: "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1".into(),
        client_context: None,
        cognito_identity: None,
        tenant_id: None,
        log_bytes: 1 << 20,
    }
}

fn whole(answer: Answer) -> serde_json::Value {
    match answer {
        Answer::Whole(body) => serde_json::from_slice(&body).expect("json"),
        other => panic!("no whole answer: {other:?}"),
    }
}

fn error(answer: Answer) -> (String, String) {
    match answer {
        Answer::Error(error) => (error.error_type, error.message),
        other => panic!("no error: {other:?}"),
    }
}

const PYTHON: &str = r#"
import os, sys
def handler(event, context):
    if event.get("raise"): raise ValueError("bad thing")
    if event.get("exit"): os._exit(3)
    if event.get("huge"): return "x" * 200_000
    if event.get("sleep"):
        import time; time.sleep(30)
    print("working on", event["n"])
    assert context.get_remaining_time_in_millis() > 1000
    return {"n": event["n"] + 1, "id": context.aws_request_id, "name": context.function_name,
            "trace": os.environ["_X_AMZN_TRACE_ID"][:7]}
"#;

#[tokio::test]
async fn a_python_handler_answers_raises_and_is_called_again() {
    let Some(function) = python("a_python_handler_answers_raises_and_is_called_again", PYTHON) else {
        return;
    };
    let worker = function.start().await.expect("it starts");
    let first = call(r#"{"n": 1}"#);
    let id = first.id;
    let answer = whole(worker.invoke(first).await.expect("an answer"));
    assert_eq!(answer["n"], 2);
    assert_eq!(answer["id"], id.to_string());
    assert_eq!((&answer["name"], &answer["trace"]), (&"hello".into(), &"Root=1-".into()));

    let raised = error(worker.invoke(call(r#"{"raise": 1}"#)).await.expect("an answer"));
    assert_eq!(raised, ("ValueError".into(), "bad thing".into()));

    assert_eq!(whole(worker.invoke(call(r#"{"n": 5}"#)).await.expect("an answer"))["n"], 6);
    worker.stop().await;
    let lines = function.lines.lock().expect("no panic");
    let line = lines.iter().find(|line| line.text == "working on 1").expect("it was printed");
    assert_eq!(line.invocation, Some(id), "a line belongs to the call that wrote it");
}

#[tokio::test]
async fn a_python_handler_that_exits_or_sleeps_fails_its_call_alone() {
    let Some(function) = python("a_python_handler_that_exits_or_sleeps_fails_its_call_alone", PYTHON) else {
        return;
    };
    let worker = function.start().await.expect("it starts");
    let failure = worker.invoke(call(r#"{"exit": 1}"#)).await.expect_err("it exits");
    assert_eq!(failure, Failure::Exited(Exit::Code(3)));

    let worker = function.start().await.expect("it starts");
    let mut short = call(r#"{"sleep": 1}"#);
    short.timeout = Duration::from_millis(200);
    assert_eq!(worker.invoke(short).await.expect_err("it sleeps"), Failure::Timeout);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_told_to_both_sides() {
    let Some(function) = python("an_answer_that_is_too_large_is_told_to_both_sides", PYTHON) else { return };
    let worker = function.start().await.expect("it starts");
    let answer = worker.invoke(call(r#"{"huge": 1}"#)).await.expect("an answer");
    assert!(matches!(answer, Answer::TooLarge(100_000)), "{answer:?}");
}

#[tokio::test]
async fn a_python_module_that_does_not_load_says_why() {
    let source = "import nothing_of_that_name\ndef handler(e, c): pass\n";
    let Some(function) = python("a_python_module_that_does_not_load_says_why", source) else { return };
    let failed = function.start().await.err().expect("it cannot start");
    assert!(failed.to_string().contains("nothing_of_that_name"), "{failed}");
}

const NODE: &str = r#"
exports.handler = async (event, context) => {
  if (event.raise) throw new TypeError('bad thing');
  if (event.exit) process.exit(4);
  if (event.timer) setTimeout(() => console.log('late'), 5);
  console.log('working on', event.n);
  return { n: event.n + 1, left: context.getRemainingTimeInMillis() > 1000, id: context.awsRequestId };
};
"#;

#[tokio::test]
async fn a_node_handler_answers_raises_and_is_called_again() {
    let Some(function) = node("a_node_handler_answers_raises_and_is_called_again", "app.js", NODE) else {
        return;
    };
    let worker = function.start().await.expect("it starts");
    let first = call(r#"{"n": 1}"#);
    let id = first.id;
    let answer = whole(worker.invoke(first).await.expect("an answer"));
    assert_eq!(answer, serde_json::json!({ "n": 2, "left": true, "id": id.to_string() }));
    let raised = error(worker.invoke(call(r#"{"raise": 1}"#)).await.expect("an answer"));
    assert_eq!(raised, ("TypeError".into(), "bad thing".into()));
    for n in 0..20 {
        let answer = whole(worker.invoke(call(&format!(r#"{{"n": {n}, "timer": 1}}"#))).await.expect("ok"));
        assert_eq!(answer["n"], n + 1);
    }
    let failure = worker.invoke(call(r#"{"exit": 1}"#)).await.expect_err("it exits");
    assert_eq!(failure, Failure::Exited(Exit::Code(4)));
    worker.stop().await;
    assert!(function.texts().iter().any(|text| text == "working on 1"), "{:?}", function.texts());
}

#[tokio::test]
async fn node_handlers_of_every_style_answer() {
    let test = "node_handlers_of_every_style_answer";
    for (file, source) in [
        ("app.mjs", "export const handler = async () => 'hi';"),
        ("app.cjs", "exports.handler = async () => 'hi';"),
        (
            "app.js",
            "exports.handler = (event, context, callback) => setTimeout(() => callback(null, 'hi'), 2);",
        ),
        (
            "app.js",
            "exports.handler = (e, context, callback) => { context.callbackWaitsForEmptyEventLoop = false;
               setInterval(() => {}, 1000); callback(null, 'hi'); };",
        ),
    ] {
        let Some(function) = node(test, file, source) else { return };
        let worker = function.start().await.expect(source);
        for _ in 0..2 {
            assert_eq!(whole(worker.invoke(call("{}")).await.expect(source)), "hi", "{source}");
        }
    }
}

#[tokio::test]
async fn a_node_handler_streams_its_answer_with_a_head() {
    let source = "exports.handler = awslambda.streamifyResponse(async (event, stream) => {
        stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { 'x-a': 'b' } });
        for (let n = 0; n < 3; n += 1) { stream.write(`part ${n};`); await new Promise((r) => setTimeout(r, 2)); }
        if (event.raise) throw new RangeError('midway');
        stream.end();
    });";
    let Some(function) = node("a_node_handler_streams_its_answer_with_a_head", "app.js", source) else {
        return;
    };
    let worker = function.start().await.expect("it starts");
    for (payload, raises) in [("{}", false), (r#"{"raise":1}"#, true), ("{}", false)] {
        let answer = worker.invoke(call(payload)).await.expect("an answer");
        let Answer::Streamed { content_type, mut body } = answer else { panic!("not streamed: {answer:?}") };
        assert_eq!(content_type.as_deref(), Some(prelude::CONTENT_TYPE));
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
        let head: http_answer::Head = head.expect("a head");
        assert_eq!((head.status.as_u16(), &head.headers["x-a"]), (201, &http::HeaderValue::from_static("b")));
        assert!(text.starts_with(b"part 0;part 1;"), "{text:?}");
        if raises {
            assert!(matches!(end, StreamEnd::Error(error) if error.error_type == "RangeError"));
        } else {
            assert_eq!((end, text.as_slice()), (StreamEnd::Complete, b"part 0;part 1;part 2;".as_slice()));
        }
    }
}

#[tokio::test]
async fn a_node_module_that_does_not_load_says_why() {
    for (source, reason) in [
        ("require('nothing-of-that-name');", "nothing-of-that-name"),
        ("exports.other = 1;", "undefined or not exported"),
        ("exports.handler = (;", "SyntaxError"),
    ] {
        let Some(function) = node("a_node_module_that_does_not_load_says_why", "app.js", source) else {
            return;
        };
        let failed = function.start().await.err().expect(source);
        assert!(failed.to_string().contains(reason), "{source}: {failed}");
    }
}
