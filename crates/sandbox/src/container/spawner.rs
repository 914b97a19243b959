//! The spawner: the one privileged process. It has one thread and does nothing but start, watch and remove
//! sandboxes for the node, which has no privileges.
//!
//! ```text
//!  pool, off the path         Start                child: exec            node: end of writing, or gone
//!    fork ─▶ Waiting ──────────▶ Starting ───────────────▶ Running ─────────────────────────▶ killed
//!                  none waits: fork ─▶│                       │                                 │
//!                                     └─ failed, too slow ─▶ killed   └── init ended ──┐        │
//!                                                          Removing ◀──────────────────┴────────┘
//!                                                             └── groups gone ──▶ Exited / Refused is told
//! ```
//!
//! One connection is one sandbox (see `wire`), so what happens to a sandbox when its node dies, drops
//! the start's future or kills it is one and the same path: the connection ends. Every sandbox is built and then
//! activated (see `child`); the pool only does the first half ahead of time, for as many as recent demand asks
//! for (see `pool`), while no start waits. Children die with the spawner (`PR_SET_PDEATHSIG`), and a start cleans
//! up the groups and the networks (`full`) that a killed predecessor left; nothing else of a sandbox is outside its own
//! namespaces.

mod families;
mod life;
mod making;
mod place;
mod started;
mod waiting;
mod zygotes;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::epoll::{self, EventData, EventFlags},
    io::Errno,
    net::{SocketFlags, accept_with, sockopt::socket_peercred},
    process::{Resource, Rlimit, geteuid, getrlimit, setrlimit},
    time::Timespec,
};

use super::{
    Report,
    cgroup::{self, Cgroups},
    check,
    full::Full,
    layout::Feature,
    pool::{Demand, Lull, Pool},
    seccomp::Filters,
    sys,
    wire::{self, Refused, Reply, Request},
};
use crate::Interpreter;
use making::{Child, Phase};
use started::Line;
use zygotes::Family;

/// How often the folders of a group that still holds a dying process are tried again, and how many times.
const REMOVE_PAUSE: Duration = Duration::from_millis(2);
const REMOVE_TRIES: u32 = 1_000;
/// After so many times its processes are killed once more.
const REMOVE_KILL: u32 = 16;
/// How long removing waits for a moment in which no start does.
const REMOVE_LATE: Duration = Duration::from_millis(50);
/// How long to leave connections waiting when the host has no descriptor for them.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
/// How long the end of the spawner waits for the sandboxes to be gone.
const STOP_MAX: Duration = Duration::from_secs(5);

/// What the spawner is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The unix socket to listen on. It is made anew, with mode 0600.
    pub socket: PathBuf,
    /// User and group that the socket belongs to. Only this user, and root, may ask.
    pub owner: (u32, u32),
    /// Names this installation in control groups: `[a-z0-9-]`, at most 32 bytes. Two spawners on one host
    /// need two names.
    pub instance: String,
    /// Folders that mounts of a spec may lie in. Nothing else of the host can be shown to a sandbox.
    pub mount_roots: Vec<PathBuf>,
    /// The first user id of sandboxes; one for each, [`Config::sandboxes_max`] in all. Nobody else may have
    /// them.
    pub first_uid: u32,
    /// How many sandboxes may live at once, those of the pool included.
    pub sandboxes_max: u32,
    /// How many are built ahead of their starts.
    pub pool: Pool,
}

/// Runs the spawner until it gets SIGTERM or SIGINT. Then all sandboxes are killed and removed.
///
/// Precondition: this process has no other thread, and logs through `tracing` to somewhere that starts none.
/// Without privileges it runs too, and refuses every start with the reason.
///
/// # Errors
/// When the socket cannot be made, another spawner holds it, or the process has threads.
pub fn run(config: Config) -> io::Result<()> {
    if sys::threads()? != 1 {
        return Err(io::Error::other("the spawner must have one thread: it forks"));
    }
    check::name(&config.instance, 32)
        .map_err(|what| io::Error::other(format!("the instance's name {what}")))?;
    // Each sandbox takes a few descriptors, and the usual soft limit is 1024. Sandboxes have their own.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum })?;
    let mut spawner = Spawner::new(config)?;
    let result = spawner.serve();
    spawner.stop();
    result
}

struct Spawner {
    config: Config,
    /// Below the socket's folder, empty: every sandbox builds its root over it, in its own mount namespace.
    root: PathBuf,
    cgroups: Cgroups,
    filters: Filters,
    full: Full,
    /// This process' own network, to come back to.
    network: OwnedFd,
    /// Why this process cannot confine anything.
    powerless: Option<String>,
    epoll: OwnedFd,
    listener: OwnedFd,
    /// Read by nobody: that something comes is all that matters.
    _signals: OwnedFd,
    sessions: HashMap<u64, Session>,
    next_session: u64,
    /// The sessions of sandboxes that wait for a start, the oldest first.
    waiting: VecDeque<u64>,
    demand: Demand,
    /// What seconds of [`Demand`] count from.
    begun: Instant,
    lull: Lull,
    /// Not before this is the pool filled: after a failure it is left alone for a while.
    fill_after: Instant,
    next_group: u64,
    /// Not before this are all sandboxes looked at again.
    scan_after: Instant,
    /// Sandboxes that are there in some way.
    held: u32,
    /// It is ending: what fails now fails for that.
    stopping: bool,
    families: HashMap<Interpreter, Family>,
    lines: HashMap<Interpreter, Line>,
    /// Children that were needed on the way to a first process, to be reaped.
    helpers: Vec<OwnedFd>,
    /// Taken from the front and put back at the end: an uid rests as long as it can.
    uids_free: VecDeque<u32>,
    ids: HashSet<String>,
    /// Held while this spawner lives, so that there is one.
    _lock: std::fs::File,
}

/// One connection, with the sandbox that it started; or a sandbox that waits for one.
struct Session {
    socket: Option<OwnedFd>,
    child: Option<Child>,
}

/// What an event of the poll loop is about, as it is packed into its 64 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Socket = 0,
    Line = 1,
    Pidfd = 2,
    Word = 3,
}

/// The session number of what belongs to none.
const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const FIRST_SESSION: u64 = 2;

impl Spawner {
    fn new(config: Config) -> io::Result<Self> {
        let mut config = config;
        for root in &mut config.mount_roots {
            // Links are not followed below a root, so the root itself is taken as it is now.
            *root = root.canonicalize().map_err(|e| named(&e, root))?;
        }
        let lock_path = config.socket.with_extension("lock");
        let lock = std::fs::File::create(&lock_path).map_err(|e| named(&e, &lock_path))?;
        place::take(&lock)
            .map_err(|_| io::Error::other(format!("another spawner holds {}", lock_path.display())))?;
        let root = config.socket.with_file_name("sandbox-root");
        std::fs::create_dir_all(&root).map_err(|e| named(&e, &root))?;
        let powerless = (!geteuid().is_root()).then(|| {
            "containers need a spawner that runs as root; start `rouse serve` as root, or give the function \
             another isolation"
                .to_owned()
        });
        let hierarchies = if powerless.is_none() { cgroup::discover() } else { Vec::new() };
        let cgroups = Cgroups::prepare(hierarchies, &config.instance);
        cgroups.clean();
        let full = Full::new(&config.instance);
        if powerless.is_none() {
            full.clean();
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let listener = place::bind(&config).map_err(|e| named(&e, &config.socket))?;
        let signals = sys::termination_signals()?;
        watch(&epoll, &listener, LISTENER, Source::Socket)?;
        watch(&epoll, &signals, SIGNALS, Source::Socket)?;
        let last_uid = config.first_uid.saturating_add(config.sandboxes_max);
        Ok(Self {
            root,
            cgroups,
            full,
            filters: Filters::compile().map_err(io::Error::other)?,
            network: sys::own_network()?,
            powerless,
            epoll,
            listener,
            _signals: signals,
            sessions: HashMap::new(),
            next_session: FIRST_SESSION,
            waiting: VecDeque::new(),
            demand: Demand::new(0),
            begun: Instant::now(),
            lull: Lull::default(),
            fill_after: Instant::now(),
            next_group: 0,
            scan_after: Instant::now(),
            held: 0,
            stopping: false,
            families: HashMap::new(),
            lines: HashMap::new(),
            helpers: Vec::new(),
            uids_free: (config.first_uid..last_uid).collect(),
            ids: HashSet::new(),
            config,
            _lock: lock,
        })
    }

    /// The loop: one event after the other, until a signal.
    fn serve(&mut self) -> io::Result<()> {
        let report = self.report();
        tracing::info!(socket = %self.config.socket.display(), ?report, "the spawner listens");
        for what in report.unenforced() {
            tracing::warn!(
                "no control group of this host holds sandboxes to {what}: `rouse doctor` says more"
            );
        }
        let mut events = Vec::with_capacity(64);
        loop {
            // What nobody waits for is done when nothing else is to do.
            let quiet = events.is_empty() && self.lull.is_now(Instant::now());
            let pauses = [
                self.housekeep(quiet),
                self.tend_pool(quiet),
                self.tend_zygotes(quiet),
                self.tend_started(quiet),
            ];
            let pause = pauses.into_iter().flatten().min();
            let pause = pause.map(|pause| Timespec {
                tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(pause.subsec_nanos()),
            });
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), pause.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let data = event.data.u64();
                match (data >> 2, data & 3) {
                    (LISTENER, _) => self.accept(),
                    (SIGNALS, _) => return Ok(()),
                    (session, 0) => self.on_message(session),
                    (session, 1) => self.on_line(session),
                    (session, 2) => self.on_ended(session),
                    (session, _) => self.on_word(session),
                }
            }
        }
    }

    /// Whole seconds since this spawner began.
    fn second(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }

    fn accept(&mut self) {
        let socket = match accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => socket,
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                tracing::warn!(%error, "no connection can be taken");
                // It stays readable; what frees descriptors are other events.
                std::thread::sleep(ACCEPT_PAUSE);
                return;
            }
            // Whoever it was has gone again.
            Err(_) => return,
        };
        let peer = socket_peercred(&socket).map(|peer| peer.uid.as_raw());
        if !matches!(peer, Ok(uid) if uid == 0 || uid == self.config.owner.0) {
            tracing::warn!(?peer, "a stranger was turned away");
            return;
        }
        // Each sandbox has one; some more may ask for the report, or wait to be refused.
        if self.sessions.len() > self.config.sandboxes_max as usize + 16 {
            let _ = wire::send(socket.as_fd(), &Reply::Refused(self.full()), &[]);
            return;
        }
        let number = self.session_number();
        if watch(&self.epoll, &socket, number, Source::Socket).is_ok() {
            self.sessions.insert(number, Session { socket: Some(socket), child: None });
        }
    }

    fn session_number(&mut self) -> u64 {
        let number = self.next_session;
        self.next_session += 1;
        number
    }

    /// The node sent something, or went away.
    fn on_message(&mut self, number: u64) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let Some(socket) = &session.socket else { return };
        let received = wire::receive::<Request>(socket.as_fd());
        if let Err(error) = &received
            && error.kind() == io::ErrorKind::WouldBlock
        {
            return;
        }
        match (received, session.child.is_some()) {
            (Ok(Some((Request::Start(spec), _))), false) => {
                if let Err(refused) = self.start(number, *spec) {
                    self.end(number, &Reply::Refused(refused));
                }
            }
            (Ok(Some((Request::Report, _))), false) => {
                let report = self.whole_report();
                self.end(number, &Reply::Report(report));
            }
            (Ok(Some((Request::Ahead, _))), false) => {
                let ahead = self.ahead();
                self.end(number, &Reply::Ahead(ahead));
            }
            (Ok(Some((Request::Sockets(id), _))), false) => match self.sockets(&id) {
                Ok(sockets) => self.end_with(number, &Reply::Sockets, &sockets),
                Err(refused) => self.end(number, &Reply::Refused(refused)),
            },
            (Ok(_) | Err(_), false) => {
                self.sessions.remove(&number);
            }
            // The end, or what is out of place: the sandbox ends. The socket stays to tell of it, but would
            // be readable for ever.
            (_, true) => {
                let _ = epoll::delete(&self.epoll, socket);
                self.kill(number);
            }
        }
    }

    /// What time brings: starts that take too long, groups that can now be removed. Gives the time until the
    /// next.
    fn housekeep(&mut self, quiet: bool) -> Option<Duration> {
        let now = Instant::now();
        // All sandboxes are looked at: not for each event of a burst.
        let early = self.scan_after.saturating_duration_since(now);
        if !early.is_zero() {
            return Some(early);
        }
        self.scan_after = now + REMOVE_PAUSE;
        let mut next: Option<Duration> = None;
        let mut late = Vec::new();
        let mut gone = Vec::new();
        for (&number, session) in &mut self.sessions {
            let Some(child) = &mut session.child else { continue };
            let pause = match &mut child.phase {
                Phase::Starting { deadline, .. } | Phase::Waiting { deadline: Some(deadline), .. } => {
                    if *deadline <= now {
                        late.push(number);
                        continue;
                    }
                    *deadline - now
                }
                Phase::Removing { since, .. } if !quiet && now - *since < REMOVE_LATE => REMOVE_PAUSE,
                Phase::Removing { tries, .. } => {
                    *tries += 1;
                    if *tries % REMOVE_KILL == 0 {
                        // Somebody was forked into it just as it was ended.
                        self.cgroups.end(&child.group);
                    }
                    match self.cgroups.remove(&child.group) {
                        Err(_) if *tries < REMOVE_TRIES => REMOVE_PAUSE,
                        Err(error) => {
                            tracing::error!(id = child.id, %error, "a group could not be removed");
                            gone.push(number);
                            continue;
                        }
                        Ok(()) => {
                            gone.push(number);
                            continue;
                        }
                    }
                }
                Phase::Waiting { deadline: None, .. } | Phase::Running | Phase::Failed(_) => continue,
            };
            next = Some(next.map_or(pause, |next| next.min(pause)));
        }
        for number in late {
            let slow = io::Error::from_raw_os_error(libc::ETIMEDOUT);
            self.fail(number, Refused::host("set up a sandbox in time", &slow));
        }
        for number in gone {
            let Some(session) = self.sessions.get_mut(&number) else { continue };
            let Some(child) = session.child.take() else { continue };
            self.ids.remove(&child.id);
            self.uids_free.extend(child.uid);
            if let Some(link) = child.link {
                self.full.take_back(link);
            }
            self.held -= 1;
            if let Phase::Removing { told, .. } = &child.phase {
                self.end(number, told);
            }
        }
        next
    }

    /// Says the last word of a session.
    fn end(&mut self, number: u64, last: &Reply) {
        self.end_with(number, last, &[]);
    }

    fn end_with(&mut self, number: u64, last: &Reply, fds: &[OwnedFd]) {
        if let Some(Session { socket: Some(socket), .. }) = self.sessions.remove(&number) {
            // Whoever went away does not hear it.
            let _ = wire::send(socket.as_fd(), last, &wire::borrowed(fds));
        }
    }

    fn report(&self) -> Report {
        Report {
            unavailable: self.powerless.clone(),
            memory: self.cgroups.version(Feature::Memory).into(),
            cpu: self.cgroups.version(Feature::Cpu).into(),
            processes: self.cgroups.version(Feature::Pids).into(),
            freezer: self.cgroups.version(Feature::Freezer).into(),
            cpu_usage: self.cgroups.version(Feature::CpuUsage).into(),
            no_full_network: None,
        }
    }

    /// With what takes some time to find out.
    fn whole_report(&mut self) -> Report {
        let no_full_network = self.powerless.clone().or_else(|| self.full.unavailable());
        Report { no_full_network, ..self.report() }
    }

    /// Kills and removes all, within bounds.
    fn stop(&mut self) {
        self.stopping = true;
        let numbers: Vec<u64> = self.sessions.keys().copied().collect();
        for number in &numbers {
            self.kill(*number);
        }
        let deadline = Instant::now() + STOP_MAX;
        while self.sessions.values().any(|session| session.child.is_some()) && Instant::now() < deadline {
            numbers.iter().for_each(|number| self.on_ended(*number));
            let _ = self.housekeep(true);
            std::thread::sleep(REMOVE_PAUSE);
        }
        self.full.dismantle();
        self.cgroups.dismantle();
        for path in [&self.config.socket, &self.config.socket.with_extension("lock")] {
            let _ = std::fs::remove_file(path);
        }
        let _ = std::fs::remove_dir(&self.root);
    }
}

fn watch(epoll: &OwnedFd, fd: &OwnedFd, session: u64, source: Source) -> io::Result<()> {
    Ok(epoll::add(epoll, fd, EventData::new_u64(session << 2 | source as u64), EventFlags::IN)?)
}

/// Gives what is watched to another session.
fn watch_as(epoll: &OwnedFd, fd: &OwnedFd, session: u64, source: Source) -> io::Result<()> {
    Ok(epoll::modify(epoll, fd, EventData::new_u64(session << 2 | source as u64), EventFlags::IN)?)
}

fn named(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
