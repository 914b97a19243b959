//! What every process of the platform does first.

use std::{future::Future, net::TcpListener, os::fd::AsFd, process::ExitCode};

use anyhow::Context;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tokio::{
    net::unix::pipe,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Logs to standard error, as much as `RUST_LOG` asks for; as JSON where `ROUSE_LOG_FORMAT` is `json`.
pub(crate) fn log() {
    let filter = filter(std::env::var("RUST_LOG").ok().as_deref());
    let json = std::env::var("ROUSE_LOG_FORMAT").is_ok_and(|format| format == "json");
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A line that cannot be written, as to a full disk, would be told of on standard error, by what panics if that fails.
    let builder = builder.log_internal_errors(false);
    // A second subscriber would be refused: in tests the first stays.
    let _ = if json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
}

/// What is logged: as `RUST_LOG` asks, `info` otherwise, but for the client of a cluster's engine, which would tell of each
/// try to connect.
fn filter(asked: Option<&str>) -> EnvFilter {
    let filter = asked
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new("info,async_nats=warn"));
    // The library for S3 writes whole requests, with what signs them: whoever asks for more of ours has not asked for
    // that. What is of interest our own code says.
    match "s3s=off".parse() {
        Ok(off) => filter.add_directive(off),
        Err(_) => filter,
    }
}

/// Sees to it that this process gets this signal when the supervisor ends, however it does.
pub(crate) fn end_with_supervisor(supervisor: u32, signal: Signal) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(signal)).context("ask to end with the supervisor")?;
    // The supervisor may have died before we asked.
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    anyhow::ensure!(u32::try_from(parent) == Ok(supervisor), "the supervisor is gone");
    Ok(())
}

/// The listening socket that the supervisor handed over as standard input.
pub(crate) fn listener() -> anyhow::Result<TcpListener> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("take the listening socket")?;
    Ok(TcpListener::from(socket))
}

/// The second one, handed over as standard output: a process that listens writes nothing there.
pub(crate) fn second_listener() -> anyhow::Result<TcpListener> {
    let socket =
        std::io::stdout().as_fd().try_clone_to_owned().context("take the second listening socket")?;
    Ok(TcpListener::from(socket))
}

/// Waits until standard input ends: whoever started us holds its other end, and is gone then. Never ends where
/// standard input is no pipe.
pub(crate) async fn stdin_ends() {
    let pipe = std::io::stdin().as_fd().try_clone_to_owned().and_then(pipe::Receiver::from_owned_fd);
    let Ok(mut pipe) = pipe else { return std::future::pending().await };
    // What is written there means nothing.
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
}

/// Runs one role on one thread until it is told to stop.
pub(crate) fn run<F>(role: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<ExitCode>
where
    F: Future<Output = anyhow::Result<()>>,
{
    run_warned(|_, stop| role(stop))
}

/// The same for one that is told beforehand, by SIGUSR1, that it will be: that cancels the first token.
pub(crate) fn run_warned<F>(
    role: impl FnOnce(CancellationToken, CancellationToken) -> F,
) -> anyhow::Result<ExitCode>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let (closing, stop) = (CancellationToken::new(), CancellationToken::new());
        let mut warned = signal(SignalKind::user_defined1()).context("listen for SIGUSR1")?;
        let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
        let work = role(closing.clone(), stop.clone());
        tokio::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return result.map(|()| ExitCode::SUCCESS),
                _ = warned.recv() => closing.cancel(),
                _ = terminate.recv() => stop.cancel(),
                _ = interrupt.recv() => stop.cancel(),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_for_signatures_are_not_logged() {
        for asked in [None, Some("debug"), Some("trace,hyper=off"), Some("s3s=trace")] {
            let said = filter(asked).to_string();
            assert!(said.contains("s3s=off") && !said.contains("s3s=trace"), "{asked:?}: {said}");
        }
        assert!(filter(Some("rouse_node=debug")).to_string().contains("rouse_node=debug"));
    }
}
