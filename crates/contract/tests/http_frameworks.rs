//! Google's Functions Frameworks, unmodified, in real containers. What Google's conformance suite checks of a framework
//! ("functions-framework-conformance": http, CloudEvents, legacy events, concurrency), told here of the pair: what
//! goes in at the worker arrives at the function, and what it gives back comes out.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::{Path, PathBuf};

use http::{Request, StatusCode};
use rouse_contract::http::RequestBody;
use rouse_types::Signature;
use serde_json::{Value, json};
use server::{Function, Server, ask, body, has, post};

#[path = "../../sandbox/tests/support/host.rs"]
mod host;
#[path = "support/server.rs"]
mod server;

const PYTHON: &str = r#"
import json, threading, types
import functions_framework

both = threading.Barrier(2)

@functions_framework.http
def write_http(request):
    seen = {"method": request.method, "path": request.full_path, "body": request.get_data(as_text=True),
            "mine": request.headers.get("x-mine")}
    return json.dumps(seen), 202, {"content-type": "application/json", "x-theirs": "2"}

@functions_framework.http
def meet(request):
    both.wait(20)
    return "met"

@functions_framework.cloud_event
def write_cloud_event(event):
    names = ["id", "type", "source", "subject", "time"]
    print("EVENT " + json.dumps({**{name: str(event[name]) for name in names}, "data": event.data}), flush=True)

def write_legacy_event(data, context):
    seen = {"id": context.event_id, "type": context.event_type, "resource": context.resource, "data": data}
    print("EVENT " + json.dumps(seen), flush=True)

class Name:
    def __init__(self, name): self.name = name
    @staticmethod
    def from_dict(value): return Name(value["name"])
    def to_dict(self): return {"greeting": "hello " + self.name}

@functions_framework.typed(Name)
def greet(name):
    return name
"#;

const NODE: &str = r#"
const functions = require("@google-cloud/functions-framework");

functions.http("write_http", (request, response) => {
  const seen = { method: request.method, path: request.originalUrl, body: String(request.rawBody ?? ""), mine: request.get("x-mine") };
  response.status(202).set("x-theirs", "2").json(seen);
});

const waiting = [];
functions.http("meet", (request, response) => {
  waiting.push(response);
  if (waiting.length === 2) for (const each of waiting) each.send("met");
});

functions.cloudEvent("write_cloud_event", (event) => {
  const { id, type, source, subject, time, data } = event;
  console.log("EVENT " + JSON.stringify({ id, type, source, subject, time, data }));
});

exports.write_legacy_event = (data, context) => {
  const { eventId: id, eventType: type, resource } = context;
  console.log("EVENT " + JSON.stringify({ id, type, resource, data }));
};
"#;

/// Runs a test over both frameworks.
fn over_both<F: Future<Output = ()>>(
    test: &str,
    signature: Signature,
    target: &str,
    run: impl Fn(Function) -> F + Sync,
) {
    over_python(test, signature, target, &run);
    over_node(test, signature, target, &run);
}

fn over_python<F: Future<Output = ()>>(
    test: &str,
    signature: Signature,
    target: &str,
    run: &(impl Fn(Function) -> F + Sync),
) {
    if has(test, "python3.11") {
        over(test, "python3.11", "PYTHON", &[("main.py", PYTHON)], signature, &format!("main.{target}"), run);
    }
}

fn over_node<F: Future<Output = ()>>(
    test: &str,
    signature: Signature,
    target: &str,
    run: &(impl Fn(Function) -> F + Sync),
) {
    if has(test, "node") {
        let version = std::process::Command::new("node").arg("--version").output().unwrap().stdout;
        let version = String::from_utf8(version).unwrap();
        let major = version.trim().trim_start_matches('v').split('.').next().unwrap();
        let runtime = format!("nodejs{major}");
        over(test, &runtime, "NODE", &[("index.js", NODE)], signature, &format!("index.{target}"), run);
    }
}

fn over<F: Future<Output = ()>>(
    test: &str,
    runtime: &str,
    language: &str,
    files: &[(&str, &str)],
    signature: Signature,
    handler: &str,
    run: &(impl Fn(Function) -> F + Sync),
) {
    let Some(framework) = tool(&format!("ROUSE_FUNCTIONS_FRAMEWORK_{language}")) else {
        return host::skipped(test, "no Functions Framework; run cargo xtask setup");
    };
    let Some(host) = host::Host::new(test) else { return };
    // As the operator installs it: sandboxes see nothing beside this host's own folders.
    let runtimes = host.code().join("runtimes");
    std::fs::create_dir(&runtimes).unwrap();
    let mut copy = std::process::Command::new("cp");
    copy.arg("-r").arg(framework).arg(runtimes.join(format!("functions-framework-{runtime}")));
    assert!(copy.status().unwrap().success());
    let mut function = Function::new(&host, runtime, files);
    function.version.handler = Some(handler.into());
    function.version.http.signature = Some(signature);
    host::as_the_node(|| run(function));
}

/// What `cargo xtask setup` installed: in the environment, or where it wrote it down.
fn tool(name: &str) -> Option<PathBuf> {
    let written = || {
        let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
        let tools = std::env::var_os("ROUSE_TOOLS")
            .map_or(Path::new(&home).join(".cache/rouse/tools"), PathBuf::from);
        let text = std::fs::read_to_string(tools.join("env")).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(PathBuf::from))
    };
    std::env::var_os(name).map(PathBuf::from).or_else(written).filter(|folder| folder.is_dir())
}

/// What the function printed of the one event that it got.
async fn event(function: &Function) -> Value {
    let lines = function.logged("EVENT ").await;
    let line = lines.iter().find_map(|line| line.text.strip_prefix("EVENT ")).unwrap();
    serde_json::from_str(line).unwrap()
}

async fn send(server: &Server, function: &Function, request: Request<RequestBody>) -> Value {
    function.lines.lock().unwrap().clear();
    let answer = ask(server, request).await.expect("answered");
    assert!(answer.status().is_success(), "{answer:?}");
    event(function).await
}

/// A CloudEvent as HTTP's binding has it, in its headers and in one document.
fn both_modes(attributes: &Value, data: &Value) -> [Request<RequestBody>; 2] {
    let mut binary = Request::post("/").header("content-type", "application/json");
    for (name, value) in attributes.as_object().unwrap() {
        binary = binary.header(format!("ce-{name}"), value.as_str().unwrap());
    }
    let mut whole = attributes.clone();
    whole["data"] = data.clone();
    whole["datacontenttype"] = "application/json".into();
    let structured = Request::post("/").header("content-type", "application/cloudevents+json; charset=utf-8");
    [binary.body(body(data.to_string())).unwrap(), structured.body(body(whole.to_string())).unwrap()]
}

fn stored() -> (Value, Value) {
    let attributes = json!({
        "specversion": "1.0",
        "id": "1147091835525187",
        "type": "google.cloud.storage.object.v1.finalized",
        "source": "//storage.googleapis.com/projects/_/buckets/some-bucket",
        "subject": "objects/folder/cat.png",
        "time": "2026-04-23T07:38:57.772Z",
    });
    let data = json!({
        "bucket": "some-bucket",
        "name": "folder/cat.png",
        "timeCreated": "2026-04-23T07:38:57.230Z",
        "kind": "storage#object",
    });
    (attributes, data)
}

#[test]
fn an_http_function_gets_method_path_headers_and_body_and_its_answer_is_whole() {
    over_both("an_http_function", Signature::Http, "write_http", |function| async move {
        let server = function.start().await;
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let mut request = post("/a/b?c=d", "{\"text\":\"hi\"}");
            *request.method_mut() = method.parse().unwrap();
            request.headers_mut().insert("content-type", "application/json".parse().unwrap());
            request.headers_mut().insert("x-mine", "1".parse().unwrap());
            let answer = ask(&server, request).await.expect("answered");
            assert_eq!(answer.status(), StatusCode::ACCEPTED, "{answer:?}");
            assert_eq!(answer.headers()["x-theirs"], "2");
            let seen: Value = serde_json::from_str(answer.body()).unwrap();
            let expected =
                json!({ "method": method, "path": "/a/b?c=d", "body": "{\"text\":\"hi\"}", "mine": "1" });
            assert_eq!(seen, expected);
        }
    });
}

#[test]
fn a_cloud_event_arrives_the_same_in_binary_and_in_structured_mode() {
    over_both("a_cloud_event", Signature::CloudEvent, "write_cloud_event", |function| async move {
        let server = function.start().await;
        let (attributes, data) = stored();
        for request in both_modes(&attributes, &data) {
            let seen = send(&server, &function, request).await;
            for name in ["id", "type", "source", "subject"] {
                assert_eq!(seen[name], attributes[name], "{name}: {seen}");
            }
            assert_eq!(seen["data"], data);
        }
    });
}

#[test]
fn a_legacy_event_arrives_as_itself_and_as_a_cloud_event_turned_back() {
    over_both("a_legacy_event", Signature::Event, "write_legacy_event", |function| async move {
        let server = function.start().await;
        let (attributes, data) = stored();
        let legacy = json!({
            "context": {
                "eventId": "1147091835525187",
                "timestamp": "2026-04-23T07:38:57.772Z",
                "eventType": "google.storage.object.finalize",
                "resource": {
                    "service": "storage.googleapis.com",
                    "name": "projects/_/buckets/some-bucket/objects/folder/cat.png",
                    "type": "storage#object",
                },
            },
            "data": data,
        });
        let request = Request::post("/").header("content-type", "application/json");
        let request = request.body(body(legacy.to_string())).unwrap();
        let seen = send(&server, &function, request).await;
        assert_eq!((&seen["id"], &seen["data"]), (&legacy["context"]["eventId"], &data), "{seen}");
        assert_eq!(seen["type"], "google.storage.object.finalize");
        let [binary, _] = both_modes(&attributes, &data);
        let turned = send(&server, &function, binary).await;
        assert_eq!(turned, seen);
    });
}

#[test]
fn two_requests_at_once_overlap() {
    over_both("two_requests_at_once_overlap", Signature::Http, "meet", |function| async move {
        let server = function.start().await;
        let (one, other) = tokio::join!(ask(&server, post("/", "")), ask(&server, post("/", "")));
        assert_eq!(
            (one.expect("answered").body().as_str(), other.expect("answered").body().as_str()),
            ("met", "met")
        );
    });
}

#[test]
fn a_typed_function_takes_and_gives_values() {
    // The framework for Node.js has no such functions.
    over_python("a_typed_function", Signature::Typed, "greet", &|function: Function| async move {
        let server = function.start().await;
        let mut request = post("/", "{\"name\":\"Ada\"}");
        request.headers_mut().insert("content-type", "application/json".parse().unwrap());
        let answer = ask(&server, request).await.expect("answered");
        let seen: Value = serde_json::from_str(answer.body()).unwrap();
        assert_eq!((answer.status(), seen), (StatusCode::OK, json!({ "greeting": "hello Ada" })));
    });
}

#[test]
fn a_target_that_is_not_there_is_told_with_the_frameworks_own_words() {
    over_both("a_target_that_is_not_there", Signature::Http, "no_such_function", |function| async move {
        let failed = function.try_start().await.err().expect("there is no such function").to_string();
        assert!(failed.contains("before it was ready") && failed.contains("no_such_function"), "{failed}");
    });
}
