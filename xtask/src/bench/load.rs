//! Closed-loop load by wrk, and what it cost the server.

use std::{fs, net::SocketAddr, process::Command, thread, time::Duration};

use anyhow::{Context, Result, bail};

use crate::{http, paths, sh};

/// What is asked of a server.
#[derive(Debug, Clone)]
pub(super) struct Load {
    /// Connections.
    pub(super) connections: u32,
    /// The requests, as wrk's Lua.
    pub(super) script: Script,
}

/// Which requests.
#[derive(Debug, Clone)]
pub(super) enum Script {
    /// The same `GET`.
    Get,
    /// The same `POST` of this body.
    Post(String),
    /// `GET` of `<path><n>/` for n below `count`, by Zipf's law with exponent 1.1.
    Zipf(u32),
}

/// A server under test: where it answers, and how to know its processes.
pub(super) struct Subject<'a> {
    pub(super) address: SocketAddr,
    pub(super) path: String,
    /// Its processes, by id.
    pub(super) processes: Box<dyn Fn() -> Vec<u32> + 'a>,
}

/// What one round came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// CPU time of the server's processes, in microseconds a request.
    pub(super) cpu_us: f64,
    /// Requests a second.
    pub(super) rate: f64,
}

/// One round against each subject: there and back again, so that a drift of the machine hits all alike.
pub(super) fn rounds(
    subjects: &[(&Subject<'_>, &Load)],
    rounds: usize,
    seconds: u64,
) -> Result<Vec<Vec<Sample>>> {
    let mut samples = vec![Vec::new(); subjects.len()];
    for (subject, load) in subjects {
        // Not counted: caches and connections get warm.
        run(subject, load, 1)?;
    }
    for round in 0..rounds {
        let forth: Vec<usize> = (0..subjects.len()).collect();
        let order: Vec<usize> = if round % 2 == 0 { forth } else { forth.into_iter().rev().collect() };
        for at in order {
            let (subject, load) = subjects[at];
            samples[at].push(run(subject, load, seconds)?);
        }
    }
    Ok(samples)
}

fn run(subject: &Subject<'_>, load: &Load, seconds: u64) -> Result<Sample> {
    verify(subject, load)?;
    let before = cpu_us(&(subject.processes)());
    let script = paths::scratch().join("wrk.lua");
    fs::create_dir_all(paths::scratch())?;
    fs::write(&script, lua(&load.script, &subject.path))?;
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", &format!("-c{}", load.connections), &format!("-d{seconds}s"), "-s"]).arg(&script);
    let out = sh::output(wrk.arg(format!("http://{}{}", subject.address, subject.path)))?;
    let line = out.lines().find_map(|line| line.strip_prefix("RESULT ")).context("wrk gave no result")?;
    let result: serde_json::Value = serde_json::from_str(line)?;
    let number = |key: &str| result[key].as_f64().unwrap_or(0.0);
    if number("errors") > 0.0 {
        bail!("{} of {} requests to {} failed:\n{out}", number("errors"), number("requests"), subject.path);
    }
    // What the server does after its last answer belongs to it.
    thread::sleep(Duration::from_millis(50));
    let used = cpu_us(&(subject.processes)()) - before;
    Ok(Sample { cpu_us: used / number("requests"), rate: number("requests") / (number("us") / 1e6) })
}

/// The answer's bytes are those that are expected of everyone.
fn verify(subject: &Subject<'_>, load: &Load) -> Result<()> {
    let (path, body, expected) = match &load.script {
        Script::Get => (subject.path.clone(), None, "Hello, world!\n"),
        Script::Post(body) => (subject.path.clone(), Some(body.as_str()), body.as_str()),
        Script::Zipf(_) => (format!("{}0/", subject.path), None, "Hello, world!\n"),
    };
    let answer = http::call(subject.address, &path, body)?;
    if answer.status != 200 || answer.body != expected {
        bail!("{path} answers {} '{}' instead of '{expected}'", answer.status, answer.body);
    }
    Ok(())
}

fn lua(script: &Script, path: &str) -> String {
    let request = match script {
        Script::Get => String::new(),
        Script::Post(body) => format!(
            "wrk.method = 'POST'\nwrk.body = '{body}'\nwrk.headers['content-type'] = 'application/json'\n"
        ),
        Script::Zipf(count) => format!(
            "local sums, requests = {{}}, {{}}\n\
             function init(args)\n\
               local sum = 0\n\
               for n = 1, {count} do sum = sum + 1 / n ^ 1.1; sums[n] = sum end\n\
               for n = 1, {count} do requests[n] = wrk.format('GET', '{path}' .. (n - 1) .. '/') end\n\
             end\n\
             function request()\n\
               local wanted, low, high = math.random() * sums[{count}], 1, {count}\n\
               while low < high do\n\
                 local middle = math.floor((low + high) / 2)\n\
                 if sums[middle] < wanted then low = middle + 1 else high = middle end\n\
               end\n\
               return requests[low]\n\
             end\n"
        ),
    };
    request
        + "function done(summary, latency, requests)\n\
             local e = summary.errors\n\
             print(string.format('RESULT {\"requests\":%d,\"us\":%d,\"errors\":%d}', summary.requests, \
               summary.duration, e.connect + e.read + e.write + e.status + e.timeout))\n\
           end\n"
}

/// CPU time of processes and of the children that they have waited for, in microseconds.
fn cpu_us(processes: &[u32]) -> f64 {
    // The kernel's unit, which is 1/100 s on every architecture that we run on (proc_pid_stat(5)).
    const TICK_US: f64 = 10_000.0;
    let ticks = |pid: &u32| -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        // utime, stime, cutime, cstime: fields 14 to 17, of which two are before the bracket.
        fields.get(11..15)?.iter().map(|field| field.parse::<f64>().ok()).sum()
    };
    processes.iter().filter_map(ticks).sum::<f64>() * TICK_US
}
