//! Drains a queue that people made, for the function that a trigger or a mapping names: batch by batch, as many at once as
//! it says, and none while the queue is empty.
//!
//! ```text
//!  lease ─▶ (wait for the batch to fill) ─▶ filter ─▶ call ─┬─▶ done: the messages go
//!                                                           ├─▶ some failed: those come back later, the others go
//!                                                           └─▶ failed: all come back later, or are dead letters
//! ```

mod drain;
mod ends;
mod shaped;

use std::{sync::Arc, time::Duration};

use rouse_store::queues::{End, Lease, Leased};
use rouse_triggers::retry::Failure;
use rouse_types::{Event, LambdaCall};
use tokio::{sync::OwnedSemaphorePermit, task::JoinSet};

pub(crate) use self::drain::is_drained;
use self::drain::{Drain, drain};
use crate::{
    consumer::{STORE_PAUSE, VISIBILITY, places, wait},
    decide::Verdict,
    deliver::{self, Reply},
    dispatch::{Events, Poke},
    messages::MessageHead,
    settings::Kept,
};

/// Bodies of a batch in bytes, of several messages: with escapes and what is said of each they stay below the 6 MiB that a
/// function takes.
const BATCH_BYTES_MAX: usize = 2 << 20;

/// Runs until the queue is empty, nobody drains it, or all is to stop.
pub(crate) async fn run(events: Arc<Events>, name: String, poke: Arc<Poke>) {
    let mut calls: JoinSet<()> = JoinSet::new();
    let pulls = events.pulls();
    while !pulls.is_cancelled() {
        while calls.try_join_next().is_some() {}
        let Some(drain) = drain(&events, &name).map(Arc::new) else {
            // The trigger has gone; its messages wait for another.
            while calls.join_next().await.is_some() {}
            if events.retire(&name, &poke) {
                return;
            }
            continue;
        };
        if calls.len() >= drain.concurrency_max.max(1) as usize {
            tokio::select! {
                _ = calls.join_next() => {}
                () = pulls.cancelled() => {}
            }
            continue;
        }
        let Some(place) = places(&events, 1, &pulls).await else { break };
        match gather(&events, &name, &drain).await {
            Ok((batch, _)) if batch.is_empty() => {
                drop(place);
                if !wait(&events, &name, &poke, &mut calls, |()| ()).await {
                    return;
                }
            }
            Ok((batch, kept)) => {
                let events = Arc::clone(&events);
                calls.spawn(async move { Box::pin(call(&events, &drain, &kept, batch, place)).await });
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
    events.dismiss(&name);
}

/// Leases a batch; once there is one message, waits for the rest of it, for the window at most. What the filters do not
/// take is done.
async fn gather(
    events: &Arc<Events>,
    name: &str,
    drain: &Drain,
) -> Result<(Vec<Leased>, Arc<Kept>), rouse_store::Error> {
    /// How often it is looked for more within the window.
    const LOOK: Duration = Duration::from_millis(50);
    let kept = events.kept(name).await?.unwrap_or_default();
    let most = drain.batch_size.max(1) as usize;
    let window = Duration::from_millis(drain.batch_window_ms);
    let visibility = VISIBILITY + window;
    loop {
        let mut batch = events.take(name, &kept, most, visibility, BATCH_BYTES_MAX).await?;
        let found = !batch.is_empty();
        let until = tokio::time::Instant::now() + window;
        while !batch.is_empty() && batch.len() < most && tokio::time::Instant::now() < until {
            if events.pulls().run_until_cancelled(tokio::time::sleep(LOOK.min(window))).await.is_none() {
                break;
            }
            let held: usize = batch.iter().map(|message| message.payload.len()).sum();
            let Some(room) = BATCH_BYTES_MAX.checked_sub(held).filter(|room| *room > 0) else { break };
            batch.extend(events.take(name, &kept, most - batch.len(), visibility, room).await?);
        }
        let (wanted, others): (Vec<_>, Vec<_>) = batch.into_iter().partition(|message| drain.wants(message));
        if !others.is_empty() {
            events.metrics.attempt("filtered");
            events.queues.ack(others.iter().map(|message| message.lease).collect()).await?;
        }
        if !wanted.is_empty() || !found || events.pulls().is_cancelled() {
            return Ok((wanted, kept));
        }
    }
}

/// Calls the function with a batch, and ends the messages' leases as it went.
async fn call(
    events: &Arc<Events>,
    drain: &Drain,
    kept: &Kept,
    batch: Vec<Leased>,
    place: Vec<OwnedSemaphorePermit>,
) {
    let version = &drain.version;
    let (call, body) = shaped::batch(events, drain, &batch);
    let body = bytes::Bytes::from(body);
    // Of the chains that meet here, the one that passed this function most often decides whether it is a loop.
    let chains = batch.iter().map(|message| MessageHead::of(message).chain);
    let chain = chains.max_by_key(|chain| chain.passes(&version.function)).unwrap_or_default();
    let event = Event {
        alias: drain.alias.clone(),
        chain,
        trigger: Some(drain.label.clone()),
        lambda: drain.arn.clone().map(|arn| LambdaCall { arn, client_context: None }),
        ..Event::new(&version.tenant, &version.function, call, events.config.clock.now())
    };
    let leases: Vec<Lease> = batch.iter().map(|message| message.lease).collect();
    let (verdict, reply) = if event.chain.loops(&event.function) {
        tracing::warn!(function = %event.function, chain = %event.chain, "a loop was stopped");
        let reason = format!("a loop: its chain is {}", event.chain);
        (Verdict::failed(Failure::Permanent, reason), Reply::default())
    } else {
        let attempt = batch.iter().map(|message| message.lease.attempt).max().unwrap_or(1);
        match deliver::attempt(events, &event, &leases, attempt, body.clone()).await {
            Some(answered) => answered,
            None => return,
        }
    };
    drop(place);
    let called = ends::Called { drain, kept, event: &event, body: &body, reply: &reply };
    let mut died = false;
    for (lease, how, then) in ends::of(events, called, &batch, verdict) {
        died |= matches!(how, End::Dead { .. });
        deliver::end(events, lease, how, then).await;
    }
    if died {
        events.poke_dead(&drain.queue, kept);
    }
    // What is left may be what someone waits for.
    events.arrivals.tell(&drain.queue);
}
