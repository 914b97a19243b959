//! The steps of an instance's life as the pool sees them: started, at rest, handed a call, wished to end, gone.

use std::{sync::Arc, time::Duration};

use rouse_sandbox::Stats;
use rouse_scheduler::{Contender, Load, START_HOLD, Turn, keep_alive};
use rouse_types::{InstanceState, function::VersionKey};
use tokio::{sync::mpsc, time::Instant};

use super::{Instance, Pool, Timer, memory_bytes, slots};
use crate::{
    instance::{Id, Order},
    job::Milestones,
};

impl Pool {
    pub(super) fn ready(&mut self, id: Id, key: &VersionKey, milestones: &Milestones) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.jobs.is_none() {
            return;
        }
        if let Some(known) = self.known.get_mut(key) {
            known.broken = None;
            known.history.started(milestones.ready.saturating_duration_since(milestones.begun));
        }
        let group = self.group(key);
        group.starting -= 1;
        group.serving += 1;
        self.rest(id, key);
    }

    /// An instance has one call less.
    pub(super) fn done(&mut self, id: Id, key: &VersionKey) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let (before, bytes, ends) = (instance.running, instance.memory_bytes, instance.jobs.is_none());
        instance.running = before.saturating_sub(1);
        let group = self.group(key);
        group.running -= 1;
        match (ends, before > 1) {
            (true, true) => {}
            (true, false) => {
                self.draining_bytes -= bytes;
                self.ending_bytes += bytes;
            }
            (false, true) => {
                group.partly.remove(&(before, id));
                group.partly.insert((before - 1, id));
                self.give_up_slots(id, key);
            }
            (false, false) => {
                group.partly.remove(&(before, id));
                self.rest(id, key);
            }
        }
    }

    /// An instance that still runs calls takes no more, if another function has waited longer for its memory than
    /// anybody for its slots: one that always runs some would never let others in.
    fn give_up_slots(&mut self, id: Id, key: &VersionKey) {
        let now = Instant::now();
        let oldest =
            self.oldest(key).map_or(Duration::ZERO, |arrived| now.saturating_duration_since(arrived));
        if self.gives_way(id, key, Some(oldest), now) {
            self.end(id);
        }
    }

    /// An instance has nothing to do: it serves who waits, gives way, or is kept for a while.
    pub(super) fn rest(&mut self, id: Id, key: &VersionKey) {
        let now = Instant::now();
        let live = self.known.get(key).is_some_and(|known| known.live) && !self.closing;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        instance.state = InstanceState::Idle;
        let group = self.group(key);
        group.drop_cancelled();
        let own_oldest = group.waiting.front().map(|job| now.saturating_duration_since(job.arrived));
        group.idle.push(id);
        if own_oldest.is_none() && !live {
            return self.end(id);
        }
        let (kept, priority) = self.known.get(key).map_or((Duration::ZERO, 0.0), |known| {
            let memory = memory_bytes(&known.version);
            let history = &known.history;
            (
                keep_alive(history.cold, &history.arrivals),
                self.evictions.priority(history.calls, history.cold, memory),
            )
        });
        let timer = self.timers.set(now + kept, Timer::KeepAlive(id));
        self.keep_no_longer(key, kept);
        if let Some(instance) = self.instances.get_mut(&id) {
            instance.timer = Some(timer);
            instance.idle_since = now;
            instance.priority = priority;
        }
        if self.gives_way(id, key, own_oldest, now) {
            self.end(id);
            return;
        }
        self.scale(key);
    }

    /// What is known of a function may have come after an instance of it went to rest: once its keep-alive is clearly
    /// shorter, those that rest already are held to it too.
    fn keep_no_longer(&mut self, key: &VersionKey, kept: Duration) {
        let group = self.group(key);
        let shorter = kept < group.kept / 4 * 3;
        if shorter || kept > group.kept {
            group.kept = kept;
        }
        if !shorter {
            return;
        }
        for id in group.idle.clone() {
            let Some(instance) = self.instances.get_mut(&id) else { continue };
            let due = instance.idle_since + kept;
            if instance.timer.is_some_and(|(at, _)| due < at) {
                self.timers.cancel(instance.timer.take());
                instance.timer = Some(self.timers.set(due, Timer::KeepAlive(id)));
            }
        }
    }

    /// Serves the waiting calls of a version's function, of all its versions: hands them to idle instances, and
    /// starts what is wanted beyond.
    pub(super) fn scale(&mut self, key: &VersionKey) {
        let now = Instant::now();
        self.keep_warm(key);
        let all: Vec<_> = self.siblings(key).map(|(key, _)| key.clone()).collect();
        for key in &all {
            self.group(key).drop_cancelled();
        }
        // Those that find no memory now.
        let mut roomless = Vec::new();
        while let Some(turn) = self.turn(key, now, &roomless) {
            match turn {
                Turn::Run(key) => self.hand_over(&key),
                Turn::Start(key) => {
                    if !self.start(&key) {
                        roomless.push(key);
                    }
                }
            }
        }
        for key in all {
            if let Some(refusal) = self.known.get(&key).and_then(|known| known.refusal(now)) {
                self.refuse_hopeless(&key, &refusal);
            }
            self.set_queue_timer(&key);
            self.tidy(&key);
        }
    }

    /// What to do next for a function.
    fn turn(&mut self, key: &VersionKey, now: Instant, roomless: &[VersionKey]) -> Option<Turn<VersionKey>> {
        let claimed: u32 = self.siblings(key).map(|(_, group)| group.claimed()).sum();
        let contenders = self.siblings(key).filter_map(|(key, group)| {
            let known = self.known.get(key)?;
            let load = group.load();
            Some(Contender {
                version: key,
                load: Load { elsewhere: claimed - group.claimed(), ..load },
                scaling: &known.scaling,
                waited: now.saturating_duration_since(group.next_arrived()?),
                may_start: !self.closing && !roomless.contains(key) && known.refusal(now).is_none(),
            })
        });
        match rouse_scheduler::turn(contenders)? {
            Turn::Run(key) => Some(Turn::Run(key.clone())),
            Turn::Start(key) => Some(Turn::Start(key.clone())),
        }
    }

    /// Hands the first waiting call of a version to an instance of it with a free slot.
    fn hand_over(&mut self, key: &VersionKey) {
        let group = self.group(key);
        group.drop_cancelled();
        if group.waiting.is_empty() {
            return;
        }
        let free = group.partly.pop_last().or_else(|| group.idle.pop().map(|id| (0, id)));
        let (Some((before, id)), Some(job)) = (free, group.waiting.pop_front()) else { return };
        group.running += 1;
        if before + 1 < group.slots {
            group.partly.insert((before + 1, id));
        }
        let Some(instance) = self.instances.get_mut(&id) else { return };
        self.timers.cancel(instance.timer.take());
        instance.state = InstanceState::Busy;
        instance.running = before + 1;
        let sent = match &instance.jobs {
            Some(jobs) => jobs.try_send(job).map_err(mpsc::error::TrySendError::into_inner),
            None => Err(job),
        };
        if let Err(job) = sent {
            // Its task is about to tell that it ends; the call waits for another.
            self.group(key).wait_again(job);
            self.end(id);
            self.done(id, key);
        }
    }

    /// Starts an instance of a version, if not too many start already and there is memory for it; otherwise it waits.
    pub(super) fn start(&mut self, key: &VersionKey) -> bool {
        let Some(known) = self.known.get(key) else { return false };
        let version = Arc::clone(&known.version);
        if !self.starts.has_room() {
            self.starts.wait(key);
            return false;
        }
        let memory_bytes = memory_bytes(&version);
        if !self.make_room(memory_bytes) {
            if !self.starved.contains(key) {
                self.starved.push_back(key.clone());
            }
            return false;
        }
        self.next += 1;
        let id = self.next;
        self.starts.begin(id, self.timers.set(Instant::now() + START_HOLD, Timer::Start(id)));
        let name = format!("{}-{id:x}", self.prefix);
        // A job is sent only into a free slot, so that no more are ever on their way.
        let (jobs, receiver) = mpsc::channel(slots(&version) as usize);
        self.reserved_bytes += memory_bytes;
        self.group(key).starting += 1;
        self.instances.insert(
            id,
            Instance {
                key: key.clone(),
                version: Arc::clone(&version),
                name: name.clone(),
                state: InstanceState::Starting,
                running: 0,
                jobs: Some(jobs),
                started: self.around.clock.now(),
                memory_bytes,
                invocations: 0,
                stats: Stats::default(),
                timer: None,
                idle_since: Instant::now(),
                priority: 0.0,
            },
        );
        self.orders.push(Order { id, name, version, jobs: receiver });
        true
    }

    /// Wishes an instance to end: it takes no more calls. Its memory is free when it is gone.
    pub(super) fn end(&mut self, id: Id) {
        let Some(instance) = self.instances.get_mut(&id) else { return };
        if instance.jobs.take().is_none() {
            return;
        }
        self.timers.cancel(instance.timer.take());
        let (key, state, running) = (instance.key.clone(), instance.state, instance.running);
        let bytes = instance.memory_bytes;
        *(if running > 0 { &mut self.draining_bytes } else { &mut self.ending_bytes }) += bytes;
        let group = self.group(&key);
        if state == InstanceState::Starting {
            group.starting -= 1;
            return;
        }
        group.serving -= 1;
        if running > 0 {
            group.partly.remove(&(running, id));
        } else {
            group.idle.retain(|&idle| idle != id);
        }
    }

    /// Forgets an instance that is gone.
    pub(super) fn remove(&mut self, id: Id) {
        self.end(id);
        self.start_over(id);
        if let Some(instance) = self.instances.remove(&id) {
            let bytes = instance.memory_bytes;
            self.reserved_bytes -= bytes;
            *(if instance.running > 0 { &mut self.draining_bytes } else { &mut self.ending_bytes }) -= bytes;
            // Its task is gone, and took them with it.
            self.group(&instance.key).running -= instance.running;
        }
    }

    pub(super) fn end_idle(&mut self, key: &VersionKey) {
        let idle = self.groups.get(key).map(|group| group.idle.clone()).unwrap_or_default();
        for id in idle {
            self.end(id);
        }
        self.tidy(key);
    }
}
