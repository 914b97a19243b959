//! What is set of a queue: made, changed, shown, forgotten.

use std::sync::Arc;

use rouse_api::{DeadLetters, QueueChange, QueueDetail, QueueSettings};
use rouse_types::{
    Code, Refusal, TenantId, Timestamp,
    trigger::{EVENT_BYTES_MAX, is_queue_name},
};
use serde::{Deserialize, Serialize};

use crate::{accept::store, dispatch::Events, queue};

/// The longest that a message is held: what Amazon SQS takes.
pub(crate) const VISIBILITY_MS_MAX: u64 = 12 * 3_600_000;
/// The longest delay of a message: what Amazon SQS takes.
pub(crate) const DELAY_MS_MAX: u64 = 900_000;
/// The longest wait for a message: what Amazon SQS takes.
pub(crate) const WAIT_MS_MAX: u64 = 20_000;
/// How old messages may grow: what Amazon SQS takes.
const RETENTION_MS: std::ops::RangeInclusive<u64> = 60_000..=14 * 24 * 3_600_000;
/// The least bound of a message's size: what Amazon SQS takes.
const MESSAGE_BYTES_MIN: u64 = 1_024;
const RECEIVES_MAX: u32 = 1_000;
/// Tags of one queue: what Amazon SQS advises.
const TAGS_MAX: usize = 50;
/// Attributes and tags of one queue, in bytes: policies are among them.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// Queues whose settings are held in memory. Of more, all are read again.
const CACHED_MAX: usize = 10_000;
/// Queues of one tenant: bounds what a listing reads.
const QUEUES_MAX: usize = 1_000;

/// What is kept of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) settings: QueueSettings,
    pub(crate) created: Timestamp,
    pub(crate) modified: Timestamp,
}

impl Events {
    /// What is kept of a queue, by its name in the store; nothing of one that nobody made.
    pub(crate) async fn kept(&self, queue: &str) -> Result<Option<Arc<Kept>>, rouse_store::Error> {
        if let Some(kept) = self.cached().get(queue) {
            return Ok(kept.clone());
        }
        // A change that comes between the read and its noting empties the cache again: see `change`.
        let epoch = self.cached().epoch;
        let text = self.queues.settings(queue).await?;
        let kept = text.map(|text| match serde_json::from_str(&text) {
            Ok(kept) => Arc::new(kept),
            Err(error) => {
                tracing::error!(queue, %error, "a queue's settings cannot be read; it goes by the usual ones");
                Arc::default()
            }
        });
        let mut cached = self.cached();
        if cached.epoch == epoch {
            if cached.all.len() >= CACHED_MAX {
                cached.all.clear();
            }
            cached.all.insert(queue.to_owned(), kept.clone());
        }
        Ok(kept)
    }

    /// What holds of a queue, whether someone made it or not.
    pub(crate) async fn settings(&self, queue: &str) -> Result<Arc<Kept>, Refusal> {
        Ok(self.kept(queue).await.map_err(|error| store(&error))?.unwrap_or_default())
    }

    /// Makes a queue that is not there, with the usual settings.
    pub(crate) async fn ensure(&self, tenant: &TenantId, name: &str) -> Result<(), Refusal> {
        self.create(tenant, name, &QueueChange::default()).await.map(drop)
    }

    /// Makes a queue; one that is there is left. Tells whether it was made.
    pub(crate) async fn create(
        &self,
        tenant: &TenantId,
        name: &str,
        change: &QueueChange,
    ) -> Result<bool, Refusal> {
        let queue = queue::named(tenant, name);
        if self.kept(&queue).await.map_err(|error| store(&error))?.is_some() {
            return Ok(false);
        }
        let _alone = self.changing.lock().await;
        if self.kept(&queue).await.map_err(|error| store(&error))?.is_some() {
            return Ok(false);
        }
        let all = self.queues.queues(&queue::named(tenant, ""), None, QUEUES_MAX).await;
        if all.map_err(|error| store(&error))?.len() >= QUEUES_MAX {
            return Err(Refusal::new(
                Code::TooManyRequests,
                format!("tenant '{tenant}' has {QUEUES_MAX} queues already; delete some"),
            ));
        }
        let now = self.config.clock.now();
        let settings = changed(QueueSettings::default(), name, change)?;
        self.write(tenant, name, Kept { settings, created: now, modified: now }).await?;
        Ok(true)
    }

    /// Changes what is named.
    pub(crate) async fn change(
        &self,
        tenant: &TenantId,
        name: &str,
        change: &QueueChange,
    ) -> Result<(), Refusal> {
        let queue = queue::named(tenant, name);
        self.expect_queue(tenant, name).await?;
        let _alone = self.changing.lock().await;
        let kept = self.settings(&queue).await?;
        let settings = changed(kept.settings.clone(), name, change)?;
        let modified = self.config.clock.now();
        self.write(tenant, name, Kept { settings, modified, created: kept.created }).await
    }

    async fn write(&self, tenant: &TenantId, name: &str, kept: Kept) -> Result<(), Refusal> {
        let queue = queue::named(tenant, name);
        let dead_to = match &kept.settings.dead_letters {
            Some(DeadLetters { queue: to, .. }) => {
                let to_queue = queue::named(tenant, to);
                if !self.there(&to_queue).await? {
                    return Err(Refusal::new(
                        Code::BadRequest,
                        format!("the queue '{to}', which is to take what '{name}' gives up, does not exist"),
                    )
                    .hint(format!("make it first: `rouse queue create {to}`")));
                }
                Some(to_queue)
            }
            None => None,
        };
        let text =
            serde_json::to_string(&kept).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        let written = self.queues.configure(&queue, &text, dead_to.as_deref()).await;
        self.cached().forget(&queue);
        written.map_err(|error| store(&error))
    }

    /// Whether a queue is there: someone made it, or it has messages.
    pub(crate) async fn there(&self, queue: &str) -> Result<bool, Refusal> {
        if self.kept(queue).await.map_err(|error| store(&error))?.is_some() {
            return Ok(true);
        }
        let found = self.queues.queues(queue, None, 1).await.map_err(|error| store(&error))?;
        Ok(found.first().is_some_and(|info| info.queue == queue))
    }

    pub(crate) async fn expect_queue(&self, tenant: &TenantId, name: &str) -> Result<(), Refusal> {
        match self.there(&queue::named(tenant, name)).await? {
            true => Ok(()),
            false => Err(Refusal::new(
                Code::QueueNotFound,
                format!("there is no queue '{name}' of tenant '{tenant}'"),
            )
            .hint("`rouse queue list` shows those that are there")),
        }
    }

    /// A queue and what it holds.
    pub(crate) async fn detail(&self, tenant: &TenantId, name: &str) -> Result<QueueDetail, Refusal> {
        self.expect_queue(tenant, name).await?;
        let queue = queue::named(tenant, name);
        let kept = self.settings(&queue).await?;
        let depth = self.queues.depth(&queue).await.map_err(|error| store(&error))?;
        Ok(QueueDetail {
            name: name.to_owned(),
            created: kept.created,
            modified: kept.modified,
            settings: kept.settings.clone(),
            ready: depth.ready + depth.blocked,
            delayed: depth.delayed,
            held: depth.leased,
            dead: depth.dead,
            made: false,
        })
    }

    /// Deletes a queue with its messages. Those that are being worked on end nowhere.
    pub(crate) async fn delete_queue(&self, tenant: &TenantId, name: &str) -> Result<(), Refusal> {
        self.expect_queue(tenant, name).await?;
        let queue = queue::named(tenant, name);
        let _alone = self.changing.lock().await;
        let deleted = self.queues.delete(&queue).await;
        self.cached().forget(&queue);
        deleted.map_err(|error| store(&error))
    }
}

/// Settings after a change. Pure.
fn changed(mut settings: QueueSettings, name: &str, change: &QueueChange) -> Result<QueueSettings, Refusal> {
    let bad = |what: String| Refusal::new(Code::BadRequest, format!("the queue '{name}': {what}"));
    let within = |what: &str, value: u64, range: std::ops::RangeInclusive<u64>| match range.contains(&value) {
        true => Ok(value),
        false => Err(bad(format!("{what} must be {} to {}, not {value}", range.start(), range.end()))),
    };
    if let Some(value) = change.visibility_ms {
        settings.visibility_ms = within("visibility_ms", value, 0..=VISIBILITY_MS_MAX)?;
    }
    if let Some(value) = change.delay_ms {
        settings.delay_ms = within("delay_ms", value, 0..=DELAY_MS_MAX)?;
    }
    if let Some(value) = change.retention_ms {
        settings.retention_ms = Some(within("retention_ms", value, RETENTION_MS)?);
    }
    if let Some(value) = change.wait_ms {
        settings.wait_ms = within("wait_ms", value, 0..=WAIT_MS_MAX)?;
    }
    if let Some(value) = change.message_bytes_max {
        let range = MESSAGE_BYTES_MIN..=EVENT_BYTES_MAX as u64;
        settings.message_bytes_max = within("message_bytes_max", value, range)?;
    }
    let fifo = name.ends_with(".fifo");
    if let Some(on) = change.content_deduplication {
        if on && !fifo {
            return Err(bad("only a FIFO queue tells messages apart by their bodies".to_owned()));
        }
        settings.content_deduplication = on;
    }
    if change.no_dead_letters {
        settings.dead_letters = None;
    }
    if let Some(to) = &change.dead_letters {
        within("receives_max", to.receives_max.into(), 1..=RECEIVES_MAX.into())?;
        if !is_queue_name(&to.queue) || to.queue == name || to.queue.ends_with(".fifo") != fifo {
            return Err(bad(format!(
                "'{}' cannot take what it gives up: name another queue, a FIFO queue for a FIFO queue",
                to.queue
            )));
        }
        settings.dead_letters = Some(to.clone());
    }
    for (kept, changes) in
        [(&mut settings.attributes, &change.attributes), (&mut settings.tags, &change.tags)]
    {
        for (key, value) in changes {
            match value {
                Some(value) => drop(kept.insert(key.clone(), value.clone())),
                None => drop(kept.remove(key)),
            }
        }
    }
    if settings.tags.len() > TAGS_MAX {
        return Err(bad(format!("it has more than {TAGS_MAX} tags")));
    }
    let bytes = |(key, value): (&String, &String)| key.len() + value.len();
    let kept: usize = settings.attributes.iter().chain(&settings.tags).map(bytes).sum();
    if kept > KEPT_BYTES_MAX {
        return Err(bad(format!("its attributes and tags have more than {KEPT_BYTES_MAX} bytes")));
    }
    Ok(settings)
}

/// Settings that were read, by queue; none for a queue that nobody made.
#[derive(Debug, Default)]
pub(crate) struct Cached {
    all: std::collections::HashMap<String, Option<Arc<Kept>>>,
    epoch: u64,
}

impl Cached {
    fn get(&self, queue: &str) -> Option<&Option<Arc<Kept>>> {
        self.all.get(queue)
    }

    fn forget(&mut self, queue: &str) {
        self.all.remove(queue);
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_bounds_and_dead_letters_go_to_a_queue_of_their_kind() {
        let of = |name: &str, change: QueueChange| changed(QueueSettings::default(), name, &change);
        let to = |queue: &str, receives_max| QueueChange {
            dead_letters: Some(DeadLetters { queue: queue.to_owned(), receives_max }),
            ..QueueChange::default()
        };
        assert!(of("q", to("failed", 3)).is_ok() && of("q.fifo", to("failed.fifo", 3)).is_ok());
        for (queue, change) in [
            ("q", to("q", 3)),
            ("q", to("failed.fifo", 3)),
            ("q", to("failed", 0)),
            ("q", to("a b", 3)),
            ("q", QueueChange { visibility_ms: Some(VISIBILITY_MS_MAX + 1), ..QueueChange::default() }),
            ("q", QueueChange { retention_ms: Some(1), ..QueueChange::default() }),
            ("q", QueueChange { content_deduplication: Some(true), ..QueueChange::default() }),
        ] {
            assert_eq!(
                of(queue, change.clone()).map_err(|refusal| refusal.code),
                Err(Code::BadRequest),
                "{change:?}"
            );
        }
        let tag = |value: Option<&str>| QueueChange {
            tags: [("a".to_owned(), value.map(str::to_owned))].into(),
            ..QueueChange::default()
        };
        let tagged = of("q", tag(Some("1"))).expect("settings");
        assert_eq!(tagged.tags["a"], "1");
        assert!(changed(tagged, "q", &tag(None)).expect("settings").tags.is_empty());
    }
}
