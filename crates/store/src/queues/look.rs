//! What there is in queues: reads alone.

use rouse_types::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{
    Dead, Depth, Listed, MessageId, QueueInfo, State,
    sql::{BLOCKED, LEASED, after, message_id, stored, time},
};
use crate::Error;

fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

pub(super) fn depth(db: &Connection, queue: &str, now: Timestamp) -> Result<Depth, Error> {
    let mut count = db.prepare_cached(
        "SELECT count(*) FILTER (WHERE visible <= ?2),
                count(*) FILTER (WHERE visible > ?2 AND state = 0),
                count(*) FILTER (WHERE visible > ?2 AND state = 1),
                count(*) FILTER (WHERE state = 2),
                (SELECT count(*) FROM dead WHERE queue = ?1)
         FROM messages WHERE queue = ?1",
    )?;
    Ok(count.query_row(params![queue, stored(now.0)], |row| {
        Ok(Depth {
            ready: number(row, 0)?,
            delayed: number(row, 1)?,
            leased: number(row, 2)?,
            blocked: number(row, 3)?,
            dead: number(row, 4)?,
        })
    })?)
}

pub(super) fn next_ready(db: &Connection, queue: &str) -> Result<Option<Timestamp>, Error> {
    let mut next = db.prepare_cached(
        "SELECT visible FROM messages WHERE queue = ?1 AND visible < ?2 ORDER BY visible, id LIMIT 1",
    )?;
    Ok(next.query_row(params![queue, i64::MAX], |row| time(row, 0)).optional()?)
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

/// The columns of a [`Listed`], of the two tables alike. A dead one has no state of its own.
const LISTED: &str = "id, queue, name, head, length(payload), grp, attempts, enqueued, reason";

fn listed(row: &Row<'_>, state: State, due: Timestamp) -> rusqlite::Result<Listed> {
    Ok(Listed {
        id: message_id(row, 0)?,
        queue: row.get(1)?,
        name: row.get(2)?,
        head: row.get(3)?,
        payload_bytes: number(row, 4)?,
        group: row.get(5)?,
        attempts: row.get(6)?,
        enqueued: time(row, 7)?,
        reason: row.get(8)?,
        state,
        due,
    })
}

fn alive(row: &Row<'_>) -> rusqlite::Result<Listed> {
    let state = match row.get::<_, u8>(9)? {
        LEASED => State::Leased,
        BLOCKED => State::Blocked,
        _ => State::Waiting,
    };
    listed(row, state, time(row, 10)?)
}

fn gone(row: &Row<'_>) -> rusqlite::Result<Listed> {
    listed(row, State::Dead, time(row, 9)?)
}

pub(super) fn list(
    db: &Connection,
    queue: &str,
    dead: bool,
    after: Option<MessageId>,
    limit: usize,
) -> Result<Vec<Listed>, Error> {
    // By number, which is the order in which they were sent; found in the index alone, without looking at payloads.
    let (table, more, index) = match dead {
        true => ("dead", "died", "dead_by_queue"),
        false => ("messages", "state, due", "messages_by_visibility"),
    };
    let mut query = db.prepare_cached(&format!(
        "SELECT {LISTED}, {more} FROM {table} WHERE id IN
           (SELECT id FROM {table} INDEXED BY {index} WHERE queue = ?1 AND id > ?2 ORDER BY id LIMIT ?3)
         ORDER BY id"
    ))?;
    let after = after.map_or(0, |MessageId(id)| stored(id));
    let read = if dead { gone } else { alive };
    let rows = query.query_map(params![queue, after, stored(limit as u64)], read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn find(db: &Connection, name: &str) -> Result<Option<(Listed, Vec<u8>)>, Error> {
    if name.is_empty() {
        return Ok(None);
    }
    let mut query = db.prepare_cached(&format!(
        "SELECT {LISTED}, state, due, payload FROM messages WHERE name = ?1 LIMIT 1"
    ))?;
    let found = query.query_row([name], |row| Ok((alive(row)?, row.get(11)?))).optional()?;
    if found.is_some() {
        return Ok(found);
    }
    let mut query =
        db.prepare_cached(&format!("SELECT {LISTED}, died, payload FROM dead WHERE name = ?1 LIMIT 1"))?;
    Ok(query.query_row([name], |row| Ok((gone(row)?, row.get(10)?))).optional()?)
}

pub(super) fn queues(
    db: &Connection,
    prefix: &str,
    from: Option<&str>,
    limit: usize,
) -> Result<Vec<QueueInfo>, Error> {
    let mut query = db.prepare_cached(
        "SELECT queue, messages, bytes, dead, settings FROM queues
         WHERE queue >= ?1 AND queue < ?2 AND queue > ?3 ORDER BY queue LIMIT ?4",
    )?;
    let from = from.unwrap_or_default();
    let rows = query.query_map(params![prefix, after(prefix), from, stored(limit as u64)], |row| {
        Ok(QueueInfo {
            queue: row.get(0)?,
            messages: number(row, 1)?,
            bytes: number(row, 2)?,
            dead: number(row, 3)?,
            settings: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
