//! The ledger of a cluster: the tables of one machine's on every node, changed by one log, so that each answers the same.
//!
//! ```text
//!   node a: journal ──Take──▶ log ──▶ the tables of a, b, c
//!   node b: journal ──Take──┘
//! ```
//!
//! A node's records are taken only behind those that it handed over before, so each counts once, whoever dies when and
//! however often it is sent. What decides about money is in the log, too: the price sheet, the key, and when hours are sealed.

use std::{path::Path, sync::Arc};

use rouse_store::{
    cluster::tables::{Operation, replay as run},
    error::Error,
    journal::{self, Cursor, Policy, Position, Reader, Record},
};
use rouse_types::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::{Ledger, bill, chain, invoice, seal, sql, wrap};
use crate::{audit::key::Key, price::PriceSheet};

/// The name of the tables.
pub const NAME: &str = "ledger";
/// Records that are handed over at once: a tenth of a second of work.
const RECORDS_MAX: usize = 5_000;

/// What a cluster's ledger has beside that of one machine: how far each node handed over, and the key.
const SCHEMA: &str = "
CREATE TABLE handed (node TEXT PRIMARY KEY, cursor TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE keys (id INTEGER PRIMARY KEY CHECK (id = 1), pkcs8 BLOB NOT NULL) STRICT;
";

/// Makes the tables.
#[must_use]
pub fn schema() -> String {
    [sql::SCHEMA, chain::SCHEMA, invoice::SCHEMA, SCHEMA].concat()
}

/// Makes the change of an entry of the log.
///
/// # Errors
/// [`Error::Log`] for one of a later release; what the change says.
pub fn replay(tag: u8, bytes: &[u8], db: &Connection) -> Result<(), Error> {
    match tag {
        Begin::TAG => run::<Begin>(bytes, db),
        Take::TAG => run::<Take>(bytes, db),
        Seal::TAG => run::<Seal>(bytes, db),
        Forget::TAG => run::<Forget>(bytes, db),
        _ => Err(Error::Log(format!("this release knows no operation {tag} of the ledger"))),
    }
}

/// A node begins: its price sheet holds from now on, and its key if there is none.
#[derive(Debug, Serialize, Deserialize)]
pub struct Begin {
    /// See [`Key::generate`].
    pub key: Vec<u8>,
    /// See [`PriceSheet::to_toml`].
    pub sheet: String,
}

impl Operation for Begin {
    const TAG: u8 = 1;
    type Output = ();

    fn apply(&self, db: &Connection) -> Result<(), Error> {
        let given = PriceSheet::parse(&self.sheet).map_err(|error| Error::Invalid(error.to_string()))?;
        if let Some(kept) = sheet(db)? {
            if kept.currency() != given.currency() {
                return Err(Error::Invalid(format!(
                    "the cluster's ledger is kept in {}, and this node's price sheet is in {}: give it that of the others",
                    kept.currency(),
                    given.currency()
                )));
            }
            if kept == given {
                return Ok(());
            }
        }
        db.execute("INSERT OR IGNORE INTO keys (id, pkcs8) VALUES (1, ?1)", [&self.key])?;
        Ok(sql::add_sheet(db, &self.sheet, &Cursor::default())?)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Line {
    writer: String,
    position: Position,
    time: Timestamp,
    payload: Vec<u8>,
}

/// A node hands records over.
#[derive(Debug, Serialize, Deserialize)]
pub struct Take {
    node: String,
    before: Cursor,
    after: Cursor,
    records: Vec<Line>,
    /// Places of its journal that cannot be read: file, offset, reason.
    damaged: Vec<(String, u64, String)>,
}

impl Take {
    /// What a node has that was not handed over, and whether that is all; none if there is nothing. Blocks.
    ///
    /// # Errors
    /// What the journal says.
    pub fn read(journal: &Path, node: &str, before: Cursor) -> Result<(Option<Self>, bool), journal::Error> {
        let mut reader = Reader::open(journal, before.clone());
        let batch = reader.read(RECORDS_MAX)?;
        if batch.records.is_empty() && batch.corruptions.is_empty() {
            return Ok((None, batch.caught_up));
        }
        let line = |record: Record| Line {
            // Two nodes' writers have the same names.
            writer: format!("{node}.{}", record.writer),
            position: record.position,
            time: record.time,
            payload: record.payload,
        };
        let damaged = batch.corruptions.into_iter().map(|corruption| {
            let path = format!("{node}: {}", corruption.path.display());
            (path, corruption.offset, corruption.reason.to_owned())
        });
        let take = Self {
            node: node.to_owned(),
            before,
            after: reader.cursor().clone(),
            damaged: damaged.collect(),
            records: batch.records.into_iter().map(line).collect(),
        };
        Ok((Some(take), batch.caught_up))
    }
}

impl Operation for Take {
    const TAG: u8 = 2;
    /// Whether they count; else they were counted before, or the node is two.
    type Output = bool;

    fn apply(&self, db: &Connection) -> Result<bool, Error> {
        if handed(db, &self.node)? != self.before {
            return Ok(false);
        }
        let prices = sheet(db)?
            .ok_or_else(|| Error::Invalid("the cluster's ledger has no price sheet yet".to_owned()))?;
        let record = |line: &Line| Record {
            writer: Arc::from(&*line.writer),
            position: line.position,
            time: line.time,
            payload: line.payload.clone(),
        };
        let records: Vec<Record> = self.records.iter().map(record).collect();
        bill(db, &records, &prices)?;
        for (path, offset, reason) in &self.damaged {
            sql::add_refused(db, path, 0, *offset, reason)?;
        }
        let cursor = serde_json::to_string(&self.after).map_err(|error| Error::Invalid(error.to_string()))?;
        db.prepare_cached("INSERT OR REPLACE INTO handed (node, cursor) VALUES (?1, ?2)")?
            .execute(params![self.node, cursor])?;
        Ok(true)
    }
}

/// Hours are sealed that are over at a time.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seal {
    /// The time.
    pub now: Timestamp,
}

impl Operation for Seal {
    const TAG: u8 = 3;
    type Output = usize;

    fn apply(&self, db: &Connection) -> Result<usize, Error> {
        let key = key(db)?.ok_or_else(|| Error::Invalid("the cluster's ledger has no key yet".to_owned()))?;
        Ok(seal::seal(db, self.now, &key)?)
    }
}

/// Records of sealed hours are forgotten that are old, or more than is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Forget {
    oldest: Timestamp,
    bytes_max: u64,
}

impl Forget {
    /// By what is kept.
    #[must_use]
    pub fn new(policy: &Policy, now: Timestamp) -> Self {
        let age = u64::try_from(policy.age_max.as_micros()).unwrap_or(u64::MAX);
        Self { oldest: Timestamp(now.0.saturating_sub(age)), bytes_max: policy.bytes_max }
    }
}

impl Operation for Forget {
    const TAG: u8 = 4;
    type Output = u64;

    fn apply(&self, db: &Connection) -> Result<u64, Error> {
        Ok(seal::forget(db, sql::stored(self.oldest.0), self.bytes_max)?)
    }
}

/// Up to where a node handed over.
///
/// # Errors
/// What the database says.
pub fn handed(db: &Connection, node: &str) -> Result<Cursor, Error> {
    let found: Option<String> = db
        .prepare_cached("SELECT cursor FROM handed WHERE node = ?1")?
        .query_row([node], |row| row.get(0))
        .optional()?;
    let read = |text: String| serde_json::from_str(&text).map_err(|error| Error::Log(error.to_string()));
    found.map_or(Ok(Cursor::default()), read)
}

/// The key that seals.
///
/// # Errors
/// What the database says.
pub fn key(db: &Connection) -> Result<Option<Key>, Error> {
    let found: Option<Vec<u8>> =
        db.prepare_cached("SELECT pkcs8 FROM keys")?.query_row([], |row| row.get(0)).optional()?;
    let read = |bytes: Vec<u8>| Key::from_pkcs8(&bytes).map_err(|error| Error::Invalid(error.to_string()));
    found.map(read).transpose()
}

/// Makes a cluster's ledger of one machine's, in this file, with the key that sealed it.
///
/// # Errors
/// What the database says.
pub fn share(file: &Path, key: &[u8]) -> Result<(), super::Error> {
    let made = || {
        let db = Connection::open(file)?;
        db.execute_batch(SCHEMA)?;
        db.execute("INSERT INTO keys (id, pkcs8) VALUES (1, ?1)", [key])?;
        // It says how far this machine's journal was read, and nodes have their own.
        db.execute("DELETE FROM cursor", [])?;
        db.close().map_err(|(_, error)| error)
    };
    made().map_err(wrap(file))
}

/// Makes one machine's ledger of a cluster's, in this file, as the node of this name goes on with it. Gives the key that seals.
///
/// # Errors
/// What the database says; [`super::Error::Foreign`] if it has no key.
pub fn unshare(file: &Path, node: &str) -> Result<Vec<u8>, super::Error> {
    let made = || {
        let db = Connection::open(file)?;
        let key: Option<Vec<u8>> = db.query_row("SELECT pkcs8 FROM keys", [], |row| row.get(0)).optional()?;
        // What the node's journal has beyond this is billed by whoever goes on with it.
        db.execute(
            "INSERT OR REPLACE INTO cursor (id, cursor) SELECT 1, cursor FROM handed WHERE node = ?1",
            [node],
        )?;
        db.execute_batch("DROP TABLE handed; DROP TABLE keys;")?;
        db.pragma_update(None, "user_version", sql::VERSION)?;
        db.close().map_err(|(_, error)| error)?;
        Ok(key)
    };
    let none = || super::Error::Foreign { path: file.to_owned(), reason: "it has no key".to_owned() };
    made().map_err(wrap(file))?.ok_or_else(none)
}

/// Whether it is time to seal something.
///
/// # Errors
/// What the database says.
pub fn is_due(db: &Connection, now: Timestamp) -> Result<bool, Error> {
    Ok(seal::is_due(db, now)?)
}

fn sheet(db: &Connection) -> Result<Option<PriceSheet>, Error> {
    let last = sql::sheets(db)?.pop();
    let read = |(text, _): (String, Cursor)| {
        PriceSheet::parse(&text).map_err(|error| Error::Invalid(error.to_string()))
    };
    last.map(read).transpose()
}

impl Ledger {
    /// A node's tables of a cluster's ledger, to be asked. They are changed by the log alone.
    ///
    /// # Errors
    /// What the database says.
    pub fn view(path: &Path) -> Result<Self, super::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(wrap(path))?;
        let last = sql::sheets(&connection).map_err(wrap(path))?.pop();
        let prices = match last {
            Some((text, _)) => PriceSheet::parse(&text)?,
            None => {
                let reason = "it has no price sheet".to_owned();
                return Err(super::Error::Foreign { path: path.to_owned(), reason });
            }
        };
        Ok(Self { path: path.to_owned(), connection, prices })
    }
}
