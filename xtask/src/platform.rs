//! A platform that was started for trying out or for measuring: `rouse serve` with a state folder of its own.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rouse_processes::{Process, tree};

use crate::{http, paths, setup::Tools, sh};

/// How long a platform may take until it is ready.
const READY_MAX: Duration = Duration::from_secs(60);

/// How long it may take to stop: its gateways finish the calls that they have.
const STOP_MAX: Duration = Duration::from_secs(40);

/// A platform that runs. Stopped when dropped, unless it is told to stay.
#[derive(Debug)]
pub(crate) struct Platform {
    binary: PathBuf,
    /// Its state folder.
    pub(crate) state: PathBuf,
    /// Where functions answer.
    pub(crate) gateway: SocketAddr,
    /// Where the control API answers.
    pub(crate) control: SocketAddr,
    tools: Tools,
    child: Option<Child>,
}

/// How it is built and started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Addresses that are taken when they are free: the gateway's and the control API's port.
    pub(crate) ports: Option<(u16, u16)>,
    /// Gateway processes; one per core when left out.
    pub(crate) gateways: Option<u32>,
    /// Variables for the platform.
    pub(crate) env: Vec<(String, String)>,
}

/// Builds the binary and gives its path.
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    let mut cargo = sh::cargo("build");
    cargo.args(["--package", "rouse", "--bin", "rouse"]);
    if release {
        cargo.arg("--release");
    }
    sh::open(&mut cargo)?;
    Ok(paths::target().join(if release { "release" } else { "debug" }).join("rouse"))
}

impl Platform {
    /// Starts one and waits until it answers.
    pub(crate) fn start(binary: &Path, tools: &Tools, options: &Options) -> Result<Self> {
        // Not below a home: the platform's unprivileged processes have to reach it.
        let state = PathBuf::from(format!("/var/tmp/rouse-{}-{}", std::process::id(), free_port()?));
        fs::create_dir_all(&state)?;
        fs::set_permissions(&state, fs::Permissions::from_mode(0o755))?;
        let (gateway, control) = options.ports.unwrap_or_default();
        let (gateway, control) = (port(gateway)?, port(control)?);
        let log = File::create(state.join("serve.log"))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--state").arg(&state);
        command.arg("--listen").arg(gateway.to_string()).arg("--control").arg(control.to_string());
        command.args(["--aws", "off"]);
        if let Some(gateways) = options.gateways {
            command.arg("--gateways").arg(gateways.to_string());
        }
        command.envs(options.env.iter().map(|(key, value)| (key, value)));
        // A group of its own, so that Ctrl-C at the terminal stops this tool and leaves the platform to it.
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("start {}", sh::show(&command)))?;
        let mut platform = Self {
            binary: binary.to_owned(),
            state,
            gateway,
            control,
            tools: tools.clone(),
            child: Some(child),
        };
        platform.wait_ready()?;
        Ok(platform)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let end = Instant::now() + READY_MAX;
        loop {
            let ready = http::call(self.control, "/readyz", None).is_ok_and(|answer| answer.status == 200);
            // The gateway says 404 to a path that no function has, which shows that it answers.
            if ready && http::call(self.gateway, "/", None).is_ok() {
                return Ok(());
            }
            let gone = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if gone.is_some() || Instant::now() > end {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                let what = gone.map_or("is not ready".into(), |status| format!("ended with {status}"));
                bail!("the platform {what}; its log:\n{}", sh::tail(&log, 30));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// A command of `rouse` that talks to this platform.
    pub(crate) fn rouse(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(args)
            .arg("--url")
            .arg(format!("http://{}", self.control))
            .arg("--state")
            .arg(&self.state);
        self.tools.apply(&mut command);
        command
    }

    /// Where it writes what it does.
    pub(crate) fn log(&self) -> PathBuf {
        self.state.join("serve.log")
    }

    /// The path of a function.
    pub(crate) fn path(function: &str) -> String {
        format!("/fn/default/{function}/")
    }

    /// The supervisor's process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its processes: the supervisor and all that descend from it, with their command lines.
    pub(crate) fn processes(&self) -> Vec<Process> {
        self.pid().map(tree).unwrap_or_default()
    }

    /// Leaves it running, and gives its process.
    pub(crate) fn leave(mut self) -> Option<u32> {
        self.child.take().map(|child| child.id())
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let processes = tree(child.id());
        let signal =
            |signal: &str, pid: u32| sh::works(Command::new("kill").args([signal, &pid.to_string()]));
        signal("-TERM", child.id());
        let end = Instant::now() + STOP_MAX;
        while child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < end {
            thread::sleep(Duration::from_millis(50));
        }
        // Those that did not end with it: a bug, but not one to leave processes behind for.
        processes.iter().filter(|process| process.runs()).for_each(|process| {
            signal("-KILL", process.pid);
        });
        let _ = child.wait();
        let _ = fs::remove_dir_all(&self.state);
    }
}

/// A process and its descendants, by id.
pub(crate) fn pids(root: u32) -> Vec<u32> {
    tree(root).into_iter().map(|process| process.pid).collect()
}

/// This port of the loopback when it is free, else another.
fn port(wanted: u16) -> Result<SocketAddr> {
    let address = SocketAddr::from(([127, 0, 0, 1], wanted));
    if wanted != 0 && TcpListener::bind(address).is_ok() {
        return Ok(address);
    }
    Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").context("find a free port")?.local_addr()?.port())
}
