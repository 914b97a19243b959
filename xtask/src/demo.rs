//! `cargo xtask demo`: from a fresh clone to functions that answer, vanish, wake again and appear on a bill.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rouse_processes::{Kind, Process, descendants};

use crate::{
    examples, http,
    platform::{self, Options, Platform},
    setup, sh,
};

/// Calls to each function after its first: enough of a history for the platform to see that no more come.
const WARM_CALLS: usize = 12;
/// How long functions that no one calls may take to vanish.
const IDLE_MAX: Duration = Duration::from_secs(120);

pub(crate) fn run(exit: bool) -> Result<()> {
    heading("Setting up");
    let tools = setup::run()?;
    println!("  tools are in place");

    heading("Building rouse");
    let binary = platform::build(false)?;

    heading("Starting the platform");
    let options = Options { ports: Some((8080, 8081)), ..Options::default() };
    let platform = Platform::start(&binary, &tools, &options)?;
    println!("  gateway http://{}, control http://{}", platform.gateway, platform.control);
    let outcome = show(&platform);
    if outcome.is_err() {
        let log = std::fs::read_to_string(platform.log()).unwrap_or_default();
        println!("\nThe end of the platform's log:\n{}", sh::tail(&log, 20));
    }
    outcome?;
    if exit {
        drop(platform);
        println!("\nStopped; nothing is left behind.");
        return Ok(());
    }
    let (state, gateway, control) = (platform.state.clone(), platform.gateway, platform.control);
    heading("It goes on running");
    for example in examples::ALL {
        println!("  http://{gateway}{}?name=you", Platform::path(example.name));
    }
    if let Some(pid) = platform.leave() {
        println!("\n  rouse is {}", binary.display());
        println!("  talk to it: export ROUSE_URL=http://{control} ROUSE_STATE={}", state.display());
        println!("  stop it:    kill {pid} && rm -r {}", state.display());
    }
    Ok(())
}

fn show(platform: &Platform) -> Result<()> {
    heading("Deploying the examples");
    let version = "import sys; print('python3.%d' % sys.version_info.minor)";
    let python = sh::output(Command::new("/usr/bin/python3").args(["-c", version]))?;
    sh::quiet(&mut platform.rouse(&["runtime", "install", python.trim()]))
        .context("install the Python runtime")?;
    for example in examples::ALL {
        let folder = examples::folder(example.name).display().to_string();
        let begun = Instant::now();
        sh::quiet(&mut platform.rouse(&["deploy", &folder]))?;
        println!("  {:<13} {:<22} {:>6} ms", example.name, example.kind, begun.elapsed().as_millis());
    }

    heading("Calling each: cold, then warm");
    for example in examples::ALL {
        call(platform, example.name, "cold", None)?;
        call(platform, example.name, "warm", None)?;
        for _ in 2..WARM_CALLS {
            call_quietly(platform, example.name, None)?;
        }
        call(platform, example.name, "job", Some(example.job))?;
    }

    heading("Nobody calls: nothing runs");
    let begun = Instant::now();
    let left = loop {
        let left = of(platform, Kind::Function);
        if left.is_empty() || begun.elapsed() > IDLE_MAX {
            break left;
        }
        thread::sleep(Duration::from_millis(200));
    };
    if !left.is_empty() {
        bail!("processes of functions are left after {IDLE_MAX:?}: {left:?}");
    }
    println!("  all functions are gone {:.1} s after the last call", begun.elapsed().as_secs_f64());
    let instances = sh::output(&mut platform.rouse(&["ps"]))?;
    indent(if instances.trim().is_empty() { "rouse ps: no instances" } else { &instances });
    println!("  the platform's own processes:");
    for process in of(platform, Kind::Platform) {
        println!("    {:>8}  {}", process.pid, process.role().unwrap_or_default());
    }
    println!(
        "  interpreters that wait, of no function yet: {} (they go some minutes after the last call)",
        of(platform, Kind::Waiting).len()
    );

    heading("Called again: they wake");
    for example in examples::ALL {
        call(platform, example.name, "woken", None)?;
    }

    heading("The bill");
    indent(&sh::output(&mut platform.rouse(&["usage"]))?);
    Ok(())
}

/// The processes of one kind below the supervisor.
fn of(platform: &Platform, kind: Kind) -> Vec<Process> {
    let all = platform.pid().map(descendants).unwrap_or_default();
    all.into_iter().filter(|process| process.kind() == kind).collect()
}

fn call_quietly(platform: &Platform, function: &str, body: Option<&str>) -> Result<http::Answer> {
    let path = format!("{}{}", Platform::path(function), if body.is_none() { "?name=Ada" } else { "" });
    let answer = http::call(platform.gateway, &path, body)?;
    if answer.status != 200 {
        bail!("{function} answered {}: {}", answer.status, answer.body);
    }
    Ok(answer)
}

fn call(platform: &Platform, function: &str, which: &str, body: Option<&str>) -> Result<()> {
    let answer = call_quietly(platform, function, body)?;
    println!(
        "  {function:<13} {which:<6} {:<52} billed {} ms",
        timing(answer.header("server-timing")),
        answer.header("x-rouse-billed-ms"),
    );
    println!("    {}", shorten(answer.body.trim(), 110));
    Ok(())
}

/// `queue;dur=0.1, start;dur=2` as `queue 0.1  start 2`: the parts that are not nothing, in milliseconds.
fn timing(header: &str) -> String {
    let parts = header.split(',').filter_map(|part| part.trim().split_once(";dur="));
    let parts = parts.filter(|(_, ms)| ms.parse().is_ok_and(|ms: f64| ms >= 0.05));
    let parts: Vec<String> =
        parts.map(|(name, ms)| format!("{name} {:.1}", ms.parse().unwrap_or(0.0_f64))).collect();
    format!("{} ms", parts.join("  "))
}

fn shorten(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let short: String = text.chars().take(length - 1).collect();
    format!("{short}…")
}

fn heading(text: &str) {
    println!("\n{text}");
}

fn indent(text: &str) {
    for line in text.lines() {
        println!("  {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timing_shows_the_parts_that_took_time() {
        assert_eq!(timing("queue;dur=0.0, start;dur=12.31, total;dur=13"), "start 12.3  total 13.0 ms");
    }

    #[test]
    fn long_answers_are_cut_between_characters() {
        assert_eq!(shorten("äöüäöü", 4), "äöü…");
    }
}
