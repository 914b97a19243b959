//! The seam between the platform and what confines code: a [`Driver`] starts a [`Sandbox`] from a [`Spec`].
//!
//! ```text
//!  Spec ──start──▶ running ⇄ frozen ──kill / exit──▶ gone (nothing left on the host)
//! ```
//!
//! Who calls: the node, for every contract but `component`. In which order: `start` once; then `freeze`
//! and `thaw` in turn, `dial` and `stats` at any time; `kill` at any time, also twice; `exited` is awaited by one task
//! for the whole life. What may be left out: everything but `start`; dropping a sandbox kills it.
//! On an error of `start` nothing is left behind on the host.
//!
//! Invariant: a sandbox has no network but the sockets that its spec names, or, where it asks for one, a network that
//! does not lead to the host. Nothing here knows of
//! functions, tenants or invocations. This is the only crate, with `rouse-wasm`, that may use `unsafe`.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

pub mod container;
pub mod sim;
pub mod stream;

pub use stream::{Listener, Output, Stream};

/// The port of name servers: RFC 1035 §4.2.1.
pub const RESOLVER_PORT: u16 = 53;

/// What to run, and within which bounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Names the sandbox on this host: `[a-z0-9-]`, at most 40 bytes, unique among those that live.
    pub id: String,
    /// The program and its arguments, as seen from inside.
    pub argv: Vec<String>,
    /// Its environment, whole: nothing is inherited.
    pub env: Vec<(String, String)>,
    /// Its working folder, as seen from inside.
    pub cwd: PathBuf,
    /// What it sees of the host's files, beside the read-only `/usr` that every sandbox has.
    pub mounts: Vec<Mount>,
    /// What it may use.
    pub limits: Limits,
    /// Addresses on the sandbox's own loopback where the platform listens. One that is not the loopback's is added
    /// to it; `0.0.0.0` is all of them.
    pub listeners: Vec<SocketAddr>,
    /// Where it asks for names: an address of its loopback where the platform answers them, on [`RESOLVER_PORT`].
    pub resolver: Option<IpAddr>,
    /// Names beside `localhost` that its `/etc/hosts` knows.
    pub hosts: Vec<(IpAddr, String)>,
    /// What it has of a network.
    pub network: Network,
    /// What its files are.
    pub root: Root,
    /// An interpreter that has started already, to become the code. A driver that has none executes `argv`, which
    /// comes to the same.
    pub interpreter: Option<Interpreter>,
}

/// An interpreter that starts before it is known what it runs: a sandbox whose code it becomes starts without the
/// interpreter's own start. It is as confined as a sandbox, and started by the driver when a spec first names it.
///
/// The program is found on descriptor 3 by messages, see `zygote.py` and `node_client.mjs` of the contracts for two
/// that speak them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Interpreter {
    /// Tells apart interpreters that are else the same: whatever must be kept apart needs families of its own. Means
    /// nothing here.
    pub family: String,
    /// How it becomes the code.
    pub becomes: Becomes,
    /// The program and its arguments, as seen from inside.
    pub argv: Vec<String>,
    /// Its environment, whole. The code gets its spec's instead.
    pub env: Vec<(String, String)>,
    /// What it sees of the host's files.
    pub mounts: Vec<Mount>,
    /// What it may use as long as it waits. Of one that is [`Becomes::Itself`] processes, open files and mounts stay as
    /// they are here, so a spec must have the same; else it is started plainly.
    pub limits: Limits,
}

/// How an interpreter that has started becomes the code of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Becomes {
    /// By forks, any number of them (a zygote). All share what it had in memory when they were forked, as the layout of
    /// its addresses.
    Forked,
    /// Itself, once: it has waited in a sandbox of its own, and nobody else has anything of it.
    Itself,
}

/// What a sandbox has of a network beside its own loopback.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Nothing: it reaches the spec's listeners alone.
    #[default]
    Sockets,
    /// All that the host reaches, but not the host itself.
    Full,
}

/// What the files of a sandbox are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// The host's `/usr`, read-only, and a minimal `/etc`.
    #[default]
    Host,
    /// An image's layers, the lowest first: folders of the host, each belonging to one user, as whom the code sees
    /// itself. What it writes goes to the sandbox' own memory, within [`Limits::tmp_bytes`], and ends with it. The
    /// program may be a name without a folder, which is looked for on the environment's `PATH`.
    Layers(Vec<PathBuf>),
}

/// A folder of the host, seen read-only inside. The code runs as a user of its own, so what it shall read must be
/// readable by everyone (folders 0755, files 0644).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mount {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where it is seen inside: absolute, without `..`.
    pub target: PathBuf,
}

/// What one sandbox may use. All are enforced by the kernel, or reported as unenforced by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of all its processes, in bytes.
    pub memory_bytes: u64,
    /// CPU time, in thousandths of one core.
    pub cpu_millis: u32,
    /// Processes and threads.
    pub processes: u32,
    /// Its `/tmp`, in bytes. What lies there counts as memory too.
    pub tmp_bytes: u64,
    /// Open files of each process.
    pub open_files: u32,
}

/// A sandbox that runs, with the ends of what connects it.
#[derive(Debug)]
pub struct Started<S> {
    /// The sandbox.
    pub sandbox: S,
    /// One for each address of [`Spec::listeners`], in their order.
    pub listeners: Vec<Listener>,
    /// The socket of [`Spec::resolver`]. None also where the sandbox is simulated.
    pub resolver: Option<tokio::net::UdpSocket>,
    /// What the code writes to its standard output.
    pub stdout: Output,
    /// What the code writes to its standard error.
    pub stderr: Output,
}

/// What a driver holds ready for starts that are to come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    /// Sandboxes that were built.
    pub sandboxes: Held,
    /// Zygotes.
    pub zygotes: Held,
    /// Forks of zygotes that nobody has taken.
    pub forks: Held,
    /// Interpreters that are [`Becomes::Itself`].
    pub interpreters: Held,
}

/// How many, and what memory they hold, in bytes: zero where the host cannot say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// How many.
    pub count: u32,
    /// Memory of all of them, in bytes.
    pub memory_bytes: u64,
}

/// What a sandbox has used since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time of all its processes, in microseconds.
    pub cpu_us: u64,
    /// The most memory it held at once, in bytes; zero where the host cannot say.
    pub memory_peak_bytes: u64,
}

/// How a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// Its first process returned this code.
    Code(i32),
    /// Its first process died of this signal.
    Signal(i32),
    /// The kernel killed a process of it because its memory was used up.
    OutOfMemory,
}

/// Why a sandbox could not be started or reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spec asks for what cannot be: the message says what.
    #[error("the sandbox cannot be made as asked: {0}")]
    Spec(String),
    /// The host refused a step.
    #[error("the host refused to {step}: {source}")]
    Host {
        /// What was tried.
        step: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The spawner went away.
    #[error("the spawner is not there: {0}")]
    Spawner(std::io::Error),
    /// The sandbox is gone.
    #[error("the sandbox has ended")]
    Gone,
    /// The code does not listen there.
    #[error("nothing listens at {0} inside the sandbox")]
    NotListening(SocketAddr),
}

/// Starts sandboxes of one kind.
pub trait Driver: Send + Sync + 'static {
    /// What it starts.
    type Sandbox: Sandbox;

    /// Starts a sandbox. Precondition: `spec.id` is unique among those that live. On an error, or when the
    /// future is dropped, nothing stays behind.
    fn start(&self, spec: Spec) -> impl Future<Output = Result<Started<Self::Sandbox>, Error>> + Send;

    /// What it holds ready. A driver that holds nothing need not say so.
    ///
    /// # Errors
    /// [`Error::Spawner`] when who holds it cannot be reached.
    fn ahead(&self) -> impl Future<Output = Result<Ahead, Error>> + Send {
        std::future::ready(Ok(Ahead::default()))
    }
}

/// One sandbox. Dropping it kills it.
pub trait Sandbox: Send + Sync + 'static {
    /// Stops all its processes where they are. They use no CPU until [`Sandbox::thaw`]. Idempotent.
    fn freeze(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Lets its processes go on. Idempotent.
    fn thaw(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Connects to a port on its own loopback, where the code listens or not yet: the caller tries again. Whoever
    /// answers is the code, and may be hostile. A frozen one takes the connection and is silent.
    ///
    /// # Errors
    /// [`Error::NotListening`] when nothing listens there; [`Error::Gone`] once it has ended.
    fn dial(&self, address: SocketAddr) -> impl Future<Output = Result<Stream, Error>> + Send;

    /// What it has used so far. Cheap: a read of a kernel counter; also allowed after it has ended, when it
    /// gives the last figures.
    fn stats(&self) -> Stats;

    /// Kills all its processes, frozen or not. Returns at once; [`Sandbox::exited`] tells when it is done.
    fn kill(&self);

    /// Waits until it has ended and nothing of it is left.
    fn exited(&self) -> impl Future<Output = Exit> + Send;
}
