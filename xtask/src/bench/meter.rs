//! What metering costs, and whether what it bills is what the kernel counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    report::{Row, Target},
    suite::{Bench, deploy, function, get, rate, subject},
};
use crate::{http, platform::Platform, sh};

/// Calls of a round, of [`HANDLER`]: enough CPU time that the clock's ticks do not matter.
const CALLS: u64 = 50;
/// Some milliseconds of work.
const HANDLER: &str = "import hashlib


def handler(event, context):
    text = b'rouse'
    for _ in range(10_000):
        text = hashlib.sha256(text).digest()
    return {'statusCode': 200, 'body': text.hex()}
";
/// How long the ledger may take until it has read what was journalled.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(20);

/// With metering and without.
pub(super) fn meter(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let name = "meter";
    let bytes = fs::read(bench.hello()?)?;
    let (with, without) = (bench.start(&[])?, bench.start(&[("ROUSE_BENCH_NO_METERING", "1")])?);
    for rouse in [&with, &without] {
        let functions = [function("reused", "hello.wasm", "instance_reuse = 1000")];
        deploy(rouse, "hello", &[("hello.wasm".into(), bytes.clone())], &functions)?;
    }
    let load = get(32);
    let path = "/fn/default/reused/";
    let samples = bench.rounds(&[(&subject(&with, path), &load), (&subject(&without, path), &load)])?;
    let cost: Vec<f64> =
        samples[0].iter().zip(&samples[1]).map(|(with, without)| with.cpu_us - without.cpu_us).collect();
    let (with_rate, without_rate) = (rate(&samples[0]), rate(&samples[1]));
    let throughput = Row::alone(name, "calls a second", &with_rate, "/s", Target::Ratio(0.99));
    drop(without);
    let off = billed_cpu(bench, &with)?;
    Ok(vec![
        Row::alone(name, "CPU that metering costs a call", &cost, "µs", Target::AtMost(0.5)),
        throughput.beside("without metering", &with_rate, &without_rate, false),
        Row::alone(
            name,
            "billed CPU of a Python handler, off the kernel's own",
            &off,
            "%",
            Target::AtMost(1.0),
        ),
    ])
}

/// By how many percent the billed CPU time of a process is off what its control group counted, one value a round.
fn billed_cpu(bench: &Bench<'_>, rouse: &Platform) -> Result<Vec<f64>> {
    let version = "import sys; print('python3.%d' % sys.version_info.minor)";
    let python = sh::output(Command::new("/usr/bin/python3").args(["-c", version]))?;
    sh::quiet(&mut rouse.rouse(&["runtime", "install", python.trim()]))?;
    let functions =
        ["\n[functions.busy]\ninvoke = \"public\"\nsource = \"app.py\"\nhandler = \"app.handler\"\nconcurrency_max = 1\n"
            .to_owned()];
    deploy(rouse, "busy", &[("app.py".into(), HANDLER.into())], &functions)?;
    let call = || {
        let answer = http::call(rouse.gateway, "/fn/default/busy/", None)?;
        if answer.status != 200 {
            bail!("the handler answers {} {}", answer.status, answer.body);
        }
        Ok(())
    };
    // Its instance is there from now on, and stays.
    call()?;
    let mut invocations = 1;
    let mut off = Vec::new();
    for _ in 0..bench.effort.rounds {
        let billed_before = billed(rouse, invocations)?;
        let groups = groups(rouse)?;
        let kernel_before = counted(&groups);
        for _ in 0..CALLS {
            call()?;
        }
        let kernel = since(&kernel_before, &counted(&groups));
        invocations += CALLS;
        let billed = billed(rouse, invocations)? - billed_before;
        off.push((billed as f64 / kernel as f64 - 1.0).abs() * 100.0);
    }
    Ok(off)
}

/// Billed CPU time of the function in microseconds, once the ledger has this many of its invocations.
fn billed(rouse: &Platform, invocations: u64) -> Result<u64> {
    let end = Instant::now() + LEDGER_TIMEOUT;
    loop {
        let text = sh::output(&mut rouse.rouse(&["usage", "--by", "function", "--json"]))?;
        let report: serde_json::Value = serde_json::from_str(&text).context("read the usage")?;
        let rows = report["rows"].as_array().context("a report has rows")?;
        let sums = rows.iter().find(|row| row["function"] == "busy").map(|row| &row["sums"]);
        if let Some(sums) = sums.filter(|sums| sums["invocations"] == invocations) {
            return sums["cpu_us"].as_u64().context("CPU time is a number");
        }
        if Instant::now() > end {
            bail!("the ledger has not {invocations} invocations: {text}");
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// The files in which the kernel counts the CPU time of the platform's sandboxes.
fn groups(rouse: &Platform) -> Result<BTreeSet<PathBuf>> {
    let found = rouse.processes().into_iter().filter_map(|process| file(process.pid));
    let own = file(rouse.pid().context("the platform runs")?);
    let found: BTreeSet<_> = found.filter(|file| Some(file) != own.as_ref()).collect();
    if found.is_empty() {
        bail!("the platform's sandboxes have no control groups that count CPU time");
    }
    Ok(found)
}

/// The file of one process: of version 2 of control groups, in which it counts without a controller, else of version 1.
fn file(pid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let group = |named: &dyn Fn(&str) -> bool| {
        let mut lines = text.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
        lines.find_map(|parts| match parts.as_slice() {
            [_, controllers, path] if named(controllers) && *path != "/" => {
                Some(path.trim_start_matches('/').to_owned())
            }
            _ => None,
        })
    };
    let v2 = group(&|controllers| controllers.is_empty()).into_iter().flat_map(|path| {
        ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|root| Path::new(root).join(&path).join("cpu.stat"))
    });
    let v1 = group(&|controllers| controllers.split(',').any(|one| one == "cpuacct"))
        .map(|path| Path::new("/sys/fs/cgroup/cpuacct").join(path).join("cpuacct.usage"));
    v2.chain(v1).find(|file| file.is_file())
}

/// What each of these files says, in microseconds; a sandbox that waited ahead may be gone by now.
fn counted(files: &BTreeSet<PathBuf>) -> BTreeMap<&Path, u64> {
    let read = |file: &Path| {
        let text = fs::read_to_string(file).ok()?;
        let stat = text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse::<u64>().ok());
        stat.or_else(|| Some(text.trim().parse::<u64>().ok()? / 1_000))
    };
    files.iter().filter_map(|file| Some((file.as_path(), read(file)?))).collect()
}

/// What was used between two readings, by all that were there at both.
fn since(before: &BTreeMap<&Path, u64>, after: &BTreeMap<&Path, u64>) -> u64 {
    after.iter().filter_map(|(file, now)| Some(now.saturating_sub(*before.get(file)?))).sum()
}
