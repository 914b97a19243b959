//! The calls that wait and are not served: their start failed, or their time is over.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rouse_types::{Code, Outcome, Refusal, function::VersionKey};
use tokio::time::Instant;

use super::{Pool, Timer};
use crate::{
    call,
    instance::StartFailure,
    job::{Job, Reply},
};

impl Pool {
    /// The one who waited longest is told; so are all, when no instance is left that could serve them: they would
    /// only start the same code in vain.
    pub(super) fn start_failed(&mut self, key: &VersionKey, failure: StartFailure) {
        let Some(version) = self.known.get(key).map(|known| Arc::clone(&known.version)) else { return };
        let now = Instant::now();
        if let Some(known) = self.known.get_mut(key) {
            let retry = known.start_failed(failure.milestones.begun, now, failure.refusal.clone());
            self.timers.set(retry, Timer::Retry(key.clone()));
        }
        let group = self.group(key);
        group.drop_cancelled();
        let alone = group.is_alone();
        let first = group.waiting.pop_front();
        let others = if alone { std::mem::take(&mut group.waiting) } else { VecDeque::new() };
        if let Some(job) = first {
            let timing = failure.milestones.timing(&job, Instant::now());
            let mut usage = call::usage(&job, &version, timing);
            (usage.cold, usage.cpu_us) = (true, failure.cpu_us);
            (usage.outcome, usage.billed_ms) = match (failure.ran, failure.out_of_memory) {
                (true, true) => (Outcome::OutOfMemory, version.billed_ms(&timing)),
                (true, false) => (Outcome::StartFailed, version.billed_ms(&timing)),
                (false, _) => (Outcome::PlatformError, 0),
            };
            self.around.ended(&usage);
            drop(job.reply.send(Reply::Failed(failure.refusal.clone(), self.around.head(&usage))));
        }
        for job in others {
            self.refuse(job, failure.refusal.clone());
        }
    }

    /// Refuses all that wait for a version that is not tried again yet, unless an instance of it is there.
    pub(super) fn refuse_hopeless(&mut self, key: &VersionKey, refusal: &Refusal) {
        let group = self.group(key);
        if group.is_alone() {
            for job in std::mem::take(&mut group.waiting) {
                self.refuse(job, refusal.clone());
            }
        }
    }

    /// Refuses those that have waited as long as they may.
    pub(super) fn expire(&mut self, key: &VersionKey, now: Instant) {
        let Some(known) = self.known.get(key) else { return };
        let version = Arc::clone(&known.version);
        let group = self.group(key);
        let at_most = group.wait_max(&version);
        group.queue_timer = None;
        let mut late = Vec::new();
        while group.waiting.front().is_some_and(|job| job.arrived + at_most <= now) {
            late.extend(group.waiting.pop_front());
        }
        for job in late {
            let text = format!("no instance of {key} became free within {} ms", at_most.as_millis());
            let refusal = Refusal::new(Code::CapacityExhausted, text).retry_after(Duration::from_secs(1));
            self.refuse(job, refusal.hint("raise `concurrency`, or give the node more memory"));
        }
        self.scale(key);
    }

    pub(super) fn set_queue_timer(&mut self, key: &VersionKey) {
        let Some(known) = self.known.get(key) else { return };
        let version = Arc::clone(&known.version);
        let Some(group) = self.groups.get_mut(key) else { return };
        let due = group.waiting.front().map(|job| job.arrived + group.wait_max(&version));
        if due == group.queue_timer.map(|(at, _)| at) {
            return;
        }
        self.timers.cancel(group.queue_timer.take());
        group.queue_timer = due.map(|at| self.timers.set(at, Timer::Queue(key.clone())));
    }

    pub(super) fn refuse(&self, job: Job, refusal: Refusal) {
        self.around.metrics.refused();
        job.refuse(refusal);
    }
}
