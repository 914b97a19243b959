//! Takes an event: once this returns, it is on the disk.

use std::{sync::Arc, time::Duration};

use rouse_types::{Code, Event, InvocationId, Refusal, event::Accepted, trigger::EVENT_BYTES_MAX};

use crate::{dispatch::Events, queue, record};

/// How long an idempotency key is remembered where the function does not say: a client that tries again for longer is none.
const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(24 * 3_600);

impl Events {
    /// Takes an event from a gateway.
    pub(crate) async fn accept(self: &Arc<Self>, event: &Event, body: &[u8]) -> Result<Accepted, Refusal> {
        if body.len() > EVENT_BYTES_MAX {
            return Err(Refusal::new(
                Code::PayloadTooLarge,
                format!("an event for '{}' has more than {EVENT_BYTES_MAX} bytes", event.function),
            ));
        }
        let mut message = record::of(event, body.to_vec());
        // Ids that senders of webhooks give, and keys that callers choose, are nothing to each other.
        message.deduplication = event.idempotency_key.as_ref().map(|key| match &event.trigger {
            None => format!("key/{key}"),
            Some(trigger) => format!("{trigger}/{key}"),
        });
        let version = self.table.version(&event.tenant, &event.function, event.alias.as_deref());
        let window = version.and_then(|version| version.events.idempotency_ms);
        message.window = Some(window.map_or(IDEMPOTENCY_WINDOW, Duration::from_millis));
        let name = queue::function(&event.tenant, &event.function);
        let sent = self
            .send_within(&event.tenant, vec![(name, message)])
            .await
            .map_err(|error| refusal(event, &error))?;
        let first =
            sent.first().and_then(|sent| Some((sent.name.parse::<InvocationId>().ok()?, sent.duplicate)));
        let (id, duplicate) = first.unwrap_or((event.id, false));
        self.metrics.accepted(if duplicate { "duplicate" } else { "stored" });
        Ok(Accepted { id, duplicate })
    }
}

fn refusal(event: &Event, error: &rouse_store::Error) -> Refusal {
    use rouse_store::Error;
    let function = &event.function;
    match error {
        Error::TooDeep { messages, granted: None, .. } => Refusal::new(
            Code::TooManyRequests,
            format!("{messages} events of function '{function}' wait already: no more are taken"),
        )
        .hint(format!("see what holds them up: `rouse events list --function {function}`"))
        .retry_after(Duration::from_secs(10)),
        error => store(error),
    }
}

/// What is said when the store fails.
pub(crate) fn store(error: &rouse_store::Error) -> Refusal {
    use rouse_store::Error;
    match error {
        Error::Full(_) => Refusal::new(
            Code::StorageFull,
            "the disk is full: no event is taken, and none that was taken is lost",
        )
        .hint("make room on the disk of the state folder")
        .retry_after(Duration::from_secs(10)),
        Error::TooDeep { messages, granted: Some(granted), .. } => Refusal::new(
            Code::QuotaExceeded,
            format!("{messages} messages and events wait for this tenant, which is granted {granted}: no more are taken"),
        )
        .hint("see what waits with `rouse queue list` and `rouse events list`, or ask the operator for more `queue_messages`")
        .retry_after(Duration::from_secs(10)),
        Error::TooDeep { messages, .. } => {
            Refusal::new(Code::TooManyRequests, format!("the queue holds {messages} messages: no more are taken"))
                .hint("receive some, or see what holds them up: `rouse queue list`")
                .retry_after(Duration::from_secs(10))
        }
        Error::Invalid(what) => Refusal::new(Code::BadRequest, what.clone()),
        error => error.unavailable().unwrap_or_else(|| {
            tracing::error!(error = error as &dyn std::error::Error, "the store failed");
            Refusal::new(Code::Internal, "the store of events failed").hint("look into the platform's log")
        }),
    }
}
