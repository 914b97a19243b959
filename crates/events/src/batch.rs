//! Drains a queue that people made, for the function whose trigger names it: batch by batch, as many at once as the
//! trigger says, and none while the queue is empty.
//!
//! ```text
//!  lease ─▶ (wait for the batch to fill) ─▶ call ─┬─▶ done: the messages go
//!                                                 ├─▶ some failed: those come back later, the others go
//!                                                 └─▶ failed: all come back later, or are dead letters
//! ```

use std::{sync::Arc, time::Duration};

use rouse_store::queues::{End, Lease, Leased};
use rouse_triggers::{
    partial::{self, Item, Order},
    retry::{self, Failure, History, Next},
    shape::{self, Place},
};
use rouse_types::{
    Chain, Contract, Event, EventCall, FunctionVersion, InvocationId, Trigger,
    trigger::{On, QueueSource},
};
use serde::{Deserialize, Serialize};
use tokio::{sync::OwnedSemaphorePermit, task::JoinSet};

use crate::{
    consumer::{STORE_PAUSE, VISIBILITY, places, wait},
    decide::{self, Verdict},
    deliver::{self, Reply},
    dispatch::{Events, Poke},
    queue,
    record::{ACCOUNT, REGION},
};

/// What is said of a message beside its body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MessageHead {
    /// The functions that were passed on the way to it.
    #[serde(default, skip_serializing_if = "Chain::is_empty")]
    pub(crate) chain: Chain,
    /// Its id for deduplication, in a FIFO queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deduplication: Option<String>,
}

/// Who drains a queue.
struct Drain {
    version: Arc<FunctionVersion>,
    trigger: Trigger,
    source: QueueSource,
}

fn drain(events: &Events, name: &str) -> Option<Drain> {
    let (tenant, queue) = queue::of_people(name)?;
    let mut all = events.table.triggers().into_iter().filter_map(|(version, trigger)| match &trigger.on {
        On::Queue(source) if version.tenant == tenant && source.queue == queue => {
            let source = source.clone();
            Some(Drain { version, trigger, source })
        }
        _ => None,
    });
    let first = all.next();
    if let (Some(first), Some(other)) = (&first, all.next()) {
        tracing::warn!(
            queue = name, function = %first.version.function, other = %other.version.function,
            "a queue has two triggers; the first function gets its messages"
        );
    }
    first
}

/// Whether a function's trigger names this queue.
pub(crate) fn is_drained(events: &Events, name: &str) -> bool {
    drain(events, name).is_some()
}

/// Runs until the queue is empty, nobody drains it, or all is to stop.
pub(crate) async fn run(events: Arc<Events>, name: String, poke: Arc<Poke>) {
    let mut calls: JoinSet<()> = JoinSet::new();
    while !events.stop.is_cancelled() {
        while calls.try_join_next().is_some() {}
        let Some(drain) = drain(&events, &name) else {
            // The trigger has gone; its messages wait for another.
            while calls.join_next().await.is_some() {}
            if events.retire(&name, &poke) {
                return;
            }
            continue;
        };
        if calls.len() >= drain.source.concurrency_max.max(1) as usize {
            tokio::select! {
                _ = calls.join_next() => {}
                () = events.stop.cancelled() => {}
            }
            continue;
        }
        let Some(place) = places(&events, 1).await else { break };
        match gather(&events, &name, &drain).await {
            Ok(batch) if batch.is_empty() => {
                drop(place);
                if !wait(&events, &name, &poke, &mut calls, |()| ()).await {
                    return;
                }
            }
            Ok(batch) => {
                let events = Arc::clone(&events);
                calls.spawn(async move { Box::pin(call(&events, &drain, batch, place)).await });
            }
            Err(error) => {
                drop(place);
                tracing::error!(
                    queue = name,
                    error = &error as &dyn std::error::Error,
                    "a queue cannot be read"
                );
                tokio::time::sleep(STORE_PAUSE).await;
            }
        }
    }
    while calls.join_next().await.is_some() {}
}

/// Leases a batch; once there is one message, waits for the rest of it, for the trigger's window at most.
async fn gather(events: &Events, name: &str, drain: &Drain) -> Result<Vec<Leased>, rouse_store::Error> {
    /// How often it is looked for more within the window.
    const LOOK: Duration = Duration::from_millis(50);
    let most = drain.source.batch_size.max(1) as usize;
    let window = Duration::from_millis(drain.source.batch_window_ms);
    let visibility = VISIBILITY + window;
    let mut batch = events.queues.lease(name, most, visibility).await?;
    let until = tokio::time::Instant::now() + window;
    while !batch.is_empty() && batch.len() < most && tokio::time::Instant::now() < until {
        if events.stop.run_until_cancelled(tokio::time::sleep(LOOK.min(window))).await.is_none() {
            break;
        }
        batch.extend(events.queues.lease(name, most - batch.len(), visibility).await?);
    }
    Ok(batch)
}

/// Calls the function with a batch, and ends the messages' leases as it went.
async fn call(events: &Arc<Events>, drain: &Drain, batch: Vec<Leased>, place: Vec<OwnedSemaphorePermit>) {
    let version = &drain.version;
    let id = InvocationId::new();
    let (call, body) = shaped(drain, &batch);
    let heads = batch.iter().map(|message| serde_json::from_slice(&message.head).unwrap_or_default());
    // Of the chains that meet here, the one that passed this function most often decides whether it is a loop.
    let chains = heads.map(|head: MessageHead| head.chain);
    let chain = chains.max_by_key(|chain| chain.passes(&version.function)).unwrap_or_default();
    let event = Event {
        id,
        tenant: version.tenant.clone(),
        function: version.function.clone(),
        alias: None,
        accepted: events.config.clock.now(),
        call,
        caller: None,
        chain,
        idempotency_key: None,
        ordering_key: None,
        trigger: Some(format!("queue:{}", drain.trigger.name)),
    };
    let leases: Vec<Lease> = batch.iter().map(|message| message.lease).collect();
    let (verdict, reply) = if event.chain.loops(&event.function) {
        tracing::warn!(function = %event.function, chain = %event.chain, "a loop was stopped");
        let reason = format!("a loop: its chain is {}", event.chain);
        (Verdict::failed(Failure::Permanent, reason), Reply::default())
    } else {
        let attempt = batch.iter().map(|message| message.lease.attempt).max().unwrap_or(1);
        match deliver::attempt(events, &event, &leases, attempt, body.into()).await {
            Some(answered) => answered,
            None => return,
        }
    };
    drop(place);
    let ends = ends(events, drain, &batch, id, verdict, &reply);
    for (lease, how) in ends {
        deliver::end(events, lease, how, Vec::new()).await;
    }
}

/// How the lease of each message ends.
fn ends(
    events: &Events,
    drain: &Drain,
    batch: &[Leased],
    id: InvocationId,
    verdict: Verdict,
    reply: &Reply,
) -> Vec<(Lease, End)> {
    let (failed, failure, reason, retry_after) = match verdict {
        Verdict::Well => {
            let items: Vec<Item<'_>> = batch
                .iter()
                .map(|message| Item {
                    id: &message.name,
                    group: message.group.as_deref().unwrap_or_default(),
                })
                .collect();
            let order = if drain.source.queue.ends_with(".fifo") { Order::Groups } else { Order::None };
            // Servers and components tell by their status alone.
            let told = match drain.version.contract {
                Contract::Lambda => partial::read(&reply.body, &items, order),
                Contract::Component | Contract::Http => partial::Verdict::Done,
            };
            match told {
                partial::Verdict::Done => (Vec::new(), Failure::Function, String::new(), None),
                partial::Verdict::Some(failed) => {
                    let reason = "the function said that it failed".to_owned();
                    (failed, Failure::Function, reason, None)
                }
                partial::Verdict::All(fault) => {
                    ((0..batch.len()).collect(), Failure::Function, fault.to_string(), None)
                }
            }
        }
        Verdict::Failed { failure, reason, retry_after } => {
            ((0..batch.len()).collect(), failure, reason, retry_after)
        }
    };
    let outcome = if failed.is_empty() { "done" } else { "batch-failed" };
    events.metrics.attempt(outcome);
    let now = events.config.clock.now();
    let policy = decide::policy(&drain.version.events);
    let end = |(index, message): (usize, &Leased)| {
        let lease = message.lease;
        if !failed.contains(&index) {
            return (lease, End::Done);
        }
        let put_off = lease.number.saturating_sub(u64::from(lease.attempt));
        let history = History {
            accepted: message.enqueued,
            attempts: lease.attempt.saturating_sub(1),
            put_off: u32::try_from(put_off).unwrap_or(u32::MAX - 1),
        };
        let chance = decide::chance(id, lease.id.0);
        let how = match retry::next(&policy, history, failure, retry_after, now, chance) {
            Next::Again { at, .. } if failure.is_counted() => {
                End::Failed { delay: at.since(now), reason: reason.clone() }
            }
            Next::Again { at, .. } => End::Released { delay: at.since(now).max(deliver::PUT_OFF_MIN) },
            Next::GiveUp(..) => End::Dead { reason: reason.clone() },
        };
        (lease, how)
    };
    batch.iter().enumerate().map(end).collect()
}

/// A batch in the shape that code of the version's contract expects.
fn shaped(drain: &Drain, batch: &[Leased]) -> (EventCall, Vec<u8>) {
    let tenant = drain.version.tenant.as_str();
    match drain.version.contract {
        Contract::Lambda => {
            let heads: Vec<MessageHead> = batch
                .iter()
                .map(|message| serde_json::from_slice(&message.head).unwrap_or_default())
                .collect();
            let bodies: Vec<_> =
                batch.iter().map(|message| String::from_utf8_lossy(&message.payload)).collect();
            let receipts: Vec<String> =
                batch.iter().map(|message| message.lease.number.to_string()).collect();
            let messages = batch.iter().enumerate().map(|(at, message)| shape::queue::Message {
                id: &message.name,
                receipt: &receipts[at],
                body: &bodies[at],
                attempt: message.lease.attempt,
                sent: message.enqueued,
                first_received: message.enqueued,
                sender: tenant,
                order: message.group.as_deref().map(|group| shape::queue::Order {
                    group,
                    deduplication: heads[at].deduplication.as_deref().unwrap_or(&message.name),
                    sequence: message.lease.id.0,
                }),
                attributes: Default::default(),
            });
            let place = Place { region: REGION, account: ACCOUNT };
            let messages: Vec<_> = messages.collect();
            let records = shape::queue::records(place, &drain.source.queue, &messages);
            let body = serde_json::to_vec(&records).unwrap_or_default();
            (EventCall::Invoke { content_type: Some("application/json".to_owned()) }, body)
        }
        Contract::Component | Contract::Http => {
            let event = |message: &Leased| {
                shape::google::published(&shape::google::Message {
                    id: &message.name,
                    project: tenant,
                    topic: &drain.source.queue,
                    subscription: &drain.trigger.name,
                    data: &message.payload,
                    attributes: Default::default(),
                    ordering_key: message.group.as_deref(),
                    published: message.enqueued,
                })
            };
            match batch {
                [only] => crate::shape::post(event(only)),
                many => {
                    let events: Vec<_> = many.iter().filter_map(|message| event(message).ok()).collect();
                    crate::shape::batch(&events)
                }
            }
        }
    }
}
