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
        child::{self, Plan, Ready},
        sys,
        wire::{self, Handles, Refused, Reply},
    },
    Source, Spawner, watch,
};
use crate::{Exit, Spec, Stats};

/// How a start may take at most. It takes milliseconds; a host that swaps may need a second.
const START_MAX: Duration = Duration::from_secs(10);
/// What a session started.
pub(super) struct Child {
    pub(super) id: String,
    pub(super) uid: u32,
    pub(super) pidfd: OwnedFd,
    pub(super) status: OwnedFd,
    pub(super) phase: Phase,
}

/// Where it stands: see the drawing of [`super`].
pub(super) enum Phase {
    Starting {
        ready: OwnedFd,
        deadline: Instant,
        outputs: [OwnedFd; 2],
        listeners: Option<Vec<OwnedFd>>,
    },
    Running,
    /// It is being killed and the node will hear this.
    Failed(Refused),
    /// Its processes are gone; its groups are not yet.
    Removing {
        tries: u32,
        told: Reply,
    },
}

impl Spawner {
    /// Forks a sandbox for this session. On an error nothing of it is left.
    pub(super) fn start(&mut self, number: u64, spec: Spec) -> Result<(), Refused> {
        if let Some(reason) = &self.powerless {
            return Err(Refused::Spec(reason.clone()));
        }
        check::spec(&spec).map_err(Refused::Spec)?;
        if self.ids.contains(&spec.id) {
            return Err(Refused::Spec(format!("a sandbox {} lives already", spec.id)));
        }
        let Some(uid) = self.uids_free.pop_front() else { return Err(self.full()) };
        match self.fork(&spec, uid) {
            Ok(child) => {
                let watched = watch(&self.epoll, &child.pidfd, number, Source::Pidfd).and_then(|()| {
                    let Phase::Starting { ready, .. } = &child.phase else { return Ok(()) };
                    watch(&self.epoll, ready, number, Source::Ready)
                });
                self.ids.insert(spec.id);
                if let Some(session) = self.sessions.get_mut(&number) {
                    session.child = Some(child);
                }
                if let Err(error) = watched {
                    self.fail(number, Refused::host("watch a sandbox", &error));
                }
                Ok(())
            }
            Err(refused) => {
                if let Err(error) = self.cgroups.remove(&spec.id) {
                    tracing::warn!(id = spec.id, %error, "an empty group stays until the next start");
                }
                self.uids_free.push_back(uid);
                Err(refused)
            }
        }
    }

    pub(super) fn full(&self) -> Refused {
        let again = io::Error::from_raw_os_error(libc::EAGAIN);
        Refused::host(format!("hold more than {} sandboxes", self.config.sandboxes_max), &again)
    }

    fn fork(&self, spec: &Spec, uid: u32) -> Result<Child, Refused> {
        let join = self.cgroups.create(&spec.id, &spec.limits)?;
        let host = |what: &'static str| move |error: Errno| Refused::host(what, &error.into());
        let piped = || pipe_with(PipeFlags::CLOEXEC).map_err(host("make a pipe"));
        let (stdout, stdout_inside) = piped()?;
        let (stderr, stderr_inside) = piped()?;
        let (status, status_inside) = piped()?;
        let flags = SocketFlags::CLOEXEC;
        let (ready, ready_inside) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(host("make a socket pair"))?;
        rustix::io::ioctl_fionbio(&ready, true).map_err(host("make a socket pair"))?;
        let plan = Plan {
            spec,
            root: &self.root,
            mount_roots: &self.config.mount_roots,
            filters: &self.filters,
            uid,
            tasks: join.tasks,
            stdout: stdout_inside,
            stderr: stderr_inside,
            ready: ready_inside,
            status: status_inside,
        };
        let unified = join.unified.as_ref().map(AsFd::as_fd);
        let forked = sys::fork_into_namespaces(unified).map_err(|e| Refused::host("fork a sandbox", &e))?;
        let Some(pidfd) = forked else { child::run(&plan) };
        let deadline = Instant::now() + START_MAX;
        let phase = Phase::Starting { ready, deadline, outputs: [stdout, stderr], listeners: None };
        Ok(Child { id: spec.id.clone(), uid, pidfd, status, phase })
    }

    /// The child said something, or was done: at its `exec`, or because it ended.
    pub(super) fn on_ready(&mut self, number: u64) {
        loop {
            let Some(Child { phase: Phase::Starting { ready, listeners, .. }, .. }) = self.child(number)
            else {
                return;
            };
            match wire::receive::<Ready>(ready.as_fd()) {
                Ok(Some((Ready::Listening, fds))) => *listeners = Some(fds),
                Ok(Some((Ready::Failed(refused), _))) => return self.fail(number, refused),
                Ok(None) => return self.started(number),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.fail(number, Refused::host("hear of the sandbox' start", &error)),
            }
        }
    }

    fn started(&mut self, number: u64) {
        let Some(child) = self.child(number) else { return };
        let id = child.id.clone();
        let Phase::Starting { outputs, listeners: Some(listeners), .. } =
            std::mem::replace(&mut child.phase, Phase::Running)
        else {
            let silent = io::Error::other("it ended without a word");
            return self.fail(number, Refused::host("set up a sandbox", &silent));
        };
        let Files { freezer, cpu, memory_peak } = self.cgroups.files(&id);
        let handles = Handles {
            listeners: listeners.len(),
            freezer: freezer.as_ref().map(|(version, ..)| *version),
            cpu: cpu.as_ref().map(|(version, _)| *version),
            memory_peak: memory_peak.is_some(),
        };
        let mut fds: Vec<OwnedFd> = outputs.into_iter().chain(listeners).collect();
        fds.extend(freezer.into_iter().flat_map(|(_, set, told)| [set, told]));
        fds.extend(cpu.map(|(_, file)| file));
        fds.extend(memory_peak);
        let Some(session) = self.sessions.get(&number) else { return };
        if wire::send(session.socket.as_fd(), &Reply::Started(handles), &wire::borrowed(&fds)).is_err() {
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
        self.cgroups.thaw(&child.id);
    }

    /// The first process ended, and with it all others.
    pub(super) fn on_ended(&mut self, number: u64) {
        // What it said before comes first.
        self.on_ready(number);
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
        let exit = if exit != Exit::Code(0) && self.cgroups.out_of_memory(&child.id) {
            Exit::OutOfMemory
        } else {
            exit
        };
        let stats: Stats = self.cgroups.stats(&child.id);
        let removing = Phase::Removing { tries: 0, told: Reply::Exited(exit, stats) };
        let before = std::mem::replace(&mut child.phase, removing);
        if let (Phase::Failed(refused), Phase::Removing { told, .. }) = (before, &mut child.phase) {
            *told = Reply::Refused(refused);
        }
    }

    fn child(&mut self, number: u64) -> Option<&mut Child> {
        self.sessions.get_mut(&number)?.child.as_mut()
    }
}
