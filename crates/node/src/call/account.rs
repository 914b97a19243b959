//! The record of a call: its time, its share of the instance's CPU time, what is billed.
//!
//! It is written before the answer is given, so that no answered call goes unrecorded.

use std::sync::PoisonError;

use rouse_sandbox::{Sandbox, Stats};
use rouse_types::{FunctionVersion, Outcome, OutcomeHead, Timing, Usage};
use tokio::time::Instant;

use super::{Ended, Fate, Place};
use crate::job::{Job, micros};

/// The record of a call that runs.
pub(super) struct Account<'a, S> {
    pub(super) usage: Usage,
    handed: Instant,
    pub(super) place: &'a Place<S>,
}

/// What a closed record says.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) head: OutcomeHead,
    /// What the instance had used then.
    pub(super) stats: Stats,
}

impl Closed {
    pub(super) fn ended(self, fate: Fate) -> Ended {
        Ended { fate, stats: self.stats }
    }
}

impl<'a, S: Sandbox> Account<'a, S> {
    /// Opens the record of a job that is handed over now.
    pub(super) fn open(place: &'a Place<S>, job: &Job) -> Self {
        let handed = Instant::now();
        let usage = usage(job, &place.version, place.milestones.timing(job, handed));
        let mut shares = place.shares.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that the figures come in their order.
        shares.begin(usage.id, place.worker.sandbox().stats().cpu_us, usage.cold);
        Self { usage, handed, place }
    }

    /// Leaves no record: the code has seen nothing of the call.
    pub(super) fn forget(self) {
        let place = self.place;
        place.worker.end_log(self.usage.id);
        let mut shares = place.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.end(self.usage.id, place.worker.sandbox().stats().cpu_us);
    }

    /// Ends the call's log, closes the record and journals it.
    pub(super) fn close(mut self, outcome: Outcome) -> Closed {
        let place = self.place;
        place.worker.end_log(self.usage.id);
        self.usage.timing.run_us = micros(self.handed.elapsed());
        self.usage.billed_ms = place.version.billed_ms(&self.usage.timing);
        self.usage.outcome = outcome;
        let mut shares = place.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = place.worker.sandbox().stats();
        self.usage.cpu_us = shares.end(self.usage.id, stats.cpu_us);
        drop(shares);
        place.around.ended(&self.usage);
        Closed { head: place.around.head(&self.usage), stats }
    }
}

/// An empty record of a job.
pub(crate) fn usage(job: &Job, version: &FunctionVersion, timing: Timing) -> Usage {
    Usage {
        id: job.invocation.id,
        tenant: version.tenant.clone(),
        app: version.app.clone(),
        function: version.function.clone(),
        version: version.number,
        started: job.invocation.received,
        timing,
        billed_ms: 0,
        memory_mib: version.limits.memory_mib,
        cpu_us: 0,
        cold: timing.start_us + timing.init_us > 0,
        bytes_in: job.request.body.announced(),
        bytes_out: 0,
        outcome: Outcome::PlatformError,
        caller: job.invocation.caller,
    }
}
