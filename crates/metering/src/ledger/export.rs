//! Exports: a tenant's records and seals of some hours as lines that can be checked without the ledger.

use std::path::Path;

use rouse_types::{TenantId, Timestamp, Usage};
use rusqlite::{Connection, OpenFlags, params};

use super::{
    Error, chain,
    sql::{self, figure, stored},
    wrap,
};
use crate::{
    PriceSheet,
    audit::{Begin, Entry, FORMAT, Hex, Line, Link, Seal, Sealed, key::Key, lines::Whole},
};

/// Which hours of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Whose.
    pub tenant: TenantId,
    /// From the hour of this time on.
    pub since: Timestamp,
    /// Up to the hour of this time, that hour left out.
    pub until: Timestamp,
}

/// Gives the lines of an export of the ledger in this file to `to`, one after the other, without their newlines, until
/// it says that it wants no more. Reads on a connection of its own, so that the ledger goes on.
///
/// # Errors
/// [`Error::Forgotten`] when records of the range are no longer kept; what the database says.
pub fn export(path: &Path, key: &Key, range: &Range, to: impl FnMut(String) -> bool) -> Result<(), Error> {
    let wrap = wrap(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(&wrap)?;
    let snapshot = db.unchecked_transaction().map_err(&wrap)?;
    let sheet = sql::sheets(&snapshot).map_err(&wrap)?.pop();
    let currency = match sheet {
        Some((text, _)) => PriceSheet::parse(&text)?.currency().to_owned(),
        None => String::new(),
    };
    let (since, until) = (range.since.hour(), range.until.hour());
    let mut out = Out { path, to, whole: Whole::new(), stopped: false };
    let tenant = range.tenant.clone();
    out.line(&Line::Begin(Begin { format: FORMAT, tenant, since, until, currency, key: key.public() }))?;
    let tenant = range.tenant.as_str();
    // All seals between the first and the last of the range: only so can be checked that none is missing.
    let mut seals = snapshot
        .prepare(
            "SELECT body, signature FROM seals WHERE tenant = ?1
             AND number >= (SELECT min(number) FROM seals WHERE tenant = ?1 AND hour >= ?2 AND hour < ?3)
             AND number <= (SELECT max(number) FROM seals WHERE tenant = ?1 AND hour >= ?2 AND hour < ?3)
             ORDER BY number",
        )
        .map_err(&wrap)?;
    let (from, to) = (stored(since.0), stored(until.0));
    let mut rows = seals.query(params![tenant, from, to]).map_err(&wrap)?;
    while let Some(row) = rows.next().map_err(&wrap)? {
        let body: String = row.get(0).map_err(&wrap)?;
        let signature = Hex(row.get(1).map_err(&wrap)?);
        let body: Seal = serde_json::from_str(&body).map_err(|error| foreign(path, error.to_string()))?;
        if (since..until).contains(&body.hour) {
            let found = out.records(&snapshot, tenant, body.hour, body.part)?;
            if found != body.records && !out.stopped {
                return Err(Error::Forgotten { hour: body.hour });
            }
        }
        out.line(&Line::Seal(Sealed { body, signature }))?;
        if out.stopped {
            return Ok(());
        }
    }
    let mut open = snapshot
        .prepare(
            "SELECT hour, part FROM parts WHERE tenant = ?1 AND number IS NULL AND hour >= ?2 AND hour < ?3
             ORDER BY hour, part",
        )
        .map_err(&wrap)?;
    let mut rows = open.query(params![tenant, from, to]).map_err(&wrap)?;
    while let Some(row) = rows.next().map_err(&wrap)? {
        let (hour, part) = (figure(row, 0).map_err(&wrap)?, figure(row, 1).map_err(&wrap)?);
        out.records(&snapshot, tenant, Timestamp(hour), part)?;
    }
    let end = out.whole.clone().end(key);
    out.line(&Line::End(end))
}

struct Out<'p, F> {
    path: &'p Path,
    to: F,
    whole: Whole,
    stopped: bool,
}

impl<F: FnMut(String) -> bool> Out<'_, F> {
    fn line(&mut self, line: &Line) -> Result<(), Error> {
        if self.stopped {
            return Ok(());
        }
        let text = serde_json::to_string(line).map_err(|error| foreign(self.path, error.to_string()))?;
        self.whole.add(text.as_bytes());
        self.stopped = !(self.to)(text);
        Ok(())
    }

    /// The records of a part, writer by writer; how many.
    fn records(&mut self, db: &Connection, tenant: &str, hour: Timestamp, part: u64) -> Result<u64, Error> {
        let wrap = wrap(self.path);
        let mut chunks = db
            .prepare_cached(
                "SELECT writer, bytes FROM chunks WHERE tenant = ?1 AND hour = ?2 AND part = ?3 ORDER BY writer, id",
            )
            .map_err(&wrap)?;
        let mut rows = chunks.query(params![tenant, stored(hour.0), stored(part)]).map_err(&wrap)?;
        let (mut found, mut of) = (0, None::<(String, Link)>);
        while let Some(row) = rows.next().map_err(&wrap)? {
            if self.stopped {
                break;
            }
            let writer: String = row.get(0).map_err(&wrap)?;
            let chunk: Vec<u8> = row.get(1).map_err(&wrap)?;
            let before = of.take().filter(|(before, _)| *before == writer).map(|(_, head)| head);
            let mut head = match before {
                Some(head) => head,
                None => {
                    let tenant =
                        tenant.parse().map_err(|_| foreign(self.path, "a tenant's name".to_owned()))?;
                    Link::first(&tenant, hour, part, &writer)
                }
            };
            for (cost_nanos, bytes) in chain::records(&chunk) {
                let usage = Usage::read(bytes).map_err(|error| foreign(self.path, error.to_string()))?;
                head = head.next(cost_nanos, bytes);
                let bytes = Hex(bytes.to_vec());
                let entry =
                    Entry { hour, part, writer: writer.clone(), cost_nanos, bytes, usage, link: head };
                self.line(&Line::Record(Box::new(entry)))?;
                found += 1;
            }
            of = Some((writer, head));
        }
        Ok(found)
    }
}

fn foreign(path: &Path, reason: String) -> Error {
    Error::Foreign { path: path.to_owned(), reason }
}
