//! Queues: durable, deduplicated, leased, with delayed redelivery and a bounded number of attempts.
//!
//! ```text
//!   enqueue ──▶ delayed ──▶ ready ──lease──▶ leased ──ack──▶ gone
//!                  ▲           ▲                │
//!                  │           └── time is up ──┤   attempts left
//!                  └────────────── nack ────────┤
//!                                               └──────────▶ dead: after the last attempt
//! ```
//!
//! A message that was accepted ends acknowledged or dead, never nowhere. It may run more than once: a lease
//! that runs out is given again. A lease is fenced by its attempt, so who lost it can acknowledge nothing.

mod sql;

use std::{path::Path, sync::Arc, time::Duration};

use rouse_types::{Clock, Timestamp};
use tokio::sync::watch;

use crate::{Error, embedded::Db};

/// A queue's name, in bytes.
pub const QUEUE_BYTES_MAX: usize = 256;
/// A message's size: the largest request that a function may take, with room for its envelope.
pub const PAYLOAD_BYTES_MAX: usize = 8 << 20;
/// An id for deduplication, in bytes.
pub const DEDUPLICATION_BYTES_MAX: usize = 128;
/// Messages of one call.
pub const BATCH_MAX: usize = 1_000;
/// Payload bytes that one call sends: bounds memory, and how long others wait for it.
pub const BATCH_BYTES_MAX: usize = 64 << 20;
/// Payload bytes that one lease gives, the first message always: bounds a consumer's memory.
const LEASE_BYTES_MAX: usize = 64 << 20;
/// How long an id is remembered: what Amazon SQS takes.
pub const DEDUPLICATION_WINDOW_DEFAULT: Duration = Duration::from_secs(300);

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Its bytes.
    pub payload: Vec<u8>,
    /// A second message with this id, within the window, is taken for the same. None: never.
    pub deduplication: Option<String>,
    /// How long before it may be leased.
    pub delay: Duration,
    /// How often it is given out before it is dead; at least 1.
    pub attempts_max: u32,
}

impl NewMessage {
    /// A message for now, with three attempts: what AWS Lambda makes for asynchronous calls.
    #[must_use]
    pub fn new(payload: Vec<u8>) -> Self {
        Self { payload, deduplication: None, delay: Duration::ZERO, attempts_max: 3 }
    }
}

/// A message's number, unique in its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u64);

/// What came of sending a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    /// Its number, or that of the one it repeats.
    pub id: MessageId,
    /// Whether it repeats one, so that nothing was stored.
    pub duplicate: bool,
}

/// The right to finish one attempt of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The message.
    pub id: MessageId,
    /// Which attempt this is: 1 for the first.
    pub attempt: u32,
}

/// A message that was leased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// What acknowledges it.
    pub lease: Lease,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// When it was sent.
    pub enqueued: Timestamp,
    /// Whether this attempt is the last.
    pub last: bool,
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

/// How many messages a queue has, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// May be leased now.
    pub ready: u64,
    /// Will be ready later.
    pub delayed: u64,
    /// Are being worked on.
    pub leased: u64,
    /// Were given up.
    pub dead: u64,
}

/// A store of queues. Cheap to clone. A queue exists when it has messages.
#[derive(Debug, Clone)]
pub struct Queues {
    db: Arc<Db>,
    clock: Arc<dyn Clock>,
    window: Duration,
}

impl Queues {
    /// Opens the store in this file, or makes it.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Version`], or what the operating system says.
    pub fn open(path: &Path, clock: Arc<dyn Clock>, deduplication_window: Duration) -> Result<Self, Error> {
        let db = Arc::new(Db::open(path, "queues", sql::SCHEMA)?);
        Ok(Self { db, clock, window: deduplication_window })
    }

    /// Sends messages, all or none. When this returns, they are on the disk.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is out of bounds, [`Error::Full`].
    pub async fn enqueue(&self, queue: &str, messages: Vec<NewMessage>) -> Result<Vec<Enqueued>, Error> {
        check(queue)?;
        check_count(messages.len())?;
        let bytes: usize = messages.iter().map(|message| message.payload.len()).sum();
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "messages of {bytes} bytes in one call for {queue}: at most {BATCH_BYTES_MAX} are allowed"
            )));
        }
        for message in &messages {
            let bytes = message.payload.len();
            if bytes > PAYLOAD_BYTES_MAX {
                return Err(Error::Invalid(format!(
                    "a message of {bytes} bytes for {queue}: at most {PAYLOAD_BYTES_MAX} are allowed"
                )));
            }
            let id = message.deduplication.as_deref().unwrap_or("-");
            if !(1..=DEDUPLICATION_BYTES_MAX).contains(&id.len()) || message.attempts_max == 0 {
                return Err(Error::Invalid(format!(
                    "a message for {queue}: its id must have 1 to {DEDUPLICATION_BYTES_MAX} bytes, its attempts \
                     must be at least 1"
                )));
            }
        }
        let (queue, now, window) = (queue.to_owned(), self.clock.now(), self.window);
        self.db.write(move |db| sql::enqueue(db, &queue, &messages, now, window)).await
    }

    /// Takes up to `count` ready messages, the oldest first. Each is ready again after `visibility`,
    /// unless it is finished by then.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name.
    pub async fn lease(&self, queue: &str, count: usize, visibility: Duration) -> Result<Vec<Leased>, Error> {
        check(queue)?;
        let (queue, now) = (queue.to_owned(), self.clock.now());
        let count = count.clamp(1, BATCH_MAX);
        self.db.write(move |db| sql::lease(db, &queue, count, now, visibility, LEASE_BYTES_MAX)).await
    }

    /// Finishes messages. Tells for each lease whether it still held; one that does not was given to
    /// someone else, or finished already.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn ack(&self, leases: Vec<Lease>) -> Result<Vec<bool>, Error> {
        check_count(leases.len())?;
        self.db.write(move |db| leases.iter().map(|&lease| sql::ack(db, lease)).collect()).await
    }

    /// Gives a message back, to be ready after `delay`; after its last attempt it is dead, for `reason`.
    /// Tells whether the lease still held.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn nack(&self, lease: Lease, delay: Duration, reason: &str) -> Result<bool, Error> {
        let now = self.clock.now();
        let reason = reason.chars().take(sql::REASON_CHARS_MAX).collect::<String>();
        self.db.write(move |db| sql::nack(db, lease, now, delay, &reason)).await
    }

    /// Holds on to a message for `visibility` from now on. Tells whether the lease still held.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn extend(&self, lease: Lease, visibility: Duration) -> Result<bool, Error> {
        let until = self.clock.now() + visibility;
        self.db.write(move |db| sql::extend(db, lease, until)).await
    }

    /// How many messages there are.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name.
    pub async fn depth(&self, queue: &str) -> Result<Depth, Error> {
        check(queue)?;
        let (queue, now) = (queue.to_owned(), self.clock.now());
        self.db.read(move |db| sql::depth(db, &queue, now)).await
    }

    /// When the next message becomes ready, which may be past; none if there is no message. With
    /// [`Queues::changes`], a consumer sleeps until there is work.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name.
    pub async fn next_ready(&self, queue: &str) -> Result<Option<Timestamp>, Error> {
        check(queue)?;
        let queue = queue.to_owned();
        self.db.read(move |db| sql::next_ready(db, &queue)).await
    }

    /// Changes whenever something was written to any queue of this store.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.db.commits()
    }

    /// Messages that were given up, by number, after `after`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name.
    pub async fn dead(
        &self,
        queue: &str,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<Dead>, Error> {
        check(queue)?;
        let (queue, limit) = (queue.to_owned(), limit.clamp(1, BATCH_MAX));
        self.db.read(move |db| sql::dead(db, &queue, after, limit)).await
    }

    /// Makes dead messages ready again, with all their attempts. Gives how many there were.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn redrive(&self, queue: &str, ids: Vec<MessageId>) -> Result<usize, Error> {
        check(queue)?;
        check_count(ids.len())?;
        let (queue, now) = (queue.to_owned(), self.clock.now());
        self.db.write(move |db| sql::redrive(db, &queue, &ids, now)).await
    }

    /// Deletes dead messages. Gives how many there were.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn bury(&self, queue: &str, ids: Vec<MessageId>) -> Result<usize, Error> {
        check(queue)?;
        check_count(ids.len())?;
        let queue = queue.to_owned();
        self.db.write(move |db| sql::bury(db, &queue, &ids)).await
    }
}

fn check(queue: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'/' | b'.');
    if (1..=QUEUE_BYTES_MAX).contains(&queue.len()) && queue.bytes().all(allowed) {
        return Ok(());
    }
    let shown: String = queue.chars().take(80).collect();
    Err(Error::Invalid(format!(
        "'{shown}' is not a queue's name: use 1 to {QUEUE_BYTES_MAX} letters, digits, '-', '_', '/' and '.'"
    )))
}

fn check_count(count: usize) -> Result<(), Error> {
    if count > BATCH_MAX {
        return Err(Error::Invalid(format!("{count} messages in one call: at most {BATCH_MAX} are allowed")));
    }
    Ok(())
}
