//! The life of one sandbox, step by step, as the spawner's loop brings the events.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Instant,
};

use rustix::{
    event::epoll,
    process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid},
};

use super::{
    super::{
        cgroup::Files,
        check,
        child::{Activate, Ready},
        image, rootfs, sys,
        wire::{self, Handles, Refused, Reply},
    },
    Session, Spawner,
    making::{Child, Kind, Make, Phase, START_MAX},
    started::Started,
    zygotes::{Fork, Parent},
};
use crate::{Becomes, Exit, Network, Root, Spec, Stats};

impl Spawner {
    /// Starts a sandbox for this session: in one that waits, or in one that is forked now. On an error nothing of
    /// it is left.
    pub(super) fn start(&mut self, number: u64, spec: Spec) -> Result<(), Refused> {
        if let Some(reason) = &self.powerless {
            return Err(Refused::Spec(reason.clone()));
        }
        self.lull.start(Instant::now());
        check::spec(&spec).map_err(Refused::Spec)?;
        if self.ids.contains(&spec.id) {
            return Err(Refused::Spec(format!("a sandbox {} lives already", spec.id)));
        }
        let trees = rootfs::open_mounts(&spec.mounts, &self.config.mount_roots)?;
        if !self.take_ahead(number, &spec) {
            self.take_plain(number)?;
        }
        self.begin(number, spec, trees);
        Ok(())
    }

    /// Gives a session a sandbox with an interpreter that has started, if its spec names one and one is ready; else sees
    /// to it that one will be.
    fn take_ahead(&mut self, number: u64, spec: &Spec) -> bool {
        match &spec.interpreter {
            Some(_) if spec.root != Root::Host || spec.network != Network::Sockets => false,
            Some(interpreter) => match interpreter.becomes {
                Becomes::Forked => self.take_fork(number, interpreter, spec),
                Becomes::Itself => self.take_started(number, interpreter, spec),
            },
            None => false,
        }
    }

    /// Starts a sandbox whose code is executed.
    pub(super) fn start_plain(&mut self, number: u64, spec: Spec) -> Result<(), Refused> {
        let trees = rootfs::open_mounts(&spec.mounts, &self.config.mount_roots)?;
        self.take_plain(number)?;
        self.begin(number, spec, trees);
        Ok(())
    }

    fn take_plain(&mut self, number: u64) -> Result<(), Refused> {
        let now = self.second();
        self.demand.started(now);
        if self.take_waiting(number) { Ok(()) } else { self.fork(number, Make::Plain) }
    }

    /// Gives the sandbox of a session its spec.
    fn begin(&mut self, number: u64, spec: Spec, mut trees: Vec<OwnedFd>) {
        let id = spec.id.clone();
        let Some(child) = self.child(number) else { return };
        child.id.clone_from(&id);
        let (group, uid) = (child.group.clone(), child.uid);
        let used = self.cgroups.cpu_us(&group);
        self.child(number).into_iter().for_each(|child| child.cpu_before_us = used);
        self.ids.insert(id);
        let layers =
            uid.map_or(Ok(Vec::new()), |uid| image::open_layers(&spec.root, &self.config.mount_roots, uid));
        let activated = layers.map(|layers| trees.extend(layers));
        let activated = activated.and_then(|()| self.cgroups.limit(&group, &spec.limits));
        let activated = activated.and_then(|()| self.give_network(number, &spec));
        let activated = activated.and_then(|()| self.activate(number, spec, &trees));
        if let Err(refused) = activated {
            self.fail(number, refused);
        }
    }

    /// Makes the network of a spec that asks for one; its first process sets up its end.
    fn give_network(&mut self, number: u64, spec: &Spec) -> Result<(), Refused> {
        if spec.network != Network::Full {
            return Ok(());
        }
        let Some(Session { child: Some(child), .. }) = self.sessions.get_mut(&number) else { return Ok(()) };
        let pidfd = child.pidfd.as_ref().ok_or(Refused::Gone)?;
        let process = sys::pid_of(pidfd.as_fd()).map_err(|e| Refused::host("find a sandbox' process", &e))?;
        child.link = Some(self.full.give(process)?);
        Ok(())
    }

    pub(super) fn full(&self) -> Refused {
        let again = io::Error::from_raw_os_error(libc::EAGAIN);
        Refused::host(format!("hold more than {} sandboxes", self.config.sandboxes_max), &again)
    }

    /// Tells a child its spec. It need not be built yet: the message waits for it.
    pub(super) fn activate(&mut self, number: u64, spec: Spec, trees: &[OwnedFd]) -> Result<(), Refused> {
        let Some(child) = self.child(number) else { return Ok(()) };
        match std::mem::replace(&mut child.phase, Phase::Running) {
            Phase::Waiting { ends, .. } => {
                let told = Activate { spec, link: child.link };
                let sent = wire::send(ends.line.as_fd(), &told, &wire::borrowed(trees));
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
            let line = match (&child.phase, &child.kind) {
                (Phase::Waiting { ends, .. } | Phase::Starting { ends, .. }, _) => &ends.line,
                (_, Kind::Zygote(Parent { line: Some(line), .. })) => line,
                _ => return,
            };
            match (wire::receive::<Ready>(line.as_fd()), &mut child.phase) {
                (Ok(Some((Ready::Helper, fds))), _) => self.helpers.extend(fds),
                (Ok(Some((Ready::Built, fds))), _) => self.on_built(number, fds),
                (Ok(Some((Ready::Listening, fds))), Phase::Starting { listeners, .. }) => {
                    *listeners = Some(fds);
                    self.go(number);
                }
                (Ok(Some((Ready::Failed(refused), _))), _) => return self.fail(number, refused),
                (Ok(Some((Ready::Ended { pid, zygote, exit }, _))), _) => {
                    self.on_descendant(number, pid, zygote, exit);
                }
                (Ok(Some(_)), _) => {}
                (Ok(None), _) => return self.on_line_end(number),
                (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => return,
                (Err(error), _) => {
                    return self.fail(number, Refused::host("hear of the sandbox' start", &error));
                }
            }
        }
    }

    fn on_line_end(&mut self, number: u64) {
        let Some(Session { child: Some(Child { phase, kind, .. }), .. }) = self.sessions.get_mut(&number)
        else {
            return;
        };
        match (phase, kind) {
            (_, Kind::Plain) => self.started(number),
            // Init lets go when the sandbox is whole; the fork may still be on its way.
            (Phase::Starting { ends, listeners: Some(_), .. }, Kind::Fork(_) | Kind::Started(_)) => {
                let _ = epoll::delete(&self.epoll, &ends.line);
            }
            (Phase::Waiting { .. } | Phase::Starting { .. }, _) => self.fail(number, silent()),
            // Its end comes by its pidfd.
            (_, Kind::Zygote(parent)) => parent.line = None,
            (_, Kind::Fork(_) | Kind::Started(_)) => {}
        }
    }

    pub(super) fn started(&mut self, number: u64) {
        let Some(child) = self.child(number) else { return };
        let Phase::Starting { ends, listeners: Some(listeners), .. } =
            std::mem::replace(&mut child.phase, Phase::Running)
        else {
            return self.fail(number, silent());
        };
        let (group, cpu_before_us) = (child.group.clone(), child.cpu_before_us);
        self.lull.start(Instant::now());
        let Files { freezer, cpu, memory_peak } = self.cgroups.files(&group);
        let handles = Handles {
            sockets: listeners.len(),
            freezer: freezer.as_ref().map(|(version, ..)| *version),
            cpu: cpu.as_ref().map(|(version, _)| *version),
            memory_peak: memory_peak.is_some(),
            cpu_before_us,
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
        let pidfd = child.pidfd.as_ref().ok_or(Refused::Gone)?;
        sys::sockets_inside(pidfd.as_fd(), self.network.as_fd(), wire::SOCKETS).map_err(|error| {
            match error.raw_os_error() {
                // It has just ended.
                Some(libc::ESRCH) => Refused::Gone,
                _ => Refused::host("make sockets inside a sandbox", &error),
            }
        })
    }

    /// Ends a sandbox that did not start; the node hears why once nothing is left. One that was to be a fork is
    /// started again without.
    pub(super) fn fail(&mut self, number: u64, refused: Refused) {
        if self.waiting.contains(&number) {
            self.failed_waiting(number, &refused);
        }
        if let Some(spec) = self.give_up_ahead(number, &refused) {
            if let Err(refused) = self.start_plain(number, spec) {
                self.end(number, &Reply::Refused(refused));
            }
            return;
        }
        if let Some(child) = self.child(number) {
            if matches!(child.phase, Phase::Removing { .. }) {
                return;
            }
            child.phase = Phase::Failed(refused);
        }
        self.kill(number);
    }

    pub(super) fn kill(&mut self, number: u64) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let Some(child) = &mut session.child else { return };
        if matches!(child.phase, Phase::Removing { .. }) {
            return;
        }
        // Nobody waits for it any more.
        drop(child.kind.take_spec());
        if let Some(pidfd) = &child.pidfd {
            // The death of the first process is the death of its pid namespace. It may have ended already.
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
            self.cgroups.thaw(&child.group);
        } else {
            // Whoever is on the way to become the first process.
            self.cgroups.end(&child.group);
            self.gone(number, Exit::Signal(libc::SIGKILL));
        }
    }

    /// The first process ended, and with it all others.
    pub(super) fn on_ended(&mut self, number: u64) {
        // What it said before comes first.
        self.on_line(number);
        let Some(Child { pidfd: Some(pidfd), status, kind, .. }) = self.child(number) else { return };
        if let Kind::Fork(Fork { spec: Some(_), .. }) | Kind::Started(Started { spec: Some(_), .. }) = kind {
            // It comes again for the session that this one is put aside to.
            return self.fail(number, silent());
        }
        let waited = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        let Ok(Some(ended)) = waited else { return };
        let by_signal = Exit::Signal(ended.terminating_signal().unwrap_or(libc::SIGKILL));
        let exit = match kind {
            Kind::Plain | Kind::Started(_) => {
                let mut told = [0; 16];
                let told = rustix::io::read(status, &mut told[..]).ok().and_then(|n| told.get(..n));
                told.and_then(|told| postcard::from_bytes(told).ok())
            }
            Kind::Zygote(_) => None,
            Kind::Fork(fork) => fork.exit,
        };
        let exit = exit.unwrap_or(by_signal);
        self.gone(number, exit);
        self.zygote_ended(number);
        self.spare_ended(number);
    }

    /// Only its groups are left.
    fn gone(&mut self, number: u64, exit: Exit) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let Some(child) = &mut session.child else { return };
        if let Some(pidfd) = &child.pidfd {
            let _ = epoll::delete(&self.epoll, pidfd);
        }
        let exit = if exit != Exit::Code(0) && self.cgroups.out_of_memory(&child.group) {
            Exit::OutOfMemory
        } else {
            exit
        };
        let mut stats: Stats = self.cgroups.stats(&child.group);
        stats.cpu_us = stats.cpu_us.saturating_sub(child.cpu_before_us);
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

fn silent() -> Refused {
    Refused::host("set up a sandbox", &io::Error::other("it ended without a word"))
}
