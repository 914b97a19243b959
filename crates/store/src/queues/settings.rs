//! Queues as such: what is set of them, emptying, moving and deleting them.

use rouse_types::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    MessageId, Moved, NewMessage,
    sql::{count, insert, remove, stored},
};
use crate::Error;

/// Where a queue's dead messages go.
pub(super) fn dead_to(db: &Connection, queue: &str, to: Option<&str>) -> Result<(), Error> {
    let mut set = db.prepare_cached(
        "INSERT INTO queues (queue, messages, bytes, dead, dead_to) VALUES (?1, 0, 0, 0, ?2)
         ON CONFLICT DO UPDATE SET dead_to = ?2",
    )?;
    set.execute(params![queue, to])?;
    count(db, queue, 0, 0, 0)
}

/// What is set of a queue, in the words of whoever set it.
pub(super) fn settings(db: &Connection, queue: &str) -> Result<Option<String>, Error> {
    let mut get = db.prepare_cached("SELECT settings FROM queues WHERE queue = ?1")?;
    Ok(get.query_row([queue], |row| row.get(0)).optional()?.flatten())
}

pub(super) fn configure(
    db: &Connection,
    queue: &str,
    settings: &str,
    dead_to: Option<&str>,
) -> Result<(), Error> {
    let mut set = db.prepare_cached(
        "INSERT INTO queues (queue, messages, bytes, dead, dead_to, settings) VALUES (?1, 0, 0, 0, ?2, ?3)
         ON CONFLICT DO UPDATE SET dead_to = ?2, settings = ?3",
    )?;
    set.execute(params![queue, dead_to, settings])?;
    Ok(())
}

/// Removes messages that wait and, if `held`, those that are being worked on.
pub(super) fn purge(db: &Connection, queue: &str, held: bool, most: usize) -> Result<usize, Error> {
    let mut find = db.prepare_cached(
        "SELECT id FROM messages WHERE queue = ?1 AND (state <> 1 OR ?3) ORDER BY visible, id LIMIT ?2",
    )?;
    let found = find.query_map(params![queue, stored(most as u64), held], |row| row.get(0))?;
    let found: Vec<i64> = found.collect::<Result<_, _>>()?;
    for id in &found {
        remove(db, *id)?;
    }
    Ok(found.len())
}

/// Forgets a queue that was emptied: its settings, its dead messages, the ids that it remembers. Some at a time; tells
/// whether more is left.
pub(super) fn forget(db: &Connection, queue: &str, most: usize) -> Result<bool, Error> {
    let most = stored(most as u64);
    let mut forgotten = 0;
    for table in ["dead", "deduplication"] {
        let mut delete = db.prepare_cached(&format!(
            "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE queue = ?1 ORDER BY id LIMIT ?2)"
        ))?;
        forgotten += delete.execute(params![queue, most])?;
    }
    if forgotten > 0 {
        return Ok(true);
    }
    db.prepare_cached("UPDATE queues SET settings = NULL, dead_to = NULL, dead = 0 WHERE queue = ?1")?
        .execute([queue])?;
    db.prepare_cached("DELETE FROM queues WHERE queue = ?1 AND messages <= 0")?.execute([queue])?;
    Ok(false)
}

/// Moves messages that wait, of those up to a number, to a queue; or each to the one that it died in.
pub(super) fn transfer(
    db: &Connection,
    queue: &str,
    to: Option<&str>,
    upto: MessageId,
    most: usize,
    now: Timestamp,
) -> Result<Moved, Error> {
    // One that came from nowhere has nowhere to go to.
    let mut find = db.prepare_cached(
        "SELECT id, name, grp, head, payload, attempts_max, coalesce(?2, source) FROM messages
         WHERE queue = ?1 AND (state <> 1 OR visible <= ?5) AND id <= ?3 AND coalesce(?2, source) IS NOT NULL ORDER BY id LIMIT ?4",
    )?;
    let most = stored(most as u64);
    let rows = find.query_map(params![queue, to, stored(upto.0), most, stored(now.0)], |row| {
        let message = NewMessage {
            name: row.get(1)?,
            group: row.get(2)?,
            head: row.get(3)?,
            payload: row.get(4)?,
            attempts_max: row.get(5)?,
            ..NewMessage::new(Vec::new())
        };
        Ok((row.get::<_, i64>(0)?, message, row.get::<_, String>(6)?))
    })?;
    let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
    let mut moved = Moved::default();
    for (id, message, target) in rows {
        insert(db, &target, &message, None, now)?;
        remove(db, id)?;
        moved.count += 1;
        if !moved.queues.contains(&target) {
            moved.queues.push(target);
        }
    }
    Ok(moved)
}

/// The number of the newest message of a queue.
pub(super) fn newest(db: &Connection, queue: &str) -> Result<MessageId, Error> {
    let mut newest = db.prepare_cached("SELECT coalesce(max(id), 0) FROM messages WHERE queue = ?1")?;
    Ok(newest.query_row([queue], |row| super::sql::message_id(row, 0))?)
}

/// Whether a message is of this queue: a lease of another one means nothing here.
pub(super) fn holds(db: &Connection, queue: &str, id: MessageId) -> Result<bool, Error> {
    let mut of = db.prepare_cached("SELECT 1 FROM messages WHERE id = ?1 AND queue = ?2")?;
    Ok(of.exists(params![stored(id.0), queue])?)
}
