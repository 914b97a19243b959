//! Queues in SQLite: sending, leasing and finishing. Each function runs inside the writer's transaction.
//!
//! Of each group the oldest message alone can be leased, or it and those behind it at once: the others are blocked until
//! it is gone, and whatever removes a message makes the next of its group ready. So a lease never searches past messages
//! that it may not give.

use std::time::Duration;

use rouse_types::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    DEAD_AGE, DEAD_MAX, DEPTH_BYTES_MAX, DEPTH_MAX, End, Enqueued, Lease, MessageId, NewMessage, Room,
};
use crate::Error;

/// Why a message died is for people to read.
const REASON_CHARS_MAX: usize = 500;
/// Ids forgotten, and old dead messages dropped, by one call: bounds its time.
const FORGET_MAX: i64 = 1_000;

/// May be leased from `visible` on.
pub(super) const WAITING: u8 = 0;
/// Is leased until `visible`.
pub(super) const LEASED: u8 = 1;
/// Waits for an earlier one of its group.
pub(super) const BLOCKED: u8 = 2;

// `visible` is when a message may be leased, in microseconds since the epoch; `due` is the same for a blocked one,
// once it is its turn. `leases` counts how often a message was given out, `attempts` how often that counted.
// `first` is when a message was leased first, below zero before: of the same size, so that a lease overwrites a few bytes
// of a row and not its payload. `source` is the queue that it died in.
pub(super) const SCHEMA: &str = "
CREATE TABLE messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, name TEXT NOT NULL, grp TEXT,
  state INTEGER NOT NULL, visible INTEGER NOT NULL, due INTEGER NOT NULL,
  leases INTEGER NOT NULL, attempts INTEGER NOT NULL, attempts_max INTEGER NOT NULL,
  enqueued INTEGER NOT NULL, first INTEGER NOT NULL, reason TEXT NOT NULL, source TEXT,
  head BLOB NOT NULL, payload BLOB NOT NULL
) STRICT;
CREATE INDEX messages_by_visibility ON messages (queue, visible, id);
CREATE INDEX messages_by_group ON messages (queue, grp, id) WHERE grp IS NOT NULL;
CREATE INDEX messages_by_name ON messages (name) WHERE name <> '';
CREATE TABLE deduplication (
  queue TEXT NOT NULL, id TEXT NOT NULL, message INTEGER NOT NULL, name TEXT NOT NULL, expires INTEGER NOT NULL,
  PRIMARY KEY (queue, id)
) STRICT;
CREATE INDEX deduplication_by_expiry ON deduplication (expires);
CREATE TABLE dead (
  id INTEGER PRIMARY KEY, queue TEXT NOT NULL, name TEXT NOT NULL, grp TEXT,
  leases INTEGER NOT NULL, attempts INTEGER NOT NULL, attempts_max INTEGER NOT NULL,
  enqueued INTEGER NOT NULL, died INTEGER NOT NULL, reason TEXT NOT NULL,
  head BLOB NOT NULL, payload BLOB NOT NULL
) STRICT;
CREATE INDEX dead_by_queue ON dead (queue, id);
CREATE INDEX dead_by_name ON dead (name) WHERE name <> '';
CREATE TABLE queues (
  queue TEXT PRIMARY KEY, messages INTEGER NOT NULL, bytes INTEGER NOT NULL, dead INTEGER NOT NULL,
  dead_to TEXT, settings TEXT
) STRICT, WITHOUT ROWID;
";

pub(super) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get::<_, i64>(column).map(|time| Timestamp(time.unsigned_abs()))
}

pub(super) fn message_id(row: &Row<'_>, column: usize) -> rusqlite::Result<MessageId> {
    row.get::<_, i64>(column).map(|id| MessageId(id.unsigned_abs()))
}

/// Counts what came into a queue or left it.
pub(super) fn count(db: &Connection, queue: &str, messages: i64, bytes: i64, dead: i64) -> Result<(), Error> {
    let mut count = db.prepare_cached(
        "INSERT INTO queues (queue, messages, bytes, dead) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET messages = messages + ?2, bytes = bytes + ?3, dead = dead + ?4",
    )?;
    count.execute(params![queue, messages, bytes, dead])?;
    // What is empty and has no settings is no queue any more.
    if messages < 0 || dead < 0 {
        let mut forget = db.prepare_cached(
            "DELETE FROM queues WHERE queue = ?1 AND messages <= 0 AND dead <= 0 AND dead_to IS NULL
             AND settings IS NULL",
        )?;
        forget.execute([queue])?;
    }
    Ok(())
}

pub(super) fn enqueue(
    db: &Connection,
    messages: &[(String, NewMessage)],
    now: Timestamp,
    window: Duration,
) -> Result<Vec<Enqueued>, Error> {
    let mut forget = db.prepare_cached(
        "DELETE FROM deduplication WHERE rowid IN
         (SELECT rowid FROM deduplication WHERE expires <= ?1 ORDER BY expires, queue, id LIMIT ?2)",
    )?;
    forget.execute(params![stored(now.0), FORGET_MAX])?;
    let mut known = db.prepare_cached(
        "SELECT message, name FROM deduplication WHERE queue = ?1 AND id = ?2 AND expires > ?3",
    )?;
    let mut remember = db.prepare_cached(
        "INSERT OR REPLACE INTO deduplication (queue, id, message, name, expires) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut sent = Vec::with_capacity(messages.len());
    for (queue, message) in messages {
        if let Some(id) = &message.deduplication {
            let first = known.query_row(params![queue, id, stored(now.0)], |row| {
                Ok(Enqueued { id: message_id(row, 0)?, name: row.get(1)?, duplicate: true })
            });
            if let Some(first) = first.optional()? {
                sent.push(first);
                continue;
            }
        }
        let id = insert(db, queue, message, None, now)?;
        if let Some(deduplication) = &message.deduplication {
            let expires = stored((now + message.window.unwrap_or(window)).0);
            remember.execute(params![queue, deduplication, id, message.name, expires])?;
        }
        let id = MessageId(id.unsigned_abs());
        sent.push(Enqueued { id, name: message.name.clone(), duplicate: false });
    }
    Ok(sent)
}

/// The same, if what is new leaves so many queues together within what they may hold.
pub(super) fn enqueue_within(
    db: &Connection,
    messages: &[(String, NewMessage)],
    room: &Room,
    now: Timestamp,
    window: Duration,
) -> Result<Vec<Enqueued>, Error> {
    let sent = enqueue(db, messages, now, window)?;
    // A duplicate takes no room, and is answered as it was.
    if sent.iter().all(|sent| sent.duplicate) {
        return Ok(sent);
    }
    let mut sum =
        db.prepare_cached("SELECT coalesce(sum(messages), 0) FROM queues WHERE queue >= ?1 AND queue < ?2")?;
    let mut all = 0_i64;
    for prefix in &room.prefixes {
        all = all.saturating_add(sum.query_row(params![prefix, after(prefix)], |row| row.get(0))?);
    }
    if all <= stored(room.most) {
        return Ok(sent);
    }
    let new = sent.iter().filter(|sent| !sent.duplicate).count() as u64;
    let messages = all.unsigned_abs().saturating_sub(new);
    Err(Error::TooDeep { queue: room.name.clone(), messages, granted: Some(room.most) })
}

/// Inserts a message. `source` is the queue that it comes from, if it died there.
pub(super) fn insert(
    db: &Connection,
    queue: &str,
    message: &NewMessage,
    source: Option<&str>,
    now: Timestamp,
) -> Result<i64, Error> {
    let bytes = message.payload.len() as u64;
    let mut depth = db.prepare_cached("SELECT messages, bytes FROM queues WHERE queue = ?1")?;
    let depth = depth.query_row([queue], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
    if let Some((messages, held)) = depth.optional()?
        && (messages >= stored(DEPTH_MAX) || held.saturating_add(stored(bytes)) > stored(DEPTH_BYTES_MAX))
    {
        return Err(Error::TooDeep {
            queue: queue.to_owned(),
            messages: messages.unsigned_abs(),
            granted: None,
        });
    }
    let due = stored((now + message.delay).0);
    let blocked = match &message.group {
        Some(group) => group_has(db, queue, group)?,
        None => false,
    };
    let (state, visible) = if blocked { (BLOCKED, i64::MAX) } else { (WAITING, due) };
    let mut insert = db.prepare_cached(
        "INSERT INTO messages (queue, name, grp, state, visible, due, leases, attempts, attempts_max, enqueued,
                               first, reason, source, head, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, ?7, ?8, -?8, '', ?11, ?9, ?10)",
    )?;
    let NewMessage { name, group, attempts_max, head, payload, .. } = message;
    insert.execute(params![
        queue,
        name,
        group,
        state,
        visible,
        due,
        attempts_max,
        stored(now.0),
        head,
        payload,
        source
    ])?;
    let id = db.last_insert_rowid();
    count(db, queue, 1, stored(bytes), 0)?;
    Ok(id)
}

fn group_has(db: &Connection, queue: &str, group: &str) -> Result<bool, Error> {
    let mut any = db.prepare_cached("SELECT 1 FROM messages WHERE queue = ?1 AND grp = ?2 LIMIT 1")?;
    Ok(any.exists(params![queue, group])?)
}

/// Makes the oldest of a group ready: whoever was before it is gone.
fn promote(db: &Connection, queue: &str, group: &str) -> Result<(), Error> {
    let mut promote = db.prepare_cached(
        "UPDATE messages SET state = 0, visible = due
         WHERE id = (SELECT id FROM messages WHERE queue = ?1 AND grp = ?2 ORDER BY id LIMIT 1) AND state = 2",
    )?;
    promote.execute(params![queue, group])?;
    Ok(())
}

const HELD: &str = "id = ?1 AND leases = ?2 AND state = 1";

/// Ends a lease. Tells whether it still held.
pub(super) fn end(db: &Connection, lease: Lease, how: &End, now: Timestamp) -> Result<bool, Error> {
    let (id, number) = (stored(lease.id.0), stored(lease.number));
    match how {
        End::Done => {
            let mut held = db.prepare_cached(&format!("SELECT 1 FROM messages WHERE {HELD}"))?;
            if !held.exists(params![id, number])? {
                return Ok(false);
            }
            remove(db, id)?;
            Ok(true)
        }
        End::Failed { delay, reason } => {
            let mut back = db.prepare_cached(&format!(
                "UPDATE messages SET state = 0, visible = ?3, reason = ?4 WHERE {HELD} RETURNING attempts >= attempts_max"
            ))?;
            let reason = shortened(reason);
            let due = stored((now + *delay).0);
            let over: Option<bool> =
                back.query_row(params![id, number, due, reason], |row| row.get(0)).optional()?;
            if over == Some(true) {
                die(db, id, now, &reason)?;
            }
            Ok(over.is_some())
        }
        End::Released { delay } => {
            let mut back = db.prepare_cached(&format!(
                "UPDATE messages SET state = 0, visible = ?3, attempts = attempts - 1 WHERE {HELD}"
            ))?;
            Ok(back.execute(params![id, number, stored((now + *delay).0)])? == 1)
        }
        End::Dead { reason } => {
            let mut held = db.prepare_cached(&format!("SELECT 1 FROM messages WHERE {HELD}"))?;
            let held = held.exists(params![id, number])?;
            if held {
                die(db, id, now, &shortened(reason))?;
            }
            Ok(held)
        }
    }
}

fn shortened(reason: &str) -> String {
    reason.chars().take(REASON_CHARS_MAX).collect()
}

pub(super) fn extend(db: &Connection, lease: Lease, until: Timestamp) -> Result<bool, Error> {
    let mut extend = db.prepare_cached(&format!("UPDATE messages SET visible = ?3 WHERE {HELD}"))?;
    Ok(extend.execute(params![stored(lease.id.0), stored(lease.number), stored(until.0)])? == 1)
}

/// Removes a message that is there, and lets the next of its group go on.
pub(super) fn remove(db: &Connection, id: i64) -> Result<(), Error> {
    let mut delete =
        db.prepare_cached("DELETE FROM messages WHERE id = ?1 RETURNING queue, grp, length(payload)")?;
    let (queue, group, bytes) = delete.query_row([id], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, i64>(2)?))
    })?;
    count(db, &queue, -1, -bytes, 0)?;
    if let Some(group) = group {
        promote(db, &queue, &group)?;
    }
    Ok(())
}

/// Gives a message up: it goes to the queue's dead ones, or to the queue that is named for them.
pub(super) fn die(db: &Connection, id: i64, now: Timestamp, reason: &str) -> Result<(), Error> {
    let mut of = db.prepare_cached(
        "SELECT queue, (SELECT dead_to FROM queues WHERE queues.queue = messages.queue) FROM messages WHERE id = ?1",
    )?;
    let (queue, to) =
        of.query_row([id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)))?;
    if let Some(to) = to {
        let mut read =
            db.prepare_cached("SELECT name, grp, head, payload, attempts_max FROM messages WHERE id = ?1")?;
        let moved = read.query_row([id], |row| {
            Ok(NewMessage {
                name: row.get(0)?,
                group: row.get(1)?,
                head: row.get(2)?,
                payload: row.get(3)?,
                attempts_max: row.get(4)?,
                ..NewMessage::new(Vec::new())
            })
        })?;
        match insert(db, &to, &moved, Some(&queue), now) {
            Ok(_) => return remove(db, id),
            // A full queue takes no more: it is kept here instead.
            Err(Error::TooDeep { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let mut keep = db.prepare_cached(
        "INSERT INTO dead (id, queue, name, grp, leases, attempts, attempts_max, enqueued, died, reason, head, payload)
         SELECT id, queue, name, grp, leases, attempts, attempts_max, enqueued, ?2, ?3, head, payload
         FROM messages WHERE id = ?1",
    )?;
    keep.execute(params![id, stored(now.0), reason])?;
    remove(db, id)?;
    count(db, &queue, 0, 0, 1)?;
    retain(db, &queue, now)
}

/// Drops what was dead for long, and the oldest of too many.
fn retain(db: &Connection, queue: &str, now: Timestamp) -> Result<(), Error> {
    let before = now.0.saturating_sub(u64::try_from(DEAD_AGE.as_micros()).unwrap_or(u64::MAX));
    let mut old = db.prepare_cached(
        "DELETE FROM dead WHERE id IN (SELECT id FROM dead WHERE queue = ?1 ORDER BY id LIMIT ?3) AND died < ?2",
    )?;
    let mut dropped = old.execute(params![queue, stored(before), FORGET_MAX])?;
    let mut over = db.prepare_cached(
        "DELETE FROM dead WHERE id IN (SELECT id FROM dead WHERE queue = ?1 ORDER BY id LIMIT
           max(0, min(?3, (SELECT dead FROM queues WHERE queue = ?1) - ?2)))",
    )?;
    let most = stored(DEAD_MAX) + stored(dropped as u64);
    dropped += over.execute(params![queue, most, FORGET_MAX])?;
    if dropped > 0 {
        tracing::warn!(queue, dropped, "old dead messages were dropped");
        count(db, queue, 0, 0, -stored(dropped as u64))?;
    }
    Ok(())
}

pub(super) fn redrive(
    db: &Connection,
    queue: &str,
    ids: &[MessageId],
    now: Timestamp,
) -> Result<usize, Error> {
    let mut group =
        db.prepare_cached("SELECT grp, length(payload) FROM dead WHERE id = ?1 AND queue = ?2")?;
    let mut revive = db.prepare_cached(
        "INSERT INTO messages (id, queue, name, grp, state, visible, due, leases, attempts, attempts_max, enqueued,
                               first, reason, head, payload)
         SELECT id, queue, name, grp, ?3, ?4, ?5, leases, 0, attempts_max, ?5, -?5, reason, head, payload
         FROM dead WHERE id = ?1 AND queue = ?2",
    )?;
    for id in ids {
        let found = group
            .query_row(params![stored(id.0), queue], |row| {
                Ok((row.get::<_, Option<String>>(0)?, row.get::<_, i64>(1)?))
            })
            .optional()?;
        let Some((group, bytes)) = found else { continue };
        let blocked = match &group {
            Some(group) => group_has(db, queue, group)?,
            None => false,
        };
        let (state, visible) = if blocked { (BLOCKED, i64::MAX) } else { (WAITING, stored(now.0)) };
        revive.execute(params![stored(id.0), queue, state, visible, stored(now.0)])?;
        count(db, queue, 1, bytes, 0)?;
    }
    bury(db, queue, ids)
}

pub(super) fn bury(db: &Connection, queue: &str, ids: &[MessageId]) -> Result<usize, Error> {
    let mut delete = db.prepare_cached("DELETE FROM dead WHERE id = ?1 AND queue = ?2")?;
    let mut buried = 0;
    for id in ids {
        buried += delete.execute(params![stored(id.0), queue])?;
    }
    if buried > 0 {
        count(db, queue, 0, 0, -stored(buried as u64))?;
    }
    Ok(buried)
}

/// Makes what is leased ready at once, its attempt not counted: for when the only consumer of these queues died.
pub(super) fn reclaim(db: &Connection, prefix: &str, now: Timestamp) -> Result<usize, Error> {
    let mut back = db.prepare_cached(
        "UPDATE messages SET state = 0, visible = ?3, attempts = attempts - 1
         WHERE queue >= ?1 AND queue < ?2 AND state = 1",
    )?;
    Ok(back.execute(params![prefix, after(prefix), stored(now.0)])?)
}

/// The least text that follows all with this prefix: names of queues are of ASCII.
pub(super) fn after(prefix: &str) -> String {
    format!("{prefix}\u{7f}")
}
