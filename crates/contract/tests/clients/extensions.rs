//! Extensions, as real programs beside a real function in a real container.

use rouse_contract::lambda::StartError;
use rouse_sandbox::Exit;

use crate::harness::{Function, ask, call, python, whole, write};

const HANDLER: &str = r#"
def handler(event, context):
    if event.get("exit"):
        import os; os._exit(4)
    return {"id": context.aws_request_id}
"#;

/// Says on its output what it is told, and works on a while after each call.
const WATCHER: &str = r#"#!/usr/bin/python3
import json, os, sys, time, urllib.request
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"]

def ask(path, body=None, method="GET", **headers):
    headers = {"Lambda-Extension-" + name: value for name, value in headers.items()}
    request = urllib.request.Request(api + path, body, headers, method=method)
    with urllib.request.urlopen(request) as answer:
        return answer.status, dict(answer.headers), json.loads(answer.read())

_, headers, told = ask("/2020-01-01/extension/register", b'{"events": ["INVOKE", "SHUTDOWN"]}', "POST",
    Name=os.path.basename(sys.argv[0]))
identifier = headers["lambda-extension-identifier"]
print("watching", told["functionName"], told["functionVersion"], told["handler"], flush=True)
status, _, told = ask("/2022-07-01/telemetry", b'{"types": ["function"]}', "PUT", Identifier=identifier)
print("telemetry", status, told["errorType"], flush=True)
time.sleep(0.3)
while True:
    _, _, event = ask("/2020-01-01/extension/event/next", Identifier=identifier)
    assert event["deadlineMs"] > time.time() * 1000, event
    time.sleep(0.2)
    if event["eventType"] == "SHUTDOWN":
        print("told of the end:", event["shutdownReason"], flush=True)
        sys.exit(0)
    print("told of", event["requestId"], event["tracing"]["value"][:7], flush=True)
"#;

fn function(test: &str, extensions: &[(&str, &str)]) -> Option<Function> {
    let (runtime, launch) = python(test)?;
    let function = Function::new(&runtime, launch, &[("app.py", HANDLER)]);
    for (name, text) in extensions {
        write(&function.code.join("extensions").join(name), text);
    }
    Some(function)
}

#[tokio::test]
async fn an_extension_is_waited_for_told_of_each_call_and_of_the_end() {
    let test = "an_extension_is_waited_for_told_of_each_call_and_of_the_end";
    let Some(function) = function(test, &[("watcher", WATCHER), ("notes.txt", "no program")]) else { return };
    let Some(host) = function.host(test) else { return };
    let worker = function.start_by(&host.driver()).await.expect("it starts");
    let said = |text: &str| function.texts().iter().any(|line| line.starts_with(text));
    assert!(said("watching hello 1 app.handler"), "it was not waited for: {:?}", function.texts());
    assert!(said("telemetry 202 Telemetry.NotSupported"), "{:?}", function.texts());
    for _ in 0..2 {
        let call = call("{}");
        let id = call.id;
        assert_eq!(whole(worker.invoke(call).await.expect("an answer"))["id"], id.to_string());
        worker.settled().await.expect("within its time");
        assert!(said(&format!("told of {id} Root=1-")), "it was not waited for: {:?}", function.texts());
        worker.end_log(id);
    }
    let (exit, _) = worker.stop().await;
    assert!(said("told of the end: spindown"), "{:?}", function.texts());
    assert_eq!(exit, Some(Exit::Signal(9)));
}

#[tokio::test]
async fn an_extension_that_works_on_past_the_calls_time_is_a_time_out() {
    let slow =
        WATCHER.replace("time.sleep(0.2)", "time.sleep(0 if event['eventType'] == 'SHUTDOWN' else 60)");
    let test = "an_extension_that_works_on_past_the_calls_time_is_a_time_out";
    let Some(function) = function(test, &[("slow", &slow)]) else { return };
    let Some(host) = function.host(test) else { return };
    let worker = function.start_by(&host.driver()).await.expect("it starts");
    let mut short = call("{}");
    short.timeout = std::time::Duration::from_secs(3);
    whole(worker.invoke(short).await.expect("an answer"));
    worker.settled().await.expect_err("it is still at work");
}

#[tokio::test]
async fn an_extension_that_does_not_start_fails_the_start_and_says_why() {
    let test = "an_extension_that_does_not_start_fails_the_start_and_says_why";
    let refuses = WATCHER.replace(
        r#"print("telemetry""#,
        r#"ask("/2020-01-01/extension/init/error", b'{"errorMessage": "no licence"}', "POST",
    Identifier=identifier, **{"Function-Error-Type": "Extension.NoLicence"})
print("telemetry""#,
    );
    for (text, expected) in [
        ("#!/bin/sh\necho no such thing >&2; exit 7\n", "the extension broken ended with status 7"),
        ("#!/no/such/shell\n", "the extension broken ended with status"),
        (refuses.as_str(), "Extension.NoLicence: no licence"),
    ] {
        let Some(function) = function(test, &[("broken", text)]) else { return };
        let Some(host) = function.host(test) else { return };
        let failed = function.start_by(&host.driver()).await.err().expect(expected);
        assert!(failed.to_string().contains(expected), "{failed}");
    }
}

#[tokio::test]
async fn an_extension_that_never_asks_is_named_when_the_start_takes_too_long() {
    let test = "an_extension_that_never_asks_is_named_when_the_start_takes_too_long";
    let Some(function) = function(test, &[("silent", "#!/bin/sh\nsleep 1000\n")]) else { return };
    let Some(host) = function.host(test) else { return };
    let function = function.init_timeout(std::time::Duration::from_secs(3));
    let failed = function.start_by(&host.driver()).await.err().expect("it is waited for");
    assert!(
        matches!(&failed, StartError::Timeout { extensions, .. } if extensions == &["silent"]),
        "{failed}"
    );
    assert!(failed.to_string().contains("its extension silent"), "{failed}");
}

#[tokio::test]
async fn an_internal_extension_is_told_of_calls_alone() {
    let source = r#"
import json, os, threading, urllib.error, urllib.request
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2020-01-01/extension/"
told = []

def register(events):
    body = json.dumps({"events": events}).encode()
    headers = {"Lambda-Extension-Name": "within"}
    return urllib.request.urlopen(urllib.request.Request(api + "register", body, headers)).headers

try:
    register(["SHUTDOWN"])
except urllib.error.HTTPError as error:
    told.append([error.code, json.loads(error.read())["errorType"]])
identifier = register(["INVOKE"])["Lambda-Extension-Identifier"]

def watch():
    while True:
        request = urllib.request.Request(api + "event/next", headers={"Lambda-Extension-Identifier": identifier})
        told.append(json.loads(urllib.request.urlopen(request).read())["eventType"])

threading.Thread(target=watch, daemon=True).start()

def handler(event, context):
    return told
"#;
    let test = "an_internal_extension_is_told_of_calls_alone";
    let Some((runtime, launch)) = python(test) else { return };
    let function = Function::new(&runtime, launch, &[("app.py", source)]);
    let worker = function.start().await.expect("it starts");
    ask(&worker, "{}").await;
    worker.settled().await.expect("within its time");
    let told = ask(&worker, "{}").await;
    let refused = serde_json::json!([403, "ShutdownEventNotSupportedForInternalExtension"]);
    assert_eq!((&told[0], &told[1]), (&refused, &"INVOKE".into()), "{told}");
    worker.settled().await.expect("within its time");
    worker.stop().await;
}
