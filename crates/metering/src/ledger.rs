//! The ledger: usage journals, rolled up per hour into SQLite, and queried.
//!
//! Each record counts exactly once: the rollups and the cursor up to which the journal was read change in
//! one transaction, so that a kill between any two steps only means that a batch is read again.
//!
//! A price sheet holds for the records that are read while it is in force. The ledger keeps which sheet
//! held from which cursor on, so that old records reconcile with their old prices.
//!
//! The calls block; the process that owns the ledger calls them from a thread that may.

mod chain;
mod export;
mod invoice;
mod query;
mod reconcile;
mod seal;
pub mod shared;
mod sql;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rouse_store::journal::{self, Corruption, Cursor, Reader, Record};
use rouse_types::Timestamp;
use rusqlite::{Connection, TransactionBehavior};

pub use export::{Range, export};
pub use query::{By, Query, Report, Row};
pub use reconcile::{Difference, Reconciliation};
pub use seal::GRACE;

use self::chain::Chains;
use crate::{
    price::{self, PriceSheet},
    sums::{Billed, Rollup},
};

/// Records of one transaction: a tenth of a second of work.
const BATCH_RECORDS: usize = 10_000;
/// Transactions of one call, so that it ends while calls go on.
const BATCHES_MAX: usize = 100;

/// Why the ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal could not be read.
    #[error("cannot read the usage journal")]
    Journal(#[from] journal::Error),
    /// The database refused.
    #[error("cannot use the ledger {}", path.display())]
    Database {
        /// The ledger's file.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// The file is not a ledger, or one of a later release.
    #[error("{} is not a ledger of this release: {reason}", path.display())]
    Foreign {
        /// The ledger's file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The price sheet changes the currency, and sums of two currencies mean nothing.
    #[error(
        "the ledger is kept in {kept}, and the price sheet is in {given}: begin a new ledger, or keep {kept}"
    )]
    Currency {
        /// The ledger's.
        kept: String,
        /// The sheet's.
        given: String,
    },
    /// A price sheet that the ledger keeps cannot be read any more.
    #[error("the ledger keeps a price sheet that cannot be read")]
    Prices(#[from] price::Error),
    /// A month's figures are beyond what an invoice can hold.
    #[error("the month cannot be summed")]
    Sum(#[from] price::Overflow),
    /// The records of a sealed hour were too old or too many to be kept.
    #[error("the records of the hour {}us are no longer kept; its sums and seal are", hour.0)]
    Forgotten {
        /// The hour's begin.
        hour: Timestamp,
    },
}

impl Error {
    /// Whether the disk is full: nothing is lost, and a later call goes on.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Database { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            Self::Journal(error) => matches!(error, journal::Error::Full { .. }),
            _ => false,
        }
    }
}

/// What one call to [`Ledger::ingest`] read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ingested {
    /// Records that were rolled up.
    pub records: u64,
    /// Records that could not be billed: kept by place and reason, see [`Ledger::refused`].
    pub refused: u64,
    /// Places where the journal itself is damaged: kept likewise.
    pub corruptions: Vec<Corruption>,
    /// Whether all was read that there was.
    pub caught_up: bool,
}

/// A record, or the rest of a segment, that could not be billed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who wrote it, or the file's path.
    pub source: String,
    /// The segment; zero if only the path is known.
    pub segment: u64,
    /// The offset in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub reason: String,
}

/// The ledger. One process owns it.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    connection: Connection,
    prices: PriceSheet,
}

impl Ledger {
    /// Opens the ledger in this file, or makes it. `prices` hold for what is read from now on.
    ///
    /// # Errors
    /// [`Error::Currency`] for another currency than the ledger's, [`Error::Foreign`] for a file that is
    /// none of ours.
    pub fn open(path: &Path, prices: PriceSheet) -> Result<Self, Error> {
        let connection = sql::open(path)?;
        let mut ledger = Self { path: path.to_owned(), connection, prices };
        ledger.put_in_force()?;
        Ok(ledger)
    }

    fn put_in_force(&mut self) -> Result<(), Error> {
        let wrap = wrap(&self.path);
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&wrap)?;
        let last = sql::sheets(&transaction).map_err(&wrap)?.pop();
        if let Some((kept, _)) = &last {
            let kept = PriceSheet::parse(kept)?;
            if kept.currency() != self.prices.currency() {
                let given = self.prices.currency().to_owned();
                return Err(Error::Currency { kept: kept.currency().to_owned(), given });
            }
            if kept == self.prices {
                return Ok(());
            }
        }
        let cursor = sql::cursor(&transaction).map_err(&wrap)?;
        sql::add_sheet(&transaction, &self.prices.to_toml(), &cursor).map_err(&wrap)?;
        transaction.commit().map_err(&wrap)
    }

    /// The sheet in force.
    #[must_use]
    pub fn prices(&self) -> &PriceSheet {
        &self.prices
    }

    /// Reads the journal below `journal` from where the last call ended, and rolls it up.
    ///
    /// # Errors
    /// What the journal or the database says; what was committed until then stays.
    pub fn ingest(&mut self, journal: &Path) -> Result<Ingested, Error> {
        let mut ingested = Ingested::default();
        for _ in 0..BATCHES_MAX {
            self.ingest_batch(journal, &mut ingested)?;
            if ingested.caught_up {
                break;
            }
        }
        Ok(ingested)
    }

    fn ingest_batch(&mut self, journal: &Path, ingested: &mut Ingested) -> Result<(), Error> {
        let wrap = wrap(&self.path);
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&wrap)?;
        let mut reader = Reader::open(journal, sql::cursor(&transaction).map_err(&wrap)?);
        let batch = reader.read(BATCH_RECORDS)?;
        ingested.caught_up = batch.caught_up;
        if batch.records.is_empty() && batch.corruptions.is_empty() {
            // An idle platform writes nothing.
            return Ok(());
        }
        let rollup = bill(&transaction, &batch.records, &self.prices).map_err(&wrap)?;
        for corruption in &batch.corruptions {
            sql::add_corruption(&transaction, corruption).map_err(&wrap)?;
        }
        sql::set_cursor(&transaction, reader.cursor()).map_err(&wrap)?;
        transaction.commit().map_err(&wrap)?;
        for refused in &rollup.refused {
            let (writer, position, reason) = (&refused.writer, refused.position, refused.reason);
            tracing::error!(writer, ?position, reason, "a usage record cannot be billed");
        }
        ingested.records += (batch.records.len() - rollup.refused.len()) as u64;
        ingested.refused += rollup.refused.len() as u64;
        ingested.corruptions.extend(batch.corruptions);
        Ok(())
    }

    /// How far the journal was read: what retention must keep lies behind it.
    ///
    /// # Errors
    /// What the database says.
    pub fn cursor(&self) -> Result<Cursor, Error> {
        sql::cursor(&self.connection).map_err(wrap(&self.path))
    }

    /// What could not be billed, the newest first, at most `limit`.
    ///
    /// # Errors
    /// What the database says.
    pub fn refused(&self, limit: usize) -> Result<Vec<Refusal>, Error> {
        sql::refused(&self.connection, limit).map_err(wrap(&self.path))
    }
}

/// Adds records to the tables, and gives what they came to.
fn bill(db: &Connection, records: &[Record], prices: &PriceSheet) -> Result<Rollup, rusqlite::Error> {
    let (mut rollup, mut chains) = (Rollup::default(), Chains::default());
    for record in records {
        if let Some(Billed { tenant, hour, cost_nanos }) = rollup.add(record, prices) {
            let chain = (tenant, hour, Arc::clone(&record.writer));
            chains.add(db, chain, cost_nanos, &record.payload)?;
        }
    }
    sql::add_rollup(db, &rollup)?;
    chains.write(db)?;
    invoice::add(db, &rollup, prices)?;
    Ok(rollup)
}

fn wrap(path: &Path) -> impl Fn(rusqlite::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Database { path: path.clone(), source }
}
