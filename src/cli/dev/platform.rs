//! The platform that `rouse dev` runs: `rouse serve` as a child, on loopback, in a state folder of its own.

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use rouse_api::Client;
use tokio::{
    process::{Child, ChildStdin, Command},
    time::{Instant, sleep, timeout},
};

use crate::cli::{args::DevArgs, progress::Progress, report::hinted, state};

/// How long a platform may take to get ready: a second or so, on a busy machine more.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is asked whether it is.
const START_POLL: Duration = Duration::from_millis(25);
/// How long it may take to end what runs once it is asked to stop: longer than its own processes may take.
/// Another Ctrl-C ends the wait.
const STOP_TIMEOUT: Duration = Duration::from_secs(45);

/// A platform that runs; it stops when this goes.
#[derive(Debug)]
pub(super) struct Platform {
    child: Child,
    /// Held open: when we go, however we go, it ends, and the platform stops in order. Killing it instead would
    /// leave its processes behind.
    stdin: Option<ChildStdin>,
    url: String,
    token: String,
}

impl Platform {
    pub(super) async fn start(args: &DevArgs, state: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(state).with_context(|| format!("create {}", state.display()))?;
        let listen = match args.listen {
            Some(listen) => listen,
            None => usual_or_free(8080)?,
        };
        let control = usual_or_free(8081)?;
        let aws = usual_or_free(4566)?;
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        command
            .arg("serve")
            .arg("--state")
            .arg(state)
            .args(["--listen", &listen.to_string(), "--control", &control.to_string()])
            .args(["--aws", &aws.to_string(), "--aws-any-key"])
            .args(["--gateways", &args.gateways.to_string(), "--stop-with-stdin"])
            // The terminal's Ctrl-C goes to us; we stop it in order.
            .process_group(0)
            .stdin(Stdio::piped());
        // What the functions print is what counts here; of the platform only what went wrong.
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "warn");
        }
        let mut child = command.spawn().context("start the platform")?;
        let stdin = child.stdin.take();
        let _progress = Progress::spinner("starting the platform");
        let deadline = Instant::now() + START_TIMEOUT;
        let url = format!("http://{control}");
        loop {
            if let Some(status) = child.try_wait().context("wait for the platform")? {
                return Err(super::ended(status));
            }
            // The token is written before the API answers.
            if let Ok(Some(token)) = state::token(state)
                && Client::new(&url, Some(token.clone()))?.ready().await.is_ok()
            {
                return Ok(Self { child, stdin, url, token });
            }
            if Instant::now() > deadline {
                bail!(hinted(
                    format!("the platform did not get ready within {} s", START_TIMEOUT.as_secs()),
                    "what it said stands above; `rouse serve` alone may tell more",
                ));
            }
            sleep(START_POLL).await;
        }
    }

    /// Where its control API answers.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.url, Some(self.token.clone()))?)
    }

    /// Waits until it stops by itself, which it should not.
    pub(super) async fn stopped(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => super::ended(status),
            Err(error) => anyhow::Error::from(error).context("wait for the platform"),
        }
    }

    /// Stops it, and waits until nothing of it is left.
    pub(super) async fn stop(mut self) {
        drop(self.stdin.take());
        let pid = self.child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // Gone already is as good.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let stopped = tokio::select! {
            stopped = timeout(STOP_TIMEOUT, self.child.wait()) => stopped.is_ok(),
            _ = tokio::signal::ctrl_c() => false,
        };
        if !stopped {
            let _ = self.child.kill().await;
        }
    }
}

/// The usual port, so that addresses stay the same from day to day; a free one when it is taken.
fn usual_or_free(port: u16) -> anyhow::Result<SocketAddr> {
    let usual = SocketAddr::from(([127, 0, 0, 1], port));
    if std::net::TcpListener::bind(usual).is_ok() {
        return Ok(usual);
    }
    Ok(SocketAddr::from(([127, 0, 0, 1], super::free_port()?)))
}
