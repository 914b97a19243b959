//! A driver without a sandbox: plain processes of this host.

use std::process::Stdio;

use rouse_contract::lambda::environment;
use rouse_sandbox::{Driver, Error, Exit, Listener, Output, Sandbox, Spec, Started, Stats, Stream};
use tokio::{net::unix::pipe, sync::watch, task::JoinSet};

/// Runs a spec as a plain process, with its mounts' paths put in place of their targets.
#[derive(Debug)]
pub(crate) struct Processes;

#[derive(Debug)]
pub(crate) struct Process {
    kill: watch::Sender<bool>,
    exit: watch::Receiver<Option<Exit>>,
    _task: JoinSet<()>,
}

impl Driver for Processes {
    type Sandbox = Process;

    async fn start(&self, spec: Spec) -> Result<Started<Process>, Error> {
        let host = |source| Error::Host { step: "start a process".into(), source };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(host)?;
        let address = listener.local_addr().map_err(host)?.to_string();
        let place = |text: &str| {
            let text = text.replace(environment::RUNTIME_API, &address);
            spec.mounts.iter().fold(text, |text, mount| {
                text.replace(&*mount.target.to_string_lossy(), &mount.source.to_string_lossy())
            })
        };
        let mut child = tokio::process::Command::new(place(&spec.argv[0]))
            .args(spec.argv[1..].iter().map(|text| place(text)))
            .env_clear()
            .envs(spec.env.iter().map(|(name, value)| (name, place(value))))
            .current_dir(place(&spec.cwd.to_string_lossy()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(host)?;
        let stdout = child.stdout.take().expect("piped").into_owned_fd().map_err(host)?;
        let stderr = child.stderr.take().expect("piped").into_owned_fd().map_err(host)?;
        let output = |fd| pipe::Receiver::from_owned_fd(fd).map(Output::Pipe).map_err(host);
        let (kill, mut killed) = watch::channel(false);
        let (tell, exit) = watch::channel(None);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let until_killed = async move { drop(killed.wait_for(|killed| *killed).await) };
            let status = tokio::select! {
                status = child.wait() => Some(status),
                () = until_killed => None,
            };
            let status = match status {
                Some(status) => status,
                None => {
                    child.start_kill().expect("ours");
                    child.wait().await
                }
            };
            let code = status.ok().and_then(|status| status.code());
            tell.send_replace(Some(code.map_or(Exit::Signal(9), Exit::Code)));
        });
        let sandbox = Process { kill, exit, _task: task };
        let listeners = vec![Listener::Tcp(listener)];
        Ok(Started { sandbox, listeners, resolver: None, stdout: output(stdout)?, stderr: output(stderr)? })
    }
}

impl Sandbox for Process {
    async fn freeze(&self) -> Result<(), Error> {
        Ok(())
    }
    async fn thaw(&self) -> Result<(), Error> {
        Ok(())
    }
    async fn dial(&self, address: std::net::SocketAddr) -> Result<Stream, Error> {
        let connected = tokio::net::TcpStream::connect(address).await;
        connected.map(Stream::Tcp).map_err(|_| Error::NotListening(address))
    }
    fn stats(&self) -> Stats {
        Stats::default()
    }
    fn kill(&self) {
        self.kill.send_replace(true);
    }
    async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit).unwrap_or(Exit::Signal(9))
    }
}
