//! Reconciling: everything is computed again from the records that are still kept, and compared exactly.
//!
//! Three comparisons, so that it holds also after retention deleted old segments:
//! 1. each kept segment: its records against what the ledger took from it;
//! 2. all segments ever taken against all rollups;
//! 3. each rollup of an hour that only kept segments took part in, against its records.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use rouse_store::journal::{self, Cursor, Position, Reader};
use rouse_types::{AppName, FunctionName, TenantId, Timestamp};

use super::{BATCH_RECORDS, Error, Ledger, sql, wrap};
use crate::{
    price::PriceSheet,
    sums::{Key, Rollup, Segment, Sums},
};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// A segment's records do not sum to what was taken from it.
    Segment {
        /// Who wrote it.
        writer: String,
        /// Its number.
        segment: u64,
        /// What its records sum to now; none if it has none.
        records: Option<Sums>,
        /// What the ledger took; none if nothing.
        ledger: Option<Sums>,
    },
    /// The rollups do not sum to what was taken from all segments; none: too large to be summed.
    Total {
        /// The sum of all segments.
        segments: Option<Sums>,
        /// The sum of all rollups.
        rollups: Option<Sums>,
    },
    /// A rollup is not the sum of its records.
    Rollup {
        /// Who pays.
        tenant: TenantId,
        /// The app.
        app: AppName,
        /// The function.
        function: FunctionName,
        /// The version's number.
        version: u64,
        /// The hour's begin.
        hour: Timestamp,
        /// What its records sum to; none if it has none.
        records: Option<Sums>,
        /// What the ledger says; none if nothing.
        ledger: Option<Sums>,
    },
}

/// What reconciling found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciliation {
    /// Records that were read again.
    pub records: u64,
    /// Segments that were compared.
    pub segments: u64,
    /// Rollups that were compared.
    pub rollups: u64,
    /// Rollups of hours whose records are no longer all kept: only their part of the total was compared.
    pub rollups_without_records: u64,
    /// What differs. Empty: all sums are exact.
    pub differences: Vec<Difference>,
}

impl Reconciliation {
    /// Whether all sums are exact.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.differences.is_empty()
    }
}

impl Ledger {
    /// Computes everything again from the records below `journal`, and compares.
    ///
    /// # Errors
    /// What the journal or the database says.
    pub fn reconcile(&self, journal: &Path) -> Result<Reconciliation, Error> {
        let wrap = wrap(&self.path);
        let snapshot = self.connection.unchecked_transaction().map_err(&wrap)?;
        let cursor = sql::cursor(&snapshot).map_err(&wrap)?;
        let sheets = sql::sheets(&snapshot).map_err(&wrap)?;
        let sheets: Vec<(PriceSheet, Cursor)> = sheets
            .into_iter()
            .map(|(text, from)| Ok((PriceSheet::parse(&text)?, from)))
            .collect::<Result<_, Error>>()?;
        let (again, records) = compute(journal, &cursor, &sheets)?;
        // Listed after the reading: what retention deleted meanwhile counts as not kept.
        let kept = journal::kept(journal)?;
        let ledger_segments = sql::segments(&snapshot).map_err(&wrap)?;
        let ledger_rows = sql::rollups(&snapshot).map_err(&wrap)?;
        let mut found = compare(&again, &ledger_segments, &ledger_rows, &kept);
        found.records = records;
        Ok(found)
    }
}

/// Whether a record lies before a cursor.
fn before(cursor: &Cursor, writer: &str, position: Position) -> bool {
    cursor.0.get(writer).is_some_and(|until| position < *until)
}

fn compute(journal: &Path, until: &Cursor, sheets: &[(PriceSheet, Cursor)]) -> Result<(Rollup, u64), Error> {
    let mut reader = Reader::open(journal, Cursor::default());
    let (mut rollup, mut records) = (Rollup::default(), 0);
    loop {
        let batch = reader.read(BATCH_RECORDS)?;
        for record in batch.records.iter().filter(|record| before(until, &record.writer, record.position)) {
            let in_force = |(_, from): &&(PriceSheet, Cursor)| !before(from, &record.writer, record.position);
            if let Some((prices, _)) = sheets.iter().rev().find(in_force) {
                rollup.add(record, prices);
                records += 1;
            }
        }
        // Calls go on while we read; what lies behind the cursor is of no concern.
        let done = until
            .0
            .iter()
            .all(|(writer, position)| reader.cursor().0.get(writer).is_some_and(|read| read >= position));
        if batch.caught_up || done {
            return Ok((rollup, records));
        }
    }
}

fn sum(mut all: impl Iterator<Item = Sums>) -> Option<Sums> {
    all.try_fold(Sums::default(), Sums::plus)
}

/// The comparison itself: pure.
fn compare(
    again: &Rollup,
    segments: &BTreeMap<(String, u64), Segment>,
    rows: &BTreeMap<Key, Sums>,
    kept: &BTreeMap<String, BTreeSet<u64>>,
) -> Reconciliation {
    let mut found = Reconciliation::default();
    let is_kept = |(writer, segment): &(String, u64)| kept.get(writer).is_some_and(|of| of.contains(segment));
    let places: BTreeSet<_> = segments.keys().chain(again.segments.keys()).collect();
    let (kept, gone): (Vec<&(String, u64)>, Vec<_>) = places.into_iter().partition(|place| is_kept(place));
    for place in kept {
        found.segments += 1;
        let (records, ledger) = (again.segments.get(place), segments.get(place));
        if records.map(|s| s.sums) != ledger.map(|s| s.sums) {
            let (writer, segment) = place.clone();
            let (records, ledger) = (records.map(|s| s.sums), ledger.map(|s| s.sums));
            found.differences.push(Difference::Segment { writer, segment, records, ledger });
        }
    }
    let from_segments = sum(segments.values().map(|segment| segment.sums));
    let from_rollups = sum(rows.values().copied());
    if from_segments != from_rollups || from_segments.is_none() {
        let (segments, rollups) = (from_segments, from_rollups);
        found.differences.push(Difference::Total { segments, rollups });
    }
    let gone: Vec<_> = gone.into_iter().filter_map(|place| segments.get(place)).map(|s| s.hours).collect();
    let keys: BTreeSet<_> = rows.keys().chain(again.rows.keys()).collect();
    for key in keys {
        if gone.iter().any(|(least, greatest)| (*least..=*greatest).contains(&key.hour)) {
            found.rollups_without_records += 1;
            continue;
        }
        found.rollups += 1;
        let (records, ledger) = (again.rows.get(key).copied(), rows.get(key).copied());
        if records != ledger {
            let Key { tenant, app, function, version, hour, .. } = key.clone();
            found.differences.push(Difference::Rollup {
                tenant,
                app,
                function,
                version,
                hour,
                records,
                ledger,
            });
        }
    }
    found
}
