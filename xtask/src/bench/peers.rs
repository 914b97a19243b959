//! Peers: servers of others that do the same, from the registries.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::load::Subject;
use crate::{http, paths, platform, setup, sh};

const WASMTIME: (&str, &str) = ("wasmtime-cli", "48.0.8");
const WORKERD: &str = "workerd@1.20261117.1";

/// How long a peer may take until it answers.
const READY_MAX: Duration = Duration::from_secs(30);

/// A peer that runs. Stopped when dropped.
#[derive(Debug)]
pub(super) struct Peer {
    child: Child,
    address: SocketAddr,
}

impl Peer {
    fn start(command: Command, address: SocketAddr) -> Result<Self> {
        Self::start_when(command, address, || {
            http::call(address, "/", None).is_ok_and(|answer| answer.status == 200)
        })
    }

    fn start_when(mut command: Command, address: SocketAddr, answers: impl Fn() -> bool) -> Result<Self> {
        fs::create_dir_all(paths::scratch())?;
        let log = paths::scratch().join(format!("peer-{}.log", address.port()));
        let file = fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = command.spawn().with_context(|| format!("start {}", sh::show(&command)))?;
        let mut peer = Self { child, address };
        let end = Instant::now() + READY_MAX;
        while !answers() {
            if peer.child.try_wait()?.is_some() || Instant::now() > end {
                let log = fs::read_to_string(log).unwrap_or_default();
                bail!("`{}` does not answer:\n{}", sh::show(&command), sh::tail(&log, 20));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(peer)
    }

    /// Where it answers.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// It, to be measured.
    pub(super) fn subject(&self) -> Subject<'_> {
        let root = self.child.id();
        Subject {
            address: self.address,
            path: "/".to_owned(),
            processes: Box::new(move || platform::pids(root)),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        for pid in platform::pids(self.child.id()) {
            sh::works(Command::new("kill").args(["-KILL", &pid.to_string()]));
        }
        let _ = self.child.wait();
    }
}

fn address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// `wasmtime serve`, a new instance for each request: as it comes, or with the settings that suit it best.
pub(super) fn wasmtime(component: &Path, tuned: bool) -> Result<Peer> {
    let folder = setup::cargo("wasmtime", WASMTIME.0, WASMTIME.1)?;
    let address = address()?;
    let mut command = Command::new(folder.join("bin/wasmtime"));
    command.args(["serve", "--addr", &address.to_string(), "--max-instance-reuse-count", "1"]);
    if tuned {
        command.args(["-O", "pooling-allocator=y", "-O", "pooling-memory-keep-resident=10000000"]);
        command.args([
            "-O",
            "pooling-table-keep-resident=65536",
            "-O",
            "pooling-async-stack-keep-resident=16384",
        ]);
        command.args(["-O", "pooling-pagemap-scan=auto"]);
    }
    // Every component that std is in asks for more than wasi:http.
    command.args(["-S", "cli=y"]).arg(component);
    Peer::start(command, address)
}

/// NATS' server with JetStream, which acknowledges a message once it was synced to the disk, below this folder.
pub(super) fn jetstream(folder: &Path) -> Result<Peer> {
    let server = setup::nats()?;
    let address = address()?;
    let config = folder.join("nats.conf");
    fs::write(
        &config,
        format!(
            "listen: \"{address}\"\njetstream {{ store_dir: \"{}\", sync_interval: always }}\n",
            folder.join("nats").display()
        ),
    )?;
    let mut command = Command::new(server);
    command.arg("-c").arg(config);
    Peer::start_when(command, address, || TcpStream::connect(address).is_ok())
}

/// workerd, with the same handler in JavaScript.
pub(super) fn workerd() -> Result<Peer> {
    let folder = setup::npm("workerd", WORKERD)?;
    let address = address()?;
    let config = format!(
        "using Workerd = import \"/workerd/workerd.capnp\";\n\
         const config :Workerd.Config = (\n\
           services = [(name = \"main\", worker = .worker)],\n\
           sockets = [(name = \"http\", address = \"{address}\", http = (), service = \"main\")],\n\
         );\n\
         const worker :Workerd.Worker = (\n\
           modules = [(name = \"worker\", esModule = embed \"worker.js\")],\n\
           compatibilityDate = \"2026-01-01\",\n\
         );\n"
    );
    fs::create_dir_all(paths::scratch())?;
    fs::copy(paths::root().join("benches/peers/worker.js"), paths::scratch().join("worker.js"))?;
    let path = paths::scratch().join("workerd.capnp");
    fs::write(&path, config)?;
    let mut command = Command::new(folder.join("node_modules/.bin/workerd"));
    command.arg("serve").arg(path);
    Peer::start(command, address)
}

/// Google's Functions Framework for Python, as it runs in production.
pub(super) fn functions_framework() -> Result<Peer> {
    let (command, address) = functions_framework_command()?()?;
    Peer::start(command, address)
}

/// What starts it, again and again, each time on a port of its own.
pub(super) fn functions_framework_command() -> Result<impl Fn() -> Result<(Command, SocketAddr)>> {
    let folder = setup::pip("functions-framework", &[setup::FUNCTIONS_FRAMEWORK])?;
    Ok(move || {
        let address = address()?;
        let mut command = Command::new(folder.join("bin/python"));
        command.args(["-m", "functions_framework", "--target", "handler", "--host", "127.0.0.1"]);
        command.args(["--port", &address.port().to_string(), "--source"]);
        command.arg(paths::root().join("benches/peers/main.py"));
        Ok((command, address))
    })
}

/// Nothing but hyper.
pub(super) fn bare_hyper() -> Result<Peer> {
    sh::open(sh::cargo("build").args(["--release", "--package", "rouse-bench"]))?;
    let address = address()?;
    let mut command = Command::new(paths::target().join("release/bare-hyper"));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    command.args([address.to_string(), cores.to_string()]);
    Peer::start(command, address)
}
