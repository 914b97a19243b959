//! Functions that run as processes: how soon a new one answers, and how many can begin at once.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    crun::{self, Payload},
    peers,
    report::{Row, Target},
    runtime_api::RuntimeApi,
    suite::Bench,
};
use crate::{http, paths, platform::Platform, setup, sh};

/// Samples of each round: one cold start is over in milliseconds.
const PER_ROUND: usize = 3;
/// Between two samples: what is made ready ahead is there again.
const REST: Duration = Duration::from_millis(300);
/// Calls of a warm instance that a median is made of.
const WARM_CALLS: usize = 200;
/// Instances that begin at once.
const BURST: usize = 300;
/// How long each of them holds its call, so that no other call finds it free.
const BURST_HOLD: Duration = Duration::from_secs(20);

const ANSWER: &str = "Hello, world!\n";

/// A kind of function.
struct Kind {
    /// Prefix of its functions' names.
    name: &'static str,
    text: &'static str,
    /// First byte at most, in milliseconds.
    target_ms: f64,
    code: PathBuf,
    argv: Vec<String>,
    env: Vec<(&'static str, String)>,
    runtime: Option<PathBuf>,
    /// Lines of the manifest.
    manifest: String,
}

/// From the request that finds no instance to its answer.
pub(super) fn cold_process(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let name = "cold-process";
    setup::apt(&["crun"])?;
    let rouse = bench.start(&[])?;
    let folder = tempdir(&rouse)?;
    let kinds = kinds(&rouse, &folder)?;
    let samples = bench.effort.rounds * PER_ROUND;
    deploy(&rouse, &folder, &kinds, samples)?;
    let framework = peers::functions_framework_command()?;

    let mut rows = Vec::new();
    let mut numbers = 0..;
    for kind in &kinds {
        let payload = Payload {
            argv: kind.argv.clone(),
            env: kind.env.clone(),
            code: &kind.code,
            runtime: kind.runtime.clone(),
        };
        let (mut ours, mut theirs, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for sample in 0..samples {
            let mut us = || {
                thread::sleep(REST);
                ours.push(total_ms(&rouse, &format!("{}-{sample}", kind.name))?);
                anyhow::Ok(())
            };
            let mut them = || {
                thread::sleep(REST);
                theirs.push(ms(crun::cold(&payload, numbers.next().unwrap_or(0))?));
                if kind.name == "python" {
                    bare.push(ms(first_answer(framework()?)?));
                }
                anyhow::Ok(())
            };
            if sample % 2 == 0 {
                us()?;
                them()?;
            } else {
                them()?;
                us()?;
            }
        }
        let metric = format!("first call of a function, {}", kind.text);
        rows.push(Row::alone(name, metric.clone(), &ours, "ms", Target::AtMost(kind.target_ms)));
        let row = Row::alone(name, metric.clone(), &ours, "ms", Target::Ratio(5.0));
        rows.push(row.beside("the same in a fresh crun container", &ours, &theirs, true));
        if !bare.is_empty() {
            let row = Row::alone(name, metric, &ours, "ms", Target::Ratio(10.0));
            rows.push(row.beside("functions-framework, started", &ours, &bare, true));
        }
        rows.push(warm(name, &rouse, kind, samples)?);
    }
    fs::remove_dir_all(&folder)?;
    Ok(rows)
}

/// What a warm call takes beyond the client alone.
fn warm(name: &'static str, rouse: &Platform, kind: &Kind, samples: usize) -> Result<Row> {
    let function = format!("{}-{}", kind.name, samples - 1);
    let api = RuntimeApi::start(WARM_CALLS)?;
    let mut command = Command::new(host_program(kind));
    command.args(&kind.argv[1..]).env_clear().env("AWS_LAMBDA_RUNTIME_API", api.address.to_string());
    for (key, value) in &kind.env {
        let runtime = kind.runtime.as_deref().unwrap_or(Path::new("/nowhere")).display().to_string();
        let value =
            value.replace("/var/runtime", &runtime).replace("/var/task", &kind.code.display().to_string());
        command.env(key, value);
    }
    if let Some(runtime) = &kind.runtime {
        let file =
            command.get_args().next().map(|arg| arg.to_string_lossy().into_owned()).unwrap_or_default();
        if file.starts_with("/var/runtime") {
            let file = file.replace("/var/runtime", &runtime.display().to_string());
            let env: Vec<_> =
                command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
            command = Command::new(host_program(kind));
            command.arg(file).env_clear().envs(env);
        }
    }
    command.current_dir(&kind.code).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = Running(command.spawn().with_context(|| format!("start {}", sh::show(&command)))?);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..WARM_CALLS {
        theirs.push(ms(api.answered()?.took));
        ours.push(total_ms(rouse, &function)?);
    }
    client.end();
    let over: Vec<f64> = ours.iter().zip(&theirs).map(|(us, them)| us - them).collect();
    let metric = format!("a warm call, {}, beyond the client alone", kind.text);
    Ok(Row::alone(name, metric, &over, "ms", Target::AtMost(0.3)))
}

fn host_program(kind: &Kind) -> PathBuf {
    match kind.argv[0].strip_prefix("/var/task/") {
        Some(file) => kind.code.join(file),
        None => kind.argv[0].clone().into(),
    }
}

/// Many instances at once, from none.
pub(super) fn burst(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let name = "burst";
    let rouse = bench.start(&[])?;
    let python = python();
    sh::quiet(&mut rouse.rouse(&["runtime", "install", &python]))?;
    let folder = tempdir(&rouse)?;
    fs::create_dir_all(folder.join("code"))?;
    let handler = format!(
        "import time\n\ndef handler(event, context):\n    time.sleep({})\n    \
         return {{\"statusCode\": 200, \"body\": \"Hello, world!\\n\"}}\n",
        BURST_HOLD.as_secs()
    );
    fs::write(folder.join("code/app.py"), handler)?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (mut rates, mut lasts) = (Vec::new(), Vec::new());
    // Each takes half a minute, and starts hundreds: few rounds say enough.
    for round in 0..bench.effort.rounds.min(5) {
        let function = format!("burst-{round}");
        fs::write(
            folder.join("rouse.toml"),
            format!(
                "[app]\nname = \"{function}\"\n\n[functions.{function}]\ninvoke = \"public\"\nsource = \"code\"\nruntime = \"{python}\"\n\
                 handler = \"app.handler\"\nmemory = \"48MiB\"\ntimeout = \"60s\"\nqueue_timeout = \"60s\"\n\
                 concurrency_max = {BURST}\n"
            ),
        )?;
        sh::quiet(&mut rouse.rouse(&["deploy", &folder.display().to_string()]))?;
        let path = Platform::path(&function);
        let answers: Vec<Result<f64>> = thread::scope(|scope| {
            let calls: Vec<_> = (0..BURST).map(|_| scope.spawn(|| begun_ms(&rouse, &path))).collect();
            calls.into_iter().map(|call| call.join().unwrap_or_else(|_| bail!("a caller panicked"))).collect()
        });
        let begun = answers.into_iter().collect::<Result<Vec<f64>>>()?;
        let last = begun.iter().copied().fold(0.0, f64::max);
        if last > ms(BURST_HOLD) {
            bail!("{BURST} instances took {last} ms, longer than each holds its call: some were used twice");
        }
        lasts.push(last);
        rates.push(BURST as f64 / (last / 1e3) / cores as f64);
        sh::quiet(&mut rouse.rouse(&["delete", &function, "--yes"]))?;
        thread::sleep(Duration::from_secs(3));
    }
    fs::remove_dir_all(&folder)?;
    let metric = format!("0 to {BURST} Python instances: starts a second and core");
    Ok(vec![
        Row::alone(name, metric, &rates, "/s", Target::AtLeast(300.0)),
        Row::alone(name, format!("until the last of {BURST} has its call"), &lasts, "ms", Target::None),
    ])
}

/// When the code had the call, in milliseconds from the request's arrival.
fn begun_ms(rouse: &Platform, path: &str) -> Result<f64> {
    let answer = http::call(rouse.gateway, path, None)?;
    if answer.status != 200 || answer.body != ANSWER {
        bail!("{path} answers {} {}", answer.status, answer.body);
    }
    let parts = answer.header("server-timing");
    let part = |name: &str| -> Option<f64> {
        parts.split(&format!("{name};dur=")).nth(1)?.split([',', ';', ' ']).next()?.parse().ok()
    };
    let begun = part("total").zip(part("run")).map(|(total, run)| total - run);
    begun.with_context(|| format!("no timing: {parts}"))
}

/// What a call took the platform as a whole, without the connection that it came on.
fn total_ms(rouse: &Platform, function: &str) -> Result<f64> {
    let answer = http::call(rouse.gateway, &Platform::path(function), None)?;
    let total = answer.header("server-timing").split("total;dur=").nth(1).and_then(|ms| ms.parse().ok());
    if answer.status != 200 || answer.body != ANSWER {
        bail!("{function} answers {} {}", answer.status, answer.body);
    }
    total.context("no timing")
}

fn kinds(rouse: &Platform, folder: &Path) -> Result<Vec<Kind>> {
    let python = python();
    sh::quiet(&mut rouse.rouse(&["runtime", "install", &python]))?;
    let native = folder.join("native");
    fs::create_dir_all(&native)?;
    let source = paths::root().join("benches/bootstrap/bootstrap.c");
    sh::quiet(Command::new("cc").args(["-O2", "-o"]).arg(native.join("bootstrap")).arg(source))?;
    let runtimes = rouse.state.join("runtimes");
    let copied = |name: &str, file: &str| -> Result<PathBuf> {
        let code = folder.join(name);
        fs::create_dir_all(&code)?;
        fs::copy(paths::root().join("benches").join(name).join(file), code.join(file))?;
        Ok(code)
    };
    Ok(vec![
        Kind {
            name: "native",
            text: "an executable `bootstrap`",
            target_ms: 2.0,
            code: native,
            argv: vec!["/var/task/bootstrap".into()],
            env: Vec::new(),
            runtime: None,
            manifest: "runtime = \"provided\"".into(),
        },
        Kind {
            name: "python",
            text: "Python",
            target_ms: 4.0,
            code: copied("python", "app.py")?,
            argv: vec![
                format!("/usr/bin/{python}"),
                "-m".into(),
                "awslambdaric".into(),
                "app.handler".into(),
            ],
            env: vec![
                ("PYTHONPATH", "/var/task:/var/runtime".into()),
                ("LAMBDA_TASK_ROOT", "/var/task".into()),
            ],
            runtime: Some(runtimes.join(&python)),
            manifest: format!("runtime = \"{python}\"\nhandler = \"app.handler\""),
        },
        Kind {
            name: "node",
            text: "Node.js",
            target_ms: 6.0,
            code: copied("node", "index.mjs")?,
            argv: vec!["/usr/bin/node".into(), "/var/runtime/node_client.mjs".into()],
            env: vec![("_HANDLER", "index.handler".into()), ("LAMBDA_TASK_ROOT", "/var/task".into())],
            runtime: Some(runtimes.join("nodejs")),
            manifest: "handler = \"index.handler\"".into(),
        },
    ])
}

/// The host's Python, as a runtime is called.
fn python() -> String {
    let version = "import sys; print('python3.%d' % sys.version_info.minor)";
    let name = sh::output(Command::new("/usr/bin/python3").args(["-c", version]));
    name.map_or_else(|_| "python3.11".to_owned(), |name| name.trim().to_owned())
}

/// A function for each sample: each is called once.
fn deploy(rouse: &Platform, folder: &Path, kinds: &[Kind], samples: usize) -> Result<()> {
    let mut manifest = "[app]\nname = \"cold\"\n".to_owned();
    for kind in kinds {
        for sample in 0..samples {
            manifest += &format!(
                "\n[functions.{0}-{sample}]\ninvoke = \"public\"\nsource = \"{0}\"\nmemory = \"256MiB\"\n{1}\n",
                kind.name, kind.manifest
            );
        }
    }
    fs::write(folder.join("rouse.toml"), manifest)?;
    sh::quiet(&mut rouse.rouse(&["deploy", &folder.display().to_string()]))
}

fn tempdir(rouse: &Platform) -> Result<PathBuf> {
    let folder = rouse.state.with_extension("app");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// From the start of a server until it answers.
fn first_answer((mut command, address): (Command, std::net::SocketAddr)) -> Result<Duration> {
    const MAX: Duration = Duration::from_secs(30);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let mut server = Running(command.spawn().with_context(|| format!("start {}", sh::show(&command)))?);
    while !http::call(address, "/", None).is_ok_and(|answer| answer.status == 200) {
        if begun.elapsed() > MAX {
            bail!("`{}` does not answer", sh::show(&command));
        }
        thread::sleep(Duration::from_millis(1));
    }
    let took = begun.elapsed();
    server.end();
    Ok(took)
}

/// A process that ends with its scope.
struct Running(Child);

impl Running {
    fn end(&mut self) {
        for pid in crate::platform::pids(self.0.id()) {
            sh::works(Command::new("kill").args(["-KILL", &pid.to_string()]));
        }
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            self.end();
        }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
