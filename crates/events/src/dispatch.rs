//! All that the process of events holds, and who drains which queue.
//!
//! A queue has a consumer while it has messages, and none otherwise. Whoever sends a message pokes its queue: that
//! wakes the consumer, or makes one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rouse_quota::Limits;
use rouse_store::{
    Queues,
    queues::{NewMessage, Room},
};
use rouse_types::{InvocationId, TenantId, Work, trigger::On};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, Error, batch, consumer, database::Statuses, gateways::Gateways, mappings::Mappings,
    metrics::Metrics, moves::Moves, once, outgoing::Outgoing, queue, receipts::Receipts, receive::Arrivals,
    settings::Cached, table::Table,
};

/// Deliveries of all functions at once: each holds an event of some MiB at most, and a connection.
const DELIVERIES_MAX: usize = 256;
/// Queues of one page, at the start.
const PAGE: usize = 1_000;

/// The process' state, shared by all that it does.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) config: Config,
    pub(crate) queues: Queues,
    /// What tenants may use.
    pub(crate) limits: Limits,
    pub(crate) table: Table,
    pub(crate) gateways: Gateways,
    pub(crate) outgoing: Outgoing,
    pub(crate) metrics: Metrics,
    /// Places for deliveries.
    pub(crate) places: Arc<Semaphore>,
    /// Consumers and their deliveries.
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// Cancelled while the node takes no work of its own accord, and at the end.
    pulls: watch::Sender<CancellationToken>,
    /// Told when what is live has changed.
    pub(crate) changed: watch::Sender<()>,
    /// How database triggers fare.
    pub(crate) databases: Statuses,
    pub(crate) receipts: Receipts,
    pub(crate) mappings: Mappings,
    pub(crate) moves: Moves,
    pub(crate) arrivals: Arrivals,
    /// Idempotency keys of calls that someone waits for: those under way, and those that were used.
    pub(crate) once_running: once::Running,
    pub(crate) once_kept: once::Kept,
    /// Held while a queue is made, changed or deleted.
    pub(crate) changing: tokio::sync::Mutex<()>,
    cached: Mutex<Cached>,
    consumers: Mutex<HashMap<String, Arc<Poke>>>,
    /// Deliveries under way, each with what cancels it.
    running: Mutex<HashMap<InvocationId, CancellationToken>>,
}

/// Wakes a consumer. A poke that comes while it is busy is kept for it.
#[derive(Debug, Default)]
pub(crate) struct Poke(pub(crate) Notify);

/// A delivery under way, as long as this is held.
pub(crate) struct Running<'a> {
    events: &'a Events,
    id: InvocationId,
    pub(crate) cancelled: CancellationToken,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.events.running().remove(&self.id);
        self.events.metrics.running.dec();
    }
}

impl Events {
    pub(crate) fn new(
        config: Config,
        queues: Queues,
        receipts: Receipts,
        mappings: Mappings,
        once_kept: once::Kept,
        stop: CancellationToken,
        active: bool,
    ) -> Result<Arc<Self>, Error> {
        let pulls = stop.child_token();
        if !active {
            pulls.cancel();
        }
        Ok(Arc::new(Self {
            pulls: watch::Sender::new(pulls),
            outgoing: Outgoing::new(config.state.join("hosts"))?,
            limits: Limits::new(&config.state),
            table: Table::new(&config.state),
            gateways: Gateways::new(&config.state, config.gateways),
            metrics: Metrics::new(),
            places: Arc::new(Semaphore::new(DELIVERIES_MAX)),
            tasks: TaskTracker::new(),
            stop,
            changed: watch::Sender::new(()),
            databases: Statuses::default(),
            moves: Moves::default(),
            arrivals: Arrivals::default(),
            once_running: once::Running::default(),
            once_kept,
            changing: tokio::sync::Mutex::default(),
            cached: Mutex::default(),
            consumers: Mutex::default(),
            receipts,
            mappings,
            running: Mutex::default(),
            config,
            queues,
        }))
    }

    fn consumers(&self) -> MutexGuard<'_, HashMap<String, Arc<Poke>>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn cached(&self) -> MutexGuard<'_, Cached> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<InvocationId, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a consumer for each queue that has messages, of those with a prefix.
    pub(crate) async fn resume(self: &Arc<Self>, prefix: &str) -> Result<(), rouse_store::Error> {
        let mut after = None;
        loop {
            let page = self.queues.queues(prefix, after.as_deref(), PAGE).await?;
            for info in page.iter().filter(|info| info.messages > 0) {
                self.poke(&info.queue);
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.queue.clone()),
                _ => return Ok(()),
            }
        }
    }

    /// Makes the queues that triggers name, as far as they are not there.
    pub(crate) async fn make_queues(&self) {
        for (version, trigger) in self.table.triggers() {
            if let On::Queue(source) = &trigger.on
                && let Err(refusal) = self.ensure(&version.tenant, &source.queue).await
            {
                tracing::warn!(queue = source.queue, %refusal, "the queue of a trigger could not be made");
            }
        }
    }

    /// Tells that a queue has something to do.
    pub(crate) fn poke(self: &Arc<Self>, queue: &str) {
        let of_people = queue.starts_with(queue::NAMED);
        if of_people {
            self.arrivals.tell(queue);
        }
        if self.pulls().is_cancelled() || (of_people && !batch::is_drained(self, queue)) {
            return;
        }
        let mut consumers = self.consumers();
        if let Some(consumer) = consumers.get(queue) {
            consumer.0.notify_one();
            return;
        }
        let poke = Arc::new(Poke::default());
        consumers.insert(queue.to_owned(), Arc::clone(&poke));
        self.metrics.consumers.inc();
        let (events, queue) = (Arc::clone(self), queue.to_owned());
        if of_people {
            self.tasks.spawn(batch::run(events, queue, poke));
        } else {
            self.tasks.spawn(consumer::run(events, queue, poke));
        }
    }

    /// Ends a consumer that found nothing, unless it was poked in the meantime.
    pub(crate) fn retire(&self, queue: &str, poke: &Poke) -> bool {
        let mut consumers = self.consumers();
        // Under the lock, so whoever pokes later finds no consumer, and makes one.
        let poked = std::pin::pin!(poke.0.notified()).enable();
        if !poked {
            consumers.remove(queue);
            self.metrics.consumers.dec();
        }
        !poked
    }

    /// Cancelled once this node pulls no more from queues.
    pub(crate) fn pulls(&self) -> CancellationToken {
        self.pulls.borrow().clone()
    }

    /// Waits until the node pulls, or all is to stop.
    pub(crate) async fn pulls_again(&self) {
        let mut pulls = self.pulls.subscribe();
        let again = async {
            // The sender is ours.
            let _ = pulls.wait_for(|pulls| !pulls.is_cancelled()).await;
        };
        self.stop.run_until_cancelled(again).await;
    }

    /// Has the node pull from queues, or not: others do then, and what was leased here is finished.
    pub(crate) async fn set_pulling(self: &Arc<Self>, active: bool) -> Result<(), rouse_store::Error> {
        if active != self.pulls().is_cancelled() {
            return Ok(());
        }
        if !active {
            self.pulls().cancel();
            return Ok(());
        }
        self.pulls.send_replace(self.stop.child_token());
        self.resume(queue::FUNCTIONS).await?;
        self.resume(queue::NAMED).await
    }

    /// What is under way.
    pub(crate) fn work(&self) -> Work {
        let count = self.consumers().len().saturating_add(self.running().len());
        Work { calls: 0, events: u32::try_from(count).unwrap_or(u32::MAX) }
    }

    /// Ends a consumer that pulls no more. What came meanwhile has another, once the node pulls again.
    pub(crate) fn dismiss(self: &Arc<Self>, queue: &str) {
        self.consumers().remove(queue);
        self.metrics.consumers.dec();
        // Poked in vain if the node began to pull before this consumer had ended.
        self.poke(queue);
    }

    /// Notes a delivery, so that it can be cancelled.
    pub(crate) fn begin(&self, id: InvocationId) -> Running<'_> {
        let cancelled = CancellationToken::new();
        self.running().insert(id, cancelled.clone());
        self.metrics.running.inc();
        Running { events: self, id, cancelled }
    }

    /// Breaks off the delivery of an event, if one is under way.
    pub(crate) fn break_off(&self, id: InvocationId) {
        if let Some(cancelled) = self.running().get(&id) {
            cancelled.cancel();
        }
    }

    /// Sends messages and pokes their queues.
    pub(crate) async fn send(
        self: &Arc<Self>,
        messages: Vec<(String, NewMessage)>,
    ) -> Result<Vec<rouse_store::queues::Enqueued>, rouse_store::Error> {
        let queues: Vec<String> = messages.iter().map(|(queue, _)| queue.clone()).collect();
        let sent = self.queues.send(messages).await?;
        queues.iter().for_each(|queue| self.poke(queue));
        Ok(sent)
    }

    /// Sends messages that a caller of this tenant brings, if its queues may take them: what is refused, the caller is told.
    /// What comes of itself, such as a schedule's events, is counted and taken anyway.
    pub(crate) async fn send_within(
        self: &Arc<Self>,
        tenant: &TenantId,
        messages: Vec<(String, NewMessage)>,
    ) -> Result<Vec<rouse_store::queues::Enqueued>, rouse_store::Error> {
        let Some(most) = self.limits.of(tenant).and_then(|limits| limits.queue_messages) else {
            return self.send(messages).await;
        };
        let queues: Vec<String> = messages.iter().map(|(queue, _)| queue.clone()).collect();
        let prefixes = vec![queue::functions(tenant), queue::named(tenant, "")];
        let room = Room { name: format!("what tenant '{tenant}' may hold in queues"), prefixes, most };
        let sent = self.queues.send_within(messages, room).await?;
        queues.iter().for_each(|queue| self.poke(queue));
        Ok(sent)
    }

    /// Waits for what is under way at the end, within bounds.
    pub(crate) async fn drain(&self) {
        self.tasks.close();
        if tokio::time::timeout(self.config.drain, self.tasks.wait()).await.is_err() {
            tracing::warn!("deliveries were cut off at the end; the next start makes them again");
        }
    }
}
