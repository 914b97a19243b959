//! Python functions whose instances are forks of a zygote: to the function nothing is different.

use std::{collections::HashSet, time::Duration};

use rouse_contract::lambda::{Failure, StartError};
use rouse_sandbox::Exit;

use crate::harness::{Function, ask, call, forked_python};

const SOURCE: &str = r#"
import os, random, sys, uuid
BORN = [uuid.uuid4().hex, random.random()]
FORK = "zygote.py" in " ".join(sys.orig_argv)
def handler(event, context):
    if event.get("exit"): os._exit(3)
    print("working on", event["n"])
    return {"n": event["n"] + 1, "fork": FORK, "born": BORN, "pid": os.getpid(), "cwd": os.getcwd(),
            "file": __file__, "task": os.environ["LAMBDA_TASK_ROOT"], "colour": os.environ.get("COLOUR"),
            "shared": sys.modules["helper"].__file__ if "helper" in sys.modules else __import__("helper").__file__}
"#;

fn function(test: &str, source: &str) -> Option<Function> {
    let (runtime, launch) = forked_python(test)?;
    let mut function = Function::new(&runtime, launch, &[("app.py", source), ("helper.py", "")]);
    function.version.env.insert("COLOUR".into(), "blue".into());
    Some(function)
}

#[tokio::test]
async fn an_instance_that_was_forked_answers_like_any_other_and_is_unlike_the_next() {
    let test = "an_instance_that_was_forked_answers_like_any_other";
    let Some(function) = function(test, SOURCE) else { return };
    let Some(host) = function.host(test) else { return };
    let mut born = HashSet::new();
    let mut forks = 0;
    for _ in 0..600 {
        let worker = function.start_by(&host.driver()).await.expect("it starts");
        let mut answer = ask(&worker, r#"{"n": 1}"#).await;
        let fork = answer["fork"].take();
        assert!(born.insert(answer["born"].take().to_string()), "born twice");
        let expected = serde_json::json!({
            "n": 2, "fork": null, "born": null, "pid": 2, "cwd": "/var/task", "file": "/var/task/app.py",
            "task": "/var/task", "colour": "blue", "shared": "/var/task/helper.py",
        });
        assert_eq!(answer, expected);
        if fork == true {
            forks += 1;
            let failure = worker.invoke(call(r#"{"exit": 1}"#)).await.expect_err("it exits");
            assert_eq!(failure, Failure::Exited(Exit::Code(3)));
        }
        worker.stop().await;
        if forks == 3 {
            assert!(function.texts().iter().any(|text| text == "working on 1"));
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no zygote was made");
}

#[tokio::test]
async fn what_goes_wrong_as_a_forked_module_is_loaded_is_told_as_ever() {
    let test = "what_goes_wrong_as_a_forked_module_is_loaded_is_told_as_ever";
    let source = "import sys\nraise RuntimeError('zygote.py' in ' '.join(sys.orig_argv))\n";
    let Some(function) = function(test, source) else { return };
    let Some(host) = function.host(test) else { return };
    for _ in 0..600 {
        let Err(error) = function.start_by(&host.driver()).await else { panic!("it started") };
        let StartError::Init { error, .. } = error else { panic!("{error:?}") };
        assert_eq!(error.error_type, "RuntimeError");
        if error.message == "True" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no zygote was made");
}
