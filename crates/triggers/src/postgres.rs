//! What PostgreSQL says of changed rows: the messages of its output plugin `pgoutput`, version 1 of the protocol, as
//! changes.
//!
//! ```text
//!  Begin ─▶ (Relation) ─▶ Insert | Update | Delete | Truncate … ─▶ Commit
//! ```
//! A transaction comes whole and once it is committed. A relation is told before the first change of its rows, and again
//! whenever it was altered, so columns are known by what was told last.
//!
//! Source: PostgreSQL 15 Documentation, §55.9 "Logical Replication Message Formats".

pub mod address;
mod reader;
pub mod slot;
mod value;

use std::{collections::HashMap, fmt};

use self::reader::Reader;
use crate::shape::database::{Change, Operation, Origin, Row};

/// Tables of one publication that are remembered: each needs some hundred bytes.
pub const RELATIONS_MAX: usize = 10_000;
/// From 1970-01-01 to 2000-01-01, where PostgreSQL's time begins, in microseconds.
const EPOCH_US: i64 = 946_684_800_000_000;

/// A place in the database's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// Why a message cannot be understood. The stream is of no more use then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It ends in the middle.
    #[error("a message of pgoutput ends too early")]
    Short,
    /// A kind that version 1 of the protocol does not have.
    #[error("pgoutput sent a message of the unknown kind {0:?}: is proto_version 1, and binary off?")]
    Kind(char),
    /// Text that is no UTF-8.
    #[error("pgoutput sent text that is no UTF-8: is client_encoding UTF8?")]
    Encoding,
    /// A change before its relation, or outside of a transaction.
    #[error("pgoutput sent a change without {0} before it")]
    Order(&'static str),
    /// More relations than are remembered.
    #[error("the publication has more than {RELATIONS_MAX} tables")]
    TooMany,
}

/// What a message said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Something that changes no row.
    Nothing,
    /// A transaction begins, of which this is the place of its commit.
    Began(Lsn),
    /// Rows changed; more than one only if several tables were emptied at once.
    Changes(Vec<Change>),
    /// The transaction is whole. Once its changes are safe, this place may be confirmed to the database.
    Committed(Lsn),
}

/// Reads one stream of messages.
#[derive(Debug)]
pub struct Decoder {
    db: String,
    relations: HashMap<u32, Relation>,
    /// Its id, and when it was committed.
    transaction: Option<(u32, u64)>,
}

#[derive(Debug)]
struct Relation {
    schema: String,
    table: String,
    /// Whether the old row is told whole (`REPLICA IDENTITY FULL`): then no column is the key.
    is_full: bool,
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    name: String,
    is_key: bool,
    /// The type's object id.
    ty: u32,
}

impl Decoder {
    /// Of the database of this name.
    #[must_use]
    pub fn new(db: impl Into<String>) -> Self {
        Self { db: db.into(), relations: HashMap::new(), transaction: None }
    }

    /// Reads the message that stands at this place of the log.
    ///
    /// # Errors
    /// It is malformed, or not in its place.
    pub fn read(&mut self, at: Lsn, message: &[u8]) -> Result<Said, Error> {
        let mut reader = Reader(message);
        match reader.u8()? {
            b'B' => {
                let (commit, time, id) = (reader.u64()?, reader.i64()?, reader.u32()?);
                let committed_ms = u64::try_from(time.saturating_add(EPOCH_US) / 1_000).unwrap_or_default();
                self.transaction = Some((id, committed_ms));
                Ok(Said::Began(Lsn(commit)))
            }
            b'C' => {
                let (_flags, _lsn, end) = (reader.u8()?, reader.u64()?, reader.u64()?);
                self.transaction = None;
                Ok(Said::Committed(Lsn(end)))
            }
            b'R' => self.relation(&mut reader).map(|()| Said::Nothing),
            b'I' => {
                let relation = self.find(reader.u32()?)?;
                reader.expect(b'N')?;
                let after = relation.row(&mut reader)?;
                let key = relation.key(&after);
                self.change(at, relation, Operation::Insert, key, None, Some(after)).map(one)
            }
            b'U' => {
                let relation = self.find(reader.u32()?)?;
                let mut kind = reader.u8()?;
                let (mut key, mut before) = (None, None);
                if matches!(kind, b'K' | b'O') {
                    let old = relation.row(&mut reader)?;
                    key = relation.key(&old);
                    before = (kind == b'O').then_some(old);
                    kind = reader.u8()?;
                }
                if kind != b'N' {
                    return Err(Error::Kind(char::from(kind)));
                }
                let mut after = relation.row(&mut reader)?;
                // A large value that did not change is not sent again, but may be known from before.
                for (name, value) in before.iter().flatten() {
                    after.entry(name.clone()).or_insert_with(|| value.clone());
                }
                let key = key.or_else(|| relation.key(&after));
                self.change(at, relation, Operation::Update, key, before, Some(after)).map(one)
            }
            b'D' => {
                let relation = self.find(reader.u32()?)?;
                let kind = reader.u8()?;
                let old = relation.row(&mut reader)?;
                let key = relation.key(&old);
                let before = (kind == b'O').then_some(old);
                self.change(at, relation, Operation::Delete, key, before, None).map(one)
            }
            b'T' => {
                let (count, _options) = (reader.u32()?, reader.u8()?);
                let mut changes = Vec::new();
                for _ in 0..count {
                    let relation = self.find(reader.u32()?)?;
                    changes.push(self.change(at, relation, Operation::Truncate, None, None, None)?);
                }
                Ok(Said::Changes(changes))
            }
            // Types, origins, and messages that applications write into the log: no row.
            b'Y' | b'O' | b'M' => Ok(Said::Nothing),
            other => Err(Error::Kind(char::from(other))),
        }
    }

    fn find(&self, id: u32) -> Result<&Relation, Error> {
        self.relations.get(&id).ok_or(Error::Order("its relation"))
    }

    fn change(
        &self,
        at: Lsn,
        relation: &Relation,
        op: Operation,
        key: Option<Row>,
        before: Option<Row>,
        after: Option<Row>,
    ) -> Result<Change, Error> {
        let (transaction, committed_ms) = self.transaction.ok_or(Error::Order("its transaction"))?;
        let source = Origin {
            db: self.db.clone(),
            schema: relation.schema.clone(),
            table: relation.table.clone(),
            lsn: at.to_string(),
            transaction: transaction.into(),
            committed_ms,
        };
        Ok(Change { op, key, before, after, source })
    }

    fn relation(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        let (id, schema, table) = (reader.u32()?, reader.text()?, reader.text()?);
        let is_full = reader.u8()? == b'f';
        let mut columns = Vec::new();
        for _ in 0..reader.u16()? {
            let is_key = reader.u8()? & 1 != 0;
            let (name, ty, _modifier) = (reader.text()?, reader.u32()?, reader.u32()?);
            columns.push(Column { name, is_key, ty });
        }
        // Of the schema that every type's name is found in, none is written.
        let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
        if self.relations.len() >= RELATIONS_MAX && !self.relations.contains_key(&id) {
            return Err(Error::TooMany);
        }
        self.relations.insert(id, Relation { schema, table, is_full, columns });
        Ok(())
    }
}

fn one(change: Change) -> Said {
    Said::Changes(vec![change])
}

impl Relation {
    /// A row's values by column, without those that were not sent.
    fn row(&self, reader: &mut Reader<'_>) -> Result<Row, Error> {
        let count = usize::from(reader.u16()?);
        let mut row = Row::new();
        for index in 0..count {
            let column = self.columns.get(index).ok_or(Error::Order("its columns"))?;
            let value = match reader.u8()? {
                b'n' => serde_json::Value::Null,
                b'u' => continue,
                b't' => {
                    let length = usize::try_from(reader.u32()?).map_err(|_| Error::Short)?;
                    let text = std::str::from_utf8(reader.bytes(length)?).map_err(|_| Error::Encoding)?;
                    value::json(column.ty, text)
                }
                other => return Err(Error::Kind(char::from(other))),
            };
            row.insert(column.name.clone(), value);
        }
        Ok(row)
    }

    /// The columns of the key, of a row that has them.
    fn key(&self, row: &Row) -> Option<Row> {
        let key = self.columns.iter().filter(|column| column.is_key && !self.is_full);
        let key: Row =
            key.filter_map(|column| Some((column.name.clone(), row.get(&column.name)?.clone()))).collect();
        (!key.is_empty()).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_are_written_as_postgresql_writes_them() {
        assert_eq!(Lsn(0x1_016B_3748).to_string(), "1/16B3748");
    }

    #[test]
    fn a_change_comes_after_its_relation_and_in_a_transaction() {
        let mut decoder = Decoder::new("shop");
        let insert = [b"I\0\0\0\x07N\0\x01t\0\0\0\x015".as_slice()].concat();
        assert_eq!(decoder.read(Lsn(1), &insert), Err(Error::Order("its relation")));
        let begin =
            [b"B".as_slice(), &7_u64.to_be_bytes(), &848_587_110_641_748_i64.to_be_bytes(), &[0, 0, 0, 5]]
                .concat();
        let relation = b"R\0\0\0\x07public\0t\0d\0\x01\x01id\0\0\0\0\x17\xff\xff\xff\xff";
        assert_eq!(decoder.read(Lsn(1), relation), Ok(Said::Nothing));
        assert_eq!(decoder.read(Lsn(1), &insert), Err(Error::Order("its transaction")));
        assert_eq!(decoder.read(Lsn(1), &begin), Ok(Said::Began(Lsn(7))));
        let Ok(Said::Changes(changes)) = decoder.read(Lsn(1), &insert) else { panic!("no change") };
        assert_eq!((changes[0].source.transaction, changes[0].source.committed_ms), (5, 1_795_271_910_641));
        assert_eq!(decoder.read(Lsn(1), b"S\0"), Err(Error::Kind('S')));
        assert_eq!(decoder.read(Lsn(1), b""), Err(Error::Short));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            messages in prop::collection::vec((prop::sample::select(b"BCRIUDTYOMS".to_vec()), prop::collection::vec(0..8_u8, 0..40)), 0..20)
        ) {
            let mut decoder = Decoder::new("shop");
            for (kind, rest) in messages {
                let _ = decoder.read(Lsn(7), &[&[kind][..], &rest].concat());
            }
        }
    }
}
