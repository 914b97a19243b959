//! Sealing hours, and forgetting the records of old ones.

use std::time::Duration;

use rouse_store::journal::Policy;
use rouse_types::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::{
    Error, Ledger, chain,
    sql::{figure, parsed, stored},
    wrap,
};
use crate::audit::{self, Link, Seal, key::Key};

/// How long after its hour's end a record may come and still be among those of the hour's first seal. A call's hour is
/// that of its begin; what ran on for longer is in a supplement.
pub const GRACE: Duration = Duration::from_secs(15 * 60);

/// Seals of one transaction.
const SEALS_MAX: usize = 1_000;
const HOUR: Duration = Duration::from_secs(3_600);

impl Ledger {
    /// Seals what is due: each hour that ended [`GRACE`] ago, and supplements that were first seen so long ago. Call
    /// it after [`Ledger::ingest`] has caught up. Returns how many seals were made.
    ///
    /// # Errors
    /// What the database says; what was committed until then stays.
    pub fn seal(&mut self, now: Timestamp, key: &Key) -> Result<usize, Error> {
        let wrap = wrap(&self.path);
        if !has_open(&self.connection, now).map_err(&wrap)? {
            // An idle platform writes nothing.
            return Ok(0);
        }
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&wrap)?;
        let sealed = seal(&transaction, now, key).map_err(&wrap)?;
        transaction.commit().map_err(&wrap)?;
        Ok(sealed)
    }

    /// Forgets the records of sealed hours that are older or more than is kept, the oldest hours first. Their sums and
    /// seals stay. Returns how many parts of hours were forgotten.
    ///
    /// # Errors
    /// What the database says.
    pub fn forget(&mut self, policy: &Policy, now: Timestamp) -> Result<u64, Error> {
        let wrap = wrap(&self.path);
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&wrap)?;
        let age = u64::try_from(policy.age_max.as_micros()).unwrap_or(u64::MAX);
        let oldest = stored(now.0.saturating_sub(age));
        let forgotten = forget(&transaction, oldest, policy.bytes_max).map_err(&wrap)?;
        transaction.commit().map_err(&wrap)?;
        Ok(forgotten)
    }
}

/// Whether something might be sealed.
fn has_open(db: &Connection, now: Timestamp) -> Result<bool, rusqlite::Error> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM parts WHERE number IS NULL AND (hour < ?1 OR part > 0))")?
        .query_row([stored(now.hour().0)], |row| row.get(0))
}

/// Whether something is to be sealed, or was seen too late for its hour's first seal.
pub(super) fn is_due(db: &Connection, now: Timestamp) -> Result<bool, rusqlite::Error> {
    let late = "SELECT EXISTS (SELECT 1 FROM parts WHERE number IS NULL AND part > 0 AND seen IS NULL)";
    let late: bool = db.prepare_cached(late)?.query_row([], |row| row.get(0))?;
    Ok(late || !due(db, stored(now.0), micros(GRACE), micros(HOUR))?.is_empty())
}

fn micros(time: Duration) -> i64 {
    stored(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

pub(super) fn seal(db: &Connection, now: Timestamp, key: &Key) -> Result<usize, rusqlite::Error> {
    db.execute(
        "UPDATE parts SET seen = ?1 WHERE number IS NULL AND part > 0 AND seen IS NULL",
        [stored(now.0)],
    )?;
    let mut sealed = 0;
    for (tenant, hour, part) in due(db, stored(now.0), micros(GRACE), micros(HOUR))? {
        seal_part(db, &tenant, Timestamp(hour), part, key)?;
        sealed += 1;
    }
    Ok(sealed)
}

fn due(db: &Connection, now: i64, grace: i64, hour: i64) -> Result<Vec<(String, u64, u64)>, rusqlite::Error> {
    let mut query = db.prepare_cached(
        "SELECT tenant, hour, part FROM parts
         WHERE number IS NULL AND (part = 0 AND hour <= ?1 - ?2 - ?3 OR part > 0 AND seen <= ?1 - ?2)
         ORDER BY tenant, hour, part LIMIT ?4",
    )?;
    let rows = query.query_map(params![now, grace, hour, stored(SEALS_MAX as u64)], |row| {
        Ok((row.get(0)?, figure(row, 1)?, figure(row, 2)?))
    })?;
    rows.collect()
}

fn seal_part(
    db: &Connection,
    tenant: &str,
    hour: Timestamp,
    part: u64,
    key: &Key,
) -> Result<(), rusqlite::Error> {
    let last: Option<(u64, Link)> = db
        .prepare_cached("SELECT number, body FROM seals WHERE tenant = ?1 ORDER BY number DESC LIMIT 1")?
        .query_row([tenant], |row| Ok((figure(row, 0)?, Seal::digest(&row.get::<_, String>(1)?))))
        .optional()?;
    let chains = chain::chains(db, tenant, hour.0, part)?;
    let number = last.map_or(0, |(number, _)| number + 1);
    let body = Seal {
        tenant: db.query_row("SELECT ?1", [tenant], |row| parsed(row, 0))?,
        number,
        previous: last.map(|(_, digest)| digest),
        hour,
        part,
        records: chains.iter().map(|chain| chain.records).sum(),
        cost_nanos: chains.iter().map(|chain| chain.cost_nanos).sum(),
        chains: chains
            .into_iter()
            .map(|chain::Chain { writer, records, head, .. }| audit::Chain { writer, records, head })
            .collect(),
    };
    let json = body.to_json().map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let signature = key.sign(&Seal::message(&json));
    let hour = stored(hour.0);
    db.execute(
        "INSERT INTO seals (tenant, number, hour, body, signature) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![tenant, stored(number), hour, json, signature],
    )?;
    db.execute(
        "UPDATE parts SET number = ?4 WHERE tenant = ?1 AND hour = ?2 AND part = ?3",
        params![tenant, hour, stored(part), stored(number)],
    )
    .map(drop)
}

pub(super) fn forget(db: &Connection, oldest: i64, bytes_max: u64) -> Result<u64, rusqlite::Error> {
    let size: i64 = db.query_row("SELECT coalesce(sum(size), 0) FROM chains", [], |row| row.get(0))?;
    let mut excess = size.saturating_sub(stored(bytes_max));
    let mut query = db.prepare(
        "SELECT tenant, hour, part, (SELECT sum(size) FROM chains c
           WHERE c.tenant = p.tenant AND c.hour = p.hour AND c.part = p.part)
         FROM parts p WHERE number IS NOT NULL AND EXISTS
           (SELECT 1 FROM chains c WHERE c.tenant = p.tenant AND c.hour = p.hour AND c.part = p.part)
         ORDER BY hour LIMIT 10000",
    )?;
    let parts = query.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
    })?;
    let mut forgotten = 0;
    for part in parts.collect::<Result<Vec<_>, _>>()? {
        let (tenant, hour, part, size) = part;
        if hour >= oldest && excess <= 0 {
            break;
        }
        for table in ["chunks", "chains"] {
            let text = format!("DELETE FROM {table} WHERE tenant = ?1 AND hour = ?2 AND part = ?3");
            db.prepare_cached(&text)?.execute(params![tenant, hour, part])?;
        }
        excess -= size;
        forgotten += 1;
    }
    Ok(forgotten)
}
