//! The ledger's tables, and what reads and writes them.

use std::{collections::BTreeMap, path::Path};

use rouse_store::journal::{Corruption, Cursor};
use rouse_types::{Outcome, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params, types::Type};

use super::{Error, Refusal, wrap};
use crate::sums::{Key, Rollup, Segment, Sums};

pub(super) const VERSION: i64 = 3;
/// Refusals that are kept: enough to find the cause, and a writer gone mad fills no disk.
const REFUSED_KEPT: i64 = 10_000;

// Tables are STRICT: a sum that grew beyond an integer is an error, never a float.
pub(super) const SCHEMA: &str = "
CREATE TABLE rollups (
  tenant TEXT NOT NULL, hour INTEGER NOT NULL, app TEXT NOT NULL, function TEXT NOT NULL,
  version INTEGER NOT NULL, outcome TEXT NOT NULL,
  invocations INTEGER NOT NULL, errors INTEGER NOT NULL, cold INTEGER NOT NULL, billed_ms INTEGER NOT NULL,
  mib_ms INTEGER NOT NULL, cpu_us INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL,
  cost_nanos INTEGER NOT NULL,
  PRIMARY KEY (tenant, hour, app, function, version, outcome)
) STRICT, WITHOUT ROWID;
CREATE TABLE segments (
  writer TEXT NOT NULL, segment INTEGER NOT NULL, hour_least INTEGER NOT NULL, hour_greatest INTEGER NOT NULL,
  invocations INTEGER NOT NULL, errors INTEGER NOT NULL, cold INTEGER NOT NULL, billed_ms INTEGER NOT NULL,
  mib_ms INTEGER NOT NULL, cpu_us INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL,
  cost_nanos INTEGER NOT NULL,
  PRIMARY KEY (writer, segment)
) STRICT, WITHOUT ROWID;
CREATE TABLE refused (
  id INTEGER PRIMARY KEY, source TEXT NOT NULL, segment INTEGER NOT NULL, offset INTEGER NOT NULL,
  reason TEXT NOT NULL
) STRICT;
CREATE TABLE sheets (id INTEGER PRIMARY KEY, text TEXT NOT NULL, cursor TEXT NOT NULL) STRICT;
CREATE TABLE cursor (id INTEGER PRIMARY KEY CHECK (id = 1), cursor TEXT NOT NULL) STRICT;
";

pub(super) const FIGURES: &str =
    "invocations, errors, cold, billed_ms, mib_ms, cpu_us, bytes_in, bytes_out, cost_nanos";

const ADD_FIGURES: &str =
    "invocations = invocations + excluded.invocations, errors = errors + excluded.errors,
  cold = cold + excluded.cold, billed_ms = billed_ms + excluded.billed_ms, mib_ms = mib_ms + excluded.mib_ms,
  cpu_us = cpu_us + excluded.cpu_us, bytes_in = bytes_in + excluded.bytes_in,
  bytes_out = bytes_out + excluded.bytes_out, cost_nanos = cost_nanos + excluded.cost_nanos";

type Result<T> = std::result::Result<T, rusqlite::Error>;

pub(super) fn open(path: &Path) -> std::result::Result<Connection, Error> {
    let foreign = |reason: String| Error::Foreign { path: path.to_owned(), reason };
    let wrap = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            foreign(error.to_string())
        }
        _ => wrap(path)(error),
    };
    let connection = Connection::open(path).map_err(wrap)?;
    connection.pragma_update(None, "journal_mode", "wal").map_err(wrap)?;
    connection.pragma_update(None, "synchronous", "full").map_err(wrap)?;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(wrap)?;
    match found {
        VERSION => {}
        // Chains begin where they were introduced: what was billed before that stays as sums.
        0..VERSION => {
            let steps = [SCHEMA, super::chain::SCHEMA, super::invoice::SCHEMA];
            let tables = steps[usize::try_from(found).unwrap_or_default()..].concat();
            let text = format!("BEGIN IMMEDIATE; {tables} PRAGMA user_version = {VERSION}; COMMIT;");
            connection.execute_batch(&text).map_err(wrap)?;
        }
        _ => return Err(foreign(format!("its version is {found}, and {VERSION} is known"))),
    }
    Ok(connection)
}

/// The database's integers are signed; every figure is bounded below that before it is summed.
pub(super) fn stored(figure: u64) -> i64 {
    i64::try_from(figure).unwrap_or(i64::MAX)
}

pub(super) fn figure(row: &Row<'_>, column: usize) -> Result<u64> {
    let figure: i64 = row.get(column)?;
    u64::try_from(figure).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, figure))
}

/// The nine figures from a column on.
pub(super) fn sums(row: &Row<'_>, column: usize) -> Result<Sums> {
    let mut figures = [0; 9];
    for (n, value) in figures.iter_mut().enumerate() {
        *value = figure(row, column + n)?;
    }
    Ok(Sums::from_figures(figures))
}

/// A column's text as what it names.
pub(super) fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error: T::Err| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

pub(super) fn cursor(db: &Connection) -> Result<Cursor> {
    let found = db.query_row("SELECT cursor FROM cursor", [], |row| json(row, 0)).optional()?;
    Ok(found.unwrap_or_default())
}

pub(super) fn set_cursor(db: &Connection, cursor: &Cursor) -> Result<()> {
    db.execute("INSERT OR REPLACE INTO cursor (id, cursor) VALUES (1, ?1)", [to_json(cursor)?]).map(drop)
}

/// All price sheets with the cursors from which on they hold, the oldest first.
pub(super) fn sheets(db: &Connection) -> Result<Vec<(String, Cursor)>> {
    let mut query = db.prepare_cached("SELECT text, cursor FROM sheets ORDER BY id")?;
    query.query_map([], |row| Ok((row.get(0)?, json(row, 1)?)))?.collect()
}

pub(super) fn add_sheet(db: &Connection, text: &str, from: &Cursor) -> Result<()> {
    db.execute("INSERT INTO sheets (text, cursor) VALUES (?1, ?2)", params![text, to_json(from)?]).map(drop)
}

pub(super) fn add_rollup(db: &Connection, rollup: &Rollup) -> Result<()> {
    let mut add = db.prepare_cached(&format!(
        "INSERT INTO rollups (tenant, hour, app, function, version, outcome, {FIGURES})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
         ON CONFLICT DO UPDATE SET {ADD_FIGURES}"
    ))?;
    for (key, sums) in &rollup.rows {
        let [a, b, c, d, e, f, g, h, i] = sums.figures().map(stored);
        let Key { tenant, app, function, version, hour, outcome } = key;
        let (tenant, app, function) = (tenant.as_str(), app.as_str(), function.as_str());
        let (version, hour, outcome) = (stored(*version), stored(hour.0), outcome.as_str());
        add.execute(params![tenant, hour, app, function, version, outcome, a, b, c, d, e, f, g, h, i])?;
    }
    let mut add = db.prepare_cached(&format!(
        "INSERT INTO segments (writer, segment, hour_least, hour_greatest, {FIGURES})
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT DO UPDATE SET hour_least = min(hour_least, excluded.hour_least),
           hour_greatest = max(hour_greatest, excluded.hour_greatest), {ADD_FIGURES}"
    ))?;
    for ((writer, segment), Segment { sums, hours }) in &rollup.segments {
        let [a, b, c, d, e, f, g, h, i] = sums.figures().map(stored);
        let (least, greatest) = (stored(hours.0.0), stored(hours.1.0));
        add.execute(params![writer, stored(*segment), least, greatest, a, b, c, d, e, f, g, h, i])?;
    }
    for refused in &rollup.refused {
        let position = refused.position;
        add_refused(db, &refused.writer, position.segment, position.offset, refused.reason)?;
    }
    Ok(())
}

pub(super) fn add_corruption(db: &Connection, corruption: &Corruption) -> Result<()> {
    let source = corruption.path.to_string_lossy();
    add_refused(db, &source, 0, corruption.offset, corruption.reason)
}

pub(super) fn add_refused(
    db: &Connection,
    source: &str,
    segment: u64,
    offset: u64,
    reason: &str,
) -> Result<()> {
    let mut add =
        db.prepare_cached("INSERT INTO refused (source, segment, offset, reason) VALUES (?1, ?2, ?3, ?4)")?;
    add.execute(params![source, stored(segment), stored(offset), reason])?;
    let mut trim = db.prepare_cached("DELETE FROM refused WHERE id <= ?1")?;
    trim.execute([db.last_insert_rowid() - REFUSED_KEPT]).map(drop)
}

pub(super) fn refused(db: &Connection, limit: usize) -> Result<Vec<Refusal>> {
    let mut query =
        db.prepare_cached("SELECT source, segment, offset, reason FROM refused ORDER BY id DESC LIMIT ?1")?;
    let rows = query.query_map([stored(limit as u64)], |row| {
        let (segment, offset) = (figure(row, 1)?, figure(row, 2)?);
        Ok(Refusal { source: row.get(0)?, segment, offset, reason: row.get(3)? })
    })?;
    rows.collect()
}

pub(super) fn rollups(db: &Connection) -> Result<BTreeMap<Key, Sums>> {
    let mut query = db.prepare_cached(&format!(
        "SELECT tenant, app, function, version, hour, outcome, {FIGURES} FROM rollups"
    ))?;
    let rows = query.query_map([], |row| {
        let key = Key {
            tenant: parsed(row, 0)?,
            app: parsed(row, 1)?,
            function: parsed(row, 2)?,
            version: figure(row, 3)?,
            hour: Timestamp(figure(row, 4)?),
            outcome: outcome(row, 5)?,
        };
        Ok((key, sums(row, 6)?))
    })?;
    rows.collect()
}

fn outcome(row: &Row<'_>, column: usize) -> Result<Outcome> {
    let text: String = row.get(column)?;
    serde_json::from_value(serde_json::Value::String(text))
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

pub(super) fn segments(db: &Connection) -> Result<BTreeMap<(String, u64), Segment>> {
    let mut query = db.prepare_cached(&format!(
        "SELECT writer, segment, hour_least, hour_greatest, {FIGURES} FROM segments"
    ))?;
    let rows = query.query_map([], |row| {
        let hours = (Timestamp(figure(row, 2)?), Timestamp(figure(row, 3)?));
        Ok(((row.get(0)?, figure(row, 1)?), Segment { sums: sums(row, 4)?, hours }))
    })?;
    rows.collect()
}
