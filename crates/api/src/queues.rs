//! What our own processes ask of queues, at the socket of events: messages in batches, with what their senders attached,
//! and functions that drain a queue without a trigger of their own.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /queues/<tenant>/<queue>/send` | [`Send`]s | an [`Answer`] for each, once those that are taken are on the disk |
//! | `POST /queues/<tenant>/<queue>/receive` | [`Receive`] | [`Received`] messages |
//! | `POST /queues/<tenant>/<queue>/delete` | receipts | whether each still held; null for what is no receipt |
//! | `POST /queues/<tenant>/<queue>/hold` | [`Hold`]s | the same |
//! | `POST /queues/<tenant>/<queue>/purge` | | null, once all messages are gone |
//! | `POST /queues/<tenant>/<queue>/move` | [`Move`] | a [`Moving`] |
//! | `GET /queues/<tenant>/<queue>/moves` | | [`Moving`]s, the newest first |
//! | `DELETE /queues/<tenant>/<queue>/moves/<id>` | | the [`Moving`] that was stopped |
//! | `PUT /mappings/<tenant>/<id>` | [`Mapping`] | 204 when it is in force |
//! | `DELETE /mappings/<tenant>/<id>` | | 204 |

use std::collections::BTreeMap;

use rouse_types::{FunctionName, Refusal, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

/// What a sender attached to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Its type: `String`, `Number`, `Binary`, each perhaps with `.` and more.
    #[serde(rename = "type")]
    pub ty: String,
    /// Its value; of a binary one in base64.
    pub value: String,
}

impl Attribute {
    /// Whether its value is bytes.
    #[must_use]
    pub fn is_binary(&self) -> bool {
        self.ty.split('.').next() == Some("Binary")
    }
}

/// What a sender attached, by name.
pub type Attributes = BTreeMap<String, Attribute>;

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Send {
    /// Its body.
    pub body: String,
    /// How long before it can be received; as the queue says when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Its group. In a queue that is not FIFO it orders nothing, and is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its id for deduplication, in a FIFO queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplication: Option<String>,
    /// What its sender attached.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: Attributes,
    /// AWS' X-Ray header, if it was sent with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// A message that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Its id, or that of the one that it repeats.
    pub id: String,
    /// Its number, which ascends within a queue.
    pub sequence: u64,
}

/// What came of a message that was to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is on the disk.
    Sent(Sent),
    /// It was not taken.
    Refused(Refusal),
}

/// What is to be received.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Receive {
    /// At most so many.
    pub count: u32,
    /// How long they are held; as the queue says when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility_ms: Option<u64>,
    /// How long to wait for the first; as the queue says when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// Its id.
    pub id: String,
    /// What deletes it.
    pub receipt: String,
    /// Its body; bytes that are no UTF-8 are replaced.
    pub body: String,
    /// How often it was received, this time included.
    pub attempt: u32,
    /// When it was sent.
    pub sent: Timestamp,
    /// When it was received first.
    pub first: Timestamp,
    /// Its number, which ascends within a queue.
    pub sequence: u64,
    /// Its group.
    pub group: Option<String>,
    /// Its id for deduplication.
    pub deduplication: Option<String>,
    /// What its sender attached.
    pub attributes: Attributes,
    /// AWS' X-Ray header.
    pub trace: Option<String>,
    /// The queue that it died in, if it is here for that.
    pub source: Option<String>,
}

/// How long a message is to be held from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its receipt.
    pub receipt: String,
    /// How long; zero gives it back.
    pub visibility_ms: u64,
}

/// Messages that are to be moved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Move {
    /// Where to; each to the queue that it died in when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// At most so many a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
}

/// Messages that are being moved, or were. Remembered for as long as the process of events runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// Its id.
    pub id: String,
    /// Where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// At most so many a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// When it began.
    pub started: Timestamp,
    /// How many messages were there then.
    pub wanted: u64,
    /// How many have moved.
    pub moved: u64,
    /// How it stands.
    pub state: MoveState,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How the moving of messages stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MoveState {
    /// It goes on.
    Running,
    /// It is done.
    Completed,
    /// It was stopped.
    Cancelled,
    /// It could not go on.
    Failed,
}

/// A queue that is drained for a function without a trigger of that function's own: an event source mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// Its id.
    pub id: String,
    /// Whose queue and function.
    pub tenant: TenantId,
    /// The queue.
    pub queue: String,
    /// The function.
    pub function: FunctionName,
    /// The aliases of ours that it calls, with their weights; the sum is more than zero.
    pub aliases: Vec<(String, u32)>,
    /// The function as AWS names it, and where it believes itself to be.
    pub arn: String,
    /// Messages of one call.
    pub batch_size: u32,
    /// How long to wait for a batch to fill.
    pub batch_window_ms: u64,
    /// Calls at once.
    pub concurrency_max: u32,
    /// Whether the function's answer says which messages failed.
    pub partial: bool,
    /// Of these patterns one must match a message's record, if there are any; others are dropped.
    pub filters: Vec<String>,
}
