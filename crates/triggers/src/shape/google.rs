//! What happened as the CloudEvents that Google Cloud sends, which functions under Google's Functions Frameworks expect;
//! the frameworks themselves turn them into the older "background" events where a function wants those, if they come in
//! binary mode.
//!
//! Source: googleapis/google-cloudevents, the protobufs of `google.events.cloud`.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rouse_types::Timestamp;
use serde_json::json;

use super::{millis, object};
use crate::cloud_event::{Error, Event};

/// A message of a topic or a queue.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// Its id, the same each time it is delivered.
    pub id: &'a str,
    /// The tenant, in the place of a project.
    pub project: &'a str,
    /// The topic or queue.
    pub topic: &'a str,
    /// The trigger that wants it.
    pub subscription: &'a str,
    /// Its bytes.
    pub data: &'a [u8],
    /// What its sender attached, by name.
    pub attributes: BTreeMap<&'a str, &'a str>,
    /// Messages with the same key keep their order.
    pub ordering_key: Option<&'a str>,
    /// When it was published.
    pub published: Timestamp,
}

/// `google.cloud.pubsub.topic.v1.messagePublished`.
///
/// # Errors
/// A name that no attribute can hold.
pub fn published(message: &Message<'_>) -> Result<Event, Error> {
    let Message { id, project, topic, subscription, .. } = message;
    let time = millis(message.published);
    let mut body = json!({
        "data": STANDARD.encode(message.data), "attributes": message.attributes,
        "messageId": id, "message_id": id, "publishTime": time, "publish_time": time,
    });
    if let Some(key) = message.ordering_key {
        body["orderingKey"] = key.into();
    }
    let data = json!({ "message": body, "subscription": format!("projects/{project}/subscriptions/{subscription}") });
    Event::new(
        *id,
        format!("//pubsub.googleapis.com/projects/{project}/topics/{topic}"),
        "google.cloud.pubsub.topic.v1.messagePublished",
    )?
    .with("time", time)?
    .with_data("application/json", data.to_string().into_bytes())
}

/// `google.cloud.storage.object.v1.finalized`, or `….deleted`. `id` is the same each time the event is delivered;
/// `content_type` is that of the object.
///
/// # Errors
/// A name that no attribute can hold: a key with control characters.
pub fn stored(id: &str, change: &object::Change<'_>, content_type: &str) -> Result<Event, Error> {
    let object::Change { bucket, key, .. } = change;
    let (time, generation) = (millis(change.time), change.sequence.to_string());
    let what = if change.what.is_created() { "finalized" } else { "deleted" };
    let data = json!({
        "kind": "storage#object", "id": format!("{bucket}/{key}/{generation}"),
        "name": key, "bucket": bucket, "generation": generation, "metageneration": "1",
        "contentType": content_type, "storageClass": "STANDARD",
        // Numbers of 64 bits are text, as protobuf's JSON has them.
        "size": change.size.to_string(), "etag": change.etag,
        "timeCreated": time, "updated": time, "timeStorageClassUpdated": time,
    });
    Event::new(
        id,
        format!("//storage.googleapis.com/projects/_/buckets/{bucket}"),
        format!("google.cloud.storage.object.v1.{what}"),
    )?
    .with("subject", format!("objects/{key}"))?
    .with("bucket", *bucket)?
    .with("time", time)?
    .with_data("application/json", data.to_string().into_bytes())
}

/// `google.cloud.scheduler.job.v1.executed`: the trigger of this name was due.
///
/// # Errors
/// A name that no attribute can hold.
pub fn scheduled(
    project: &str,
    region: &str,
    trigger: &str,
    id: uuid::Uuid,
    scheduled: Timestamp,
    input: &[u8],
) -> Result<Event, Error> {
    let data = json!({ "customData": STANDARD.encode(input) });
    Event::new(
        id.to_string(),
        format!("//cloudscheduler.googleapis.com/projects/{project}/locations/{region}/jobs/{trigger}"),
        "google.cloud.scheduler.job.v1.executed",
    )?
    .with("time", millis(scheduled))?
    .with_data("application/json", data.to_string().into_bytes())
}
