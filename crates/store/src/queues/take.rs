//! Leasing: which messages are given out, and which are given up or forgotten on the way.

use rouse_types::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    LEASE_BYTES_MAX, Lease, Leased, MessageId, Take, Taken,
    sql::{BLOCKED, LEASED, die, remove, stored, time},
};
use crate::Error;

/// Looks for messages that one call makes when all that it found was given up or had to wait: each look leaves fewer.
const LOOKS_MAX: usize = 16;

/// A message that may be leased, as far as it is looked at for that.
struct Found {
    id: i64,
    attempts: u32,
    attempts_max: u32,
    bytes: usize,
    enqueued: u64,
    group: Option<String>,
}

const FOUND: &str = "id, attempts, attempts_max, length(payload), enqueued, grp";

fn found(row: &rusqlite::Row<'_>) -> rusqlite::Result<Found> {
    Ok(Found {
        id: row.get(0)?,
        attempts: row.get(1)?,
        attempts_max: row.get(2)?,
        bytes: row.get::<_, isize>(3)?.unsigned_abs(),
        enqueued: row.get::<_, i64>(4)?.unsigned_abs(),
        group: row.get(5)?,
    })
}

struct Taking<'a> {
    db: &'a Connection,
    queue: &'a str,
    how: &'a Take,
    now: Timestamp,
    bytes: usize,
    taken: Taken,
}

pub(super) fn lease(db: &Connection, queue: &str, how: &Take, now: Timestamp) -> Result<Taken, Error> {
    let mut taking = Taking { db, queue, how, now, bytes: 0, taken: Taken::default() };
    for _ in 0..LOOKS_MAX {
        if !taking.look()? || !taking.taken.leased.is_empty() {
            break;
        }
    }
    Ok(taking.taken)
}

impl Taking<'_> {
    /// Takes what is ready. Tells whether anything was.
    fn look(&mut self) -> Result<bool, Error> {
        let mut ready = self.db.prepare_cached(&format!(
            "SELECT {FOUND} FROM messages WHERE queue = ?1 AND visible <= ?2 ORDER BY visible, id LIMIT ?3"
        ))?;
        let most = stored(self.how.count as u64);
        let rows = ready.query_map(params![self.queue, stored(self.now.0), most], found)?;
        let rows: Vec<Found> = rows.collect::<Result<_, _>>()?;
        let any = !rows.is_empty();
        for one in rows {
            if self.taken.leased.len() >= self.how.count {
                break;
            }
            let Some(group) = one.group.clone() else {
                if !self.consider(&one)? {
                    break;
                }
                continue;
            };
            // It may have been taken with the group, or given up, a moment ago.
            if self.taken.leased.iter().any(|leased| leased.group.as_ref() == Some(&group)) {
                continue;
            }
            if !self.leads(&group, one.id)? {
                self.block(one.id)?;
                continue;
            }
            let before = self.taken.leased.len();
            if !self.consider(&one)? {
                break;
            }
            if self.how.together && self.taken.leased.len() > before {
                self.follow(&group, one.id)?;
            }
        }
        Ok(any)
    }

    /// Takes the messages behind one of its group, in their order, as long as none of them is with someone else.
    fn follow(&mut self, group: &str, mut after: i64) -> Result<(), Error> {
        while self.taken.leased.len() < self.how.count {
            let mut next = self.db.prepare_cached(&format!(
                "SELECT {FOUND}, state, visible, due FROM messages
                 WHERE queue = ?1 AND grp = ?2 AND id > ?3 ORDER BY id LIMIT 1"
            ))?;
            let row = next
                .query_row(params![self.queue, group, after], |row| {
                    Ok((found(row)?, row.get::<_, u8>(6)?, row.get::<_, i64>(7)?, row.get::<_, i64>(8)?))
                })
                .optional()?;
            let Some((one, state, visible, due)) = row else { break };
            let ready = if state == BLOCKED { due } else { visible };
            if ready > stored(self.now.0) || !self.consider(&one)? {
                break;
            }
            after = one.id;
        }
        Ok(())
    }

    /// Whether a message is the first of its group, of those that do not wait for another: one that was redriven does.
    fn leads(&self, group: &str, id: i64) -> Result<bool, Error> {
        let mut first = self.db.prepare_cached(
            "SELECT 1 FROM messages WHERE queue = ?1 AND grp = ?2 AND id < ?3 AND state <> 2 LIMIT 1",
        )?;
        Ok(!first.exists(params![self.queue, group, id])?)
    }

    /// A message that came back while one before it has not: it waits until that one is gone.
    fn block(&self, id: i64) -> Result<(), Error> {
        let mut block = self
            .db
            .prepare_cached("UPDATE messages SET state = ?2, due = visible, visible = ?3 WHERE id = ?1")?;
        block.execute(params![id, BLOCKED, i64::MAX])?;
        Ok(())
    }

    /// Takes a message, or gives it up. Tells whether there is room for more.
    fn consider(&mut self, one: &Found) -> Result<bool, Error> {
        if let Some(age) = self.how.age_max
            && Timestamp(one.enqueued) + age <= self.now
        {
            remove(self.db, one.id)?;
            return Ok(true);
        }
        let attempts_max = self.how.attempts_max.map_or(one.attempts_max, |most| most.min(one.attempts_max));
        if one.attempts >= attempts_max {
            // Its last attempt neither finished nor failed in time.
            die(self.db, one.id, self.now, "the last attempt did not finish in time")?;
            self.taken.died += 1;
            return Ok(true);
        }
        self.bytes += one.bytes;
        if self.bytes > self.how.bytes_max.min(LEASE_BYTES_MAX) && !self.taken.leased.is_empty() {
            return Ok(false);
        }
        let attempt = one.attempts + 1;
        let mut take = self.db.prepare_cached(
            "UPDATE messages SET state = ?4, leases = leases + 1, attempts = attempts + 1, visible = ?2,
               first = CASE WHEN first < 0 THEN ?3 ELSE first END
             WHERE id = ?1 RETURNING leases, enqueued, name, grp, head, payload, first, source",
        )?;
        let until = stored((self.now + self.how.visibility).0);
        let leased = take.query_row(params![one.id, until, stored(self.now.0), LEASED], |row| {
            let number = row.get::<_, i64>(0)?.unsigned_abs();
            Ok(Leased {
                lease: Lease { id: MessageId(one.id.unsigned_abs()), number, attempt },
                enqueued: time(row, 1)?,
                name: row.get(2)?,
                group: row.get(3)?,
                head: row.get(4)?,
                payload: row.get(5)?,
                first: time(row, 6)?,
                source: row.get(7)?,
                last: attempt >= attempts_max,
            })
        })?;
        self.taken.leased.push(leased);
        Ok(true)
    }
}
