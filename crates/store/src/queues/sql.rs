//! Queues in SQLite. Each function runs inside the writer's transaction, or reads.

use std::time::Duration;

use rouse_types::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Dead, Depth, Enqueued, Lease, Leased, MessageId, NewMessage};
use crate::Error;

/// Why a message died is for people to read.
pub(super) const REASON_CHARS_MAX: usize = 500;
/// Ids forgotten by one call: bounds its time.
const FORGET_MAX: i64 = 1_000;

// `visible` is when a message may be leased, in microseconds since the epoch.
pub(super) const SCHEMA: &str = "
CREATE TABLE messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, visible INTEGER NOT NULL,
  leased INTEGER NOT NULL, attempts INTEGER NOT NULL, attempts_max INTEGER NOT NULL,
  enqueued INTEGER NOT NULL, payload BLOB NOT NULL
) STRICT;
CREATE INDEX messages_by_visibility ON messages (queue, visible, id);
CREATE TABLE deduplication (
  queue TEXT NOT NULL, id TEXT NOT NULL, message INTEGER NOT NULL, expires INTEGER NOT NULL,
  PRIMARY KEY (queue, id)
) STRICT;
CREATE INDEX deduplication_by_expiry ON deduplication (expires);
CREATE TABLE dead (
  id INTEGER PRIMARY KEY, queue TEXT NOT NULL, attempts INTEGER NOT NULL, attempts_max INTEGER NOT NULL,
  enqueued INTEGER NOT NULL, died INTEGER NOT NULL, reason TEXT NOT NULL, payload BLOB NOT NULL
) STRICT;
CREATE INDEX dead_by_queue ON dead (queue, id);
";

fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get::<_, i64>(column).map(|time| Timestamp(time.unsigned_abs()))
}

fn message_id(row: &Row<'_>, column: usize) -> rusqlite::Result<MessageId> {
    row.get::<_, i64>(column).map(|id| MessageId(id.unsigned_abs()))
}

pub(super) fn enqueue(
    db: &Connection,
    queue: &str,
    messages: &[NewMessage],
    now: Timestamp,
    window: Duration,
) -> Result<Vec<Enqueued>, Error> {
    let mut forget = db.prepare_cached(
        "DELETE FROM deduplication WHERE rowid IN
         (SELECT rowid FROM deduplication WHERE expires <= ?1 LIMIT ?2)",
    )?;
    forget.execute(params![stored(now.0), FORGET_MAX])?;
    let mut known =
        db.prepare_cached("SELECT message FROM deduplication WHERE queue = ?1 AND id = ?2 AND expires > ?3")?;
    let mut remember = db.prepare_cached(
        "INSERT OR REPLACE INTO deduplication (queue, id, message, expires) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let mut insert = db.prepare_cached(
        "INSERT INTO messages (queue, visible, leased, attempts, attempts_max, enqueued, payload)
         VALUES (?1, ?2, 0, 0, ?3, ?4, ?5)",
    )?;
    let mut sent = Vec::with_capacity(messages.len());
    for message in messages {
        if let Some(id) = &message.deduplication {
            let first =
                known.query_row(params![queue, id, stored(now.0)], |row| message_id(row, 0)).optional()?;
            if let Some(id) = first {
                sent.push(Enqueued { id, duplicate: true });
                continue;
            }
        }
        let visible = stored((now + message.delay).0);
        insert.execute(params![queue, visible, message.attempts_max, stored(now.0), message.payload])?;
        let id = db.last_insert_rowid();
        if let Some(deduplication) = &message.deduplication {
            remember.execute(params![queue, deduplication, id, stored((now + window).0)])?;
        }
        sent.push(Enqueued { id: MessageId(id.unsigned_abs()), duplicate: false });
    }
    Ok(sent)
}

pub(super) fn lease(
    db: &Connection,
    queue: &str,
    count: usize,
    now: Timestamp,
    visibility: Duration,
    bytes_max: usize,
) -> Result<Vec<Leased>, Error> {
    let mut ready = db.prepare_cached(
        "SELECT id, attempts, attempts_max, enqueued, length(payload) FROM messages
         WHERE queue = ?1 AND visible <= ?2 ORDER BY visible, id LIMIT ?3",
    )?;
    type Found = (i64, u32, u32, Timestamp, usize);
    let found = ready.query_map(params![queue, stored(now.0), stored(count as u64)], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, time(row, 3)?, row.get::<_, isize>(4)?.unsigned_abs()))
    })?;
    let found: Vec<Found> = found.collect::<Result<_, _>>()?;
    let mut take = db.prepare_cached(
        "UPDATE messages SET leased = 1, attempts = attempts + 1, visible = ?2 WHERE id = ?1
         RETURNING payload",
    )?;
    let mut bytes = 0;
    let mut leased: Vec<Leased> = Vec::new();
    for (id, attempts, attempts_max, enqueued, size) in found {
        if attempts >= attempts_max {
            // Its last attempt neither finished nor failed in time.
            die(db, id, now, "the last attempt did not finish in time")?;
            continue;
        }
        bytes += size;
        if bytes > bytes_max && !leased.is_empty() {
            break;
        }
        let attempt = attempts + 1;
        let payload = take.query_row(params![id, stored((now + visibility).0)], |row| row.get(0))?;
        let lease = Lease { id: MessageId(id.unsigned_abs()), attempt };
        leased.push(Leased { lease, payload, enqueued, last: attempt >= attempts_max });
    }
    Ok(leased)
}

pub(super) fn ack(db: &Connection, lease: Lease) -> Result<bool, Error> {
    let mut delete =
        db.prepare_cached("DELETE FROM messages WHERE id = ?1 AND attempts = ?2 AND leased = 1")?;
    Ok(delete.execute(params![stored(lease.id.0), lease.attempt])? == 1)
}

pub(super) fn nack(
    db: &Connection,
    lease: Lease,
    now: Timestamp,
    delay: Duration,
    reason: &str,
) -> Result<bool, Error> {
    let mut give_back = db.prepare_cached(
        "UPDATE messages SET leased = 0, visible = ?3 WHERE id = ?1 AND attempts = ?2 AND leased = 1
         RETURNING attempts >= attempts_max",
    )?;
    let id = stored(lease.id.0);
    let over: Option<bool> = give_back
        .query_row(params![id, lease.attempt, stored((now + delay).0)], |row| row.get(0))
        .optional()?;
    if over == Some(true) {
        die(db, id, now, reason)?;
    }
    Ok(over.is_some())
}

pub(super) fn extend(db: &Connection, lease: Lease, until: Timestamp) -> Result<bool, Error> {
    let mut extend =
        db.prepare_cached("UPDATE messages SET visible = ?3 WHERE id = ?1 AND attempts = ?2 AND leased = 1")?;
    Ok(extend.execute(params![stored(lease.id.0), lease.attempt, stored(until.0)])? == 1)
}

fn die(db: &Connection, id: i64, now: Timestamp, reason: &str) -> Result<(), Error> {
    let mut keep = db.prepare_cached(
        "INSERT INTO dead (id, queue, attempts, attempts_max, enqueued, died, reason, payload)
         SELECT id, queue, attempts, attempts_max, enqueued, ?2, ?3, payload FROM messages WHERE id = ?1",
    )?;
    keep.execute(params![id, stored(now.0), reason])?;
    db.prepare_cached("DELETE FROM messages WHERE id = ?1")?.execute([id])?;
    Ok(())
}

pub(super) fn depth(db: &Connection, queue: &str, now: Timestamp) -> Result<Depth, Error> {
    let mut count = db.prepare_cached(
        "SELECT count(*) FILTER (WHERE visible <= ?2),
                count(*) FILTER (WHERE visible > ?2 AND leased = 0),
                count(*) FILTER (WHERE visible > ?2 AND leased = 1),
                (SELECT count(*) FROM dead WHERE queue = ?1)
         FROM messages WHERE queue = ?1",
    )?;
    let number = |row: &Row<'_>, column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    Ok(count.query_row(params![queue, stored(now.0)], |row| {
        let (ready, delayed) = (number(row, 0)?, number(row, 1)?);
        Ok(Depth { ready, delayed, leased: number(row, 2)?, dead: number(row, 3)? })
    })?)
}

pub(super) fn next_ready(db: &Connection, queue: &str) -> Result<Option<Timestamp>, Error> {
    let mut next =
        db.prepare_cached("SELECT visible FROM messages WHERE queue = ?1 ORDER BY visible, id LIMIT 1")?;
    Ok(next.query_row([queue], |row| time(row, 0)).optional()?)
}

pub(super) fn dead(
    db: &Connection,
    queue: &str,
    after: Option<MessageId>,
    limit: usize,
) -> Result<Vec<Dead>, Error> {
    let mut query = db.prepare_cached(
        "SELECT id, attempts, enqueued, died, reason, payload FROM dead
         WHERE queue = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    )?;
    let after = after.map_or(0, |MessageId(id)| stored(id));
    let rows = query.query_map(params![queue, after, stored(limit as u64)], |row| {
        Ok(Dead {
            id: message_id(row, 0)?,
            attempts: row.get(1)?,
            enqueued: time(row, 2)?,
            died: time(row, 3)?,
            reason: row.get(4)?,
            payload: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn redrive(
    db: &Connection,
    queue: &str,
    ids: &[MessageId],
    now: Timestamp,
) -> Result<usize, Error> {
    let mut revive = db.prepare_cached(
        "INSERT INTO messages (id, queue, visible, leased, attempts, attempts_max, enqueued, payload)
         SELECT id, queue, ?3, 0, 0, attempts_max, enqueued, payload FROM dead WHERE id = ?1 AND queue = ?2",
    )?;
    for id in ids {
        revive.execute(params![stored(id.0), queue, stored(now.0)])?;
    }
    bury(db, queue, ids)
}

pub(super) fn bury(db: &Connection, queue: &str, ids: &[MessageId]) -> Result<usize, Error> {
    let mut delete = db.prepare_cached("DELETE FROM dead WHERE id = ?1 AND queue = ?2")?;
    let mut buried = 0;
    for id in ids {
        buried += delete.execute(params![stored(id.0), queue])?;
    }
    Ok(buried)
}
