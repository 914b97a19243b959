//! What rouses a function besides HTTP requests and invocations, and what becomes of events.
//!
//! Triggers belong to a version: they are in force while `live` names it, so a rollback brings them back with the
//! code that was written for them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::FunctionName;

/// Triggers of one function: bounds what is looked at for each event.
pub const TRIGGERS_MAX: usize = 32;
/// An event as it is accepted, with its envelope, in bytes: what a queue's message takes.
pub const EVENT_BYTES_MAX: usize = 6 << 20;
/// Calls of one function in a chain of events, each caused by the one before: where AWS Lambda breaks a loop.
pub const CHAIN_MAX: u32 = 16;
/// The names of queues, topics and buckets, in bytes: the least that AWS takes of each.
pub const RESOURCE_NAME_BYTES_MAX: usize = 63;
/// The name of a queue, in bytes: what Amazon SQS takes.
pub const QUEUE_NAME_BYTES_MAX: usize = 80;

/// One thing that rouses a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// Its name, unique within the function: `schedule-1`, unless the manifest names it. What is remembered of a
    /// trigger (how far a schedule got, a position in a database's log) is remembered under it.
    pub name: String,
    /// What it waits for.
    pub on: On,
    /// Only events that this pattern takes (the patterns of Amazon EventBridge). Others cost nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<serde_json::Value>,
}

/// What a trigger waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum On {
    /// The clock.
    Schedule(Schedule),
    /// Messages of a queue.
    Queue(QueueSource),
    /// Events published to a topic.
    Topic(TopicSource),
    /// Objects that come and go.
    Object(ObjectSource),
    /// Rows of a PostgreSQL database that change.
    Database(DatabaseSource),
    /// Requests of another service, signed by it.
    Webhook(WebhookSource),
}

impl On {
    /// Its kind, as the manifest writes it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Schedule(_) => "schedule",
            Self::Queue(_) => "queue",
            Self::Topic(_) => "topic",
            Self::Object(_) => "object",
            Self::Database(_) => "database",
            Self::Webhook(_) => "webhook",
        }
    }
}

/// Times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// When.
    pub when: When,
    /// The time zone of cron lines and of times without one, by its IANA name.
    pub timezone: String,
    /// Each time is put off by up to this, in milliseconds; the same for each time at each try.
    pub jitter_ms: u64,
    /// What becomes of times that passed while the platform was away.
    pub catch_up: CatchUp,
    /// What the function is given, in place of the scheduled event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<serde_json::Value>,
}

/// When a schedule is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// A cron line of five fields, or of six with seconds first.
    Cron(String),
    /// Every so many milliseconds, since the trigger came.
    EveryMs(u64),
    /// Once, at a time of RFC 3339; without an offset, in the schedule's time zone.
    At(String),
}

/// What becomes of a schedule's times that passed while the platform was away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// They are left out.
    Skip,
    /// The last of them is made up for.
    #[default]
    Once,
    /// Each is made up for, the last 1,000 at most.
    All,
}

/// A queue and how it is drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueSource {
    /// The queue; made when it is not there. A name that ends in `.fifo` keeps the order of each group.
    pub queue: String,
    /// Messages of one call.
    pub batch_size: u32,
    /// How long to wait for a batch to fill, in milliseconds.
    pub batch_window_ms: u64,
    /// Calls at once, over all messages.
    pub concurrency_max: u32,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicSource {
    /// The topic.
    pub topic: String,
}

/// Objects of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectSource {
    /// The bucket; made when it is not there.
    pub bucket: String,
    /// What happens to them.
    pub events: Vec<ObjectChange>,
    /// How their keys begin.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// How their keys end.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suffix: String,
}

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ObjectChange {
    /// It was put, copied, or put together from parts.
    Created,
    /// It was deleted.
    Removed,
}

/// Tables of a PostgreSQL database, read by logical replication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSource {
    /// Where it is: `postgres://user:password@host:5432/database`, or `env:NAME` for the function's own environment
    /// variable of that name.
    pub url: String,
    /// Tables, as `schema.table`.
    pub tables: Vec<String>,
    /// Changes.
    pub operations: Vec<RowChange>,
}

/// What happens to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RowChange {
    /// It came.
    Insert,
    /// It changed.
    Update,
    /// It went.
    Delete,
    /// All rows of the table went at once.
    Truncate,
}

/// Requests of another service to the function's own address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSource {
    /// The path below the function's address.
    pub path: String,
    /// Who signs.
    pub signer: Signer,
    /// The secrets of which one must have signed, each as it is or as `env:NAME`. Several while one is replaced.
    pub secrets: Vec<String>,
    /// How old a signature may be, in milliseconds, where it tells its time.
    pub tolerance_ms: u64,
}

/// How a webhook is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Signer {
    /// `X-Hub-Signature-256`.
    Github,
    /// `X-Gitlab-Token`.
    Gitlab,
    /// `Stripe-Signature`.
    Stripe,
    /// `webhook-signature` of the Standard Webhooks, or Svix' `svix-signature`.
    Standard,
    /// `X-Slack-Signature`.
    Slack,
    /// An HMAC of the body in a header.
    Hmac(HmacHeader),
}

/// A signature in a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HmacHeader {
    /// The header's name.
    pub header: String,
    /// `sha1`, `sha256` or `sha512`.
    pub algorithm: String,
    /// `hex` or `base64`.
    pub encoding: String,
    /// What stands before it, such as `sha256=`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// The header that names a delivery, so that a repeated one runs once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_header: Option<String>,
}

/// What becomes of the events of a function that were accepted: asynchronous calls and triggers alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventSettings {
    /// How often an event is tried in all, at least once.
    pub attempts: u32,
    /// How long to wait before the second attempt, in milliseconds; doubled for each further one.
    pub backoff_ms: u64,
    /// The longest wait between two attempts, in milliseconds.
    pub backoff_max_ms: u64,
    /// How old an event may grow, in milliseconds, before it is given up.
    pub age_max_ms: u64,
    /// How long the idempotency keys of its calls are remembered, in milliseconds. None: those of asynchronous calls for
    /// a day, and those of calls that someone waits for not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_ms: Option<u64>,
    /// Where the outcome goes when it ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_success: Option<EventTarget>,
    /// Where it goes when it was given up, besides the dead-letter queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<EventTarget>,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            // As AWS Lambda does it: two retries, one and two minutes later; people's tests want it sooner.
            attempts: 3,
            backoff_ms: 1_000,
            backoff_max_ms: 300_000,
            age_max_ms: 6 * 3_600_000,
            idempotency_ms: None,
            on_success: None,
            on_failure: None,
        }
    }
}

/// Where the outcome of an event goes: `function:NAME`, `queue:NAME`, `topic:NAME`, or a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EventTarget {
    /// A function of the same tenant.
    Function(FunctionName),
    /// A queue.
    Queue(String),
    /// A topic.
    Topic(String),
    /// An address that takes a POST.
    Url(String),
}

/// A text that names no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no destination: write function:NAME, queue:NAME, topic:NAME, or a URL")]
pub struct EventTargetError(String);

/// Whether a text can name a queue: as [`is_resource_name`], and as long as Amazon SQS takes it.
#[must_use]
pub fn is_queue_name(text: &str) -> bool {
    (1..=QUEUE_NAME_BYTES_MAX).contains(&text.len()) && has_name_bytes(text)
}

fn has_name_bytes(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !text.starts_with('.')
        && !text.ends_with('.')
}

/// Whether a text can name a topic, a bucket or a trigger: letters, digits, `-`, `_` and `.`, the last not at an end.
#[must_use]
pub fn is_resource_name(text: &str) -> bool {
    (1..=RESOURCE_NAME_BYTES_MAX).contains(&text.len()) && has_name_bytes(text)
}

impl FromStr for EventTarget {
    type Err = EventTargetError;
    fn from_str(text: &str) -> Result<Self, EventTargetError> {
        let wrong = || EventTargetError(text.chars().take(80).collect());
        if text.starts_with("https://") || text.starts_with("http://") {
            return if text.len() <= 2_048 && text.bytes().all(|b| b.is_ascii_graphic()) {
                Ok(Self::Url(text.to_owned()))
            } else {
                Err(wrong())
            };
        }
        let (kind, name) = text.split_once(':').ok_or_else(wrong)?;
        match kind {
            "function" => FunctionName::new(name).map(Self::Function).map_err(|_| wrong()),
            "queue" if is_queue_name(name) => Ok(Self::Queue(name.to_owned())),
            "topic" if is_resource_name(name) => Ok(Self::Topic(name.to_owned())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for EventTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(name) => write!(f, "function:{name}"),
            Self::Queue(name) => write!(f, "queue:{name}"),
            Self::Topic(name) => write!(f, "topic:{name}"),
            Self::Url(url) => f.write_str(url),
        }
    }
}

impl Serialize for EventTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for EventTarget {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EventTarget".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(function:|queue:|topic:|https?://).+$",
            "examples": ["queue:failed", "function:alert", "https://hooks.example.com/rouse"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_as_they_are_written() {
        for text in ["function:alert", "queue:orders.fifo", "topic:orders", "https://example.com/a?b=c"] {
            let target: EventTarget = text.parse().expect(text);
            assert_eq!(target.to_string(), text);
        }
        for text in [
            "",
            "orders",
            "queue:",
            "queue:.a",
            "queue:a.",
            "queue:a b",
            "function:A_B",
            "ftp://a",
            "http://a b",
        ] {
            assert!(text.parse::<EventTarget>().is_err(), "{text}");
        }
    }
}
