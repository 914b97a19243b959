//! Interpreters that cannot be forked and so are started ahead, each in a sandbox of its own: they wait to be told which
//! code they are.
//!
//! ```text
//!  a spec names one ─▶ (plain start, meanwhile) a sandbox with it is made ─▶ ready ─▶ taken: becomes the code
//!                                                                             └─ not needed for long ─▶ ended
//! ```
//!
//! It is spoken to in messages on its descriptor 3: it says `ready`, and is told the spec as a fork is (see `zygotes`).
//! A start never waits for one: where none is ready it is a plain one.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use super::{
    super::{pool::Demand, wire::Refused},
    Spawner,
    families::{IDLE, RETRY, RETRY_READY},
    making::{Child, Kind, Make, Phase},
    waiting::{FILL_PAUSE, SHRINK_PAUSE},
};
use crate::{Interpreter, Spec};

/// What one holds until one has been measured: Node.js 20 with its HTTP client holds 25 MiB of its own.
const HELD_BYTES: u64 = 32 << 20;

/// The side of such a sandbox.
pub(super) struct Started {
    pub(super) word: OwnedFd,
    /// What it held when it was ready; `None` before.
    held: Option<u64>,
    /// What it was taken for, until the code runs.
    pub(super) spec: Option<Box<Spec>>,
}

/// Those of one kind and family, from the first spec that named it.
pub(super) struct Line {
    /// Those that nobody has taken, the oldest first.
    spare: VecDeque<u64>,
    demand: Demand,
    used: Instant,
    /// After a failure none is made for a while.
    make_after: Instant,
    /// What the last one held.
    held: u64,
}

impl Line {
    fn held(&self) -> u64 {
        self.held * self.spare.len() as u64
    }
}

impl Started {
    pub(super) fn new(word: OwnedFd) -> Self {
        Self { word, held: None, spec: None }
    }
}

impl Spawner {
    /// Gives an interpreter that is ready to a session, if there is one; else sees to it that there will be.
    pub(super) fn take_started(&mut self, number: u64, interpreter: &Interpreter, spec: &Spec) -> bool {
        let (own, other) = (&spec.limits, &interpreter.limits);
        // What it has from the start on stays.
        let differs = (own.processes, own.open_files) != (other.processes, other.open_files)
            || interpreter.mounts.iter().any(|mount| !spec.mounts.contains(mount));
        if self.config.pool.started_most == 0
            || differs
            || !(self.lines.contains_key(interpreter) || self.room_for_line())
        {
            return false;
        }
        let now = self.second();
        let line = self.lines.entry(interpreter.clone()).or_insert_with(|| Line {
            spare: VecDeque::new(),
            demand: Demand::new(now),
            used: Instant::now(),
            make_after: Instant::now(),
            held: HELD_BYTES,
        });
        line.used = Instant::now();
        line.demand.started(now);
        let spare = line.spare.clone();
        // What would hardly fit is started plainly, and fails or not as ever.
        let fits = |held: u64| own.memory_bytes / 2 >= held;
        let ready = spare.into_iter().find(|spare| {
            let Some(child) = self.child(*spare) else { return false };
            matches!(child.phase, Phase::Waiting { deadline: None, .. })
                && matches!(child.kind, Kind::Started(Started { held: Some(held), .. }) if fits(held))
        });
        let Some(ready) = ready else { return false };
        if let Some(line) = self.lines.get_mut(interpreter) {
            line.spare.retain(|spare| *spare != ready);
        }
        self.hand_on(ready, number);
        let Some(Child { kind: Kind::Started(started), .. }) = self.child(number) else { return false };
        started.spec = Some(Box::new(spec.clone()));
        true
    }

    /// Whether there may be one more kind or family.
    fn room_for_line(&mut self) -> bool {
        if self.lines.len() < self.config.pool.zygotes_most as usize {
            return true;
        }
        self.end_oldest_line()
    }

    /// The one that was not needed for longest makes room, if it is none of the last minute's.
    fn end_oldest_line(&mut self) -> bool {
        let oldest = self.lines.iter().min_by_key(|(_, line)| line.used);
        match oldest.map(|(interpreter, line)| (interpreter.clone(), line.used.elapsed())) {
            Some((interpreter, idle)) if idle > RETRY => {
                self.end_line(&interpreter);
                true
            }
            _ => false,
        }
    }

    fn end_line(&mut self, interpreter: &Interpreter) {
        let Some(line) = self.lines.remove(interpreter) else { return };
        for spare in line.spare {
            self.kill(spare);
        }
    }

    /// It waits for its spec from now on.
    pub(super) fn started_ready(&mut self, number: u64) {
        let Some(group) = self.child(number).map(|child| child.group.clone()) else { return };
        let bytes = self.cgroups.memory_bytes(&group);
        let Some(child) = self.child(number) else { return };
        let Kind::Started(started) = &mut child.kind else { return };
        started.held = Some(bytes);
        match std::mem::replace(&mut child.phase, Phase::Running) {
            Phase::Starting { ends, .. } => child.phase = Phase::Waiting { ends, deadline: None },
            other => child.phase = other,
        }
        match self.lines.values_mut().find(|line| line.spare.contains(&number)) {
            // Where memory is not counted, it is guessed.
            Some(line) => line.held = if bytes == 0 { HELD_BYTES } else { bytes },
            // It was let go meanwhile.
            None => self.kill(number),
        }
    }

    /// One that nobody has taken came to nothing.
    pub(super) fn spare_ended(&mut self, number: u64) {
        let Some((interpreter, _)) = self.lines.iter().find(|(_, line)| line.spare.contains(&number)) else {
            return;
        };
        let interpreter = interpreter.clone();
        let was_ready = matches!(
            self.child(number),
            Some(Child { kind: Kind::Started(Started { held: Some(_), .. }), .. })
        );
        tracing::warn!(family = interpreter.family, said = self.last_words(number), "an interpreter ended");
        if let Some(line) = self.lines.get_mut(&interpreter) {
            line.spare.retain(|spare| *spare != number);
            line.make_after = Instant::now() + if was_ready { RETRY_READY } else { RETRY };
        }
    }

    /// Makes or ends one, if there are not as many as there should be. Gives the time until they are to be looked at
    /// again.
    pub(super) fn tend_started(&mut self, quiet: bool) -> Option<Duration> {
        if self.lines.is_empty() {
            return None;
        }
        let now = self.second();
        let places = self.config.sandboxes_max.saturating_sub(self.held) as usize;
        let held: u64 = self.lines.values().map(Line::held).sum();
        // One at a time: they must not take the processor from starts that somebody waits for.
        let making = self.lines.values().flat_map(|line| &line.spare).any(|spare| {
            let child = self.sessions.get(spare).and_then(|session| session.child.as_ref());
            matches!(child, Some(Child { kind: Kind::Started(Started { held: None, .. }), .. }))
        });
        let (mut make, mut end, mut idle, mut full) = (None, None, None, false);
        for (interpreter, line) in &mut self.lines {
            if line.used.elapsed() >= IDLE {
                idle = Some(interpreter.clone());
                continue;
            }
            let busiest = line.demand.busiest(now);
            let others = held - line.held();
            let size = self.config.pool.started(busiest, places + line.spare.len(), line.held, others);
            full |= size == 0;
            if line.spare.len() > size {
                end = line.spare.pop_front();
            } else if line.spare.len() < size && !making && line.make_after <= Instant::now() {
                make = Some(interpreter.clone());
            }
        }
        if let Some(interpreter) = idle {
            self.end_line(&interpreter);
        } else if full {
            self.end_oldest_line();
        }
        if let Some(spare) = end {
            self.kill(spare);
        }
        if let Some(interpreter) = make {
            if quiet {
                self.make_started(&interpreter);
            }
            return Some(FILL_PAUSE);
        }
        Some(SHRINK_PAUSE)
    }

    fn make_started(&mut self, interpreter: &Interpreter) {
        let number = self.session_number();
        let made: Result<(), Refused> = self.begin_interpreter(interpreter, number, Make::Started);
        let Some(line) = self.lines.get_mut(interpreter) else { return };
        match made {
            Ok(()) => line.spare.push_back(number),
            Err(refused) => {
                tracing::warn!(?refused, family = interpreter.family, "no interpreter is started ahead");
                line.make_after = Instant::now() + RETRY;
            }
        }
    }
}
