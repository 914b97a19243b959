//! The operations that change queues, each a value of its own: a cluster's log carries them from node to node.
//! The time and all names are in them; [`super::sql`], [`super::take`] and [`super::settings`] say what they do.

use std::time::Duration;

use rouse_types::Timestamp;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::{End, Enqueued, Lease, MessageId, Moved, NewMessage, Room, Take, Taken, settings, sql, take};
use crate::{
    Error,
    backend::{self, Operation},
};

/// Declares operations: the tag, the fields, what comes of it, and how it is applied. A tag is never used again for
/// another operation, and fields never change: an operation that takes more is a new one.
macro_rules! operations {
    ($($tag:literal $name:ident { $($field:ident: $type:ty),* } -> $output:ty, |$this:ident, $db:ident| $apply:expr;)*) => {
        $(
            #[derive(Debug, Serialize, Deserialize)]
            pub(super) struct $name { $(pub(super) $field: $type),* }

            impl Operation for $name {
                const TAG: u8 = $tag;
                type Output = $output;
                fn apply(&self, $db: &Connection) -> Result<$output, Error> {
                    let $this = self;
                    $apply
                }
            }
        )*

        pub(super) fn replay(tag: u8, bytes: &[u8], db: &Connection) -> Result<(), Error> {
            match tag {
                $($tag => backend::replay::<$name>(bytes, db),)*
                _ => Err(Error::Log(format!("this release knows no operation {tag} of queues"))),
            }
        }
    };
}

operations! {
    1 Send { messages: Vec<(String, NewMessage)>, now: Timestamp, window: Duration } -> Vec<Enqueued>,
        |op, db| sql::enqueue(db, &op.messages, op.now, op.window);
    2 Lend { queue: String, how: Take, now: Timestamp } -> Taken,
        |op, db| take::lease(db, &op.queue, &op.how, op.now);
    3 Finish { of: Option<String>, leases: Vec<Lease>, now: Timestamp } -> Vec<bool>,
        |op, db| op.leases.iter().map(|&lease| Ok(
            is_of(db, op.of.as_deref(), lease)? && sql::end(db, lease, &End::Done, op.now)?
        )).collect();
    4 Finally { lease: Lease, how: End, then: Vec<(String, NewMessage)>, now: Timestamp, window: Duration } -> bool,
        |op, db| {
            let held = sql::end(db, op.lease, &op.how, op.now)?;
            if held {
                sql::enqueue(db, &op.then, op.now, op.window)?;
            }
            Ok(held)
        };
    5 Reclaim { prefix: String, now: Timestamp } -> usize,
        |op, db| sql::reclaim(db, &op.prefix, op.now);
    6 Cancel { id: MessageId } -> bool,
        |op, db| {
            let id = sql::stored(op.id.0);
            let there = db.prepare_cached("SELECT 1 FROM messages WHERE id = ?1")?.exists([id])?;
            if there {
                sql::remove(db, id)?;
            }
            Ok(there)
        };
    7 Purge { queue: String, held: bool, most: usize } -> usize,
        |op, db| settings::purge(db, &op.queue, op.held, op.most);
    8 Forget { queue: String, most: usize } -> bool,
        |op, db| settings::forget(db, &op.queue, op.most);
    9 Transfer { queue: String, to: Option<String>, upto: MessageId, most: usize, now: Timestamp } -> Moved,
        |op, db| settings::transfer(db, &op.queue, op.to.as_deref(), op.upto, op.most, op.now);
    10 Configure { queue: String, settings: String, dead_to: Option<String> } -> (),
        |op, db| settings::configure(db, &op.queue, &op.settings, op.dead_to.as_deref());
    11 DeadTo { queue: String, to: Option<String> } -> (),
        |op, db| settings::dead_to(db, &op.queue, op.to.as_deref());
    12 Extend { of: Option<String>, leases: Vec<(Lease, Timestamp)> } -> Vec<bool>,
        |op, db| op.leases.iter().map(|&(lease, until)| Ok(
            is_of(db, op.of.as_deref(), lease)? && sql::extend(db, lease, until)?
        )).collect();
    13 Redrive { queue: String, ids: Vec<MessageId>, now: Timestamp } -> usize,
        |op, db| sql::redrive(db, &op.queue, &op.ids, op.now);
    14 Bury { queue: String, ids: Vec<MessageId> } -> usize,
        |op, db| sql::bury(db, &op.queue, &op.ids);
    15 SendWithin { messages: Vec<(String, NewMessage)>, room: Room, now: Timestamp, window: Duration } -> Vec<Enqueued>,
        |op, db| sql::enqueue_within(db, &op.messages, &op.room, op.now, op.window);
}

/// Whether a lease is of a message of this queue, if one is named.
fn is_of(db: &Connection, queue: Option<&str>, lease: Lease) -> Result<bool, Error> {
    queue.map_or(Ok(true), |queue| settings::holds(db, queue, lease.id))
}
