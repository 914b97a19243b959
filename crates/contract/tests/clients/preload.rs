//! Python functions whose module is imported once for all instances.

use std::{collections::HashSet, time::Duration};

use rouse_contract::lambda::StartError;
use serde_json::Value;

use crate::{
    harness::{Function, ask, forked_python, python_minor, skipped, write},
    tools,
};

/// Whether this is a fork, and of an interpreter with the module.
const FORK: &str =
    "import sys\nFORK = 'zygote.py' in ' '.join(sys.orig_argv)\nONCE = '--code' in sys.orig_argv\n";

const SOURCE: &str = r#"
import json, logging, os, uuid
import helper
logging.basicConfig(format="mine %(message)s")
CUSTOM = logging.getLogger().handlers[:]
BORN, ARGV, CWD, PLACE = uuid.uuid4().hex, sys.argv[1:], os.getcwd(), os.environ["COLOUR"]
print("printed at import")
calls = []
def handler(event, context):
    calls.append(event["n"])
    print("working on", event["n"])
    logging.getLogger().warning("logged once")
    return {"once": ONCE, "fork": FORK, "born": BORN, "argv": ARGV, "cwd": CWD, "place": PLACE, "calls": calls, "pid": os.getpid(),
            "stream": os.environ["AWS_LAMBDA_LOG_STREAM_NAME"], "path": sys.path[0], "file": __file__, "now": sys.argv}
"#;

fn function(test: &str, source: &str) -> Option<Function> {
    let (runtime, launch) = forked_python(test)?;
    let source = format!("{FORK}{source}");
    let mut function = Function::new(&runtime, launch, &[("src/app.py", &source), ("helper.py", "")]);
    function.version.handler = Some("src/app.handler".into());
    function.version.env.insert("COLOUR".into(), "blue".into());
    function.version.scaling.preload = true;
    Some(function)
}

#[tokio::test]
async fn the_module_is_imported_once_and_instances_share_nothing_that_they_do() {
    let test = "the_module_is_imported_once_and_instances_share_nothing_that_they_do";
    let Some(function) = function(test, SOURCE) else { return };
    let Some(host) = function.host(test) else { return };
    let (mut born, mut once, mut plain) = (HashSet::new(), 0, None::<Value>);
    for _ in 0..600 {
        let worker = function.start_by(&host.driver()).await.expect("it starts");
        let before = function.texts().len();
        let mut answer = ask(&worker, r#"{"n": 1}"#).await;
        worker.stop().await;
        let logged = function.texts().split_off(before);
        let logged: Vec<_> = logged.iter().filter(|line| line.contains("logged once")).collect();
        assert_eq!(logged.len(), 1, "{logged:?}");
        let was_once = answer["once"].take() == true;
        answer["fork"].take();
        let number = answer["born"].take().to_string();
        assert_eq!(answer["calls"], serde_json::json!([1]), "what another did");
        if was_once {
            once += 1;
            born.insert(number);
            assert_eq!(Some(&answer), plain.as_ref(), "as in a plain start");
        } else {
            assert!(born.is_empty() || !born.contains(&number));
            plain = Some(answer);
        }
        if once == 3 {
            assert_eq!(born.len(), 1, "it was imported for each");
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no interpreter imported it");
}

/// Starts until so many were forks with the module; gives what those and what plain ones answered.
async fn answers(function: &Function, test: &str, wanted: usize) -> Option<(Vec<Value>, Vec<Value>)> {
    let host = function.host(test)?;
    let (mut once, mut other) = (Vec::new(), Vec::new());
    for _ in 0..600 {
        let worker = function.start_by(&host.driver()).await.expect("it starts");
        let answer = ask(&worker, "{}").await;
        worker.stop().await;
        if answer["once"] == true {
            once.push(answer)
        } else {
            other.push(answer)
        }
        if once.len().max(if function.version.scaling.preload { 0 } else { other.len() }) == wanted {
            return Some((once, other));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no interpreter imported it");
}

#[tokio::test]
async fn no_two_instances_with_numpy_ever_share_a_random_number() {
    let test = "no_two_instances_with_numpy_ever_share_a_random_number";
    let Some((runtime, launch)) = forked_python(test) else { return };
    let minor = python_minor().expect("it was there just now");
    let Some(code) = tools::pip(minor, &format!("numpy-python3.{minor}"), "numpy") else {
        return skipped(test, "pip cannot install numpy");
    };
    // Drawn from at import too, so that a generator which is only copied would go on in the same place everywhere.
    let source = r#"
import os, random, secrets, ssl, uuid
import numpy as np
np.random.random(); random.random(); np.linalg.det(np.ones((300, 300)))
def handler(event, context):
    drawn = [np.random.random() for _ in range(3)] + np.random.randint(0, 2**62, 3).tolist() + [random.getrandbits(62)]
    drawn += [secrets.token_hex(), uuid.uuid4().hex, str(uuid.uuid1()), os.urandom(8).hex(), ssl.RAND_bytes(8).hex()]
    drawn += np.random.default_rng().integers(0, 2**62, 2).tolist() + [np.random.RandomState().randint(0, 2**62)]
    det = float(np.linalg.det(np.array([[2.0, 1.0], [1.0, 3.0]])))
    return {"once": ONCE, "drawn": drawn, "det": round(det, 6), "sum": float((np.ones((200, 200)) @ np.ones((200, 200))).sum())}
"#;
    write(&code.join("drawing.py"), &format!("{FORK}{source}"));
    let mut function = Function::of_folder(&runtime, launch, code, Vec::new()).memory(512);
    function.version.handler = Some("drawing.handler".into());
    for preload in [true, false] {
        function.version.scaling.preload = preload;
        let Some((once, other)) = answers(&function, test, 4).await else { return };
        let mut seen = HashSet::new();
        for answer in once.iter().chain(&other) {
            assert_eq!((&answer["det"], &answer["sum"]), (&5.0.into(), &8_000_000.0.into()));
            for number in answer["drawn"].as_array().expect("numbers") {
                assert!(seen.insert(number.to_string()), "{number} came twice: {once:?} {other:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_cannot_be_imported_once_is_started_as_ever_and_says_its_own_error() {
    let test = "what_cannot_be_imported_once_is_started_as_ever_and_says_its_own_error";
    let Some(broken) = function(test, "raise RuntimeError(ONCE)") else { return };
    let Some(host) = broken.host(test) else { return };
    for _ in 0..4 {
        let Err(error) = broken.start_by(&host.driver()).await else { panic!("it started") };
        let StartError::Init { error, .. } = error else { panic!("{error:?}") };
        assert_eq!((error.error_type.as_str(), error.message.as_str()), ("RuntimeError", "False"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let threaded = "
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
def handler(event, context): return ONCE
";
    let networked = "
import socket
try: socket.create_connection(('127.0.0.1', 9001), 1).close()
except OSError:
    if ONCE: raise
def handler(event, context): return ONCE
";
    for source in [threaded, networked] {
        let Some(function) = function(test, source) else { return };
        let Some(host) = function.host(test) else { return };
        for _ in 0..4 {
            let worker = function.start_by(&host.driver()).await.expect("it starts");
            assert_eq!(ask(&worker, "{}").await, false);
            worker.stop().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
