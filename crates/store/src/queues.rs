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
//! that runs out is given again. A lease is fenced by its number, so who lost it can acknowledge nothing.
//!
//! Messages of one group are given out in their order, one at a time or, if a lease asks for it, several at once: the next
//! is blocked until those before are gone or dead.

mod look;
mod message;
mod operations;
mod settings;
mod sql;
mod take;

use std::{path::Path, sync::Arc, time::Duration};

use rouse_types::{Clock, Timestamp};
use tokio::sync::watch;

pub use self::message::{
    Dead, Depth, End, Enqueued, Lease, Leased, Listed, MessageId, Moved, NewMessage, QueueInfo, Room, State,
    Take, Taken,
};
use crate::{
    Error,
    backend::Backend,
    cluster::{Cluster, Replica},
    embedded::Db,
};

/// A queue's name, in bytes.
pub const QUEUE_BYTES_MAX: usize = 256;
/// A message's size: the largest request that a function may take, with room for its envelope.
pub const PAYLOAD_BYTES_MAX: usize = 8 << 20;
/// An id for deduplication, in bytes.
pub const DEDUPLICATION_BYTES_MAX: usize = 256;
/// Messages of one call.
pub const BATCH_MAX: usize = 1_000;
/// Payload bytes that one call sends: bounds memory, and how long others wait for it.
pub const BATCH_BYTES_MAX: usize = 64 << 20;
/// Payload bytes that one lease gives, the first message always: bounds a consumer's memory.
const LEASE_BYTES_MAX: usize = 64 << 20;
/// How long an id is remembered: what Amazon SQS takes.
pub const DEDUPLICATION_WINDOW_DEFAULT: Duration = Duration::from_secs(300);

/// Messages of one queue that are not dead: bounds the disk that a consumer which stands still can take.
pub const DEPTH_MAX: u64 = 1_000_000;
/// Their bytes.
pub const DEPTH_BYTES_MAX: u64 = 8 << 30;
/// How long dead messages are kept at least: what Amazon SQS keeps at most.
pub const DEAD_AGE: Duration = Duration::from_secs(14 * 24 * 3_600);
/// How many of one queue are kept: of more, the oldest are dropped.
pub const DEAD_MAX: u64 = 100_000;
/// A message's name, and that of its group, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// What is said of a message: an HTTP request's head and more.
pub const HEAD_BYTES_MAX: usize = 256 << 10;

/// A store of queues. Cheap to clone. A queue exists when it has messages or settings.
#[derive(Debug, Clone)]
pub struct Queues {
    db: Backend,
    clock: Arc<dyn Clock>,
    window: Duration,
}

impl Queues {
    /// Opens the store in this file, or makes it.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Version`], or what the operating system says.
    pub fn open(path: &Path, clock: Arc<dyn Clock>, deduplication_window: Duration) -> Result<Self, Error> {
        let db = Backend::Embedded(Arc::new(Db::open(path, "queues", sql::SCHEMA)?));
        Ok(Self { db, clock, window: deduplication_window })
    }

    /// Opens the store of this name in a cluster, or makes it there. This node's copy of it is in this folder, which
    /// one process owns. Needs the runtime that the cluster was joined on, and waits until the copy is up to date.
    ///
    /// # Errors
    /// As [`Records::join`](crate::Records::join).
    pub async fn join(
        cluster: &Cluster,
        name: &str,
        folder: &Path,
        clock: Arc<dyn Clock>,
        deduplication_window: Duration,
    ) -> Result<Self, Error> {
        let replica = Replica::open(cluster, name, folder, sql::SCHEMA, operations::replay).await?;
        Ok(Self { db: Backend::Cluster(Arc::new(replica)), clock, window: deduplication_window })
    }

    /// Waits until what was written anywhere before is seen by reads of this process. Embedded, it always is.
    ///
    /// # Errors
    /// [`Error::Away`] if the engine does not answer.
    pub async fn catch_up(&self) -> Result<(), Error> {
        self.db.catch_up().await
    }

    /// Sends messages, all or none. When this returns, they are on the disk.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is out of bounds, [`Error::TooDeep`], [`Error::Full`].
    pub async fn enqueue(&self, queue: &str, messages: Vec<NewMessage>) -> Result<Vec<Enqueued>, Error> {
        self.send(messages.into_iter().map(|message| (queue.to_owned(), message)).collect()).await
    }

    /// Sends messages, each to its queue; all or none.
    ///
    /// # Errors
    /// As [`Queues::enqueue`].
    pub async fn send(&self, messages: Vec<(String, NewMessage)>) -> Result<Vec<Enqueued>, Error> {
        check_messages(&messages)?;
        let (now, window) = (self.clock.now(), self.window);
        self.db.write(operations::Send { messages, now, window }).await
    }

    /// Sends messages, if their queues, with all others of the room, then hold no more than they may; all or none. Of many
    /// at once none goes beyond it.
    ///
    /// # Errors
    /// As [`Queues::enqueue`].
    pub async fn send_within(
        &self,
        messages: Vec<(String, NewMessage)>,
        room: Room,
    ) -> Result<Vec<Enqueued>, Error> {
        check_messages(&messages)?;
        let (now, window) = (self.clock.now(), self.window);
        self.db.write(operations::SendWithin { messages, room, now, window }).await
    }

    /// Takes up to `count` ready messages, the oldest first. Each is ready again after `visibility`,
    /// unless it is finished by then.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name.
    pub async fn lease(&self, queue: &str, count: usize, visibility: Duration) -> Result<Vec<Leased>, Error> {
        Ok(self.take(queue, Take::new(count, visibility)).await?.leased)
    }

    /// Takes ready messages, the oldest first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name.
    pub async fn take(&self, queue: &str, mut how: Take) -> Result<Taken, Error> {
        check(queue)?;
        let (queue, now) = (queue.to_owned(), self.clock.now());
        how.count = how.count.clamp(1, BATCH_MAX);
        // A look at what is there costs a cluster no write, where many nodes look.
        if matches!(self.db, Backend::Cluster(_)) && self.next_ready(&queue).await?.is_none_or(|at| at > now)
        {
            return Ok(Taken::default());
        }
        self.db.write(operations::Lend { queue, how, now }).await
    }

    /// Finishes messages. Tells for each lease whether it still held; one that does not was given to
    /// someone else, or finished already.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn ack(&self, leases: Vec<Lease>) -> Result<Vec<bool>, Error> {
        check_count(leases.len())?;
        let now = self.clock.now();
        self.db.write(operations::Finish { of: None, leases, now }).await
    }

    /// Gives a message back, to be ready after `delay`; after its last attempt it is dead, for `reason`.
    /// Tells whether the lease still held.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn nack(&self, lease: Lease, delay: Duration, reason: &str) -> Result<bool, Error> {
        self.end(lease, End::Failed { delay, reason: reason.to_owned() }, Vec::new()).await
    }

    /// Ends a lease and, if it still held, sends messages; both or neither. Tells whether it held.
    ///
    /// # Errors
    /// As [`Queues::enqueue`]; the lease holds on then.
    pub async fn end(&self, lease: Lease, how: End, then: Vec<(String, NewMessage)>) -> Result<bool, Error> {
        check_messages(&then)?;
        let (now, window) = (self.clock.now(), self.window);
        self.db.write(operations::Finally { lease, how, then, now, window }).await
    }

    /// Makes all that is leased of the queues with this prefix ready at once, its attempt not counted. For the
    /// start of their only consumer: whoever held them before is dead.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn reclaim(&self, prefix: &str) -> Result<usize, Error> {
        let (prefix, now) = (prefix.to_owned(), self.clock.now());
        self.db.write(operations::Reclaim { prefix, now }).await
    }

    /// Removes a message that is not dead, whoever holds it. Tells whether it was there.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn cancel(&self, id: MessageId) -> Result<bool, Error> {
        self.db.write(operations::Cancel { id }).await
    }

    /// Removes messages of a queue that wait and, if `held`, those that are being worked on. Gives how many there were.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name.
    pub async fn purge(&self, queue: &str, held: bool) -> Result<usize, Error> {
        check(queue)?;
        let mut purged = 0;
        loop {
            let queue = queue.to_owned();
            let some = self.db.write(operations::Purge { queue, held, most: BATCH_MAX }).await?;
            purged += some;
            // Bit by bit, so that others get their turn.
            if some < BATCH_MAX {
                return Ok(purged);
            }
        }
    }

    /// Removes a queue with all that it holds and remembers.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name.
    pub async fn delete(&self, queue: &str) -> Result<(), Error> {
        self.purge(queue, true).await?;
        loop {
            let queue = queue.to_owned();
            if !self.db.write(operations::Forget { queue, most: BATCH_MAX }).await? {
                return Ok(());
            }
        }
    }

    /// Moves up to `most` messages that wait, of those that are no newer than `upto`, to the queue `to`; or each to the
    /// queue that it died in.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name, [`Error::TooDeep`].
    pub async fn transfer(
        &self,
        queue: &str,
        to: Option<&str>,
        upto: MessageId,
        most: usize,
    ) -> Result<Moved, Error> {
        check(queue)?;
        to.map_or(Ok(()), check)?;
        let (queue, to, now) = (queue.to_owned(), to.map(str::to_owned), self.clock.now());
        let most = most.clamp(1, BATCH_MAX);
        self.db.write(operations::Transfer { queue, to, upto, most, now }).await
    }

    /// The number of a queue's newest message.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn newest(&self, queue: &str) -> Result<MessageId, Error> {
        let queue = queue.to_owned();
        self.db.read(move |db| settings::newest(db, &queue)).await
    }

    /// What was set of a queue, as it was written; none of one that nothing was set of.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name.
    pub async fn settings(&self, queue: &str) -> Result<Option<String>, Error> {
        check(queue)?;
        let queue = queue.to_owned();
        self.db.read(move |db| settings::settings(db, &queue)).await
    }

    /// Sets what is kept of a queue, which is there from now on, and where its dead messages go.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name, or for more than [`HEAD_BYTES_MAX`].
    pub async fn configure(&self, queue: &str, settings: &str, dead_to: Option<&str>) -> Result<(), Error> {
        check(queue)?;
        dead_to.map_or(Ok(()), check)?;
        if settings.len() > HEAD_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "the settings of {queue} have more than {HEAD_BYTES_MAX} bytes"
            )));
        }
        let (queue, settings) = (queue.to_owned(), settings.to_owned());
        let dead_to = dead_to.map(str::to_owned);
        self.db.write(operations::Configure { queue, settings, dead_to }).await
    }

    /// Sets where messages of a queue go that have used up their attempts: to its own dead ones, or to a queue.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name.
    pub async fn dead_to(&self, queue: &str, to: Option<&str>) -> Result<(), Error> {
        check(queue)?;
        to.map_or(Ok(()), check)?;
        let (queue, to) = (queue.to_owned(), to.map(str::to_owned));
        self.db.write(operations::DeadTo { queue, to }).await
    }

    /// Finishes messages of one queue, as [`Queues::ack`]; a lease of another queue's message does not hold.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn ack_in(&self, queue: &str, leases: Vec<Lease>) -> Result<Vec<bool>, Error> {
        check_count(leases.len())?;
        let (of, now) = (Some(queue.to_owned()), self.clock.now());
        self.db.write(operations::Finish { of, leases, now }).await
    }

    /// Holds on to messages of one queue, each for so long from now on. Tells for each lease whether it still held.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn extend_in(&self, queue: &str, leases: Vec<(Lease, Duration)>) -> Result<Vec<bool>, Error> {
        check_count(leases.len())?;
        let now = self.clock.now();
        let leases = leases.into_iter().map(|(lease, visibility)| (lease, now + visibility)).collect();
        self.db.write(operations::Extend { of: Some(queue.to_owned()), leases }).await
    }

    /// Holds on to a message for `visibility` from now on. Tells whether the lease still held.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn extend(&self, lease: Lease, visibility: Duration) -> Result<bool, Error> {
        let until = self.clock.now() + visibility;
        let held = self.db.write(operations::Extend { of: None, leases: vec![(lease, until)] }).await?;
        Ok(held.first() == Some(&true))
    }

    /// How many messages there are.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name.
    pub async fn depth(&self, queue: &str) -> Result<Depth, Error> {
        check(queue)?;
        let (queue, now) = (queue.to_owned(), self.clock.now());
        self.db.read(move |db| look::depth(db, &queue, now)).await
    }

    /// When the next message becomes ready, which may be past; none if there is no message. With
    /// [`Queues::changes`], a consumer sleeps until there is work.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name.
    pub async fn next_ready(&self, queue: &str) -> Result<Option<Timestamp>, Error> {
        check(queue)?;
        let queue = queue.to_owned();
        self.db.read(move |db| look::next_ready(db, &queue)).await
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
        self.db.read(move |db| look::dead(db, &queue, after, limit)).await
    }

    /// Messages of a queue in the order in which they were sent, after `after`: the dead ones, or all others.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name.
    pub async fn list(
        &self,
        queue: &str,
        dead: bool,
        after: Option<MessageId>,
        limit: usize,
    ) -> Result<Vec<Listed>, Error> {
        check(queue)?;
        let (queue, limit) = (queue.to_owned(), limit.clamp(1, BATCH_MAX));
        self.db.read(move |db| look::list(db, &queue, dead, after, limit)).await
    }

    /// The message of this name, dead or not, with its bytes.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn find(&self, name: &str) -> Result<Option<(Listed, Vec<u8>)>, Error> {
        let name = name.to_owned();
        self.db.read(move |db| look::find(db, &name)).await
    }

    /// Queues whose names begin with `prefix`, by name, after `after`.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn queues(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<QueueInfo>, Error> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        let limit = limit.clamp(1, BATCH_MAX);
        self.db.read(move |db| look::queues(db, &prefix, after.as_deref(), limit)).await
    }

    /// Makes dead messages ready again, with all their attempts. Gives how many there were.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn redrive(&self, queue: &str, ids: Vec<MessageId>) -> Result<usize, Error> {
        check(queue)?;
        check_count(ids.len())?;
        let (queue, now) = (queue.to_owned(), self.clock.now());
        self.db.write(operations::Redrive { queue, ids, now }).await
    }

    /// Deletes dead messages. Gives how many there were.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn bury(&self, queue: &str, ids: Vec<MessageId>) -> Result<usize, Error> {
        check(queue)?;
        check_count(ids.len())?;
        let queue = queue.to_owned();
        self.db.write(operations::Bury { queue, ids }).await
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

fn check_messages(messages: &[(String, NewMessage)]) -> Result<(), Error> {
    check_count(messages.len())?;
    let bytes: usize = messages.iter().map(|(_, message)| message.payload.len()).sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(Error::Invalid(format!(
            "messages of {bytes} bytes in one call: at most {BATCH_BYTES_MAX} are allowed"
        )));
    }
    for (queue, message) in messages {
        check(queue)?;
        let bytes = message.payload.len();
        if bytes > PAYLOAD_BYTES_MAX || message.head.len() > HEAD_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "a message of {bytes} bytes for {queue}: at most {PAYLOAD_BYTES_MAX} are allowed, and \
                 {HEAD_BYTES_MAX} for what is said of it"
            )));
        }
        let id = message.deduplication.as_deref().unwrap_or("-");
        let group = message.group.as_deref().unwrap_or("-");
        if !(1..=DEDUPLICATION_BYTES_MAX).contains(&id.len())
            || !(1..=NAME_BYTES_MAX).contains(&group.len())
            || message.name.len() > NAME_BYTES_MAX
            || message.attempts_max == 0
        {
            return Err(Error::Invalid(format!(
                "a message for {queue}: its id and its group must have 1 to {DEDUPLICATION_BYTES_MAX} bytes, its \
                 attempts must be at least 1"
            )));
        }
    }
    Ok(())
}

fn check_count(count: usize) -> Result<(), Error> {
    if count > BATCH_MAX {
        return Err(Error::Invalid(format!("{count} messages in one call: at most {BATCH_MAX} are allowed")));
    }
    Ok(())
}
