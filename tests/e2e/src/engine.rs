//! Real servers of the engine that clusters stand on: started on free ports, stopped when dropped.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use rustix::process::Signal;

use crate::{Host, kill, skipped, tool};

/// How long one may take until it answers.
const READY_MAX: Duration = Duration::from_secs(60);

/// Servers of NATS, which sync what they acknowledge.
#[derive(Debug)]
pub struct Engine {
    program: PathBuf,
    folder: TempDir,
    servers: Vec<Server>,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    monitor: SocketAddr,
    command: Command,
    child: Option<Child>,
}

impl Engine {
    /// Starts so many servers and waits until they answer. Nothing, saying so, where they are not installed.
    ///
    /// # Panics
    /// When they do not start.
    #[must_use]
    pub fn start(test: &str, servers: usize) -> Option<Self> {
        let host = Host::local();
        Self::start_on(test, &vec![&host; servers])
    }

    /// Starts a server on each of these hosts and waits until they answer, as [`Engine::start`].
    ///
    /// # Panics
    /// When they do not start.
    #[must_use]
    pub fn start_on(test: &str, hosts: &[&Host]) -> Option<Self> {
        let Some(program) = tool("ROUSE_NATS_SERVER") else {
            skipped(test, "nats-server is not there: run `cargo xtask setup`");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let routes: Vec<_> = hosts.iter().map(|host| host.free_address()).collect();
        let all = routes.iter().map(|route| format!("nats://{route}")).collect::<Vec<_>>().join(", ");
        let mut engine = Self { program, folder, servers: Vec::new() };
        for (number, (route, host)) in routes.iter().zip(hosts).enumerate() {
            let (address, monitor) = (host.free_address(), host.free_address());
            let cluster = match hosts.len() {
                1 => String::new(),
                _ => format!("cluster {{ name: test, listen: \"{route}\", routes: [{all}] }}\n"),
            };
            let data = engine.folder.path().join(format!("data-{number}"));
            let config = format!(
                "server_name: n{number}\nlisten: \"{address}\"\nhttp: \"{monitor}\"\n{cluster}\
                 jetstream {{ store_dir: \"{}\", max_mem: 256MB, max_file: 1TB, sync_interval: always }}\n",
                data.display()
            );
            fs::write(engine.config(number), config).expect("write its settings");
            let mut command = host.command(&engine.program);
            command.arg("-c").arg(engine.config(number)).stdin(Stdio::null()).stdout(Stdio::null());
            engine.servers.push(Server { address, monitor, command, child: None });
        }
        (0..hosts.len()).for_each(|number| engine.spawn(number));
        (0..hosts.len()).for_each(|number| engine.wait(number));
        Some(engine)
    }

    fn config(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("{number}.conf"))
    }

    fn spawn(&mut self, number: usize) {
        let log = fs::File::create(self.folder.path().join(format!("{number}.log"))).expect("a log");
        let child = self.servers[number].command.stderr(log).spawn();
        self.servers[number].child = Some(child.expect("start nats-server"));
    }

    fn wait(&self, number: usize) {
        let end = Instant::now() + READY_MAX;
        while TcpStream::connect(self.servers[number].address).is_err() {
            assert!(Instant::now() < end, "nats-server does not answer");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts a server with what it had, and waits until it answers.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self, number: usize) {
        self.spawn(number);
        self.wait(number);
    }

    /// Ends a server by SIGKILL.
    ///
    /// # Panics
    /// When the kernel does not.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.servers[number].child.take() {
            child.kill().expect("kill nats-server");
            child.wait().expect("wait for nats-server");
        }
    }

    /// Stops a server where it stands (SIGSTOP), or lets it go on.
    pub fn pause(&self, number: usize, paused: bool) {
        if let Some(child) = &self.servers[number].child {
            kill(child.id(), if paused { Signal::STOP } else { Signal::CONT });
        }
    }

    /// The arguments of `rouse serve` by which a node joins.
    #[must_use]
    pub fn join(&self, node: &str, zone: &str) -> Vec<String> {
        let each = |scheme: &str, of: fn(&Server) -> SocketAddr| {
            let all: Vec<_> =
                self.servers.iter().map(|server| format!("{scheme}://{}", of(server))).collect();
            all.join(",")
        };
        let (servers, monitors) =
            (each("nats", |server| server.address), each("http", |server| server.monitor));
        ["--cluster", &servers, "--cluster-monitors", &monitors, "--node", node, "--zone", zone]
            .map(str::to_owned)
            .to_vec()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        (0..self.servers.len()).for_each(|number| self.kill(number));
    }
}
