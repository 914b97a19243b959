//! A call inside the node, and what comes back.

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, Version};
use http_body::{Body as _, Frame};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use rouse_contract::lambda::http_answer::Head;
use rouse_quota::Leave;
use rouse_types::{Invocation, OutcomeHead, Refusal, Timing, function::VersionKey};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Duration, Instant},
};

/// A call that waits or runs. Whoever holds it answers; dropping it unanswered is a fault of ours.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) invocation: Invocation,
    pub(crate) request: Request,
    /// When it reached this node.
    pub(crate) arrived: Instant,
    /// The time that it took until then.
    pub(crate) before: Duration,
    /// Instances that were found gone before they began it.
    pub(crate) tries: u32,
    /// What it takes of its tenant's quotas, until it has ended and its record is written.
    pub(crate) leave: Leave,
    /// Closed when the caller is gone.
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// The caller's request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: RequestBody,
    /// The connection, if it asks to become one of another protocol.
    pub(crate) upgrade: Option<OnUpgrade>,
}

/// The body of the caller's request.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// Read already: Lambda's events are handed over whole.
    Whole(Bytes),
    /// Read as fast as the code takes it.
    Stream(Incoming),
}

impl RequestBody {
    /// Its length, as far as it is known beforehand.
    pub(crate) fn announced(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Stream(body) => body.size_hint().lower(),
        }
    }

    /// The whole of it, if it was read.
    pub(crate) fn whole(&self) -> Bytes {
        match self {
            Self::Whole(bytes) => bytes.clone(),
            Self::Stream(_) => Bytes::new(),
        }
    }
}

impl Job {
    pub(crate) fn key(&self) -> VersionKey {
        key(&self.invocation)
    }
}

/// The version that an invocation is for.
pub(crate) fn key(invocation: &Invocation) -> VersionKey {
    VersionKey {
        tenant: invocation.tenant.clone(),
        function: invocation.function.clone(),
        number: invocation.version,
    }
}

/// What comes of a call.
#[derive(Debug)]
pub(crate) enum Reply {
    /// No code ran.
    Refused(Refusal),
    /// It ended without an answer.
    Failed(Refusal, OutcomeHead),
    /// It was answered.
    Whole(Head, Bytes, OutcomeHead),
    /// It is being answered: first the parts of the body, then how it ended.
    Streamed(Head, mpsc::Receiver<Frame<Bytes>>, oneshot::Receiver<OutcomeHead>),
    /// The connection becomes one of another protocol.
    Switched(Head),
}

/// When an instance was begun, made and ready: from these the cold part of a call's time is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Milestones {
    /// The start began.
    pub(crate) begun: Instant,
    /// The sandbox was there, its code began.
    pub(crate) made: Instant,
    /// The code asked for work.
    pub(crate) ready: Instant,
}

impl Milestones {
    /// Splits the time from a job's arrival to `handed`, so that the parts sum to the whole. Of a start that was
    /// under way already, it counts only what the call waited for.
    pub(crate) fn timing(&self, job: &Job, handed: Instant) -> Timing {
        let overlap = |from: Instant, to: Instant| to.saturating_duration_since(from.max(job.arrived));
        let (start, init) = (overlap(self.begun, self.made), overlap(self.made, self.ready));
        let waited = job.before + handed.saturating_duration_since(job.arrived);
        Timing {
            queue_us: micros(waited.saturating_sub(start).saturating_sub(init)),
            start_us: micros(start),
            init_us: micros(init),
            run_us: 0,
        }
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Job {
    /// Answers that no code ran.
    pub(crate) fn refuse(self, refusal: Refusal) {
        // Nobody may be waiting any more.
        drop(self.reply.send(Reply::Refused(refusal)));
    }
}
