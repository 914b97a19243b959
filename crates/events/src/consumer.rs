//! Drains one queue: as many deliveries at once as its function takes.
//!
//! ```text
//!  lease ─▶ deliver … ─▶ lease ─▶ … ─▶ nothing there ─▶ sleep until the next is due, or a poke
//!                                         └─▶ nothing at all: end
//! ```

use std::{sync::Arc, time::Duration};

use rouse_store::queues::Leased;
use tokio::{sync::OwnedSemaphorePermit, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    deliver,
    dispatch::{Events, Poke},
    queue,
};

/// How long a message is held before it must be held on to. A crash does not wait for it: see `Queues::reclaim`.
pub(crate) const VISIBILITY: Duration = Duration::from_secs(120);
/// Messages of one lease: bounds what waits in memory.
const LEASE_MAX: usize = 32;
/// The longest sleep: the wall clock, by which messages become due, may jump.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// The pause after the store failed.
pub(crate) const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Deliveries at once for a function that is not there (any more), which only find that out; and to topics and URLs.
const WIDTH_UNKNOWN: usize = 4;

/// What a delivery tells of the function's capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Felt {
    /// The function took it.
    Room,
    /// There was no room for it.
    Throttled,
}

/// Runs until the queue is empty, or all is to stop.
pub(crate) async fn run(events: Arc<Events>, queue: String, poke: Arc<Poke>) {
    let mut deliveries: JoinSet<Felt> = JoinSet::new();
    // Grows by one with each delivery that found room, and is halved by one that did not.
    let mut width = usize::MAX;
    let pulls = events.pulls();
    while !pulls.is_cancelled() {
        let most = width_max(&events, &queue);
        while let Some(felt) = deliveries.try_join_next() {
            width = adapt(width, felt.unwrap_or(Felt::Room));
        }
        width = width.clamp(1, most);
        let free = width.saturating_sub(deliveries.len()).min(LEASE_MAX);
        if free == 0 {
            tokio::select! {
                Some(felt) = deliveries.join_next() => width = adapt(width, felt.unwrap_or(Felt::Room)),
                () = pulls.cancelled() => {}
            }
            continue;
        }
        // Places first, so that what is leased is delivered at once.
        let Some(places) = places(&events, free, &pulls).await else { break };
        let leased = events.queues.lease(&queue, places.len(), VISIBILITY).await;
        match leased {
            Ok(leased) if !leased.is_empty() => start(&events, &mut deliveries, leased, places),
            Ok(_) => {
                drop(places);
                if !wait(&events, &queue, &poke, &mut deliveries, |felt| width = adapt(width, felt)).await {
                    return;
                }
            }
            Err(error) => {
                drop(places);
                tracing::error!(queue, error = &error as &dyn std::error::Error, "a queue cannot be read");
                tokio::time::sleep(STORE_PAUSE).await;
            }
        }
    }
    while deliveries.join_next().await.is_some() {}
    events.dismiss(&queue);
}

fn adapt(width: usize, felt: Felt) -> usize {
    match felt {
        Felt::Room => width.saturating_add(1),
        Felt::Throttled => (width / 2).max(1),
    }
}

fn width_max(events: &Events, queue: &str) -> usize {
    let version = queue::of_function(queue)
        .and_then(|(tenant, function)| events.table.version(&tenant, &function, None));
    version.map_or(WIDTH_UNKNOWN, |version| version.scaling.concurrency_max.max(1) as usize)
}

/// One place at least, and as many more as are free at once.
pub(crate) async fn places(
    events: &Events,
    most: usize,
    pulls: &CancellationToken,
) -> Option<Vec<OwnedSemaphorePermit>> {
    let first = tokio::select! {
        first = Arc::clone(&events.places).acquire_owned() => first.ok()?,
        () = pulls.cancelled() => return None,
    };
    let mut places = vec![first];
    while places.len() < most
        && let Ok(place) = Arc::clone(&events.places).try_acquire_owned()
    {
        places.push(place);
    }
    Some(places)
}

fn start(
    events: &Arc<Events>,
    deliveries: &mut JoinSet<Felt>,
    leased: Vec<Leased>,
    places: Vec<OwnedSemaphorePermit>,
) {
    for (message, place) in leased.into_iter().zip(places) {
        let events = Arc::clone(events);
        deliveries.spawn(async move {
            let felt = Box::pin(deliver::run(&events, message)).await;
            drop(place);
            felt
        });
    }
}

/// Waits for something to do, and gives what ended to `ended`. Tells whether to go on: not when the queue is empty.
pub(crate) async fn wait<T: Send + 'static>(
    events: &Arc<Events>,
    queue: &str,
    poke: &Poke,
    under_way: &mut JoinSet<T>,
    ended: impl FnOnce(T),
) -> bool {
    let next = match events.queues.next_ready(queue).await {
        Ok(next) => next,
        Err(error) => {
            tracing::error!(queue, error = &error as &dyn std::error::Error, "a queue cannot be read");
            tokio::time::sleep(STORE_PAUSE).await;
            return true;
        }
    };
    if next.is_none() && under_way.is_empty() {
        return !events.retire(queue, poke);
    }
    let now = events.config.clock.now();
    let pulls = events.pulls();
    let sleep = next.map_or(SLEEP_MAX, |at| at.since(now).min(SLEEP_MAX));
    tokio::select! {
        Some(Ok(one)) = under_way.join_next() => ended(one),
        () = poke.0.notified() => {}
        () = tokio::time::sleep(sleep) => {}
        () = pulls.cancelled() => {}
    }
    true
}
