//! Making a sandbox: its groups, its ends, its first process.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Gid, Uid, fchown},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
    pipe::{PipeFlags, pipe_with},
};

use super::{
    super::{
        child::{self, Owner, Plan},
        full::Link,
        sys,
        wire::{Refused, Reply},
    },
    Session, Source, Spawner,
    started::Started,
    watch, watch_as,
    zygotes::{Fork, Parent},
};

/// How long a start may take at most. It takes milliseconds; a host that swaps may need a second.
pub(super) const START_MAX: Duration = Duration::from_secs(10);

/// What a session started.
pub(super) struct Child {
    /// The spec's; empty before there is one.
    pub(super) id: String,
    /// The name of its control groups.
    pub(super) group: String,
    /// The user that is this sandbox' alone; a fork's has its zygote's.
    pub(super) uid: Option<u32>,
    /// The first process; `None` until it is known.
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) status: OwnedFd,
    pub(super) phase: Phase,
    pub(super) kind: Kind,
    /// Its network, if it has one beside its own loopback.
    pub(super) link: Option<Link>,
    /// What its group had used before the spec: not the code's.
    pub(super) cpu_before_us: u64,
}

/// How the code gets there.
pub(super) enum Kind {
    /// It is executed.
    Plain,
    /// It is a zygote.
    Zygote(Parent),
    /// It is forked from one.
    Fork(Fork),
    /// It is an interpreter that has started before.
    Started(Started),
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

/// For whom a sandbox is made.
#[derive(Clone, Copy)]
pub(super) enum Make {
    Plain,
    Zygote,
    /// For a fork of the zygote of this session.
    Fork(u64),
    /// For an interpreter that becomes the code itself.
    Started,
}

impl Spawner {
    /// Forks a sandbox that builds itself and then waits, and gives it to a session. On an error nothing of it is
    /// left.
    pub(super) fn fork(&mut self, number: u64, make: Make) -> Result<(), Refused> {
        if self.held >= self.config.sandboxes_max {
            return Err(self.full());
        }
        let uid = match make {
            Make::Plain | Make::Zygote | Make::Started => {
                Some(self.uids_free.pop_front().ok_or_else(|| self.full())?)
            }
            Make::Fork(_) => None,
        };
        let group = format!("s{}", self.next_group);
        self.next_group += 1;
        let child = match self.fork_as(&group, uid, make) {
            Ok(child) => child,
            Err(refused) => {
                if let Err(error) = self.cgroups.remove(&group) {
                    tracing::warn!(group, %error, "an empty group stays until the next start");
                }
                self.uids_free.extend(uid);
                return Err(refused);
            }
        };
        self.held += 1;
        let session = self.sessions.entry(number).or_insert(Session { socket: None, child: None });
        let watched = each_end(&child, |fd, source| watch(&self.epoll, fd, number, source));
        session.child = Some(child);
        if let Err(error) = watched {
            self.fail(number, Refused::host("watch a sandbox", &error));
        }
        if let Make::Fork(zygote) = make {
            self.make_room(zygote);
        }
        Ok(())
    }

    /// Gives the sandbox of a session to another one.
    pub(super) fn hand_on(&mut self, from: u64, to: u64) {
        let Some(child) = self.sessions.get_mut(&from).and_then(|session| session.child.take()) else {
            return;
        };
        if self.sessions.get(&from).is_some_and(|session| session.socket.is_none()) {
            self.sessions.remove(&from);
        }
        let watched = each_end(&child, |fd, source| watch_as(&self.epoll, fd, to, source));
        let session = self.sessions.entry(to).or_insert(Session { socket: None, child: None });
        session.child = Some(child);
        if let Err(error) = watched {
            self.fail(to, Refused::host("watch a sandbox", &error));
        }
    }

    fn fork_as(&mut self, group: &str, uid: Option<u32>, make: Make) -> Result<Child, Refused> {
        let join = self.cgroups.create(group)?;
        let host = |what: &'static str| move |error: Errno| Refused::host(what, &error.into());
        let piped = || pipe_with(PipeFlags::CLOEXEC).map_err(host("make a pipe"));
        let paired = || -> Result<(OwnedFd, OwnedFd), Refused> {
            let kind = SocketType::SEQPACKET;
            let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
                .map_err(host("make a socket pair"))?;
            rustix::io::ioctl_fionbio(&ours, true).map_err(host("make a socket pair"))?;
            Ok((ours, theirs))
        };
        let (stdout, stdout_inside) = piped()?;
        let (stderr, stderr_inside) = piped()?;
        let (status, status_inside) = piped()?;
        let (line, line_inside) = paired()?;
        let (word, word_inside) = match make {
            Make::Plain => (None, None),
            Make::Zygote | Make::Fork(_) | Make::Started => {
                let (word, word_inside) = paired()?;
                (Some(word), Some(word_inside))
            }
        };
        let zygote = match make {
            Make::Plain | Make::Zygote | Make::Started => None,
            Make::Fork(zygote) => Some(self.parent(zygote).ok_or(Refused::Gone)?),
        };
        let (owner, code_uid, word_inside) = match (make, &zygote, word_inside) {
            (Make::Zygote, _, Some(end)) => (Owner::Zygote(end), uid, None),
            (Make::Started, _, Some(end)) => (Owner::Started(end), uid, None),
            (_, Some((pidfd, code_uid)), end) => (Owner::Fork(pidfd.as_fd()), Some(*code_uid), end),
            (_, None, end) => (Owner::Host, uid, end),
        };
        let plan = Plan {
            owner,
            root: &self.root,
            filters: &self.filters,
            uid: code_uid.unwrap_or_default(),
            tasks: join.tasks,
            stdout: stdout_inside,
            stderr: stderr_inside,
            line: line_inside,
            status: status_inside,
        };
        let unified = join.unified.as_ref().map(AsFd::as_fd);
        let forked = match make {
            Make::Plain | Make::Started => sys::fork_into_namespaces(unified),
            Make::Zygote | Make::Fork(_) => sys::fork_into_mounts(unified),
        };
        let Some(pidfd) = forked.map_err(|e| Refused::host("fork a sandbox", &e))? else { child::run(&plan) };
        let Plan { stdout: stdout_inside, stderr: stderr_inside, .. } = plan;
        let ends = Ends { line, outputs: [stdout, stderr] };
        let kind = match (make, word, word_inside) {
            (Make::Zygote, Some(word), _) => Kind::Zygote(Parent::new(word)),
            (Make::Started, Some(word), _) => Kind::Started(Started::new(word)),
            (Make::Fork(zygote), Some(word), Some(word_inside)) => {
                // As `child` does it for what is executed.
                for output in [&stdout_inside, &stderr_inside] {
                    let (user, group) = (code_uid.map(Uid::from_raw), code_uid.map(Gid::from_raw));
                    fchown(output, user, group).map_err(host("give the outputs to the code"))?;
                }
                let mut inside = vec![word_inside, stdout_inside, stderr_inside];
                inside.extend(self.cgroups.entrances(group)?);
                Kind::Fork(Fork::new(zygote, word, inside))
            }
            _ => Kind::Plain,
        };
        let pidfd = match kind {
            Kind::Plain | Kind::Started(_) => Some(pidfd),
            Kind::Zygote(_) | Kind::Fork(_) => {
                self.helpers.push(pidfd);
                None
            }
        };
        let phase = Phase::Waiting { ends, deadline: Some(Instant::now() + START_MAX) };
        let (id, group) = (String::new(), group.to_owned());
        Ok(Child { id, group, uid, pidfd, status, phase, kind, link: None, cpu_before_us: 0 })
    }
}

/// What is watched of a sandbox.
fn each_end(child: &Child, mut watch: impl FnMut(&OwnedFd, Source) -> io::Result<()>) -> io::Result<()> {
    if let Some(pidfd) = &child.pidfd {
        watch(pidfd, Source::Pidfd)?;
    }
    match (&child.phase, &child.kind) {
        (Phase::Waiting { ends, .. } | Phase::Starting { ends, .. }, _) => watch(&ends.line, Source::Line)?,
        (_, Kind::Zygote(Parent { line: Some(line), .. })) => watch(line, Source::Line)?,
        _ => {}
    }
    match &child.kind {
        Kind::Plain => Ok(()),
        Kind::Zygote(Parent { word, .. })
        | Kind::Fork(Fork { word, .. })
        | Kind::Started(Started { word, .. }) => watch(word, Source::Word),
    }
}
