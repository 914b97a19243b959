//! Which zygotes there are, and how many forks of each wait: made and let go in moments in which no start waits.

use std::{
    collections::VecDeque,
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::{
    super::{check, layout::Feature, pool::Demand, rootfs, wire::Refused},
    Spawner,
    making::{Child, Kind, Make, Phase},
    waiting::{FILL_PAUSE, SHRINK_PAUSE},
    zygotes::{Family, State},
};
use crate::{Interpreter, Network, Root, Spec};

/// How long a zygote may take to be ready: it imports from a disk that may be cold.
const READY_MAX: Duration = Duration::from_secs(30);
/// After a zygote failed, its specs start without for so long.
pub(super) const RETRY: Duration = Duration::from_secs(60);
pub(super) const RETRY_READY: Duration = Duration::from_secs(1);
/// A zygote that nobody needed for so long is let go.
pub(super) const IDLE: Duration = Duration::from_secs(300);
/// Processes that have ended and were not reaped yet, until there is time for it.
const HELPERS_MAX: usize = 64;
/// Of what a zygote said before it failed, this much is logged.
const LAST_WORDS_BYTES: usize = 2_048;

impl Spawner {
    /// Whether one more zygote may be made: by its control groups alone can it be kept within bounds.
    pub(super) fn room_for_zygote(&mut self) -> bool {
        let counted = [Feature::Pids, Feature::Memory];
        if counted.iter().any(|feature| self.cgroups.version(*feature).is_none()) {
            return false;
        }
        if self.families.len() < self.config.pool.zygotes_most as usize {
            return true;
        }
        // The one that was not needed for longest makes room, if it is none of the last minute's.
        let oldest = self.families.iter().min_by_key(|(_, family)| family.used);
        match oldest.map(|(zygote, family)| (zygote.clone(), family.used.elapsed())) {
            Some((zygote, idle)) if idle > RETRY => {
                self.let_go(&zygote);
                true
            }
            _ => false,
        }
    }

    pub(super) fn zygote_ready(&mut self, number: u64) {
        let family = self.families.values_mut().find(|family| family.state == State::Starting(number));
        match family {
            Some(family) => family.state = State::Ready(number),
            // It was let go meanwhile.
            None => return self.kill(number),
        }
        self.bound_zygotes();
    }

    /// Lets those go that are too much together, the one that was not needed for longest first.
    fn bound_zygotes(&mut self) {
        let mut held: Vec<_> = self
            .families
            .iter()
            .filter_map(|(zygote, family)| match family.state {
                State::Ready(number) => {
                    let group = &self.sessions.get(&number)?.child.as_ref()?.group;
                    Some((family.used, self.cgroups.memory_bytes(group), zygote.clone()))
                }
                _ => None,
            })
            .collect();
        held.sort_by_key(|(used, ..)| *used);
        let bytes: Vec<u64> = held.iter().map(|(_, bytes, _)| *bytes).collect();
        for (_, bytes, zygote) in held.iter().take(self.config.pool.zygotes_too_many(&bytes)) {
            tracing::warn!(
                family = zygote.family,
                bytes,
                "a zygote goes: together they hold too much memory"
            );
            self.forget_for(zygote, RETRY);
        }
    }

    /// A zygote is no more, or is not to be relied on. Its forks that run go on; the rest is ended.
    pub(super) fn zygote_ended(&mut self, number: u64) {
        let of =
            |family: &Family| matches!(family.state, State::Starting(n) | State::Ready(n) if n == number);
        let Some((zygote, family)) = self.families.iter().find(|(_, family)| of(family)) else { return };
        // One that had been ready was killed, or ended by its limits; it is made again for the next who wants it.
        let pause = if matches!(family.state, State::Ready(_)) { RETRY_READY } else { RETRY };
        let zygote = zygote.clone();
        tracing::warn!(family = zygote.family, said = self.last_words(number), "a zygote ended");
        self.forget_for(&zygote, pause);
    }

    /// Lets a zygote go, and has its specs start without for a while.
    fn forget_for(&mut self, zygote: &Interpreter, pause: Duration) {
        self.let_go(zygote);
        let family = Family {
            state: State::Failed(Instant::now() + pause),
            spare: VecDeque::new(),
            demand: Demand::new(self.second()),
            used: Instant::now(),
        };
        self.families.insert(zygote.clone(), family);
    }

    /// What an interpreter that is not ready wrote to its standard error.
    pub(super) fn last_words(&mut self, number: u64) -> Option<String> {
        let child = self.child(number)?;
        let (Phase::Starting { ends, .. } | Phase::Waiting { ends, .. }) = &child.phase else { return None };
        let [_, stderr] = &ends.outputs;
        rustix::io::ioctl_fionbio(stderr, true).ok()?;
        let mut bytes = vec![0; LAST_WORDS_BYTES];
        let length = rustix::io::read(stderr, &mut bytes[..]).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// Ends a zygote and what waits for nobody. Its sandbox ends with its last fork.
    pub(super) fn let_go(&mut self, zygote: &Interpreter) {
        let Some(family) = self.families.remove(zygote) else { return };
        for spare in family.spare {
            self.kill(spare);
        }
        let (State::Starting(number) | State::Ready(number)) = family.state else { return };
        let under_way: Vec<u64> = self
            .sessions
            .iter()
            .filter_map(|(session, one)| match &one.child {
                Some(Child { kind: Kind::Fork(fork), .. }) if fork.zygote == number => {
                    // Those that are not waiting yet will not get there.
                    (fork.spec.is_some() && !fork.waits).then_some(*session)
                }
                _ => None,
            })
            .collect();
        for session in under_way {
            self.fail(session, Refused::host("fork a zygote", &io::Error::other("the zygote is gone")));
        }
        let running = self.sessions.values().any(|session| match &session.child {
            Some(Child { kind: Kind::Fork(fork), phase, .. }) => {
                fork.zygote == number && matches!(phase, Phase::Starting { .. } | Phase::Running)
            }
            _ => false,
        });
        if !running {
            return self.kill(number);
        }
        if let Some(child) = self.child(number)
            && let Kind::Zygote(parent) = &mut child.kind
        {
            // The end of our words is the zygote's end; its first process goes on for those that run.
            let _ = rustix::net::shutdown(&parent.word, rustix::net::Shutdown::Both);
        }
    }

    /// Makes or ends one zygote or fork, if there are not as many as there should be. Gives the time until they are to
    /// be looked at again.
    pub(super) fn tend_zygotes(&mut self, quiet: bool) -> Option<Duration> {
        if quiet || self.helpers.len() > HELPERS_MAX {
            self.helpers.retain(|helper| {
                let flags = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                matches!(waitid(WaitId::PidFd(helper.as_fd()), flags), Ok(None))
            });
        }
        if self.families.is_empty() {
            return (!self.helpers.is_empty()).then_some(FILL_PAUSE);
        }
        let now = self.second();
        let places = self.config.sandboxes_max.saturating_sub(self.held) as usize;
        let mut next = if self.helpers.is_empty() { SHRINK_PAUSE } else { FILL_PAUSE };
        let mut make: Option<(_, _, bool)> = None;
        let mut end = None;
        let mut idle = None;
        for (zygote, family) in &mut self.families {
            if family.used.elapsed() >= IDLE {
                idle = Some(zygote.clone());
                continue;
            }
            match family.state {
                State::Wanted => {
                    // More than one start asks for it already, and each one without it costs as much as it does.
                    let pressing = family.demand.busiest(now) > 1;
                    if pressing || make.is_none() {
                        make = Some((zygote.clone(), None, pressing));
                    }
                }
                State::Ready(number) => {
                    let busiest = family.demand.busiest(now);
                    let size = self.config.pool.forks(busiest, places + family.spare.len());
                    if family.spare.len() < size {
                        make.get_or_insert_with(|| (zygote.clone(), Some(number), false));
                    } else if family.spare.len() > size {
                        end = family.spare.pop_front();
                    }
                }
                State::Starting(_) | State::Failed(_) => {}
            }
        }
        if let Some(zygote) = idle {
            self.let_go(&zygote);
        }
        if let Some(spare) = end {
            self.kill(spare);
        }
        if let Some((zygote, parent, pressing)) = make {
            if quiet || pressing {
                self.make(&zygote, parent);
            }
            next = FILL_PAUSE;
        }
        Some(next)
    }

    /// Makes a zygote, or a fork of one.
    fn make(&mut self, zygote: &Interpreter, parent: Option<u64>) {
        let number = self.session_number();
        let made = match parent {
            None => self.make_zygote(zygote, number),
            Some(parent) => self.fork(number, Make::Fork(parent)),
        };
        let Some(family) = self.families.get_mut(zygote) else { return };
        match (made, parent) {
            (Ok(()), None) => family.state = State::Starting(number),
            (Ok(()), Some(_)) => family.spare.push_back(number),
            (Err(refused), _) => {
                tracing::warn!(?refused, family = zygote.family, "no zygote, or no fork of it");
                self.let_go(zygote);
            }
        }
    }

    fn make_zygote(&mut self, zygote: &Interpreter, number: u64) -> Result<(), Refused> {
        self.begin_interpreter(zygote, number, Make::Zygote)?;
        if let Some(child) = self.child(number) {
            if let Kind::Zygote(parent) = &mut child.kind {
                parent.limits = Some(zygote.limits);
            }
            let group = child.group.clone();
            // Its first process must outlive it, for the forks that run.
            self.cgroups.lose_one(&group);
        }
        Ok(())
    }

    /// Starts an interpreter ahead, in a sandbox of its own. On an error nothing of it is left.
    pub(super) fn begin_interpreter(
        &mut self,
        interpreter: &Interpreter,
        number: u64,
        make: Make,
    ) -> Result<(), Refused> {
        let spec = Spec {
            id: "ahead".into(),
            argv: interpreter.argv.clone(),
            env: interpreter.env.clone(),
            cwd: "/".into(),
            mounts: interpreter.mounts.clone(),
            limits: interpreter.limits,
            listeners: Vec::new(),
            resolver: None,
            hosts: Vec::new(),
            network: Network::Sockets,
            root: Root::Host,
            interpreter: None,
        };
        check::spec(&spec).map_err(Refused::Spec)?;
        let trees = rootfs::open_mounts(&spec.mounts, &self.config.mount_roots)?;
        self.fork(number, make)?;
        let Some(child) = self.child(number) else { return Err(Refused::Gone) };
        let group = child.group.clone();
        let limited = self.cgroups.limit(&group, &interpreter.limits);
        if let Err(refused) = limited.and_then(|()| self.activate(number, spec, &trees)) {
            self.kill(number);
            return Err(refused);
        }
        if let Some(Child { phase: Phase::Starting { deadline, .. }, .. }) = self.child(number) {
            *deadline = Instant::now() + READY_MAX;
        }
        Ok(())
    }
}
