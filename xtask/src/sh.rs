//! Running other programs: quietly, with their output in a log, and shown only when they fail.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::paths;

/// Lines of a failed program's output that are shown.
const SHOWN_MAX: usize = 60;

/// A command of cargo's, in the repository. It is not told what cargo told us about our own package: build scripts
/// that look would run again each time, and with them what depends on them.
pub(crate) fn cargo(command: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.arg(command).current_dir(paths::root());
    let ours =
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| ours.iter().any(|ours| name.starts_with(ours))) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// How a command reads.
pub(crate) fn show(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// Runs a program whose output no one needs unless it fails.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs a program and gives what it wrote to its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let text = show(command);
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().with_context(|| format!("run {text}"))?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        return Ok(stdout);
    }
    let both = format!("{stdout}{}", String::from_utf8_lossy(&stderr));
    bail!("`{text}` failed with {status}:\n{}", tail(&both, SHOWN_MAX))
}

/// Runs a program in the open: what it writes is seen as it comes.
pub(crate) fn open(command: &mut Command) -> Result<()> {
    let text = show(command);
    let status = command.status().with_context(|| format!("run {text}"))?;
    if status.success() { Ok(()) } else { bail!("`{text}` failed with {status}") }
}

/// Whether a program runs and succeeds.
pub(crate) fn works(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a program with both outputs in one log file, line by line through `line` as well, and stops it when
/// it takes longer than `limit`. Tells whether it succeeded.
pub(crate) fn watched(
    command: &mut Command,
    log: &Path,
    limit: Duration,
    mut line: impl FnMut(&str),
) -> Result<bool> {
    let text = show(command);
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut log = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {text}"))?;
    let (lines, incoming) = mpsc::sync_channel(1024);
    if let Some(out) = child.stdout.take() {
        forward(out, lines.clone());
    }
    if let Some(err) = child.stderr.take() {
        forward(err, lines);
    }
    let end = Instant::now() + limit;
    let mut timed_out = false;
    loop {
        match incoming.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(text) => {
                writeln!(log, "{text}")?;
                line(&text);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                timed_out = true;
                child.kill()?;
                break;
            }
        }
    }
    let status = child.wait()?;
    if timed_out {
        bail!("`{text}` took longer than {} minutes and was stopped", limit.as_secs() / 60);
    }
    Ok(status.success())
}

fn forward(from: impl std::io::Read + Send + 'static, to: mpsc::SyncSender<String>) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if to.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
