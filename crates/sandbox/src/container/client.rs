//! The node's side: asks the spawner for sandboxes, and acts on them through what it was handed.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, shutdown, socket_with},
};
use serde::de::DeserializeOwned;
use tokio::{
    io::Interest,
    net::{TcpListener, UdpSocket, UnixStream, unix::pipe},
    task::yield_now,
    time::{Instant, sleep, timeout},
};

use super::{
    Report,
    cgroup::{self, Version},
    dial::Dialler,
    wire::{self, Handles, Reply, Request},
};
use crate::{Ahead, Driver, Error, Exit, Listener, Output, Sandbox, Spec, Started, Stats, Stream};

/// How long a start waits for a spawner that is being started again: longer than its supervisor takes.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
/// How long an answer may take: more than the spawner itself gives a start.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long a freeze may take. Processes in the kernel's hands stand still only when it lets go of them.
const FREEZE_MAX: Duration = Duration::from_secs(5);
/// It mostly takes some tens of microseconds; the runtime's timers tell milliseconds.
const FREEZE_SPIN: Duration = Duration::from_micros(200);
const FREEZE_PAUSE: Duration = Duration::from_millis(1);

/// Starts containers, through the spawner.
#[derive(Debug, Clone)]
pub struct ContainerDriver {
    socket: PathBuf,
}

impl ContainerDriver {
    /// A driver that reaches the spawner at this unix socket. Each start connects anew, so a spawner that was
    /// started again is found without more.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// What this host can enforce.
    ///
    /// # Errors
    /// [`Error::Spawner`] when it cannot be reached.
    pub async fn report(&self) -> Result<Report, Error> {
        match self.ask(&Request::Report).await? {
            (_, Reply::Report(report), _) => Ok(report),
            (_, Reply::Refused(refused), _) => Err(refused.into()),
            _ => Err(out_of_place()),
        }
    }

    /// Sends a request on a new connection and gives it back with the answer.
    pub(super) async fn ask(&self, request: &Request) -> Result<(UnixStream, Reply, Vec<OwnedFd>), Error> {
        // To tokio this is a unix socket like any other, of which only the readiness is used; the messages of
        // its kind are read and written by `wire`.
        let socket = UnixStream::from_std(self.connect().await?.into()).map_err(Error::Spawner)?;
        wire::send(socket.as_fd(), request, &[]).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => Error::Spec("its spec is larger than 128 KiB".into()),
            _ => Error::Spawner(error),
        })?;
        let answer = timeout(ANSWER_MAX, receive(&socket)).await;
        let answer = answer.map_err(|_| Error::Spawner(io::ErrorKind::TimedOut.into()))?;
        let (reply, fds) = answer.map_err(Error::Spawner)?.ok_or_else(gone)?;
        Ok((socket, reply, fds))
    }

    async fn connect(&self) -> Result<OwnedFd, Error> {
        let address = SocketAddrUnix::new(&self.socket).map_err(|e| Error::Spawner(e.into()))?;
        let deadline = Instant::now() + CONNECT_MAX;
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
            let socket = socket.map_err(|e| Error::Spawner(e.into()))?;
            match connect(&socket, &address) {
                Ok(()) => return Ok(socket),
                // Not there yet, or its backlog is full.
                Err(Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN) if Instant::now() < deadline => {
                    sleep(CONNECT_PAUSE).await;
                }
                Err(error) => return Err(Error::Spawner(error.into())),
            }
        }
    }
}

impl Driver for ContainerDriver {
    type Sandbox = Container;

    async fn start(&self, spec: Spec) -> Result<Started<Container>, Error> {
        let dialler = Dialler::new(self.clone(), spec.id.clone());
        let has_resolver = spec.resolver.is_some();
        // Dropping this future closes the connection, and so ends what the spawner has begun.
        match self.ask(&Request::Start(Box::new(spec))).await? {
            (socket, Reply::Started(handles), fds) => take_over(socket, handles, fds, dialler, has_resolver)
                .map_err(|source| Error::Host { step: "take over a sandbox".into(), source }),
            (_, Reply::Refused(refused), _) => Err(refused.into()),
            _ => Err(out_of_place()),
        }
    }

    async fn ahead(&self) -> Result<Ahead, Error> {
        match self.ask(&Request::Ahead).await? {
            (_, Reply::Ahead(ahead), _) => Ok(ahead),
            (_, Reply::Refused(refused), _) => Err(refused.into()),
            _ => Err(out_of_place()),
        }
    }
}

/// Gives each descriptor its meaning: see [`Handles`].
fn take_over(
    socket: UnixStream,
    handles: Handles,
    fds: Vec<OwnedFd>,
    dialler: Dialler,
    has_resolver: bool,
) -> io::Result<Started<Container>> {
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
    let stdout = output(next()?)?;
    let stderr = output(next()?)?;
    let mut listeners = Vec::with_capacity(handles.sockets);
    for _ in usize::from(has_resolver)..handles.sockets {
        listeners.push(Listener::Tcp(TcpListener::from_std(next()?.into())?));
    }
    let resolver = if has_resolver { Some(UdpSocket::from_std(next()?.into())?) } else { None };
    let freezer = match handles.freezer {
        Some(version) => Some(Freezer { version, set: next()?.into(), told: next()?.into() }),
        None => None,
    };
    let cpu = match handles.cpu {
        Some(version) => Some((version, next()?.into())),
        None => None,
    };
    let memory_peak = if handles.memory_peak { Some(next()?.into()) } else { None };
    let sandbox = Container {
        socket,
        dialler,
        freezer,
        cpu,
        cpu_before_us: handles.cpu_before_us,
        memory_peak,
        last: [AtomicU64::new(0), AtomicU64::new(0)],
        ended: OnceLock::new(),
    };
    Ok(Started { sandbox, listeners, resolver, stdout, stderr })
}

fn output(fd: OwnedFd) -> io::Result<Output> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(Output::Pipe(pipe::Receiver::from_owned_fd(fd)?))
}

/// One container.
#[derive(Debug)]
pub struct Container {
    /// Its end is the sandbox' end, whoever closes it.
    socket: UnixStream,
    dialler: Dialler,
    freezer: Option<Freezer>,
    cpu: Option<(Version, File)>,
    /// Of what that counts, this is not the code's.
    cpu_before_us: u64,
    memory_peak: Option<File>,
    /// The figures that were read last, for the moment between its end and the spawner's word of it.
    last: [AtomicU64; 2],
    ended: OnceLock<(Exit, Stats)>,
}

#[derive(Debug)]
struct Freezer {
    version: Version,
    set: File,
    told: File,
}

impl Container {
    async fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        if self.ended.get().is_some() {
            return Err(Error::Gone);
        }
        let step = if frozen { "freeze a sandbox" } else { "thaw a sandbox" };
        let host = |source: io::Error| match source.raw_os_error() {
            // The group was removed.
            Some(libc::ENODEV | libc::ENOENT) => Error::Gone,
            _ => Error::Host { step: step.into(), source },
        };
        let Some(freezer) = &self.freezer else { return Err(host(io::ErrorKind::Unsupported.into())) };
        let set = || {
            freezer.set.write_at(cgroup::freezer_state(freezer.version, frozen).as_bytes(), 0).map_err(host)
        };
        set()?;
        if !frozen {
            // From here on its processes run; there is nothing to wait for.
            return Ok(());
        }
        let begun = Instant::now();
        loop {
            if cgroup::is_frozen(freezer.version, &read(&freezer.told).map_err(host)?) {
                return Ok(());
            }
            match begun.elapsed() {
                elapsed if elapsed < FREEZE_SPIN => yield_now().await,
                elapsed if elapsed < FREEZE_MAX => {
                    sleep(FREEZE_PAUSE).await;
                    // Version 1 may get stuck half-way, and goes on when told again.
                    set()?;
                }
                _ => return Err(host(io::ErrorKind::TimedOut.into())),
            }
        }
    }
}

impl Sandbox for Container {
    async fn freeze(&self) -> Result<(), Error> {
        self.set_frozen(true).await
    }

    async fn thaw(&self) -> Result<(), Error> {
        self.set_frozen(false).await
    }

    async fn dial(&self, address: SocketAddr) -> Result<Stream, Error> {
        if self.ended.get().is_some() {
            return Err(Error::Gone);
        }
        self.dialler.dial(address).await
    }

    fn stats(&self) -> Stats {
        if let Some((_, stats)) = self.ended.get() {
            return *stats;
        }
        let [last_cpu, last_peak] = &self.last;
        if let Some((version, file)) = &self.cpu
            && let Some(cpu_us) = read(file).ok().and_then(|text| cgroup::cpu_us(*version, &text))
        {
            last_cpu.store(cpu_us.saturating_sub(self.cpu_before_us), Ordering::Relaxed);
        }
        if let Some(file) = &self.memory_peak
            && let Some(peak) = read(file).ok().and_then(|text| text.trim().parse().ok())
        {
            last_peak.store(peak, Ordering::Relaxed);
        }
        Stats {
            cpu_us: last_cpu.load(Ordering::Relaxed),
            memory_peak_bytes: last_peak.load(Ordering::Relaxed),
        }
    }

    fn kill(&self) {
        // The spawner reads the end of our words as the order to kill. The socket may be dead already.
        let _ = shutdown(&self.socket, Shutdown::Write);
    }

    async fn exited(&self) -> Exit {
        loop {
            if let Some((exit, _)) = self.ended.get() {
                return *exit;
            }
            // Every waiter wakes up: the spawner closes the connection after its last word.
            let ended = match receive::<Reply>(&self.socket).await {
                Ok(Some((Reply::Exited(exit, stats), _))) => (exit, stats),
                Ok(Some(_)) => continue,
                // The spawner died, and all its children with it.
                Ok(None) | Err(_) => (Exit::Signal(libc::SIGKILL), self.stats()),
            };
            let _ = self.ended.set(ended);
        }
    }
}

async fn receive<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    loop {
        socket.readable().await?;
        match socket.try_io(Interest::READABLE, || wire::receive(socket.as_fd())) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

/// The whole of a small file of the kernel's, from its start.
fn read(file: &File) -> io::Result<String> {
    let mut bytes = [0; 1024];
    let length = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

fn gone() -> Error {
    Error::Spawner(io::ErrorKind::UnexpectedEof.into())
}

pub(super) fn out_of_place() -> Error {
    Error::Spawner(io::Error::new(io::ErrorKind::InvalidData, "an answer that fits no question"))
}
