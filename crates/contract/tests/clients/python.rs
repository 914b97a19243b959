//! Python functions, by AWS' own runtime interface client.

use std::{collections::HashSet, time::Duration};

use rouse_contract::lambda::{Answer, Call, Failure};
use rouse_sandbox::Exit;

use crate::harness::{Function, ask, call, error, python, whole};

fn function(test: &str, source: &str) -> Option<Function> {
    let (runtime, launch) = python(test)?;
    Some(Function::new(&runtime, launch, &[("app.py", source)]))
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
    let Some(function) = function("a_python_handler_answers_raises_and_is_called_again", PYTHON) else {
        return;
    };
    let worker = function.start().await.expect("it starts");
    let first = call(r#"{"n": 1}"#);
    let id = first.id;
    let answer = whole(worker.invoke(first).await.expect("an answer"));
    assert_eq!(answer["n"], 2);
    assert_eq!(answer["id"], id.to_string());
    assert_eq!((&answer["name"], &answer["trace"]), (&"hello".into(), &"Root=1-".into()));

    let attempt = call(r#"{"raise": 1}"#);
    let retried = attempt.id;
    let raised = error(worker.invoke(attempt).await.expect("an answer"));
    assert_eq!(raised, ("ValueError".into(), "bad thing".into()));
    // The next attempt of an event has the same id.
    let attempt = Call { id: retried, ..call(r#"{"n": 5}"#) };
    assert_eq!(whole(worker.invoke(attempt).await.expect("an answer"))["n"], 6);
    worker.stop().await;
    let lines = function.lines();
    let line = lines.iter().find(|line| line.text == "working on 1").expect("it was printed");
    assert_eq!(line.invocation, Some(id), "a line belongs to the call that wrote it");
}

#[tokio::test]
async fn a_python_handler_that_exits_or_sleeps_fails_its_call_alone() {
    let Some(function) = function("a_python_handler_that_exits_or_sleeps_fails_its_call_alone", PYTHON)
    else {
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
    let Some(function) = function("an_answer_that_is_too_large_is_told_to_both_sides", PYTHON) else {
        return;
    };
    let worker = function.start().await.expect("it starts");
    let answer = worker.invoke(call(r#"{"huge": 1}"#)).await.expect("an answer");
    assert!(matches!(answer, Answer::TooLarge(100_000)), "{answer:?}");
}

#[tokio::test]
async fn a_python_module_that_does_not_load_says_why() {
    let source = "import nothing_of_that_name\ndef handler(e, c): pass\n";
    let Some(function) = function("a_python_module_that_does_not_load_says_why", source) else { return };
    let failed = function.start().await.err().expect("it cannot start");
    assert!(failed.to_string().contains("nothing_of_that_name"), "{failed}");
}

#[tokio::test]
async fn python_serves_several_calls_at_once_in_a_process_each() {
    let source = r#"
import logging, os, time
logging.getLogger().setLevel("INFO")
def handler(event, context):
    logging.info("call %s", event["n"])
    # Answered only when three are there at once.
    open(event["folder"] + "/" + str(event["n"]), "w").close()
    while len(os.listdir(event["folder"])) < 3:
        time.sleep(0.01)
    return {"n": event["n"], "pid": os.getpid()}
"#;
    let test = "python_serves_several_calls_at_once_in_a_process_each";
    let Some(function) = function(test, source).map(|function| function.at_once(3)) else { return };
    let worker = function.start().await.expect("it starts");
    let shared = tempfile::tempdir().expect("a folder");
    let folder = serde_json::json!(shared.path());
    let calls = [0, 1, 2].map(|n| call(&format!(r#"{{"n": {n}, "folder": {folder}}}"#)));
    let ids = calls.each_ref().map(|call| call.id);
    let [a, b, c] = calls.map(|call| worker.invoke(call));
    let (a, b, c) = tokio::join!(a, b, c);
    let answers = [a, b, c].map(|answer| whole(answer.expect("an answer")));
    let pids: HashSet<_> = answers.iter().map(|answer| answer["pid"].as_u64()).collect();
    assert_eq!(pids.len(), 3, "{answers:?}");
    assert_eq!(answers.map(|answer| answer["n"].as_u64()), [Some(0), Some(1), Some(2)]);
    let again = ask(&worker, &format!(r#"{{"n": 2, "folder": {folder}}}"#)).await;
    assert_eq!(again["n"], 2);
    ids.iter().for_each(|id| worker.end_log(*id));
    worker.stop().await;
    for (n, id) in ids.iter().enumerate() {
        let lines = function.lines();
        let line =
            lines.iter().find(|line| line.text.ends_with(&format!("call {n}"))).expect("it was logged");
        assert_eq!(line.invocation, Some(*id), "{line:?}");
    }
}
