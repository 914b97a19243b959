//! Queues that people made.

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
    /// They are deleted at once, instead of coming back after 30 seconds unless they are deleted by then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete: bool,
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
