//! The simulator: a sandbox whose code is a task of this process. Everything above the seam can be tested with
//! it on any host, under tokio's paused time, without sockets or privileges.
//!
//! The code is a function from [`Inside`] to a future of its [`Exit`]:
//!
//! ```
//! # use rouse_sandbox::{Exit, sim::SimDriver};
//! let driver = SimDriver::new(|mut inside| async move {
//!     inside.print("hello\n").await;
//!     inside.use_cpu_us(1_500);
//!     Exit::Code(0)
//! });
//! ```
//!
//! A frozen sandbox' task is not polled at all, so it makes no progress, whatever it waits for.

use std::{
    collections::HashMap,
    fmt,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncWriteExt, DuplexStream, duplex},
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{Driver, Error, Exit, Listener, Output, Sandbox, Spec, Started, Stats, Stream};

/// Bytes in flight on a simulated connection or pipe: as much as a pipe of the kernel takes.
const BUFFER_BYTES: usize = 64 * 1024;
/// Connections that were dialled and not yet accepted: the kernel's backlog stands at the same number.
const BACKLOG: usize = 128;

/// Where simulated code listens.
type Ports = Mutex<HashMap<SocketAddr, mpsc::Sender<DuplexStream>>>;

type Code = dyn Fn(Inside) -> Pin<Box<dyn Future<Output = Exit> + Send>> + Send + Sync;

/// Starts simulated sandboxes. Clones share their settings and counts.
#[derive(Clone)]
pub struct SimDriver {
    code: Arc<Code>,
    settings: Arc<Mutex<Settings>>,
}

#[derive(Debug, Default)]
struct Settings {
    start_delay: Duration,
    failures_left: u32,
    started: u64,
    living: u64,
}

impl fmt::Debug for SimDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDriver").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl SimDriver {
    /// A driver whose sandboxes all run `code`.
    pub fn new<F, C>(code: C) -> Self
    where
        C: Fn(Inside) -> F + Send + Sync + 'static,
        F: Future<Output = Exit> + Send + 'static,
    {
        Self { code: Arc::new(move |inside| Box::pin(code(inside))), settings: Arc::default() }
    }

    /// Makes every later start take this long.
    #[must_use]
    pub fn start_delay(self, delay: Duration) -> Self {
        lock(&self.settings).start_delay = delay;
        self
    }

    /// Makes the next `count` starts fail, after their delay.
    pub fn fail_starts(&self, count: u32) {
        lock(&self.settings).failures_left = count;
    }

    /// How many sandboxes were started so far.
    #[must_use]
    pub fn started(&self) -> u64 {
        lock(&self.settings).started
    }

    /// How many of them have not ended.
    #[must_use]
    pub fn living(&self) -> u64 {
        lock(&self.settings).living
    }
}

impl Driver for SimDriver {
    type Sandbox = SimSandbox;

    async fn start(&self, spec: Spec) -> Result<Started<SimSandbox>, Error> {
        let delay = lock(&self.settings).start_delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        {
            let mut settings = lock(&self.settings);
            if settings.failures_left > 0 {
                settings.failures_left -= 1;
                let source = io::Error::other("the simulator was told to fail");
                return Err(Error::Host { step: "start a simulated sandbox".into(), source });
            }
            settings.started += 1;
            settings.living += 1;
        }
        let (dials, listeners) = spec
            .listeners
            .iter()
            .map(|&address| {
                let (dial, dialled) = mpsc::channel(BACKLOG);
                ((address, dial), Listener::Sim(dialled))
            })
            .unzip();
        let (stdout, stdout_inside) = duplex(BUFFER_BYTES);
        let (stderr, stderr_inside) = duplex(BUFFER_BYTES);
        let (gate, ports) = (Arc::new(Gate::default()), Arc::new(Ports::default()));
        let inside = Inside {
            spec,
            dials,
            ports: Arc::clone(&ports),
            stdout: stdout_inside,
            stderr: stderr_inside,
            gate: Arc::clone(&gate),
        };
        let (exited_tell, exited) = watch::channel(None);
        let living = Living(Arc::clone(&self.settings));
        let code = (self.code)(inside);
        let mut task = JoinSet::new();
        let held = Arc::clone(&gate);
        task.spawn(async move {
            let exit = held.run(code).await;
            drop(living);
            exited_tell.send_replace(Some(exit));
        });
        let sandbox = SimSandbox { gate, ports, exited, _task: task };
        Ok(Started {
            sandbox,
            listeners,
            resolver: None,
            stdout: Output::Sim(stdout),
            stderr: Output::Sim(stderr),
        })
    }
}

/// Counts a sandbox as living until it is dropped: also when its task is aborted.
struct Living(Arc<Mutex<Settings>>);

impl Drop for Living {
    fn drop(&mut self) {
        lock(&self.0).living -= 1;
    }
}

/// What simulated code has of the world: its spec, its outputs, and the platform's listeners.
#[derive(Debug)]
pub struct Inside {
    spec: Spec,
    dials: Vec<(SocketAddr, mpsc::Sender<DuplexStream>)>,
    ports: Arc<Ports>,
    stdout: DuplexStream,
    stderr: DuplexStream,
    gate: Arc<Gate>,
}

impl Inside {
    /// The spec that it was started from.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The value of an environment variable.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<&str> {
        self.spec.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Connects to one of the spec's listeners.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] where nothing listens: such a sandbox has no other network.
    pub async fn dial(&self, address: SocketAddr) -> io::Result<Stream> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let (_, dial) = self.dials.iter().find(|(listening, _)| *listening == address).ok_or_else(refused)?;
        let (ours, theirs) = duplex(BUFFER_BYTES);
        dial.send(theirs).await.map_err(|_| refused())?;
        Ok(Stream::Sim(ours))
    }

    /// Listens on a port of the sandbox's own loopback, until the listener is dropped.
    #[must_use]
    pub fn listen(&self, address: SocketAddr) -> Listener {
        let (dial, dialled) = mpsc::channel(BACKLOG);
        lock(&self.ports).insert(address, dial);
        Listener::Sim(dialled)
    }

    /// Writes to the standard output; what nobody reads any more is lost.
    pub async fn print(&mut self, text: &str) {
        let _ = self.stdout.write_all(text.as_bytes()).await;
    }

    /// Writes to the standard error; what nobody reads any more is lost.
    pub async fn print_error(&mut self, text: &str) {
        let _ = self.stderr.write_all(text.as_bytes()).await;
    }

    /// Counts CPU time as used.
    pub fn use_cpu_us(&self, used: u64) {
        self.gate.state().stats.cpu_us += used;
    }

    /// Holds this much memory from now on. More than the limit ends the sandbox at its next wait, as the
    /// kernel would.
    pub fn use_memory_bytes(&self, held: u64) {
        let mut state = self.gate.state();
        state.stats.memory_peak_bytes =
            state.stats.memory_peak_bytes.max(held.min(self.spec.limits.memory_bytes));
        if held > self.spec.limits.memory_bytes {
            state.doom = state.doom.or(Some(Exit::OutOfMemory));
        }
    }
}

/// What stands between the runtime and the code: closed, it lets no poll through.
#[derive(Debug, Default)]
struct Gate(Mutex<GateState>);

#[derive(Debug, Default)]
struct GateState {
    frozen: bool,
    doom: Option<Exit>,
    stats: Stats,
    waker: Option<Waker>,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, GateState> {
        lock(&self.0)
    }

    async fn run(&self, mut code: Pin<Box<dyn Future<Output = Exit> + Send>>) -> Exit {
        poll_fn(|cx| {
            {
                let mut state = self.state();
                if let Some(exit) = state.doom {
                    return Poll::Ready(exit);
                }
                state.waker = Some(cx.waker().clone());
                if state.frozen {
                    return Poll::Pending;
                }
            }
            let polled = code.as_mut().poll(cx);
            // The poll itself may have used up the memory.
            self.state().doom.map_or(polled, Poll::Ready)
        })
        .await
    }

    fn change(&self, change: impl FnOnce(&mut GateState)) {
        let waker = {
            let mut state = self.state();
            change(&mut state);
            state.waker.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A simulated sandbox.
#[derive(Debug)]
pub struct SimSandbox {
    gate: Arc<Gate>,
    ports: Arc<Ports>,
    exited: watch::Receiver<Option<Exit>>,
    /// Dropping it aborts the code.
    _task: JoinSet<()>,
}

impl SimSandbox {
    fn alive(&self) -> Result<(), Error> {
        if self.exited.borrow().is_some() { Err(Error::Gone) } else { Ok(()) }
    }
}

impl Sandbox for SimSandbox {
    async fn freeze(&self) -> Result<(), Error> {
        self.alive()?;
        self.gate.change(|state| state.frozen = true);
        Ok(())
    }

    async fn thaw(&self) -> Result<(), Error> {
        self.alive()?;
        self.gate.change(|state| state.frozen = false);
        Ok(())
    }

    async fn dial(&self, address: SocketAddr) -> Result<Stream, Error> {
        self.alive()?;
        let port = lock(&self.ports).get(&address).cloned();
        let (ours, theirs) = duplex(BUFFER_BYTES);
        match port {
            Some(port) if port.send(theirs).await.is_ok() => Ok(Stream::Sim(ours)),
            _ => Err(Error::NotListening(address)),
        }
    }

    fn stats(&self) -> Stats {
        self.gate.state().stats
    }

    fn kill(&self) {
        const SIGKILL: i32 = 9;
        self.gate.change(|state| state.doom = state.doom.or(Some(Exit::Signal(SIGKILL))));
    }

    async fn exited(&self) -> Exit {
        let mut exited = self.exited.clone();
        match exited.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::Code(0)),
            // Its code panicked, as a process would abort.
            Err(_) => Exit::Signal(6),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change of these states is one assignment, so a panic cannot leave one half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
