//! The supervisor: makes the listening sockets, starts the other processes, starts again what dies.
//!
//! ```text
//!  start ─▶ running ─[dies]─▶ pause (none, then longer) ─▶ running
//!             └─[told to stop]─▶ (in a cluster: control leaves it, callers move on) ─▶ gateways drain ─▶ objects ─▶ events ─▶ node ─▶ control ─▶ spawner
//! ```

use std::{
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt},
    process::{Pid, Signal, kill_process},
};
use tokio::{
    process::{Child, Command},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Role, layout::State};

/// A process that lived at least this long may start again at once.
const LIVED: Duration = Duration::from_secs(5);
/// The longest pause before another start of a process that keeps dying.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a process may take to stop before it is killed: longer than a gateway's own drain.
const STOP_TIMEOUT: Duration = Duration::from_secs(35);
/// Connections that wait to be accepted: the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Sockets that gateways accept from, one each; all listen on one address, and the kernel spreads callers.
pub(crate) fn gateway_listeners(
    address: SocketAddr,
    gateways: usize,
    flag: &str,
) -> anyhow::Result<Vec<TcpListener>> {
    let first = listener(address).with_context(|| address_hint(address, flag))?;
    let address = first.local_addr().context("ask for the address")?;
    let mut listeners = vec![first];
    for _ in 1..gateways {
        listeners.push(listener(address).with_context(|| address_hint(address, flag))?);
    }
    Ok(listeners)
}

/// The socket that control accepts from.
pub(crate) fn control_listener(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| address_hint(address, "--control"))
}

/// The socket that the AWS-shaped face accepts from.
pub(crate) fn aws_listener(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| address_hint(address, "--aws (or `--aws off`)"))
}

fn address_hint(address: SocketAddr, flag: &str) -> String {
    format!("cannot listen on {address}; another program may have it: name another address with {flag}")
}

fn listener(address: SocketAddr) -> rustix::io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// One process to keep running.
pub(crate) struct Process {
    pub(crate) role: Role,
    /// Handed over as standard input. The supervisor keeps it, so that the kernel goes on queueing callers
    /// while the process is started again.
    pub(crate) listener: Option<TcpListener>,
    /// Handed over as standard output, by a process that listens at two addresses.
    pub(crate) second: Option<TcpListener>,
    /// Whether it keeps our privileges.
    pub(crate) privileged: bool,
}

impl Process {
    fn command(&self, state: &State) -> anyhow::Result<Command> {
        let handed = |listener: &TcpListener| {
            Ok::<_, anyhow::Error>(Stdio::from(OwnedFd::from(
                listener.try_clone().context("duplicate a socket")?,
            )))
        };
        let stdin = self.listener.as_ref().map_or(Ok(Stdio::null()), handed)?;
        // Not the path of the binary: the user without privileges may not be able to reach it.
        let mut command = std::process::Command::new("/proc/self/exe");
        command
            .arg("role")
            .arg(self.role.name())
            .arg(serde_json::to_string(&self.role).context("encode a role")?);
        command.arg(std::process::id().to_string());
        // A group of its own: Ctrl-C is for the supervisor, which then stops the others in order.
        command.stdin(stdin).current_dir("/").process_group(0);
        if let Some(second) = &self.second {
            command.stdout(handed(second)?);
        }
        // The engine would record where each error was made: errors are everyday values there, and that costs a
        // quarter of a call. Panics are still traced where `RUST_BACKTRACE` asks for it.
        command.env("RUST_LIB_BACKTRACE", "0");
        // What enters another's store is for the process of objects alone, which has it from a file.
        for name in super::place::VARIABLES {
            command.env_remove(name);
        }
        if let Some(user) = state.unprivileged.filter(|_| !self.privileged) {
            command.uid(user.uid).gid(user.gid);
        }
        Ok(Command::from(command))
    }

    /// Runs the process once, to its end: before anything else does.
    pub(crate) fn once(&self, state: &State) -> anyhow::Result<ExitStatus> {
        self.command(state)?.into_std().status().context("start a process")
    }

    /// Keeps the process running until `stop`.
    async fn keep(mut self, state: &State, warning: CancellationToken, stop: CancellationToken) {
        let name = self.role.name();
        let mut pause = Duration::ZERO;
        while !stop.is_cancelled() {
            let started = Instant::now();
            match self.command(state).and_then(|mut command| command.spawn().context("start it")) {
                Err(error) => {
                    tracing::error!(process = name, error = format!("{error:#}"), "a process did not start")
                }
                Ok(mut child) => match watch(&mut child, &warning, &stop).await {
                    Some(status) => {
                        tracing::warn!(process = name, %status, "a process ended; it is started again")
                    }
                    None => {
                        // Who comes now is refused by the kernel, and knows that nothing was done.
                        (self.listener, self.second) = (None, None);
                        return end(&mut child).await;
                    }
                },
            }
            pause = next_pause(pause, started.elapsed());
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

/// The pause before the next start: none for what lived, then doubling.
fn next_pause(last: Duration, lived: Duration) -> Duration {
    if lived >= LIVED {
        return Duration::ZERO;
    }
    (last * 2).clamp(Duration::from_millis(50), PAUSE_MAX)
}

/// Waits until the process ends, and says how, or until it is to be stopped. Warns it when told to.
async fn watch(
    child: &mut Child,
    warning: &CancellationToken,
    stop: &CancellationToken,
) -> Option<ExitStatus> {
    tokio::select! {
        status = child.wait() => return status.ok(),
        () = warning.cancelled() => tell(child, Signal::USR1),
        () = stop.cancelled() => return None,
    }
    tokio::select! {
        status = child.wait() => status.ok(),
        () = stop.cancelled() => None,
    }
}

fn tell(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(pid) = pid {
        // It may have ended by itself just now.
        let _ = kill_process(pid, signal);
    }
}

async fn end(child: &mut Child) {
    tell(child, Signal::TERM);
    if timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Keeps all processes running until `stop`, then stops them in the order given: what takes calls first,
/// what they depend on last. With a grace, control is warned so long before.
pub(crate) async fn supervise(
    state: State,
    processes: Vec<Vec<Process>>,
    grace: Option<Duration>,
    stop: CancellationToken,
) {
    let warning = CancellationToken::new();
    let state = std::sync::Arc::new(state);
    let mut groups = Vec::new();
    for group in processes {
        let group_stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for process in group {
            let (state, stop) = (std::sync::Arc::clone(&state), group_stop.clone());
            let warning = match process.role {
                Role::Control { .. } => warning.clone(),
                _ => CancellationToken::new(),
            };
            tasks.spawn(async move { process.keep(&state, warning, stop).await });
        }
        groups.push((group_stop, tasks));
    }
    stop.cancelled().await;
    if let Some(grace) = grace {
        warning.cancel();
        sleep(grace).await;
    }
    for (group_stop, tasks) in groups {
        group_stop.cancel();
        tasks.join_all().await;
    }
}

/// Waits until all of these sockets are there, or gives up.
pub(crate) async fn wait_for(paths: &[impl AsRef<Path>], most: Duration) -> anyhow::Result<()> {
    let reached = |path: &Path| std::os::unix::net::UnixStream::connect(path).is_ok();
    let all = async {
        while !paths.iter().all(|path| reached(path.as_ref())) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(most, all).await.context("the platform's processes did not get ready; their messages are above")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_dying_is_started_less_and_less_often() {
        let mut pause = Duration::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pause = next_pause(pause, Duration::from_millis(10));
            pauses.push(pause);
        }
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&PAUSE_MAX));
        assert_eq!(next_pause(PAUSE_MAX, LIVED), Duration::ZERO);
    }

    #[test]
    fn gateways_listen_on_one_address() {
        let listeners =
            gateway_listeners("127.0.0.1:0".parse().expect("an address"), 3, "--listen").expect("sockets");
        let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().expect("an address")).collect();
        assert_eq!(addresses.len(), 3);
        assert!(addresses.iter().all(|address| *address == addresses[0]));
    }

    #[test]
    fn an_address_that_is_taken_is_an_error_with_a_hint() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = taken.local_addr().expect("an address");
        let error = format!("{:#}", control_listener(address).expect_err("it is taken"));
        assert!(error.contains("--control"), "{error}");
    }
}
