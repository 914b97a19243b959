//! Node.js functions whose instances are interpreters that had started before: to the function nothing is different.

use std::{collections::HashSet, time::Duration};

use rouse_contract::lambda::{Failure, StartError};
use rouse_sandbox::Exit;
use serde_json::Value;

use crate::harness::{Function, ask, call, error, node};

/// Whether it had started before is seen in what the kernel keeps of its first environment.
const AHEAD: &str = "const AHEAD = require('fs').readFileSync('/proc/self/environ', 'utf8').includes('ROUSE_STARTS_AHEAD');\n";

const SOURCE: &str = r"
const fs = require('fs'), os = require('os'), dns = require('dns'), crypto = require('crypto'), v8 = require('v8');
const born = [Math.random(), crypto.randomUUID(), crypto.randomBytes(8).toString('hex')];
const files = fs.readdirSync('/proc/self/fd').map((fd) => {
  try { return fd + fs.readlinkSync('/proc/self/fd/' + fd).split(':')[0]; } catch { return ''; }
});
const world = {
  env: process.env, cwd: process.cwd(), argv: process.argv, execArgv: process.execArgv, title: process.title, pid: process.pid,
  cmdline: fs.readFileSync('/proc/self/cmdline', 'utf8'), paths: module.paths, global: require('module').globalPaths,
  dns: dns.getServers(), zone: Intl.DateTimeFormat().resolvedOptions(), offset: new Date(0).getTimezoneOffset(),
  names: Object.getOwnPropertyNames(globalThis), listeners: process.eventNames().map(String), home: os.homedir(),
  tmp: os.tmpdir(), heap: v8.getHeapStatistics().heap_size_limit, main: String(require.main), helper: require('./helper.js'),
  status: fs.readFileSync('/proc/self/status', 'utf8').match(/^(Cap|NoNewPrivs|Seccomp:|Threads|Groups|Umask).*$/gm),
  limits: fs.readFileSync('/proc/self/limits', 'utf8'), root: fs.readdirSync('/'), hosts: fs.readFileSync('/etc/hosts', 'utf8'),
  files: files.filter((file) => /^[012][^0-9]/.test(file)), umask: process.umask(), stdin: fs.fstatSync(0).rdev,
};
exports.handler = async (event, context) => {
  if (event.exit) process.exit(3);
  if (event.raise) throw new RangeError('bad thing');
  console.log('working on', event.n);
  return { ahead: AHEAD, born, world, n: event.n + 1, name: context.functionName, left: context.getRemainingTimeInMillis() > 0 };
};
";

fn function(test: &str, source: &str) -> Option<Function> {
    let (runtime, launch) = node(test)?;
    let source = format!("{AHEAD}{source}");
    let mut function =
        Function::new(&runtime, launch, &[("app.js", &source), ("helper.js", "module.exports = 'help';")]);
    function.version.env.insert("COLOUR".into(), "blue=green".into());
    function.version.env.insert("TZ".into(), "Asia/Tokyo".into());
    Some(function)
}

#[tokio::test]
async fn an_instance_that_had_started_before_answers_like_any_other_and_is_unlike_the_next() {
    let test = "an_instance_that_had_started_before_answers_like_any_other";
    let Some(function) = function(test, SOURCE) else { return };
    let Some(host) = function.host(test) else { return };
    let mut born = HashSet::new();
    let mut plain: Option<Value> = None;
    let mut ahead = 0;
    for _ in 0..600 {
        let worker = function.start_by(&host.driver()).await.expect("it starts");
        let mut answer = ask(&worker, r#"{"n": 1}"#).await;
        for number in answer["born"].take().as_array().expect("numbers") {
            assert!(born.insert(number.to_string()), "{number} came twice");
        }
        let was_ahead = answer["ahead"].take() == true;
        assert_eq!(answer["world"]["env"]["ROUSE_STARTS_AHEAD"], Value::Null);
        assert_eq!(answer["world"]["offset"], -540, "its own time zone");
        let raised = worker.invoke(call(r#"{"raise": 1}"#)).await.expect("an answer");
        assert_eq!(error(raised), ("RangeError".into(), "bad thing".into()));
        if was_ahead {
            let expected = plain.as_ref().expect("the first start is a plain one");
            for (name, value) in expected["world"].as_object().expect("an object") {
                assert_eq!(&answer["world"][name], value, "{name}");
            }
            assert_eq!(&answer, expected);
            ahead += 1;
            let failure = worker.invoke(call(r#"{"exit": 1}"#)).await.expect_err("it exits");
            assert_eq!(failure, Failure::Exited(Exit::Code(3)));
        } else {
            plain.get_or_insert(answer);
        }
        worker.stop().await;
        if ahead == 3 {
            assert!(function.texts().iter().any(|text| text == "working on 1"));
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no interpreter was started ahead");
}

#[tokio::test]
async fn several_calls_at_once_modules_and_errors_are_as_ever() {
    let test = "several_calls_at_once_modules_and_errors_are_as_ever";
    let Some((runtime, launch)) = node(test) else { return };
    let esm = format!(
        "import {{ createRequire }} from 'node:module'; const require = createRequire(import.meta.url);\n{AHEAD}
         let waiting = [];
         export const handler = async (event) => {{
           await new Promise((done) => {{ waiting.push(done); if (waiting.length === 2) waiting.splice(0).forEach((one) => one()); }});
           return AHEAD;
         }};"
    );
    let function = Function::new(&runtime, launch.clone(), &[("app.mjs", &esm)]).at_once(2);
    let Some(host) = function.host(test) else { return };
    let mut times = 0;
    loop {
        let worker = function.start_by(&host.driver()).await.expect("it starts");
        let (one, other) = tokio::join!(ask(&worker, "{}"), ask(&worker, "{}"));
        assert_eq!(one, other);
        worker.stop().await;
        if one == true {
            break;
        }
        times += 1;
        assert!(times < 600, "no interpreter was started ahead");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let broken =
        Function::new(&runtime, launch, &[("app.js", &format!("{AHEAD}throw new RangeError(AHEAD);"))]);
    let Some(host) = broken.host(test) else { return };
    for _ in 0..600 {
        let Err(error) = broken.start_by(&host.driver()).await else { panic!("it started") };
        let StartError::Init { error, .. } = error else { panic!("{error:?}") };
        assert_eq!(error.error_type, "RangeError");
        if error.message == "true" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no interpreter was started ahead");
}

#[test]
fn what_is_read_as_an_interpreter_starts_makes_a_plain_start() {
    let test = "what_is_read_as_an_interpreter_starts_makes_a_plain_start";
    let Some(mut function) = function(test, SOURCE) else { return };
    let of_acme = function.spec().interpreter.expect("an interpreter");
    function.version.function = "another".parse().expect("a function");
    function.version.scaling.concurrency_per_instance = 8;
    assert_eq!(function.spec().interpreter, Some(of_acme.clone()), "for all functions of a tenant");
    function.version.limits.processes += 1;
    assert_ne!(function.spec().interpreter, Some(of_acme.clone()), "this cannot be changed later");
    function.version.limits.processes -= 1;
    function.version.tenant = "other".parse().expect("a tenant");
    assert_ne!(function.spec().interpreter, Some(of_acme), "and not for two tenants");
    for name in
        ["NODE_OPTIONS", "NODE_PATH", "NODE_DEBUG", "LD_PRELOAD", "UV_THREADPOOL_SIZE", "LANG", "HOME"]
    {
        function.version.env.insert(name.into(), "x".into());
        assert_eq!(function.spec().interpreter, None, "{name}");
        function.version.env.remove(name);
    }
    // That is for libraries.
    function.version.env.insert("NODE_ENV".into(), "production".into());
    assert!(function.spec().interpreter.is_some());
}
