//! What goes into a queue, what comes out, and what is told of it.

use std::time::Duration;

use rouse_types::Timestamp;
use serde::{Deserialize, Serialize};

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMessage {
    /// Its sender's own name for it, by which it is found again; unique by the sender's care. May be empty.
    pub name: String,
    /// What is said of it, shown where messages are listed; small.
    pub head: Vec<u8>,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// A second message with this id, within the window, is taken for the same. None: never.
    pub deduplication: Option<String>,
    /// How long that id is remembered; by default the store's own window.
    pub window: Option<Duration>,
    /// Messages of one group are given out one after the other, in the order in which they were sent.
    pub group: Option<String>,
    /// How long before it may be leased.
    pub delay: Duration,
    /// How often it is given out before it is dead; at least 1.
    pub attempts_max: u32,
}

/// Queues that share a bound, such as all of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// What it is called where it is full.
    pub name: String,
    /// What the names of its queues begin with.
    pub prefixes: Vec<String>,
    /// Messages that its queues may hold together, dead ones not counted.
    pub most: u64,
}

impl NewMessage {
    /// A message for now, with three attempts: what AWS Lambda makes for asynchronous calls.
    #[must_use]
    pub fn new(payload: Vec<u8>) -> Self {
        Self {
            name: String::new(),
            head: Vec::new(),
            payload,
            deduplication: None,
            window: None,
            group: None,
            delay: Duration::ZERO,
            attempts_max: 3,
        }
    }
}

/// A message's number, unique in its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MessageId(pub u64);

/// What came of sending a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueued {
    /// Its number, or that of the one it repeats.
    pub id: MessageId,
    /// Its name, or that of the one it repeats.
    pub name: String,
    /// Whether it repeats one, so that nothing was stored.
    pub duplicate: bool,
}

/// The right to finish one attempt of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// The message.
    pub id: MessageId,
    /// How often the message has been given out, this time included: no two leases of a message are alike.
    pub number: u64,
    /// Which attempt this is: 1 for the first.
    pub attempt: u32,
}

/// What is to be leased, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Take {
    /// At most so many messages.
    pub count: usize,
    /// How long each is held.
    pub visibility: Duration,
    /// How often a message of this queue is given out, if that is less often than the message itself says.
    pub attempts_max: Option<u32>,
    /// Messages that were sent longer ago are dropped.
    pub age_max: Option<Duration>,
    /// Whether the messages behind one of its group come with it, in their order.
    pub together: bool,
    /// Payload bytes of all together, the first message always; at most 64 MiB.
    pub bytes_max: usize,
}

impl Take {
    /// So many messages, one of a group at a time.
    #[must_use]
    pub fn new(count: usize, visibility: Duration) -> Self {
        Self { count, visibility, attempts_max: None, age_max: None, together: false, bytes_max: usize::MAX }
    }
}

/// What came of leasing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// What was leased.
    pub leased: Vec<Leased>,
    /// How many messages were found to have no attempt left, and died.
    pub died: usize,
}

/// What came of moving messages from one queue to others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moved {
    /// How many.
    pub count: usize,
    /// Where they went.
    pub queues: Vec<String>,
}

/// A message that was leased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// What acknowledges it.
    pub lease: Lease,
    /// Its sender's name for it.
    pub name: String,
    /// What is said of it.
    pub head: Vec<u8>,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// Its group.
    pub group: Option<String>,
    /// When it was sent.
    pub enqueued: Timestamp,
    /// When it was leased first.
    pub first: Timestamp,
    /// The queue that it died in, if it was moved here for that.
    pub source: Option<String>,
    /// Whether this attempt is the last.
    pub last: bool,
}

/// How a lease ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The message is finished and gone.
    Done,
    /// This attempt failed. After the last one the message is dead, for this reason.
    Failed {
        /// How long before it may be leased again.
        delay: Duration,
        /// Why.
        reason: String,
    },
    /// Nothing was tried: the attempt does not count.
    Released {
        /// How long before it may be leased again.
        delay: Duration,
    },
    /// It is given up, whatever attempts are left.
    Dead {
        /// Why.
        reason: String,
    },
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Its number.
    pub id: MessageId,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was sent.
    pub enqueued: Timestamp,
    /// When it was given up.
    pub died: Timestamp,
    /// Why the last attempt failed.
    pub reason: String,
}

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// May be leased now, or at its time.
    Waiting,
    /// Waits for an earlier message of its group.
    Blocked,
    /// Is being worked on.
    Leased,
    /// Was given up.
    Dead,
}

/// A message as it is listed: all but its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub id: MessageId,
    /// Its queue.
    pub queue: String,
    /// Its sender's name for it.
    pub name: String,
    /// What is said of it.
    pub head: Vec<u8>,
    /// How long its bytes are.
    pub payload_bytes: u64,
    /// Its group.
    pub group: Option<String>,
    /// Where it stands.
    pub state: State,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was sent, or redriven.
    pub enqueued: Timestamp,
    /// When it may be leased (next); of a dead one, when it died.
    pub due: Timestamp,
    /// Why the last attempt failed; empty if none has.
    pub reason: String,
}

/// How many messages a queue has, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// May be leased now.
    pub ready: u64,
    /// Will be ready later.
    pub delayed: u64,
    /// Wait for an earlier one of their group.
    pub blocked: u64,
    /// Are being worked on.
    pub leased: u64,
    /// Were given up.
    pub dead: u64,
}

/// A queue that has messages, or settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueInfo {
    /// Its name.
    pub queue: String,
    /// Messages that are not dead.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Dead messages.
    pub dead: u64,
    /// What was set of it.
    pub settings: Option<String>,
}
