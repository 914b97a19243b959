//! How the lease of each message of a batch ends, and who is told of it.

use std::{sync::Arc, time::Duration};

use rouse_store::queues::{End, Lease, Leased, NewMessage};
use rouse_triggers::{
    partial::{self, Item, Order},
    retry::{self, Failure, History, Next, Policy, Reason},
};
use rouse_types::Event;

use super::drain::Drain;
use crate::{
    decide::{self, Verdict},
    deliver::{self, Reply},
    dispatch::Events,
    record::{self, Told},
    settings::Kept,
};

/// A call that was made with a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Called<'a> {
    pub(super) drain: &'a Drain,
    pub(super) kept: &'a Kept,
    pub(super) event: &'a Event,
    pub(super) body: &'a [u8],
    pub(super) reply: &'a Reply,
}

/// What failed of a batch, and why.
struct Failed {
    /// By index.
    which: Vec<usize>,
    failure: Failure,
    reason: String,
    retry_after: Option<Duration>,
}

/// A lease, how it ends, and the messages that are sent with its end.
type Ended = (Lease, End, Vec<(String, NewMessage)>);

/// How each message's lease ends.
pub(super) fn of(events: &Arc<Events>, called: Called<'_>, batch: &[Leased], verdict: Verdict) -> Vec<Ended> {
    let failed = failed(called, batch, verdict);
    events.metrics.attempt(if failed.which.is_empty() { "done" } else { "batch-failed" });
    let now = events.config.clock.now();
    let settings = &called.drain.version.events;
    let attempts = batch.iter().map(|message| message.lease.attempt).max().unwrap_or(1);
    // The outcome of the call is told with the first message that is done.
    let told =
        Told { event: called.event, payload: called.body, reply: called.reply, attempts, given_up: None };
    let mut success = record::message(settings.on_success.as_ref(), told, now);
    let end = |(index, message): (usize, &Leased)| {
        let lease = message.lease;
        if !failed.which.contains(&index) {
            return (lease, End::Done, Vec::from_iter(success.take()));
        }
        let (how, why) = again(called, &failed, message, now);
        let then = why.and_then(|why| {
            let told =
                Told { payload: &message.payload, attempts: lease.attempt, given_up: Some(why), ..told };
            record::message(settings.on_failure.as_ref(), told, now)
        });
        (lease, how, Vec::from_iter(then))
    };
    batch.iter().enumerate().map(end).collect()
}

/// What becomes of a message that failed, and why it is given up, if it is.
fn again(
    called: Called<'_>,
    failed: &Failed,
    message: &Leased,
    now: rouse_types::Timestamp,
) -> (End, Option<Reason>) {
    let lease = message.lease;
    let put_off = lease.number.saturating_sub(u64::from(lease.attempt));
    let history = History {
        accepted: message.enqueued,
        attempts: lease.attempt.saturating_sub(1),
        put_off: u32::try_from(put_off).unwrap_or(u32::MAX - 1),
    };
    let chance = decide::chance(called.event.id, lease.id.0);
    let policy = policy(called);
    match retry::next(&policy, history, failed.failure, failed.retry_after, now, chance) {
        Next::Again { at, .. } if failed.failure.is_counted() => {
            // What a mapping drains comes back as it would for any receiver: when its visibility timeout is over.
            let delay = match called.drain.arn {
                Some(_) => Duration::from_millis(called.kept.settings.visibility_ms),
                None => at.since(now),
            };
            (End::Failed { delay, reason: failed.reason.clone() }, None)
        }
        Next::Again { at, .. } => (End::Released { delay: at.since(now).max(deliver::PUT_OFF_MIN) }, None),
        Next::GiveUp(why, _) => (End::Dead { reason: failed.reason.clone() }, Some(why)),
    }
}

/// How often messages of a batch are tried: as their queue says, or else their function. Those of a queue that a mapping
/// drains are tried until they are too old, as by AWS Lambda.
fn policy(called: Called<'_>) -> Policy {
    let receives_max = called.kept.settings.dead_letters.as_ref().map(|to| to.receives_max);
    let policy = decide::policy(&called.drain.version.events);
    match (called.drain.arn.is_some(), receives_max) {
        (true, most) => Policy {
            attempts_max: most.unwrap_or(u32::MAX),
            age_max: Duration::from_millis(called.kept.settings.retention_ms.unwrap_or(u64::MAX / 2_000)),
            ..policy
        },
        (false, Some(attempts_max)) => Policy { attempts_max, ..policy },
        (false, None) => policy,
    }
}

/// What failed of a batch, by the function's answer.
fn failed(called: Called<'_>, batch: &[Leased], verdict: Verdict) -> Failed {
    let all = || (0..batch.len()).collect();
    let of = |which: Vec<usize>, reason: String| Failed {
        which,
        failure: Failure::Function,
        reason,
        retry_after: None,
    };
    match verdict {
        Verdict::Well if !called.drain.partial => of(Vec::new(), String::new()),
        Verdict::Well => {
            let items = batch.iter().map(|message| Item {
                id: &message.name,
                group: message.group.as_deref().unwrap_or_default(),
            });
            let order = if called.drain.name.ends_with(".fifo") { Order::Groups } else { Order::None };
            match partial::read(&called.reply.body, &items.collect::<Vec<_>>(), order) {
                partial::Verdict::Done => of(Vec::new(), String::new()),
                partial::Verdict::Some(failed) => of(failed, "the function said that it failed".to_owned()),
                partial::Verdict::All(fault) => of(all(), fault.to_string()),
            }
        }
        Verdict::Failed { failure, reason, retry_after } => {
            Failed { which: all(), failure, reason, retry_after }
        }
    }
}
