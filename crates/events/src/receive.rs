//! Receiving: takes messages of a queue by its settings, and waits for them where there are none.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rouse_store::queues::{Leased, Take};
use tokio::{sync::Notify, time::Instant};

use crate::{dispatch::Events, queue, settings::Kept};

/// The shortest pause between two looks at a queue: what seems ready may have to wait for another after all.
const LOOK_MIN: Duration = Duration::from_millis(10);

/// Who waits for messages of which queue.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<std::collections::HashMap<String, (Arc<Notify>, usize)>>);

/// Someone who waits, as long as this is held.
struct Waiting<'a> {
    arrivals: &'a Arrivals,
    queue: &'a str,
    notify: Arc<Notify>,
}

impl Arrivals {
    fn all(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<String, (Arc<Notify>, usize)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all who wait for messages of a queue to look.
    pub(crate) fn tell(&self, queue: &str) {
        if let Some((notify, _)) = self.all().get(queue) {
            notify.notify_waiters();
        }
    }

    fn wait<'a>(&'a self, queue: &'a str) -> Waiting<'a> {
        let mut all = self.all();
        let (notify, count) = all.entry(queue.to_owned()).or_default();
        *count += 1;
        Waiting { arrivals: self, queue, notify: Arc::clone(notify) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut all = self.arrivals.all();
        if let Some((_, count)) = all.get_mut(self.queue) {
            *count -= 1;
            if *count == 0 {
                all.remove(self.queue);
            }
        }
    }
}

impl Events {
    /// Takes messages that are ready, as the queue's settings say. What has used up its attempts goes its way.
    pub(crate) async fn take(
        self: &Arc<Self>,
        queue: &str,
        kept: &Kept,
        count: usize,
        visibility: Duration,
        bytes_max: usize,
    ) -> Result<Vec<Leased>, rouse_store::Error> {
        let settings = &kept.settings;
        let how = Take {
            attempts_max: settings.dead_letters.as_ref().map(|to| to.receives_max),
            age_max: settings.retention_ms.map(Duration::from_millis),
            together: queue.ends_with(".fifo"),
            bytes_max,
            ..Take::new(count, visibility)
        };
        let taken = self.queues.take(queue, how).await?;
        if taken.died > 0 {
            self.poke_dead(queue, kept);
        }
        Ok(taken.leased)
    }

    /// Tells of messages that may have gone to the queue for dead ones.
    pub(crate) fn poke_dead(self: &Arc<Self>, queue: &str, kept: &Kept) {
        if let (Some(to), Some((tenant, _))) = (&kept.settings.dead_letters, queue::of_people(queue)) {
            self.poke(&queue::named(&tenant, &to.queue));
        }
    }

    /// Takes messages, and waits for the first of them for so long.
    pub(crate) async fn receive_some(
        self: &Arc<Self>,
        queue: &str,
        kept: &Kept,
        count: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Leased>, rouse_store::Error> {
        let until = Instant::now() + wait;
        let waiting = self.arrivals.wait(queue);
        loop {
            // Before the look: what comes after it is not missed.
            let mut told = std::pin::pin!(waiting.notify.notified());
            told.as_mut().enable();
            let taken = self.take(queue, kept, count, visibility, usize::MAX).await?;
            if !taken.is_empty() || Instant::now() >= until {
                return Ok(taken);
            }
            let next = self.queues.next_ready(queue).await?;
            let now = self.config.clock.now();
            let sleep = next.map_or(wait, |at| at.since(now).max(LOOK_MIN));
            tokio::select! {
                () = told => {}
                () = tokio::time::sleep_until(until.min(Instant::now() + sleep)) => {}
                () = self.stop.cancelled() => return Ok(Vec::new()),
            }
        }
    }
}
