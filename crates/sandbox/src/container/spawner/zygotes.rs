//! Zygotes: interpreters that have started and are forked instead of started again, and sandboxes in which such
//! forks wait for their spec.
//!
//! ```text
//!  a spec names one ─▶ (plain start, meanwhile) its sandbox is made ─▶ ready ⇄ forks are made ahead, and taken
//!                                                                       └─ idle, or it died ─▶ let go
//! ```
//!
//! A zygote is spoken to in messages on its descriptor 3, and each of its forks on a socket of its own ("word"):
//!
//! ```text
//!  zygote   ──▶ ready                            its imports are done
//!           ◀── fork N  + word, stdout, stderr, N entrances of control groups, the namespaces
//!           ──▶ ended P code N, ended P signal N   a fork; once there is no zygote its sandbox' first process tells
//!  fork     ──▶ pid P                            said by the zygote: its number among the zygote's processes
//!           ──▶ waiting                          it is in its sandbox and has no privilege left
//!           ◀── the spec, see `spoken`
//!           ──▶ failed WHY
//! ```
//!
//! What a zygote or a fork says is not trusted: it can spoil its own family's starts, which then happen without it.
//! Nobody's life hangs on a zygote's: its forks are adopted by the first process of its sandbox.

use std::{
    collections::VecDeque,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    time::Instant,
};

use super::{
    super::{
        child::NAMESPACES,
        pool::Demand,
        wire::{self, Refused},
    },
    Session, Source, Spawner,
    making::{Child, Kind, Make, Phase},
    started::Started,
    watch,
};
use crate::{Exit, Interpreter, Limits, Spec};

/// A short word of a zygote or a fork; the rest of a longer one is lost.
const WORD_BYTES: usize = 512;
/// What a fork may take of what its zygote's group holds. The pages that both have written since the fork count there for as
/// long as the fork lives: 1.4 MiB were measured with Python 3.11 and AWS' client.
const FORK_BYTES: u64 = 4 << 20;
/// Room is made for so many forks at a time.
const ROOM_STEP: u64 = 16;

/// The side of a zygote.
pub(super) struct Parent {
    pub(super) word: OwnedFd,
    /// Of its sandbox' first process, once the zygote is ready.
    pub(super) line: Option<OwnedFd>,
    /// What it may hold without forks.
    pub(super) limits: Option<Limits>,
    /// How many forks its group has room for.
    room: u64,
}

/// The side of a fork.
pub(super) struct Fork {
    /// The session of its zygote.
    pub(super) zygote: u64,
    pub(super) word: OwnedFd,
    /// What the zygote is handed for it, until then.
    inside: Vec<OwnedFd>,
    /// Its number among the zygote's processes.
    pid: Option<i32>,
    /// It is where it should be.
    pub(super) waits: bool,
    /// What it was taken for, until the code runs.
    pub(super) spec: Option<Box<Spec>>,
    pub(super) exit: Option<Exit>,
}

/// A zygote, from the first spec that named it.
pub(super) struct Family {
    pub(super) state: State,
    /// Forks that nobody has taken, the oldest first.
    pub(super) spare: VecDeque<u64>,
    pub(super) demand: Demand,
    pub(super) used: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// To be made when there is time.
    Wanted,
    /// In the sandbox of this session.
    Starting(u64),
    Ready(u64),
    /// Not before then again.
    Failed(Instant),
}

impl Kind {
    /// What an interpreter was taken for and has not become yet.
    pub(super) fn take_spec(&mut self) -> Option<Box<Spec>> {
        match self {
            Self::Fork(Fork { spec, .. }) | Self::Started(Started { spec, .. }) => spec.take(),
            Self::Plain | Self::Zygote(_) => None,
        }
    }
}

impl Parent {
    pub(super) fn new(word: OwnedFd) -> Self {
        Self { word, line: None, limits: None, room: 0 }
    }
}

impl Fork {
    pub(super) fn new(zygote: u64, word: OwnedFd, inside: Vec<OwnedFd>) -> Self {
        Self { zygote, word, inside, pid: None, waits: false, spec: None, exit: None }
    }
}

impl Spawner {
    /// Gives a fork to a session, if its zygote is ready; else sees to it that it will be.
    pub(super) fn take_fork(&mut self, number: u64, zygote: &Interpreter, spec: &Spec) -> bool {
        let now = self.second();
        if !self.families.contains_key(zygote) && !self.room_for_zygote() {
            return false;
        }
        let family = self.families.entry(zygote.clone()).or_insert_with(|| Family {
            state: State::Wanted,
            spare: VecDeque::new(),
            demand: Demand::new(now),
            used: Instant::now(),
        });
        family.used = Instant::now();
        family.demand.started(now);
        let parent = match family.state {
            State::Ready(parent) => parent,
            State::Failed(until) => {
                if until <= Instant::now() {
                    family.state = State::Wanted;
                }
                return false;
            }
            State::Wanted | State::Starting(_) => return false,
        };
        match family.spare.pop_front() {
            Some(spare) => self.hand_on(spare, number),
            None => {
                if let Err(refused) = self.fork(number, Make::Fork(parent)) {
                    tracing::warn!(?refused, "a start goes on without its zygote");
                    return false;
                }
            }
        }
        let Some(Child { kind: Kind::Fork(fork), .. }) = self.child(number) else { return false };
        fork.spec = Some(Box::new(spec.clone()));
        true
    }

    /// The first process of a sandbox with an own user namespace is there.
    pub(super) fn on_built(&mut self, number: u64, fds: Vec<OwnedFd>) {
        let Some(child) = self.child(number) else { return };
        let mut fds = fds.into_iter();
        let (inside, zygote) = match &mut child.kind {
            // Its interpreter is on the way.
            Kind::Started(_) => return,
            Kind::Plain => {
                if let Phase::Waiting { deadline, .. } = &mut child.phase {
                    *deadline = None;
                }
                return;
            }
            Kind::Zygote(_) => (None, number),
            Kind::Fork(fork) => (Some(std::mem::take(&mut fork.inside)), fork.zygote),
        };
        child.pidfd = fds.next();
        let watched = match &self.sessions.get(&number).and_then(|session| session.child.as_ref()) {
            Some(Child { pidfd: Some(pidfd), .. }) => watch(&self.epoll, pidfd, number, Source::Pidfd),
            _ => Err(io::ErrorKind::InvalidData.into()),
        };
        let asked = watched.and_then(|()| {
            let Some(mut inside) = inside else { return Ok(()) };
            // The word and the two outputs come first.
            let entrances = inside.len() - 3;
            inside.extend(fds.take(NAMESPACES.len()));
            match self.child(zygote) {
                Some(Child { kind: Kind::Zygote(parent), .. }) => wire::send_bytes(
                    parent.word.as_fd(),
                    format!("fork {entrances}").as_bytes(),
                    &wire::borrowed(&inside),
                ),
                _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            }
        });
        if let Err(error) = asked {
            self.fail(number, Refused::host("ask for a fork", &error));
        }
    }

    /// A zygote or a fork said something.
    pub(super) fn on_word(&mut self, number: u64) {
        let Some(Session { child: Some(child), .. }) = self.sessions.get_mut(&number) else { return };
        let word = match &child.kind {
            Kind::Zygote(Parent { word, .. })
            | Kind::Fork(Fork { word, .. })
            | Kind::Started(Started { word, .. }) => word,
            Kind::Plain => return,
        };
        let mut bytes = [0; WORD_BYTES];
        let heard = match rustix::io::read(word, &mut bytes) {
            Ok(length) => String::from_utf8_lossy(&bytes[..length]).into_owned(),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            Err(_) => String::new(),
        };
        if heard.is_empty() {
            // Its end would be readable for ever.
            let _ = rustix::event::epoll::delete(&self.epoll, word);
        }
        let refused = Refused::host("fork a zygote", &io::Error::other("it said what nobody understands"));
        match (&mut child.kind, &mut child.phase) {
            (Kind::Zygote(parent), Phase::Starting { .. }) if heard == "ready" => {
                let Phase::Starting { ends, .. } = std::mem::replace(&mut child.phase, Phase::Running) else {
                    return;
                };
                parent.line = Some(ends.line);
                self.zygote_ready(number);
            }
            (Kind::Zygote(_) | Kind::Started(_), Phase::Removing { .. }) | (Kind::Plain, _) => {}
            (Kind::Zygote(_), phase) => match ended(&heard) {
                Some((pid, exit)) if matches!(phase, Phase::Running) => {
                    self.on_descendant(number, pid, false, exit);
                }
                _ => self.zygote_ended(number),
            },
            (Kind::Started(_), Phase::Starting { .. }) if heard == "ready" => self.started_ready(number),
            // It has become the code.
            (Kind::Started(_), Phase::Running) if heard.is_empty() => {}
            (Kind::Started(_), _) => self.fail(number, refused),
            (Kind::Fork(fork), phase) => match heard.split_once(' ') {
                Some(("pid", pid)) => fork.pid = pid.parse().ok(),
                None if heard == "waiting" => {
                    fork.waits = true;
                    if let Phase::Waiting { deadline, .. } = phase {
                        *deadline = None;
                    }
                    self.go(number);
                }
                // It has become the code, or is about to end as one.
                None if heard.is_empty() && matches!(phase, Phase::Running | Phase::Removing { .. }) => {}
                _ => {
                    if !heard.is_empty() {
                        tracing::warn!(heard, "a fork failed");
                    }
                    self.fail(number, refused);
                }
            },
        }
    }

    /// Tells an interpreter its spec, once it waits in a sandbox that is whole.
    pub(super) fn go(&mut self, number: u64) {
        let Some(child) = self.child(number) else { return };
        let Phase::Starting { listeners: Some(_), .. } = &child.phase else { return };
        let (Kind::Fork(Fork { word, spec, waits: true, .. }) | Kind::Started(Started { word, spec, .. })) =
            &mut child.kind
        else {
            return;
        };
        let Some(told) = spec.take() else { return };
        if let Err(error) = wire::send_bytes(word.as_fd(), &spoken(&told), &[]) {
            *spec = Some(told);
            return self.fail(number, Refused::host("tell an interpreter its spec", &error));
        }
        self.started(number);
    }

    /// Takes the sandbox of an interpreter away from the session that it was to be started for, and gives back the
    /// spec.
    pub(super) fn give_up_ahead(&mut self, number: u64, why: &Refused) -> Option<Spec> {
        let spare = self.families.values_mut().find(|family| family.spare.contains(&number));
        if let Some(family) = spare {
            family.spare.retain(|spare| *spare != number);
            if !self.stopping {
                tracing::warn!(?why, "a fork that nobody waited for failed");
            }
        }
        self.spare_ended(number);
        let child = self.child(number)?;
        let spec = child.kind.take_spec()?;
        tracing::warn!(?why, id = child.id, "a start goes on without the interpreter that was started ahead");
        child.id.clear();
        self.ids.remove(&spec.id);
        let aside = self.session_number();
        self.hand_on(number, aside);
        self.kill(aside);
        Some(*spec)
    }

    /// A process below a zygote's first one has ended.
    pub(super) fn on_descendant(&mut self, parent: u64, pid: i32, zygote: bool, exit: Exit) {
        if zygote {
            tracing::debug!(?exit, "a zygote ended");
            return self.zygote_ended(parent);
        }
        // Its number may have been said before, and not been heard yet.
        let nameless: Vec<u64> =
            self.sessions.iter().filter(|(_, s)| is_nameless(s, parent)).map(|(n, _)| *n).collect();
        for number in nameless {
            self.on_word(number);
        }
        let found = self.sessions.iter_mut().find_map(|(number, session)| match &mut session.child {
            Some(Child { kind: Kind::Fork(fork), .. }) if fork.zygote == parent && fork.pid == Some(pid) => {
                Some((*number, fork))
            }
            _ => None,
        });
        let Some((number, fork)) = found else { return };
        fork.exit = Some(exit);
        match self.child(number).map(|child| &child.phase) {
            Some(Phase::Running) => self.kill(number),
            _ => self.fail(number, Refused::host("fork a zygote", &io::Error::other("the fork ended"))),
        }
    }

    /// Lets a zygote's group hold what its forks leave there.
    pub(super) fn make_room(&mut self, zygote: u64) {
        let of = |session: &&Session| matches!(&session.child, Some(Child { kind: Kind::Fork(fork), .. }) if fork.zygote == zygote);
        let forks = self.sessions.values().filter(of).count() as u64;
        let Some(Child { kind: Kind::Zygote(parent), group, .. }) = self.child(zygote) else { return };
        let Some(limits) = parent.limits.filter(|_| forks > parent.room) else { return };
        parent.room = forks + ROOM_STEP;
        let memory_bytes = limits.memory_bytes.saturating_add(parent.room * FORK_BYTES);
        let group = group.clone();
        if let Err(error) = self.cgroups.limit_memory(&group, &Limits { memory_bytes, ..limits }) {
            tracing::warn!(group, %error, "a zygote may run out of memory by its forks");
        }
        self.cgroups.lose_one(&group);
    }

    /// The first process and the user of a zygote.
    pub(super) fn parent(&self, number: u64) -> Option<(OwnedFd, u32)> {
        let child = self.sessions.get(&number)?.child.as_ref()?;
        Some((child.pidfd.as_ref()?.try_clone().ok()?, child.uid?))
    }
}

/// Whether a session is that of a fork of this zygote whose number is not known yet.
fn is_nameless(session: &Session, zygote: u64) -> bool {
    let kind = session.child.as_ref().map(|child| &child.kind);
    matches!(kind, Some(Kind::Fork(fork)) if fork.zygote == zygote && fork.pid.is_none())
}

/// How a fork ended, in a zygote's words.
fn ended(heard: &str) -> Option<(i32, Exit)> {
    let mut words = heard.split(' ');
    let (verb, pid, how, number) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let (pid, number) = (pid.parse().ok()?, number.parse().ok()?);
    match (verb, how, words.next()) {
        ("ended", "code", None) => Some((pid, Exit::Code(number))),
        ("ended", "signal", None) => Some((pid, Exit::Signal(number))),
        _ => None,
    }
}

/// A spec as a fork is told it: parts with a zero byte after each. They are the working folder, the limit of open
/// files, the number of arguments, the arguments, and the environment.
fn spoken(spec: &Spec) -> Vec<u8> {
    let mut bytes = spec.cwd.as_os_str().as_bytes().to_vec();
    let mut part = |text: &str| {
        bytes.push(0);
        bytes.extend_from_slice(text.as_bytes());
    };
    part(&spec.limits.open_files.to_string());
    part(&spec.argv.len().to_string());
    spec.argv.iter().for_each(|argument| part(argument));
    spec.env.iter().for_each(|(name, value)| part(&format!("{name}={value}")));
    bytes.push(0);
    bytes
}
