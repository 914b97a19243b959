//! A platform that runs, and the doors to it.

use std::{
    collections::HashSet,
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, Once, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rouse_processes::{Kind, Process, alive, descendants};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{Answer, Host, call, signal::kill, tools};

/// How long it may take until it is ready, on a machine that is busy.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long it may take to stop.
const STOP_MAX: Duration = Duration::from_secs(45);
/// How long functions that nobody calls may be kept.
const GONE_MAX: Duration = Duration::from_secs(120);
/// How long processes may take to end after their supervisor.
const ORPHANS_MAX: Duration = Duration::from_secs(15);

/// Whether any test failed: then the platform's log is of interest.
static FAILED: AtomicBool = AtomicBool::new(false);
static WATCH_FAILURES: Once = Once::new();
static SHARED: Mutex<Weak<Platform>> = Mutex::new(Weak::new());

/// `rouse serve` with a state folder and ports of its own. Stopped when dropped.
#[derive(Debug)]
pub struct Platform {
    child: Child,
    state: PathBuf,
    /// The state folder when it is one of its own, gone with the platform.
    _folder: Option<TempDir>,
    /// Where functions answer.
    pub gateway: SocketAddr,
    /// Where the control API answers.
    pub control: SocketAddr,
    deployed: Mutex<HashSet<PathBuf>>,
    python: Mutex<Option<Result<(), String>>>,
}

/// What a run of `rouse` came to.
#[derive(Debug)]
pub struct Cli {
    /// Whether it succeeded.
    pub ok: bool,
    /// What it wrote to its standard output.
    pub out: String,
    /// What it wrote to its standard error.
    pub err: String,
}

impl Platform {
    /// The platform that the tests of one file share: started by the first, stopped after the last.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(platform) = shared.upgrade() {
            return platform;
        }
        let platform = Arc::new(Self::start());
        *shared = Arc::downgrade(&platform);
        platform
    }

    /// Starts one and waits until it is ready.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = state_folder();
        let mut platform = Self::start_in(folder.path());
        platform._folder = Some(folder);
        platform
    }

    /// Starts one in a state folder that is there, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_in(state: &Path) -> Self {
        Self::start_with(state, &[])
    }

    /// Starts one in a state folder that is there, with further arguments, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_with(state: &Path, args: &[String]) -> Self {
        Self::start_on(&Host::local(), state, args)
    }

    /// The same, with functions at this address.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_at(gateway: SocketAddr, state: &Path, args: &[String]) -> Self {
        Self::launch(&Host::local(), gateway, state, args)
    }

    /// The same on a host of a network.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_on(host: &Host, state: &Path, args: &[String]) -> Self {
        Self::launch(host, host.free_address(), state, args)
    }

    fn launch(host: &Host, gateway: SocketAddr, state: &Path, args: &[String]) -> Self {
        WATCH_FAILURES.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                FAILED.store(true, Ordering::Relaxed);
                before(panic);
            }));
        });
        let control = host.free_address();
        let log = File::create(state.join("serve.log")).expect("a log");
        let child = host
            .command(&binary())
            .args([
                "serve",
                "--listen",
                &gateway.to_string(),
                "--control",
                &control.to_string(),
                "--aws",
                &SocketAddr::new(host.address(), 0).to_string(),
                "--gateways",
                "2",
            ])
            .arg("--state")
            .arg(state)
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("start rouse");
        let mut platform = Self {
            child,
            state: state.to_owned(),
            _folder: None,
            gateway,
            control,
            deployed: Mutex::default(),
            python: Mutex::default(),
        };
        platform.wait_ready();
        platform
    }

    fn wait_ready(&mut self) {
        let end = Instant::now() + READY_MAX;
        // A runtime of its own, since it is called from tests with and without one.
        let (gateway, control) = (self.gateway, self.control);
        while !thread::spawn(move || is_ready(gateway, control)).join().unwrap_or(false) {
            let gone = self.child.try_wait().ok().flatten();
            assert!(gone.is_none() && Instant::now() < end, "not ready ({gone:?}); its log:\n{}", self.log());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The end of what it logged, but for what is not worth a warning.
    #[must_use]
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.state.join("serve.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains(" INFO ")).collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Where AWS' clients are answered.
    ///
    /// # Panics
    /// When it was not said.
    #[must_use]
    pub fn aws(&self) -> String {
        format!("http://{}", self.aws_address())
    }

    /// The same as an address.
    ///
    /// # Panics
    /// When it was not said.
    #[must_use]
    pub fn aws_address(&self) -> SocketAddr {
        let text = fs::read_to_string(self.state.join("run/addresses.json")).expect("the addresses");
        let addresses: serde_json::Value = serde_json::from_str(&text).expect("json");
        addresses["aws"].as_str().and_then(|address| address.parse().ok()).expect("an address")
    }

    /// Its state folder.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The metrics of all of its processes, as text.
    ///
    /// # Panics
    /// When control does not tell them.
    pub async fn metrics(&self) -> String {
        let answer = self.ask("/metrics").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }

    /// What control answers its operator.
    ///
    /// # Panics
    /// When it does not.
    pub async fn ask(&self, path: &str) -> Answer {
        let token = fs::read_to_string(self.state.join("control/token")).expect("the token");
        let mut request = call::request(self.control, path, None);
        let token = format!("Bearer {}", token.trim()).parse().expect("a header's value");
        request.headers_mut().insert("authorization", token);
        self.send(request).await
    }

    /// A request to a path of the gateway, with a body when it is a POST.
    #[must_use]
    pub fn request(&self, path: &str, body: Option<Bytes>) -> Request<Full<Bytes>> {
        call::request(self.gateway, path, body)
    }

    /// Sends a request, on a connection of its own.
    ///
    /// # Panics
    /// When the connection fails: whatever a function does, the platform answers.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        call::call_on(&call::client(), request).await.expect("an answer")
    }

    /// `GET /fn/default/<rest>`.
    pub async fn get(&self, rest: &str) -> Answer {
        self.send(self.request(&format!("/fn/default/{rest}"), None)).await
    }

    /// `POST /fn/default/<rest>`.
    pub async fn post(&self, rest: &str, body: impl Into<Bytes>) -> Answer {
        self.send(self.request(&format!("/fn/default/{rest}"), Some(body.into()))).await
    }

    /// Runs `rouse` against this platform. Does not hold up the test's other tasks.
    ///
    /// # Panics
    /// When it cannot be run.
    pub async fn rouse(&self, args: &[&str]) -> Cli {
        let mut command = self.command(args);
        let output =
            tokio::task::spawn_blocking(move || command.output()).await.expect("a task").expect("run rouse");
        Cli {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs `rouse … --json` and gives what it printed.
    ///
    /// # Panics
    /// When it fails or prints no JSON.
    pub async fn json(&self, args: &[&str]) -> serde_json::Value {
        let all = [args, &["--json"]].concat();
        let cli = self.rouse(&all).await;
        assert!(cli.ok, "rouse {args:?} failed:\n{}{}", cli.out, cli.err);
        serde_json::from_str(&cli.out).unwrap_or_else(|error| panic!("rouse {args:?}: {error}:\n{}", cli.out))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program();
        command.args(args).arg("--url").arg(format!("http://{}", self.control));
        command.arg("--state").arg(&self.state).stdin(Stdio::null());
        command
    }

    /// Deploys the app of a folder.
    ///
    /// # Panics
    /// When that fails.
    pub async fn deploy(&self, folder: &Path) {
        let cli = self.rouse(&["deploy", &folder.display().to_string()]).await;
        assert!(cli.ok, "deploying {} failed:\n{}{}", folder.display(), cli.out, cli.err);
    }

    /// Deploys an app that tests of this file share, once.
    pub async fn deploy_once(&self, folder: &Path) {
        // Two that deploy the same at once do it twice, which changes nothing.
        if !self.deployed.lock().unwrap_or_else(PoisonError::into_inner).contains(folder) {
            self.deploy(folder).await;
            self.deployed.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned());
        }
    }

    /// Why functions of a kind (`component`, `python`, `node`) cannot run here; nothing when they can.
    #[must_use]
    pub fn lacks(&self, kind: &str) -> Option<String> {
        match kind {
            "component" if tools::there() => None,
            "component" => Some("the tools for components are not there: run `cargo xtask setup`".to_owned()),
            _ if !rustix::process::geteuid().is_root() => Some("sandboxes need root".to_owned()),
            "image" => None,
            "python" => self.install_python(),
            "node" if Path::new("/usr/bin/node").exists() || Path::new("/usr/local/bin/node").exists() => {
                None
            }
            "node" => Some("node is not there: run `cargo xtask setup`".to_owned()),
            _ => panic!("no kind of function is called {kind}"),
        }
    }

    fn install_python(&self) -> Option<String> {
        let mut installed = self.python.lock().unwrap_or_else(PoisonError::into_inner);
        let installed = installed.get_or_insert_with(|| {
            let version =
                python().map_err(|error| format!("no python3, run `cargo xtask setup`: {error}"))?;
            let output = self.command(&["runtime", "install", &version]).output().expect("run rouse");
            match output.status.success() {
                true => Ok(()),
                false => Err(format!(
                    "`rouse runtime install {version}` failed: {}",
                    String::from_utf8_lossy(&output.stderr)
                )),
            }
        });
        installed.clone().err()
    }

    /// The platform's own processes of a role.
    #[must_use]
    pub fn role(&self, role: &str) -> Vec<Process> {
        self.processes().into_iter().filter(|process| process.role() == Some(role)).collect()
    }

    /// All processes below the supervisor.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        descendants(self.child.id())
    }

    /// The processes that are none of the platform's own: functions, and what holds them. An interpreter that waits to
    /// be forked, or to become a function, is nobody's yet, and goes some minutes after the last call.
    #[must_use]
    pub fn functions(&self) -> Vec<Process> {
        self.processes().into_iter().filter(|process| process.kind() == Kind::Function).collect()
    }

    /// Waits until no process of a function is left.
    pub async fn goes_to_nothing(&self) {
        let gone = async || self.functions().is_empty();
        call::wait_for("the functions' processes end", GONE_MAX, gone).await;
    }

    /// The process of `rouse serve`.
    #[must_use]
    pub fn supervisor(&self) -> u32 {
        self.child.id()
    }

    /// Stops all processes where they stand (SIGSTOP), or lets them go on.
    pub fn pause(&self, paused: bool) {
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        kill(self.child.id(), signal);
        self.processes().iter().for_each(|process| kill(process.pid, signal));
    }

    /// Kills the supervisor, as it stands.
    pub fn kill_supervisor(&self) {
        kill(self.child.id(), Signal::KILL);
    }

    /// Kills all processes of a role, at once.
    ///
    /// # Panics
    /// When there is none.
    pub fn kill(&self, role: &str) {
        let found = self.role(role);
        assert!(!found.is_empty(), "no {role} among {:?}", self.processes());
        found.iter().for_each(|process| kill(process.pid, Signal::KILL));
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let all = self.processes();
        kill(self.child.id(), Signal::TERM);
        let end = Instant::now() + STOP_MAX;
        while self.child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        let stopped = self.child.try_wait().is_ok_and(|status| status.is_some());
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What lost its supervisor ends by itself, once it has cleared away what it holds.
        let left = || all.iter().filter(|process| alive(process.pid)).collect::<Vec<_>>();
        let end = Instant::now() + ORPHANS_MAX;
        while !left().is_empty() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        let left = left();
        left.iter().for_each(|process| kill(process.pid, Signal::KILL));
        if FAILED.load(Ordering::Relaxed) {
            eprintln!("--- the platform's log ends so:\n{}\n---", self.log());
        } else {
            assert!(stopped, "the platform did not stop within {STOP_MAX:?}; its log:\n{}", self.log());
            assert!(left.is_empty(), "processes outlived their platform: {left:?}; its log:\n{}", self.log());
        }
    }
}

/// `rouse`, able to find what `cargo xtask setup` installed.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn program() -> Command {
    let mut command = Command::new(binary());
    tools::apply(&mut command);
    command
}

/// The runtime of this machine's Python, such as `python3.11`.
///
/// # Errors
/// There is none.
pub fn python() -> std::io::Result<String> {
    let mut version = Command::new("/usr/bin/python3");
    version.args(["-c", "import sys; print('python3.%d' % sys.version_info.minor)"]);
    Ok(String::from_utf8_lossy(&version.output()?.stdout).trim().to_owned())
}

/// A state folder, not below a home: the platform's unprivileged processes have to reach it.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn state_folder() -> TempDir {
    let state = tempfile::Builder::new().prefix("rouse-e2e-").tempdir_in("/var/tmp").expect("a state folder");
    fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).expect("open the state folder");
    state
}

/// The binary beside the tests: cargo puts them into `deps/` of the same folder.
fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test");
    let folder = test.parent().and_then(Path::parent).expect("cargo's folder");
    let binary = folder.join("rouse");
    assert!(binary.is_file(), "{} is not there: run `cargo xtask test e2e`", binary.display());
    binary
}

/// An address of the loopback that is free now.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

fn is_ready(gateway: SocketAddr, control: SocketAddr) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = call::client();
        let ready = call::call_on(&client, call::request(control, "/readyz", None)).await;
        // One that was cordoned before is as ready as it gets.
        let stands = |answer: &Answer| answer.status == 503 && answer.text().contains("it takes no new work");
        // The gateway refuses what is no function's address, which shows that it answers.
        ready.is_ok_and(|answer| answer.status == 200 || stands(&answer))
            && call::call_on(&client, call::request(gateway, "/", None)).await.is_ok()
    })
}
