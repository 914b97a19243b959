//! What a tenant that takes all it can get costs another one, that calls now and then.

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    report::{Row, Target},
    stats,
    suite::{Bench, deploy_for, function},
};
use crate::{examples, http, paths, platform::Platform, sh};

/// The quiet tenant's calls begin this far apart.
const PERIOD: Duration = Duration::from_millis(25);
/// The quiet tenant's calls take some milliseconds, the noisy one's tens of them.
const QUIET_MS: u64 = 4;
const NOISY_MS: u64 = 40;
/// Calls of the noisy tenant at once: far more than there are cores.
const NOISY_CONNECTIONS: u32 = 64;
/// Rounds of work that are tried to find out how many a millisecond takes.
const TRIED: u64 = 20_000_000;

/// The noisy tenant's load, for as long as it lives.
struct Noise(Child);

impl Drop for Noise {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Beside a noisy tenant and without one.
pub(super) fn noisy(bench: &Bench<'_>) -> Result<Vec<Row>> {
    let name = "noisy";
    let folder = paths::root().join("benches/spin");
    let component = examples::component(&folder, bench.tools)?.context("benches/spin has no build")?;
    let bytes = fs::read(component)?;
    let rouse = bench.start(&[])?;
    for tenant in ["quiet", "noisy"] {
        sh::quiet(&mut rouse.rouse(&["tenant", "create", tenant]))?;
        let functions = [function("spin", "spin.wasm", "concurrency_max = 500")];
        deploy_for(&rouse, tenant, "spin", &[("spin.wasm".into(), bytes.clone())], &functions)?;
    }
    let per_ms = rounds_per_ms(&rouse)?;
    let quiet = format!("/fn/quiet/spin/?n={}", per_ms * QUIET_MS);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..bench.effort.rounds {
        for with in [round % 2 == 1, round % 2 == 0] {
            let noise = if with { Some(noise(&rouse, per_ms * NOISY_MS)?) } else { None };
            // Until its calls are under way, and after they have gone.
            thread::sleep(Duration::from_millis(500));
            let times = calls(&rouse, &quiet, bench.effort.seconds)?;
            drop(noise);
            (if with { &mut beside } else { &mut alone }).push(stats::percentile(&times, 99.0));
        }
    }
    let moved: Vec<f64> =
        beside.iter().zip(&alone).map(|(beside, alone)| (beside / alone - 1.0) * 100.0).collect();
    let metric = format!("p99 of a tenant's calls of {QUIET_MS} ms, alone on the machine");
    let beside_metric =
        format!("p99 of the same, beside a tenant with {NOISY_CONNECTIONS} calls of {NOISY_MS} ms at once");
    Ok(vec![
        Row::alone(name, metric, &alone, "ms", Target::None),
        Row::alone(name, beside_metric, &beside, "ms", Target::None),
        Row::alone(name, "what the noisy tenant adds to the p99", &moved, "%", Target::AtMost(10.0)),
    ])
}

fn rounds_per_ms(rouse: &Platform) -> Result<u64> {
    let times: Vec<f64> =
        (0..5).map(|_| call(rouse, &format!("/fn/quiet/spin/?n={TRIED}"))).collect::<Result<_>>()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number of rounds"
    )]
    let per_ms = (TRIED as f64 / stats::median(&times)) as u64;
    Ok(per_ms.max(1))
}

fn noise(rouse: &Platform, rounds: u64) -> Result<Noise> {
    let url = format!("http://{}/fn/noisy/spin/?n={rounds}", rouse.gateway);
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", &format!("-c{NOISY_CONNECTIONS}"), "-d600s", "--timeout", "60s", &url]);
    Ok(Noise(wrk.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start wrk")?))
}

/// Calls at a steady pace; how long each took, in milliseconds, of those that began when they were due.
fn calls(rouse: &Platform, path: &str, seconds: u64) -> Result<Vec<f64>> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut times = Vec::new();
    while Instant::now() < end {
        let due = Instant::now() + PERIOD;
        times.push(call(rouse, path)?);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(times)
}

/// From before the connection until the whole answer is read, in milliseconds.
fn call(rouse: &Platform, path: &str) -> Result<f64> {
    let begun = Instant::now();
    let answer = http::call(rouse.gateway, path, None)?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    if answer.status != 200 {
        bail!("{path} answers {} {}", answer.status, answer.body);
    }
    Ok(took)
}
