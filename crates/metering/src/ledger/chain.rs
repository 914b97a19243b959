//! The chains of records: kept as chunks, a row for each batch, so that a record costs a hash and no row.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use rouse_types::{TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::sql::{figure, stored};
use crate::audit::Link;

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// Since version 2. `number` is that of the part's seal, once it has one; `seen` is when a late part was first seen.
pub(super) const SCHEMA: &str = "
CREATE TABLE parts (
  tenant TEXT NOT NULL, hour INTEGER NOT NULL, part INTEGER NOT NULL, seen INTEGER, number INTEGER,
  PRIMARY KEY (tenant, hour, part)
) STRICT, WITHOUT ROWID;
CREATE INDEX parts_open ON parts (hour) WHERE number IS NULL;
CREATE TABLE chains (
  tenant TEXT NOT NULL, hour INTEGER NOT NULL, part INTEGER NOT NULL, writer TEXT NOT NULL,
  records INTEGER NOT NULL, cost_nanos INTEGER NOT NULL, size INTEGER NOT NULL, head BLOB NOT NULL,
  PRIMARY KEY (tenant, hour, part, writer)
) STRICT, WITHOUT ROWID;
CREATE TABLE chunks (
  id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, hour INTEGER NOT NULL, part INTEGER NOT NULL, writer TEXT NOT NULL,
  bytes BLOB NOT NULL
) STRICT;
CREATE INDEX chunks_by_chain ON chunks (tenant, hour, part, writer);
CREATE TABLE seals (
  tenant TEXT NOT NULL, number INTEGER NOT NULL, hour INTEGER NOT NULL, body TEXT NOT NULL, signature BLOB NOT NULL,
  PRIMARY KEY (tenant, number)
) STRICT, WITHOUT ROWID;
";

/// A chain, as far as it goes.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub(super) writer: String,
    pub(super) records: u64,
    pub(super) cost_nanos: u64,
    pub(super) head: Link,
}

/// The chains that a batch adds to.
#[derive(Debug, Default)]
pub(super) struct Chains(BTreeMap<(TenantId, Timestamp, Arc<str>), Open>);

#[derive(Debug)]
struct Open {
    part: u64,
    records: u64,
    cost_nanos: u64,
    head: Link,
    /// What this batch adds.
    chunk: Vec<u8>,
}

impl Chains {
    /// Adds a record to its chain, which is read at its first.
    pub(super) fn add(
        &mut self,
        db: &Connection,
        (tenant, hour, writer): (TenantId, Timestamp, Arc<str>),
        cost_nanos: u64,
        payload: &[u8],
    ) -> Result<()> {
        let open = match self.0.entry((tenant, hour, writer)) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => {
                let (tenant, hour, writer) = place.key();
                let open = load(db, tenant, *hour, writer)?;
                place.insert(open)
            }
        };
        open.head = open.head.next(cost_nanos, payload);
        open.records += 1;
        open.cost_nanos = open.cost_nanos.saturating_add(cost_nanos);
        // Records have 512 bytes at most.
        open.chunk.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
        open.chunk.extend_from_slice(&cost_nanos.to_be_bytes());
        open.chunk.extend_from_slice(payload);
        Ok(())
    }

    /// Writes what was added.
    pub(super) fn write(&self, db: &Connection) -> Result<()> {
        for ((tenant, hour, writer), open) in &self.0 {
            let (tenant, hour, part) = (tenant.as_str(), stored(hour.0), stored(open.part));
            let size = stored(open.chunk.len() as u64);
            db.prepare_cached("INSERT OR IGNORE INTO parts (tenant, hour, part) VALUES (?1, ?2, ?3)")?
                .execute(params![tenant, hour, part])?;
            db.prepare_cached(
                "INSERT INTO chains (tenant, hour, part, writer, records, cost_nanos, size, head)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT DO UPDATE SET records = excluded.records, cost_nanos = excluded.cost_nanos,
                   size = size + excluded.size, head = excluded.head",
            )?
            .execute(params![
                tenant,
                hour,
                part,
                &**writer,
                stored(open.records),
                stored(open.cost_nanos),
                size,
                open.head.0
            ])?;
            db.prepare_cached(
                "INSERT INTO chunks (tenant, hour, part, writer, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![tenant, hour, part, &**writer, open.chunk])?;
        }
        Ok(())
    }
}

fn load(db: &Connection, tenant: &TenantId, hour: Timestamp, writer: &str) -> Result<Open> {
    let mut last = db.prepare_cached(
        "SELECT part, number FROM parts WHERE tenant = ?1 AND hour = ?2 ORDER BY part DESC LIMIT 1",
    )?;
    let last = last.query_row(params![tenant.as_str(), stored(hour.0)], |row| {
        Ok((figure(row, 0)?, row.get::<_, Option<i64>>(1)?.is_some()))
    });
    let part = last.optional()?.map_or(0, |(part, sealed)| part + u64::from(sealed));
    let mut chain = db.prepare_cached(
        "SELECT writer, records, cost_nanos, head FROM chains
         WHERE tenant = ?1 AND hour = ?2 AND part = ?3 AND writer = ?4",
    )?;
    let kept = chain
        .query_row(params![tenant.as_str(), stored(hour.0), stored(part), writer], chain_of)
        .optional()?;
    let (records, cost_nanos, head) = match kept {
        Some(Chain { records, cost_nanos, head, .. }) => (records, cost_nanos, head),
        None => (0, 0, Link::first(tenant, hour, part, writer)),
    };
    Ok(Open { part, records, cost_nanos, head, chunk: Vec::new() })
}

fn chain_of(row: &Row<'_>) -> Result<Chain> {
    Ok(Chain {
        writer: row.get(0)?,
        records: figure(row, 1)?,
        cost_nanos: figure(row, 2)?,
        head: Link(row.get(3)?),
    })
}

/// A part's chains, by their writers' names.
pub(super) fn chains(db: &Connection, tenant: &str, hour: u64, part: u64) -> Result<Vec<Chain>> {
    let mut query = db.prepare_cached(
        "SELECT writer, records, cost_nanos, head FROM chains
         WHERE tenant = ?1 AND hour = ?2 AND part = ?3 ORDER BY writer",
    )?;
    query.query_map(params![tenant, stored(hour), stored(part)], chain_of)?.collect()
}

/// The records of a chunk: their costs and bytes. Nothing for what is left of a damaged one.
pub(super) fn records(chunk: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut rest = chunk;
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_first_chunk()?;
        let (cost, tail) = tail.split_first_chunk()?;
        let (bytes, tail) = tail.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        rest = tail;
        Some((u64::from_be_bytes(*cost), bytes))
    })
}
