//! The benchmarks: what runs, beside what, held to what.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use anyhow::{Context, Result, bail};

use super::{
    durable, fleet,
    load::{self, Load, Sample, Script, Subject},
    meter, noisy, peers, process,
    report::{Row, Target},
    stats,
};
use crate::{
    examples, http, paths,
    platform::{self, Options, Platform},
    setup::Tools,
    sh,
};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    pub(super) rounds: usize,
    pub(super) seconds: u64,
}

/// What every benchmark has.
pub(super) struct Bench<'a> {
    pub(super) binary: &'a Path,
    pub(super) tools: &'a Tools,
    pub(super) effort: Effort,
}

/// Functions for Zipf's law, each of a component of its own.
const DISTINCT: u32 = 1_000;
/// A body of 1 KiB that is JSON.
fn json_body() -> String {
    format!("{{\"text\":\"{}\"}}", "x".repeat(1024 - 11))
}

impl Bench<'_> {
    pub(super) fn start(&self, env: &[(&str, &str)]) -> Result<Platform> {
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Platform::start(self.binary, self.tools, &Options { env, ..Options::default() })
    }

    /// The component of benches/hello, built.
    pub(super) fn hello(&self) -> Result<std::path::PathBuf> {
        let folder = paths::root().join("benches/hello");
        examples::component(&folder, self.tools)?.context("benches/hello has no build")
    }

    pub(super) fn rounds(&self, subjects: &[(&Subject<'_>, &Load)]) -> Result<Vec<Vec<Sample>>> {
        load::rounds(subjects, self.effort.rounds, self.effort.seconds)
    }
}

pub(super) fn subject<'a>(platform: &'a Platform, path: &str) -> Subject<'a> {
    let processes = || platform.processes().into_iter().map(|process| process.pid).collect();
    Subject { address: platform.gateway, path: path.to_owned(), processes: Box::new(processes) }
}

pub(super) fn get(connections: u32) -> Load {
    Load { connections, script: Script::Get }
}

fn cpu(samples: &[Sample]) -> Vec<f64> {
    samples.iter().map(|sample| sample.cpu_us).collect()
}

pub(super) fn rate(samples: &[Sample]) -> Vec<f64> {
    samples.iter().map(|sample| sample.rate).collect()
}

/// An app of functions in a folder of its own, deployed.
pub(super) fn deploy(
    platform: &Platform,
    app: &str,
    files: &[(String, Vec<u8>)],
    functions: &[String],
) -> Result<()> {
    deploy_for(platform, "default", app, files, functions)
}

/// The same, for a tenant.
pub(super) fn deploy_for(
    platform: &Platform,
    tenant: &str,
    app: &str,
    files: &[(String, Vec<u8>)],
    functions: &[String],
) -> Result<()> {
    let folder = platform.state.with_extension("app");
    fs::create_dir_all(&folder)?;
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes)?;
    }
    fs::write(folder.join("rouse.toml"), format!("[app]\nname = \"{app}\"\n{}", functions.concat()))?;
    let done = sh::quiet(&mut platform.rouse(&["--tenant", tenant, "deploy", &folder.display().to_string()]));
    fs::remove_dir_all(&folder)?;
    done
}

pub(super) fn function(name: &str, file: &str, more: &str) -> String {
    format!(
        "\n[functions.{name}]\ninvoke = \"public\"\nsource = \"{file}\"\nruntime = \"component\"\n{more}\n"
    )
}

/// The same component again, but of other bytes: with a section of its own that says a number.
fn distinct(component: &[u8], number: u32) -> Vec<u8> {
    let mut bytes = component.to_vec();
    // A custom section: id 0, its size, the size of its name, its name, its content.
    bytes.extend([0, 6, 1, b'n']);
    bytes.extend(number.to_le_bytes());
    bytes
}

/// A new instance for each call.
pub(super) fn cold_wasm(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let name = "cold-wasm";
    let component = bench.hello()?;
    let bytes = fs::read(&component)?;
    let plain = peers::wasmtime(&component, false)?;
    let tuned = peers::wasmtime(&component, true)?;
    let workerd = peers::workerd()?;
    let rouse = bench.start(&[])?;
    deploy(&rouse, "hello", &[("hello.wasm".into(), bytes.clone())], &[function("hello", "hello.wasm", "")])?;
    let ours = subject(&rouse, "/fn/default/hello/");
    let load = get(32);
    let samples = bench.rounds(&[
        (&ours, &load),
        (&plain.subject(), &load),
        (&tuned.subject(), &load),
        (&workerd.subject(), &load),
    ])?;
    let [us, plain_samples, tuned_samples, workerd_samples] = samples.as_slice() else {
        bail!("four samples")
    };
    drop((plain, tuned, workerd));
    let (us_cpu, us_rate) = (cpu(us), rate(us));
    let mut rows =
        vec![
            Row::alone(name, "CPU a call, everything on", &us_cpu, "µs", Target::AtMost(25.0)),
            Row::alone(name, "calls a second, beside the defaults", &us_rate, "/s", Target::Ratio(2.5))
                .beside("wasmtime serve", &us_rate, &rate(plain_samples), false),
            Row::alone(name, "calls a second, beside the best settings", &us_rate, "/s", Target::Ratio(1.4))
                .beside("wasmtime serve, tuned", &us_rate, &rate(tuned_samples), false),
            Row::alone(name, "CPU a call, beside warm isolates", &us_cpu, "µs", Target::Ratio(1.2)).beside(
                "workerd",
                &us_cpu,
                &cpu(workerd_samples),
                true,
            ),
        ];

    // In parts, so that no upload and no manifest grows beyond what an app may be.
    for part in 0..DISTINCT / 100 {
        let numbers = part * 100..(part + 1) * 100;
        let files: Vec<_> =
            numbers.clone().map(|number| (format!("{number}.wasm"), distinct(&bytes, number))).collect();
        let functions: Vec<_> =
            numbers.map(|number| function(&format!("d-{number}"), &format!("{number}.wasm"), "")).collect();
        deploy(&rouse, &format!("distinct-{part}"), &files, &functions)?;
    }
    let firsts = (0..DISTINCT)
        .map(|number| {
            let answer = http::call(rouse.gateway, &format!("/fn/default/d-{number}/"), None)?;
            // What the platform itself took, without the connection that each of these calls makes.
            let total =
                answer.header("server-timing").split("total;dur=").nth(1).and_then(|ms| ms.parse().ok());
            total.with_context(|| format!("d-{number} answered {} {}", answer.status, answer.body))
        })
        .collect::<Result<Vec<f64>>>()?;
    rows.push(Row::alone(
        name,
        format!("first call of {DISTINCT} components, code on disk in the page cache, p50"),
        &firsts,
        "ms",
        Target::AtMost(1.0),
    ));
    let zipf = Load { connections: 32, script: Script::Zipf(DISTINCT) };
    let samples = bench.rounds(&[(&subject(&rouse, "/fn/default/d-"), &zipf)])?;
    let metric = format!("CPU a call, {DISTINCT} distinct components by Zipf's law");
    rows.push(Row::alone(name, metric, &cpu(&samples[0]), "µs", Target::AtMost(25.0)));
    Ok(rows)
}

/// Instances that are there already.
pub(super) fn warm_capacity(bench: &Bench<'_>) -> Result<Vec<Row>> {
    Ok([warm_wasm(bench)?, warm_python(bench)?].concat())
}

fn warm_wasm(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let name = "warm-capacity";
    let bytes = fs::read(bench.hello()?)?;
    let hyper = peers::bare_hyper()?;
    let workerd = peers::workerd()?;
    let rouse = bench.start(&[])?;
    let functions =
        [function("fresh", "hello.wasm", ""), function("reused", "hello.wasm", "instance_reuse = 1000")];
    deploy(&rouse, "hello", &[("hello.wasm".into(), bytes)], &functions)?;
    let (fresh, reused) = (subject(&rouse, "/fn/default/fresh/"), subject(&rouse, "/fn/default/reused/"));
    let (theirs, bare) = (workerd.subject(), hyper.subject());

    let mut rows = Vec::new();
    for connections in [32, 1, 256] {
        let load = get(connections);
        let samples = bench.rounds(&[(&reused, &load), (&theirs, &load)])?;
        let us = cpu(&samples[0]);
        let metric = format!("CPU a call, reused instance, {connections} connections");
        let target = if connections == 32 { Target::AtMost(20.0) } else { Target::None };
        rows.push(Row::alone(name, metric.clone(), &us, "µs", target));
        let beside = if connections == 32 { Target::Ratio(1.5) } else { Target::None };
        rows.push(Row::alone(name, metric, &us, "µs", beside).beside(
            "workerd",
            &us,
            &cpu(&samples[1]),
            true,
        ));
    }
    let post = Load { connections: 32, script: Script::Post(json_body()) };
    let samples = bench.rounds(&[(&reused, &post), (&theirs, &post)])?;
    let us = cpu(&samples[0]);
    let row = Row::alone(
        name,
        "CPU a call, reused instance, 1 KiB of JSON there and back",
        &us,
        "µs",
        Target::None,
    );
    rows.push(row.beside("workerd", &us, &cpu(&samples[1]), true));

    let load = get(32);
    let samples = bench.rounds(&[(&fresh, &load), (&bare, &load)])?;
    let us = rate(&samples[0]);
    let row = Row::alone(name, "calls a second, a new instance each", &us, "/s", Target::Ratio(0.35));
    rows.push(row.beside("bare hyper", &us, &rate(&samples[1]), false));
    Ok(rows)
}

/// Handlers in processes that are there already.
fn warm_python(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let name = "warm-capacity";
    let framework = peers::functions_framework()?;
    let rouse = bench.start(&[])?;
    let version = "import sys; print('python3.%d' % sys.version_info.minor)";
    let python = sh::output(Command::new("/usr/bin/python3").args(["-c", version]))?;
    sh::quiet(&mut rouse.rouse(&["runtime", "install", python.trim()]))?;
    let folder = paths::root().join("benches/python").display().to_string();
    sh::quiet(&mut rouse.rouse(&["deploy", &folder]))?;
    let load = get(8);
    let samples = bench
        .rounds(&[(&subject(&rouse, "/fn/default/bench-python/"), &load), (&framework.subject(), &load)])?;
    let us = rate(&samples[0]);
    let row = Row::alone(name, "calls a second, Python handler in a sandbox", &us, "/s", Target::Ratio(3.0));
    let calls = row.beside("functions-framework, no sandbox", &us, &rate(&samples[1]), false);
    let us = cpu(&samples[0]);
    let row = Row::alone(name, "CPU a call, Python handler in a sandbox", &us, "µs", Target::None);
    Ok(vec![calls, row.beside("functions-framework, no sandbox", &us, &cpu(&samples[1]), true)])
}

/// Functions that no one calls.
pub(super) fn density(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let name = "density";
    let bytes = fs::read(bench.hello()?)?;
    let rouse = bench.start(&[])?;
    let before = rouse.processes().len();
    let most = if bench.effort.rounds < 11 { 1_000 } else { 10_000 };
    let mut points = Vec::new();
    let mut deployed = 0;
    for count in [100, 1_000, 2_000, 5_000, 10_000] {
        if count > most {
            break;
        }
        while deployed < count {
            let until = count.min(deployed + 500);
            let functions: Vec<_> = (deployed..until)
                .map(|number| {
                    function(&format!("f-{number}"), "hello.wasm", &format!("env = {{ N = \"{number}\" }}"))
                })
                .collect();
            deploy(&rouse, &format!("app-{deployed}"), &[("hello.wasm".into(), bytes.clone())], &functions)?;
            deployed = until;
        }
        // What the deploys needed for a moment is given back.
        thread::sleep(Duration::from_secs(3));
        points.push((f64::from(count), pss_kib(&rouse)?));
    }
    let extra = rouse.processes().len().abs_diff(before) as f64;
    let mut firsts = Vec::new();
    for number in (0..deployed).step_by(usize::try_from(deployed / 100)?) {
        let answer = http::call(rouse.gateway, &format!("/fn/default/f-{number}/"), None)?;
        if answer.body != "Hello, world!\n" {
            bail!("function {number} of {deployed} answers {} {}", answer.status, answer.body);
        }
        let total =
            answer.header("server-timing").split("total;dur=").nth(1).and_then(|ms| ms.parse::<f64>().ok());
        firsts.push(total.unwrap_or(f64::NAN));
    }
    let memory = format!("memory an idle function, slope from 100 to {deployed}");
    Ok(vec![
        Row::alone(name, memory, &[stats::slope(&points)], "KiB", Target::AtMost(32.0)),
        Row::alone(
            name,
            format!("processes for {deployed} idle functions"),
            &[extra],
            "",
            Target::AtMost(0.0),
        ),
        Row::alone(name, "first call of every hundredth of them, p50", &firsts, "ms", Target::None),
    ])
}

/// Memory of all of its processes; what they share is counted once.
fn pss_kib(platform: &Platform) -> Result<f64> {
    let mut sum = 0.0;
    for process in platform.processes() {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid))
            .context("memory can be read by root only")?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        sum += line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0);
    }
    Ok(sum)
}

/// A benchmark.
type Measure = fn(&Bench<'_>) -> Result<Vec<Row>>;

/// The benchmark of this name.
pub(super) fn by_name(name: &str) -> Option<Measure> {
    match name {
        "cold-wasm" => Some(cold_wasm),
        "cold-process" => Some(process::cold_process),
        "burst" => Some(process::burst),
        "warm-capacity" => Some(warm_capacity),
        "density" => Some(density),
        "meter" => Some(meter::meter),
        "async" => Some(durable::durable),
        "noisy" => Some(noisy::noisy),
        "fleet-sim" => Some(fleet::fleet),
        _ => None,
    }
}

/// Builds what is measured.
pub(super) fn binary() -> Result<std::path::PathBuf> {
    platform::build(true)
}
