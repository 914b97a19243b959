//! The life of one sandbox, step by step, as the spawner's loop brings the events.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::epoll,
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    pipe::{PipeFlags, pipe_with},
    process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid},
};

use super::{
    super::{
        cgroup::Files,
        check,
        child::{self, Activate, Plan, Ready},
        image, rootfs, sys,
        wire::{self, Handles, Refused, Reply},
    },
    Session, Source, Spawner, watch,
};
use crate::{Exit, Spec, Stats};

/// How a start may take at most. It takes milliseconds; a host that swaps may need a second.
const START_MAX: Duration = Duration::from_secs(10);
/// What a session started.
pub(super) struct Child {
    /// The spec's; empty before there is one.
    pub(super) id: String,
    /// The name of its control groups.
    pub(super) group: String,
    pub(super) uid: u32,
    pub(super) pidfd: OwnedFd,
    pub(super) status: OwnedFd,
    pub(super) phase: Phase,
}

/// Where it stands: see the drawing of [`super`].
pub(super) enum Phase {
    Waiting {
        ends: Ends,
        /// Until when it must be built; `None` once it is.
        deadline: Option<Instant>,
    },
    Starting {
        ends: Ends,
        deadline: Instant,
        listeners: Option<Vec<OwnedFd>>,
    },
    Running,
    /// It is being killed and the node will hear this.
    Failed(Refused),
    /// Its processes are gone; its groups are not yet.
    Removing {
        since: Instant,
        tries: u32,
        told: Reply,
    },
}

/// Our ends of what connects us with a child that has not become the code.
pub(super) struct Ends {
    pub(super) line: OwnedFd,
    pub(super) outputs: [OwnedFd; 2],
}

impl Spawner {
    /// Starts a sandbox for this session: in one that waits, or in one that is forked now. On an error nothing of
    /// it is left.
    pub(super) fn start(&mut self, number: u64, spec: Spec) -> Result<(), Refused> {
        if let Some(reason) = &self.powerless {
            return Err(Refused::Spec(reason.clone()));
        }
        check::spec(&spec).map_err(Refused::Spec)?;
        if self.ids.contains(&spec.id) {
            return Err(Refused::Spec(format!("a sandbox {} lives already", spec.id)));
        }
        let mut trees = rootfs::open_mounts(&spec.mounts, &self.config.mount_roots)?;
        let now = self.second();
        self.demand.started(now);
        if !self.take_waiting(number) {
            self.fork(number)?;
        }
        let id = spec.id.clone();
        let Some(child) = self.child(number) else { return Ok(()) };
        child.id.clone_from(&id);
        let (group, uid) = (child.group.clone(), child.uid);
        self.ids.insert(id);
        let layers = image::open_layers(&spec.root, &self.config.mount_roots, uid);
        let activated = layers.map(|layers| trees.extend(layers));
        let activated = activated.and_then(|()| self.cgroups.limit(&group, &spec.limits));
        let activated = activated.and_then(|()| self.activate(number, spec, &trees));
        if let Err(refused) = activated {
            self.fail(number, refused);
        }
        Ok(())
    }

    pub(super) fn full(&self) -> Refused {
        let again = io::Error::from_raw_os_error(libc::EAGAIN);
        Refused::host(format!("hold more than {} sandboxes", self.config.sandboxes_max), &again)
    }

    /// Forks a sandbox that builds itself and then waits, and gives it to a session. On an error nothing of it is
    /// left.
    pub(super) fn fork(&mut self, number: u64) -> Result<(), Refused> {
        let Some(uid) = self.uids_free.pop_front() else { return Err(self.full()) };
        let group = format!("s{}", self.next_group);
        self.next_group += 1;
        let child = match self.fork_as(&group, uid) {
            Ok(child) => child,
            Err(refused) => {
                if let Err(error) = self.cgroups.remove(&group) {
                    tracing::warn!(group, %error, "an empty group stays until the next start");
                }
                self.uids_free.push_back(uid);
                return Err(refused);
            }
        };
        let watched = watch(&self.epoll, &child.pidfd, number, Source::Pidfd).and_then(|()| {
            let Phase::Waiting { ends, .. } = &child.phase else { return Ok(()) };
            watch(&self.epoll, &ends.line, number, Source::Line)
        });
        let session = self.sessions.entry(number).or_insert(Session { socket: None, child: None });
        session.child = Some(child);
        if let Err(error) = watched {
            self.fail(number, Refused::host("watch a sandbox", &error));
        }
        Ok(())
    }

    fn fork_as(&self, group: &str, uid: u32) -> Result<Child, Refused> {
        let join = self.cgroups.create(group)?;
        let host = |what: &'static str| move |error: Errno| Refused::host(what, &error.into());
        let piped = || pipe_with(PipeFlags::CLOEXEC).map_err(host("make a pipe"));
        let (stdout, stdout_inside) = piped()?;
        let (stderr, stderr_inside) = piped()?;
        let (status, status_inside) = piped()?;
        let flags = SocketFlags::CLOEXEC;
        let (line, line_inside) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(host("make a socket pair"))?;
        rustix::io::ioctl_fionbio(&line, true).map_err(host("make a socket pair"))?;
        let plan = Plan {
            root: &self.root,
            filters: &self.filters,
            uid,
            tasks: join.tasks,
            stdout: stdout_inside,
            stderr: stderr_inside,
            line: line_inside,
            status: status_inside,
        };
        let unified = join.unified.as_ref().map(AsFd::as_fd);
        let forked = sys::fork_into_namespaces(unified).map_err(|e| Refused::host("fork a sandbox", &e))?;
        let Some(pidfd) = forked else { child::run(&plan) };
        let ends = Ends { line, outputs: [stdout, stderr] };
        let phase = Phase::Waiting { ends, deadline: Some(Instant::now() + START_MAX) };
        Ok(Child { id: String::new(), group: group.to_owned(), uid, pidfd, status, phase })
    }

    /// Tells a child its spec. It need not be built yet: the message waits for it.
    fn activate(&mut self, number: u64, spec: Spec, trees: &[OwnedFd]) -> Result<(), Refused> {
        let Some(child) = self.child(number) else { return Ok(()) };
        match std::mem::replace(&mut child.phase, Phase::Running) {
            Phase::Waiting { ends, .. } => {
                let sent = wire::send(ends.line.as_fd(), &Activate { spec }, &wire::borrowed(trees));
                let deadline = Instant::now() + START_MAX;
                child.phase = Phase::Starting { ends, deadline, listeners: None };
                sent.map_err(|e| Refused::host("activate a sandbox", &e))
            }
            // It failed as it was forked.
            other => {
                child.phase = other;
                Ok(())
            }
        }
    }

    /// The child said something, or was done: at its `exec`, or because it ended.
    pub(super) fn on_line(&mut self, number: u64) {
        loop {
            let Some(child) = self.child(number) else { return };
            let (Phase::Waiting { ends, .. } | Phase::Starting { ends, .. }) = &child.phase else { return };
            match (wire::receive::<Ready>(ends.line.as_fd()), &mut child.phase) {
                (Ok(Some((Ready::Built, _))), Phase::Waiting { deadline, .. }) => *deadline = None,
                (Ok(Some((Ready::Listening, fds))), Phase::Starting { listeners, .. }) => {
                    *listeners = Some(fds);
                }
                (Ok(Some((Ready::Failed(refused), _))), _) => return self.fail(number, refused),
                (Ok(Some(_)), _) => {}
                (Ok(None), _) => return self.started(number),
                (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => return,
                (Err(error), _) => {
                    return self.fail(number, Refused::host("hear of the sandbox' start", &error));
                }
            }
        }
    }

    fn started(&mut self, number: u64) {
        let Some(child) = self.child(number) else { return };
        let Phase::Starting { ends, listeners: Some(listeners), .. } =
            std::mem::replace(&mut child.phase, Phase::Running)
        else {
            let silent = io::Error::other("it ended without a word");
            return self.fail(number, Refused::host("set up a sandbox", &silent));
        };
        let group = child.group.clone();
        let Files { freezer, cpu, memory_peak } = self.cgroups.files(&group);
        let handles = Handles {
            sockets: listeners.len(),
            freezer: freezer.as_ref().map(|(version, ..)| *version),
            cpu: cpu.as_ref().map(|(version, _)| *version),
            memory_peak: memory_peak.is_some(),
        };
        let mut fds: Vec<OwnedFd> = ends.outputs.into_iter().chain(listeners).collect();
        fds.extend(freezer.into_iter().flat_map(|(_, set, told)| [set, told]));
        fds.extend(cpu.map(|(_, file)| file));
        fds.extend(memory_peak);
        let Some(session) = self.sessions.get(&number) else { return };
        let Some(socket) = &session.socket else { return };
        if wire::send(socket.as_fd(), &Reply::Started(handles), &wire::borrowed(&fds)).is_err() {
            self.kill(number);
        }
    }

    /// Makes sockets inside a sandbox that runs: a socket belongs to the network that it was made in for good.
    pub(super) fn sockets(&self, id: &str) -> Result<Vec<OwnedFd>, Refused> {
        let mut children = self.sessions.values().filter_map(|session| session.child.as_ref());
        let running = children.find(|child| child.id == id && matches!(child.phase, Phase::Running));
        let child = running.ok_or(Refused::Gone)?;
        sys::sockets_inside(child.pidfd.as_fd(), self.network.as_fd(), wire::SOCKETS).map_err(|error| {
            match error.raw_os_error() {
                // It has just ended.
                Some(libc::ESRCH) => Refused::Gone,
                _ => Refused::host("make sockets inside a sandbox", &error),
            }
        })
    }

    /// Ends a sandbox that did not start; the node hears why once nothing is left.
    pub(super) fn fail(&mut self, number: u64, refused: Refused) {
        if self.waiting.contains(&number) {
            self.failed_waiting(number, &refused);
        }
        if let Some(child) = self.child(number) {
            child.phase = Phase::Failed(refused);
        }
        self.kill(number);
    }

    pub(super) fn kill(&mut self, number: u64) {
        let Some(session) = self.sessions.get(&number) else { return };
        let Some(child) = &session.child else { return };
        if matches!(child.phase, Phase::Removing { .. }) {
            return;
        }
        // The death of the first process is the death of its pid namespace. It may have ended already.
        let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
        self.cgroups.thaw(&child.group);
    }

    /// The first process ended, and with it all others.
    pub(super) fn on_ended(&mut self, number: u64) {
        // What it said before comes first.
        self.on_line(number);
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let Some(child) = &mut session.child else { return };
        let waited =
            waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        let Ok(Some(ended)) = waited else { return };
        let _ = epoll::delete(&self.epoll, &child.pidfd);
        let mut told = [0; 16];
        let told = rustix::io::read(&child.status, &mut told[..]).ok().and_then(|n| told.get(..n));
        let exit = told.and_then(|told| postcard::from_bytes(told).ok());
        let exit = exit.unwrap_or(Exit::Signal(ended.terminating_signal().unwrap_or(libc::SIGKILL)));
        let exit = if exit != Exit::Code(0) && self.cgroups.out_of_memory(&child.group) {
            Exit::OutOfMemory
        } else {
            exit
        };
        let stats: Stats = self.cgroups.stats(&child.group);
        let removing = Phase::Removing { since: Instant::now(), tries: 0, told: Reply::Exited(exit, stats) };
        let before = std::mem::replace(&mut child.phase, removing);
        if let (Phase::Failed(refused), Phase::Removing { told, .. }) = (before, &mut child.phase) {
            *told = Reply::Refused(refused);
        }
    }

    pub(super) fn child(&mut self, number: u64) -> Option<&mut Child> {
        self.sessions.get_mut(&number)?.child.as_mut()
    }
}
