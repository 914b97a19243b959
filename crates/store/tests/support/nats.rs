//! Real servers of the cluster's engine, as many as a test wants: started on free ports, stopped when dropped.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rouse_store::cluster::{Cluster, Options};

/// How long servers may take until they answer and have a leader: the machine may be busy.
pub(crate) const READY_MAX: Duration = Duration::from_secs(60);

/// The program, as the environment or an earlier setup says.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn program(test: &str) -> Option<PathBuf> {
    let named = || {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
        let tools =
            std::env::var_os("ROUSE_TOOLS").map_or_else(|| home.join(".cache/rouse/tools"), PathBuf::from);
        let text = fs::read_to_string(tools.join("env")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("ROUSE_NATS_SERVER=").map(PathBuf::from))
    };
    let found = std::env::var_os("ROUSE_NATS_SERVER").map(PathBuf::from).or_else(named);
    let found = found.filter(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIPPED {test}: nats-server is not installed: run `cargo xtask setup`");
    }
    found
}

/// The servers of one engine.
#[derive(Debug)]
pub(crate) struct Engine {
    program: PathBuf,
    dir: tempfile::TempDir,
    servers: Vec<Server>,
}

#[derive(Debug)]
struct Server {
    port: u16,
    monitor: u16,
    child: Option<Child>,
}

impl Engine {
    /// Starts so many servers. None, and a word of it, where they are not installed.
    pub(crate) fn start(test: &str, servers: usize) -> Option<Self> {
        Self::start_as(test, servers, "always")
    }

    /// Starts so many servers, which sync as said.
    pub(crate) fn start_as(test: &str, servers: usize, sync: &str) -> Option<Self> {
        let program = program(test)?;
        // Held until all are known, so that they differ.
        let held: Vec<_> = (0..servers * 3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = held.iter().map(|port| port.local_addr().unwrap().port()).collect();
        drop(held);
        let dir = tempfile::tempdir().unwrap();
        let routes: Vec<_> = ports.chunks(3).map(|ports| format!("nats://127.0.0.1:{}", ports[2])).collect();
        let mut engine = Self { program, dir, servers: Vec::new() };
        for (number, ports) in ports.chunks(3).enumerate() {
            let [port, monitor, route] = [ports[0], ports[1], ports[2]];
            let cluster = match servers {
                1 => String::new(),
                _ => format!(
                    "cluster {{ name: test, listen: \"127.0.0.1:{route}\", routes: [{}] }}",
                    routes.join(", ")
                ),
            };
            let store = engine.dir.path().join(format!("data-{number}"));
            let config = format!(
                "server_name: n{number}\nlisten: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
                 jetstream {{ store_dir: \"{}\", max_mem: 256MB, max_file: 1TB, sync_interval: {sync} }}\n{cluster}\n",
                store.display()
            );
            fs::write(engine.dir.path().join(format!("{number}.conf")), config).unwrap();
            engine.servers.push(Server { port, monitor, child: None });
        }
        for number in 0..servers {
            engine.start_one(number);
        }
        Some(engine)
    }

    /// Where a server's clients connect.
    pub(crate) fn port(&self, number: usize) -> u16 {
        self.servers[number].port
    }

    /// Where a server tells of itself.
    pub(crate) fn monitor(&self, number: usize) -> u16 {
        self.servers[number].monitor
    }

    /// Starts a server that does not run.
    pub(crate) fn start_one(&mut self, number: usize) {
        let log = fs::File::create(self.dir.path().join(format!("{number}.log"))).unwrap();
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.dir.path().join(format!("{number}.conf")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.servers[number].child = Some(command.spawn().unwrap());
    }

    /// Ends a server by SIGKILL.
    pub(crate) fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.servers[number].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// What joins it.
    pub(crate) fn options(&self) -> Options {
        let each = |port: fn(&Self, usize) -> u16, scheme: &str| {
            let one = |number| format!("{scheme}://127.0.0.1:{}", port(self, number));
            (0..self.servers.len()).map(one).collect::<Vec<_>>()
        };
        Options {
            monitors: each(Self::monitor, "http"),
            replicas: u8::try_from(self.servers.len()).unwrap(),
            ..Options::new(each(Self::port, "nats").join(","))
        }
    }

    /// Joins, once the servers answer.
    pub(crate) async fn join(&self) -> Cluster {
        self.join_with(self.options()).await
    }

    /// Joins so, once the servers answer.
    pub(crate) async fn join_with(&self, options: Options) -> Cluster {
        let end = Instant::now() + READY_MAX;
        loop {
            match Cluster::join(&options).await {
                Ok(cluster) => return cluster,
                Err(error) if Instant::now() > end => panic!("the engine does not answer: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for number in 0..self.servers.len() {
            self.kill(number);
        }
    }
}
