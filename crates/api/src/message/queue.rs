//! Queues that people made.

use std::collections::BTreeMap;

use rouse_types::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueSummary {
    /// Its name.
    pub name: String,
    /// Messages that wait or are being worked on.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that were given up.
    pub dead: u64,
    /// Where messages go that were received too often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<DeadLetters>,
}

/// What is set of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueSettings {
    /// How long a message that was received is held for its receiver, in milliseconds; at most 12 hours.
    pub visibility_ms: u64,
    /// How long before a message can be received, in milliseconds, where its sender says nothing; at most 15 minutes.
    pub delay_ms: u64,
    /// How old messages grow before they are dropped, in milliseconds; 1 minute to 14 days. They are kept when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_ms: Option<u64>,
    /// How long a receiver waits for a message, in milliseconds, unless it says so itself; at most 20 seconds.
    pub wait_ms: u64,
    /// The largest message, in bytes.
    pub message_bytes_max: u64,
    /// Where messages go that were received too often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<DeadLetters>,
    /// Whether messages of a FIFO queue that name no id for deduplication are told apart by their bodies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub content_deduplication: bool,
    /// What clients keep there: nothing follows from it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            visibility_ms: 30_000,
            delay_ms: 0,
            retention_ms: None,
            wait_ms: 0,
            message_bytes_max: rouse_types::trigger::EVENT_BYTES_MAX as u64,
            dead_letters: None,
            content_deduplication: false,
            attributes: BTreeMap::new(),
            tags: BTreeMap::new(),
        }
    }
}

/// Where a queue's messages go that were received too often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetters {
    /// The queue that takes them.
    pub queue: String,
    /// How often a message is received before it goes there; at most 1,000.
    pub receives_max: u32,
}

/// Which settings of a queue are to be what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueChange {
    /// See [`QueueSettings`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility_ms: Option<u64>,
    /// See [`QueueSettings`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// See [`QueueSettings`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_ms: Option<u64>,
    /// See [`QueueSettings`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// See [`QueueSettings`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_bytes_max: Option<u64>,
    /// See [`QueueSettings`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<DeadLetters>,
    /// Messages that were received too often go nowhere any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_dead_letters: bool,
    /// See [`QueueSettings`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_deduplication: Option<bool>,
    /// Attributes to set, or, where there is no value, to remove.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Option<String>>,
    /// Tags to set, or, where there is no value, to remove.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, Option<String>>,
}

/// A queue and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueDetail {
    /// Its name.
    pub name: String,
    /// When it was made; the beginning of time if nobody made it.
    pub created: Timestamp,
    /// When its settings changed last.
    pub modified: Timestamp,
    /// What is set of it.
    pub settings: QueueSettings,
    /// Messages that can be received now, or wait for an earlier one of their group.
    pub ready: u64,
    /// Messages that can be received later.
    pub delayed: u64,
    /// Messages that someone has received, or whose function runs.
    pub held: u64,
    /// Messages that were given up, and went to no other queue.
    pub dead: u64,
    /// Whether this answer's request made it.
    pub made: bool,
}

/// How a message is sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendQuery {
    /// How long before it can be received, in milliseconds; at most 15 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Messages of one group are received one after the other: in queues whose name ends in `.fifo`, which need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// A second message with this id, within five minutes, is taken for the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplication: Option<String>,
}

/// A message that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SentMessage {
    /// Its id, or that of the one that it repeats.
    pub id: String,
    /// Whether it repeats one.
    pub duplicate: bool,
}

/// How messages are received.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiveQuery {
    /// At most so many; 1 when left out, 100 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// They are deleted at once, instead of coming back after the queue's visibility timeout unless they are deleted by
    /// then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete: bool,
    /// How long to wait for a message, in milliseconds; as the queue says when left out, 20 seconds at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceivedMessage {
    /// Its id.
    pub id: String,
    /// Its body; bytes that are no UTF-8 are replaced.
    pub body: String,
    /// What deletes it.
    pub receipt: String,
    /// How often it was received, this time included.
    pub attempt: u32,
    /// When it was sent.
    pub sent: Timestamp,
    /// Its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}
