//! `cargo xtask test`: the suites, and one honest summary of what passed, what failed and what was skipped.

mod tally;

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, bail};

use crate::{examples, paths, setup, sh, tidy};
use tally::Tally;

/// The suites, in the order in which all of them run: what fails soonest comes first.
const SUITES: [&str; 11] =
    ["fmt", "tidy", "clippy", "unit", "doc", "escape", "e2e", "tenants", "crash", "cluster", "clients"];
/// How often the crash suite kills something, unless `ROUSE_CRASH_KILLS` says so.
const CRASH_KILLS: &str = "24";
/// Tests that may be given a second run, alone. More of them at once are no accident of a busy machine.
const SECOND_RUNS_MAX: usize = 3;
/// A suite that takes longer hangs.
const SUITE_MAX: Duration = Duration::from_secs(40 * 60);
/// Packages whose tests need more than themselves.
const NOT_UNITS: [&str; 6] =
    ["--exclude", "rouse-e2e", "--exclude", "rouse-clients", "--exclude", "rouse-escape"];
/// Warnings are errors for whoever reads them here, but not for cargo's own flags: those would build it all again.
const NO_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];

/// Runs the suites that are named, or all; `long` is about faults of clusters.
pub(crate) fn run(names: &[String], long: bool) -> Result<()> {
    for name in names {
        if !SUITES.contains(&name.as_str()) {
            bail!("no suite is called {name}; there are: {}", SUITES.join(", "));
        }
    }
    let mut total = Tally::default();
    for suite in SUITES {
        if names.is_empty() || names.iter().any(|name| name == suite) {
            println!("\n== {suite}");
            let tally = one(suite, !names.is_empty(), long).with_context(|| format!("suite {suite}"))?;
            if !tally.failures.is_empty() && log(suite).is_file() {
                println!("   failed; all that it wrote is in {}", log(suite).display());
            }
            total.add(tally);
        }
    }
    total.report(std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false"))
}

/// Runs one suite; `named` is whether it was asked for by its name.
fn one(suite: &str, named: bool, long: bool) -> Result<Tally> {
    match suite {
        "fmt" => check("fmt", sh::cargo("fmt").args(["--all", "--check"])),
        "tidy" => match tidy::run() {
            Ok(()) => Ok(Tally::one_passed()),
            Err(error) => Ok(Tally::one_failed(format!("tidy: {error:#}"))),
        },
        "clippy" => {
            check("clippy", sh::cargo("clippy").args(["--workspace", "--all-targets"]).args(NO_WARNINGS))
        }
        "unit" => {
            examples::guests(&setup::run()?)?;
            let units = [&["--workspace"][..], &NOT_UNITS].concat();
            let mut tally = again("unit", &[&units[..], &["--all-targets"]].concat())?;
            tally.add(tests("unit-doc", &[&units[..], &["--doc"]].concat())?);
            Ok(tally)
        }
        "doc" => {
            let mut doc = sh::cargo("doc");
            doc.args(["--workspace", "--no-deps", "--document-private-items"]);
            check("doc", doc.env("RUSTDOCFLAGS", "-D warnings"))
        }
        "escape" => {
            setup::run()?;
            let tally = tests("escape", &["--package", "rouse-escape", "--all-targets"])?;
            println!("{}", probes(&log("escape"), named));
            Ok(tally)
        }
        "e2e" | "clients" => {
            if suite == "clients" {
                // One of the tools deploys a program in Rust.
                examples::guests(&setup::run()?)?;
            }
            built()?;
            again(suite, &["--package", &format!("rouse-{suite}"), "--all-targets"])
        }
        "tenants" => {
            built()?;
            tests("tenants", &["--package", "rouse-e2e", "--test", "tenants"])
        }
        "crash" => {
            built()?;
            let mut command = sh::cargo("test");
            command.args(["--package", "rouse-e2e", "--test", "crash"]);
            if std::env::var_os("ROUSE_CRASH_KILLS").is_none() {
                command.env("ROUSE_CRASH_KILLS", CRASH_KILLS);
            }
            let tally = watched("crash", command, &[])?;
            let text = std::fs::read_to_string(log("crash")).unwrap_or_default();
            let sum = text.lines().rfind(|line| line.starts_with("crash: ")).unwrap_or_default();
            println!("   {sum}");
            Ok(tally)
        }
        "cluster" => {
            built()?;
            let mut command = sh::cargo("test");
            command.args(["--package", "rouse-e2e", "--test", "faults", "--test", "network"]);
            command.env("ROUSE_CLUSTER_FAULTS", if long { "long" } else { "short" });
            let tally = watched("cluster", command, &[])?;
            let text = std::fs::read_to_string(log("cluster")).unwrap_or_default();
            text.lines().filter(|line| line.starts_with("cluster: ")).for_each(|line| println!("   {line}"));
            Ok(tally)
        }
        _ => bail!("no suite is called {suite}"),
    }
}

/// Builds the binary that end-to-end tests start.
fn built() -> Result<()> {
    setup::run()?;
    // Just as `unit` builds it: alone it would have fewer features, and be built again with all below it.
    let mut build = sh::cargo("test");
    build.args(["--workspace"]).args(&NOT_UNITS[..4]).args(["--all-targets", "--no-run"]);
    if !sh::watched(&mut build, &log("build"), SUITE_MAX, |_| {})? {
        bail!("the build failed:\n{}", last_lines(&log("build")));
    }
    Ok(())
}

fn log(suite: &str) -> std::path::PathBuf {
    paths::scratch().join(format!("test-{suite}.log"))
}

/// A command that passes or fails as a whole.
fn check(suite: &str, command: &mut Command) -> Result<Tally> {
    if sh::watched(command, &log(suite), SUITE_MAX, |_| {})? {
        println!("   passed");
        return Ok(Tally::one_passed());
    }
    println!("{}", last_lines(&log(suite)));
    Ok(Tally::one_failed(format!("{suite}: `{}`", sh::show(command))))
}

/// Tests, by cargo's own runner: it is there on every machine, and runs the tests of a file in one process, which may
/// share a platform.
fn tests(suite: &str, args: &[&str]) -> Result<Tally> {
    watched(suite, sh::cargo("test"), args)
}

/// Runs tests, and once more those few that failed, alone: one that passes then is unsteady, which the summary says
/// by its name. The suites escape, tenants and crash have no second run: what gets through
/// once has got through.
fn again(suite: &str, args: &[&str]) -> Result<Tally> {
    let mut tally = tests(suite, args)?;
    let Some(names) = tally.failed_tests(SECOND_RUNS_MAX) else { return Ok(tally) };
    println!("   once more, alone: {}", names.join(", "));
    let mut only = vec!["--", "--exact", "--test-threads=1"];
    only.extend(names.iter().map(String::as_str));
    let second = tests(&format!("{suite}-again"), &[args, &only[..]].concat())?;
    tally.settle(&second, &names);
    Ok(tally)
}

fn watched(suite: &str, mut command: Command, args: &[&str]) -> Result<Tally> {
    let mut tally = Tally::default();
    // A test says that it was skipped on its standard error, which the runner shows only when told to.
    command.args(["--no-fail-fast"]).args(args);
    if !args.contains(&"--doc") {
        if !args.contains(&"--") {
            command.arg("--");
        }
        command.arg("--nocapture");
    }
    let passed = sh::watched(&mut command, &log(suite), SUITE_MAX, |line| tally.read(suite, line))?;
    if !passed {
        if tally.failures.is_empty() {
            tally.failures.push(format!("{suite}: `{}`", sh::show(&command)));
        }
        println!("{}", last_lines(&log(suite)));
    }
    println!("   {}", tally.short());
    Ok(tally)
}

/// The table of the escape corpus, or the one line that it sums up to.
fn probes(log: &Path, whole: bool) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().skip_while(|line| !line.starts_with("probe "));
    let lines: Vec<&str> = lines.take_while(|line| !line.starts_with("test result")).collect();
    let sum = lines.iter().rfind(|line| line.contains(" ways: ")).copied().unwrap_or_default();
    if whole { lines.join("\n") } else { format!("   {sum}") }
}

fn last_lines(log: &Path) -> String {
    sh::tail(&std::fs::read_to_string(log).unwrap_or_default(), 80)
}
