//! What happens to objects rouses the functions whose triggers want it: an event in the queue of each.
//!
//! The process of objects tells it in batches, and once more those for which it heard no answer. Each event has an id of
//! what happened and the trigger, so that none runs twice.

use std::{sync::Arc, time::Duration};

use rouse_store::queues::NewMessage;
use rouse_triggers::{
    filter,
    shape::{
        Place, google,
        object::{Change, What, records},
    },
};
use rouse_types::{
    Contract, Event, EventCall, FunctionVersion, ObjectEvent, Refusal, Timestamp, Trigger,
    object::EventKind,
    trigger::{ObjectSource, On},
};

use crate::{
    accept,
    dispatch::Events,
    record::{self, ACCOUNT, REGION},
};

/// How long an event is known to have been taken: longer than the process of objects goes on telling of it.
const WINDOW: Duration = Duration::from_secs(7 * 24 * 3_600);
/// What an object is without a media type, as S3 has it.
const CONTENT_TYPE: &str = "binary/octet-stream";

impl Events {
    /// Takes what happened to objects: what follows from it is on the disk when this returns.
    pub(crate) async fn accept_objects(self: &Arc<Self>, happened: &[ObjectEvent]) -> Result<(), Refusal> {
        let now = self.config.clock.now();
        let triggers = self.table.triggers();
        let wanted = happened.iter().flat_map(|event| {
            triggers.iter().filter_map(move |(version, trigger)| message(version, trigger, event, now))
        });
        let messages: Vec<_> = wanted.collect();
        if messages.is_empty() {
            return Ok(());
        }
        let count = messages.len();
        match self.send(messages.clone()).await {
            Ok(_) => {}
            // The queues of the others are not to wait for the one that is full.
            Err(rouse_store::Error::TooDeep { .. }) => self.send_each(messages).await?,
            Err(error) => return Err(accept::store(&error)),
        }
        (0..count).for_each(|_| self.metrics.accepted("object"));
        Ok(())
    }

    async fn send_each(self: &Arc<Self>, messages: Vec<(String, NewMessage)>) -> Result<(), Refusal> {
        for message in messages {
            match self.send(vec![message]).await {
                Ok(_) => {}
                // As with schedules: a function with a million events has as many as are kept for it.
                Err(error @ rouse_store::Error::TooDeep { .. }) => {
                    self.metrics.accepted("dropped");
                    tracing::error!(%error, "an object's event was not taken: too many wait for its function");
                }
                Err(error) => return Err(accept::store(&error)),
            }
        }
        Ok(())
    }
}

/// The event for a trigger's function, if it wants to hear of this; and its queue.
fn message(
    version: &FunctionVersion,
    trigger: &Trigger,
    happened: &ObjectEvent,
    now: Timestamp,
) -> Option<(String, NewMessage)> {
    let On::Object(source) = &trigger.on else { return None };
    if version.tenant != happened.tenant || !concerns(source, happened) {
        return None;
    }
    let change = change(happened, &trigger.name);
    let place = Place { region: REGION, account: ACCOUNT };
    let records = records(place, &change);
    if trigger.filter.is_some() {
        let record = serde_json::to_value(&records.records).unwrap_or_default();
        if !filter::wants(trigger, &record[0]) {
            return None;
        }
    }
    let id = format!("object/{}/{}/{}", happened.sequence, happened.version, trigger.name);
    let (call, body) = match version.contract {
        Contract::Lambda => {
            let body = serde_json::to_vec(&records).unwrap_or_default();
            (EventCall::Invoke { content_type: Some("application/json".to_owned()) }, body)
        }
        Contract::Component | Contract::Http => {
            let content_type = happened.content_type.as_deref().unwrap_or(CONTENT_TYPE);
            let id = format!("{}-{}", happened.sequence, happened.version);
            crate::shape::post(google::stored(&id, &change, content_type))
        }
    };
    let event = Event {
        trigger: Some(format!("object:{}", trigger.name)),
        ..Event::new(&version.tenant, &version.function, call, now)
    };
    Some(record::once(&event, body, id, WINDOW))
}

/// Whether a trigger is about this, whatever its filter says.
fn concerns(source: &ObjectSource, happened: &ObjectEvent) -> bool {
    source.bucket == happened.bucket
        && source.events.contains(&happened.kind.change())
        && happened.key.starts_with(&source.prefix)
        && happened.key.ends_with(&source.suffix)
}

fn change<'a>(happened: &'a ObjectEvent, trigger: &'a str) -> Change<'a> {
    Change {
        what: match happened.kind {
            EventKind::Put => What::Put,
            EventKind::Copy => What::Copy,
            EventKind::CompleteMultipartUpload => What::CompleteMultipartUpload,
            EventKind::Delete => What::Delete,
        },
        time: happened.time,
        bucket: &happened.bucket,
        key: &happened.key,
        size: happened.size,
        etag: &happened.etag,
        version: None,
        sequence: happened.sequence,
        subscription: trigger,
        principal: &happened.requester,
        peer: None,
        request_id: &happened.version,
    }
}

#[cfg(test)]
mod tests {
    use rouse_types::trigger::ObjectChange;

    use super::*;

    fn happened(bucket: &str, key: &str, kind: EventKind) -> ObjectEvent {
        ObjectEvent {
            sequence: 7,
            tenant: "shop".parse().expect("a tenant"),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            kind,
            size: 5,
            etag: "e".to_owned(),
            content_type: None,
            version: "v".to_owned(),
            time: Timestamp(17),
            requester: "AK".to_owned(),
        }
    }

    #[test]
    fn a_trigger_wants_its_bucket_its_events_and_keys_that_begin_and_end_as_it_says() {
        let source = ObjectSource {
            bucket: "photos".to_owned(),
            events: vec![ObjectChange::Created],
            prefix: "in/".to_owned(),
            suffix: ".jpg".to_owned(),
        };
        let wants = |bucket: &str, key: &str, kind| concerns(&source, &happened(bucket, key, kind));
        for kind in [EventKind::Put, EventKind::Copy, EventKind::CompleteMultipartUpload] {
            assert!(wants("photos", "in/a.jpg", kind));
        }
        assert!(!wants("photos", "in/a.jpg", EventKind::Delete));
        assert!(!wants("other", "in/a.jpg", EventKind::Put));
        assert!(!wants("photos", "out/a.jpg", EventKind::Put));
        assert!(!wants("photos", "in/a.png", EventKind::Put));
    }
}
