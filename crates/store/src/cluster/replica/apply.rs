//! Applying entries of the log, inside the writer's transaction.
//!
//! An operation that fails for what it found fails alike on every node, and is over. One that fails for what this
//! node is, as a full disk, undoes the whole batch, which is tried again: nothing may be left out.

use std::borrow::Cow;

use bytes::{BufMut as _, Bytes, BytesMut};
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::oneshot;

use crate::{
    Error,
    backend::{Operation, Replay},
    cluster::stream::Entry,
};

/// The format of entries that this release writes, and the only one that it reads.
const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 1 + 16 + 4 + 4;
/// Parts of operations that did not become whole within so many entries are dropped: their writer is dead.
const PARTS_KEPT: u64 = 1_000_000;

/// What is kept beside the tables: how far they have come in which log, and parts of operations.
pub(in crate::cluster) const SCHEMA: &str = "
CREATE TABLE replica (
  one INTEGER PRIMARY KEY CHECK (one = 1), log TEXT NOT NULL, applied INTEGER NOT NULL, bytes INTEGER NOT NULL
) STRICT;
INSERT INTO replica (one, log, applied, bytes) VALUES (1, '', 0, 0);
CREATE TABLE replica_parts (
  operation BLOB NOT NULL, part INTEGER NOT NULL, sequence INTEGER NOT NULL, bytes BLOB NOT NULL,
  PRIMARY KEY (operation, part)
) STRICT, WITHOUT ROWID;
";

/// What stands before an operation's bytes in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// A random name, by which its writer knows it.
    pub(super) operation: [u8; 16],
    /// Which part of it this is, from zero, in the order in which they were written.
    pub(super) part: u32,
    pub(super) parts: u32,
}

impl Head {
    pub(super) fn with(self, piece: &[u8]) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + piece.len());
        bytes.put_u8(FORMAT);
        bytes.put_slice(&self.operation);
        bytes.put_u32(self.part);
        bytes.put_u32(self.parts);
        bytes.put_slice(piece);
        bytes.freeze()
    }

    pub(super) fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let unreadable = || {
            Error::Log("an entry of the cluster's log is of a format that this release does not know: use a later one".to_owned())
        };
        let (&format, rest) = bytes.split_first().ok_or_else(unreadable)?;
        let (operation, rest) = rest.split_first_chunk::<16>().ok_or_else(unreadable)?;
        let (part, rest) = rest.split_first_chunk::<4>().ok_or_else(unreadable)?;
        let (parts, rest) = rest.split_first_chunk::<4>().ok_or_else(unreadable)?;
        let head = Self {
            operation: *operation,
            part: u32::from_be_bytes(*part),
            parts: u32::from_be_bytes(*parts),
        };
        if format != FORMAT || head.part >= head.parts {
            return Err(unreadable());
        }
        Ok((head, rest))
    }

    /// Whether it completes its operation.
    pub(super) fn is_last(self) -> bool {
        self.part + 1 == self.parts
    }
}

/// A write of this process that waits for its turn in the log.
pub(super) trait Pending: Send + std::fmt::Debug {
    /// Applies it, again if the transaction was undone.
    fn run(&mut self, db: &Connection) -> Result<(), Error>;
    /// Tells its caller what came of it, once that is committed.
    fn answer(self: Box<Self>);
}

pub(super) struct Waiting<O: Operation> {
    pub(super) operation: O,
    pub(super) result: Option<Result<O::Output, Error>>,
    pub(super) sender: oneshot::Sender<Result<O::Output, Error>>,
}

impl<O: Operation> std::fmt::Debug for Waiting<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("tag", &O::TAG).finish_non_exhaustive()
    }
}

impl<O: Operation> Pending for Waiting<O> {
    fn run(&mut self, db: &Connection) -> Result<(), Error> {
        self.result = None;
        let result = in_savepoint(db, |db| self.operation.apply(db));
        if let Err(error) = result {
            if !error.is_of_the_operation() {
                return Err(error);
            }
            self.result = Some(Err(error));
        } else {
            self.result = Some(result);
        }
        Ok(())
    }

    fn answer(self: Box<Self>) {
        let lost = || Err(Error::Commit("parts of it were dropped from the cluster's log".to_owned()));
        // The caller may be gone.
        drop(self.sender.send(self.result.unwrap_or_else(lost)));
    }
}

/// What came of a batch.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Whether any of the tables changed.
    pub(super) changed: bool,
    /// The entry whose writer is to make a copy of the tables, so that the log can be cut.
    pub(super) copy_at: Option<usize>,
}

pub(super) fn applied(db: &Connection) -> Result<u64, Error> {
    let mut applied = db.prepare_cached("SELECT applied FROM replica")?;
    Ok(applied.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

/// Tables belong to one log: the first that they follow.
pub(super) fn belongs(db: &Connection, name: &str, id: &str) -> Result<(), Error> {
    let found: String = db.prepare_cached("SELECT log FROM replica")?.query_row([], |row| row.get(0))?;
    if found == id {
        return Ok(());
    }
    if found.is_empty() {
        db.prepare_cached("UPDATE replica SET log = ?1")?.execute([id])?;
        return Ok(());
    }
    Err(Error::Log(format!(
        "this node's copy of {name} is of another cluster: give the node an empty state folder, or the engine that it was with"
    )))
}

/// Applies entries in their order; `own` are those of this process that wait for them.
pub(super) fn entries(
    db: &Connection,
    entries: &[Entry],
    own: &mut [Option<Box<dyn Pending>>],
    replay: Replay,
    copy_after_bytes: u64,
) -> Result<Applied, Error> {
    let mut came = Applied::default();
    let mut state = db.prepare_cached("SELECT applied, bytes FROM replica")?;
    let (mut last, mut bytes): (i64, i64) = state.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (index, (entry, own)) in entries.iter().zip(own).enumerate() {
        let sequence = i64::try_from(entry.sequence).unwrap_or(i64::MAX);
        if sequence != last + 1 {
            return Err(Error::Log(format!("entry {sequence} of the log came after {last}")));
        }
        let (head, piece) = Head::read(&entry.payload)?;
        let whole = whole(db, head, piece, sequence)?;
        if let Some(whole) = whole {
            let before = db.total_changes();
            match own {
                Some(own) => own.run(db)?,
                None => other(db, &whole, replay)?,
            }
            came.changed |= db.total_changes() != before;
        }
        last = sequence;
        bytes += i64::try_from(entry.payload.len()).unwrap_or(i64::MAX);
        if bytes.unsigned_abs() >= copy_after_bytes && head.is_last() {
            bytes = 0;
            came.copy_at = Some(index);
        }
    }
    db.prepare_cached("UPDATE replica SET applied = ?1, bytes = ?2")?.execute([last, bytes])?;
    Ok(came)
}

/// The operation that an entry completes, if it does.
fn whole<'a>(
    db: &Connection,
    head: Head,
    piece: &'a [u8],
    sequence: i64,
) -> Result<Option<Cow<'a, [u8]>>, Error> {
    if head.parts == 1 {
        return Ok(Some(Cow::Borrowed(piece)));
    }
    let operation = head.operation.as_slice();
    if !head.is_last() {
        let kept = sequence - i64::try_from(PARTS_KEPT).unwrap_or(i64::MAX);
        db.prepare_cached("DELETE FROM replica_parts WHERE sequence < ?1")?.execute([kept])?;
        db.prepare_cached(
            "INSERT OR REPLACE INTO replica_parts (operation, part, sequence, bytes) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![operation, head.part, sequence, piece])?;
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let mut found =
        db.prepare_cached("SELECT bytes FROM replica_parts WHERE operation = ?1 AND part = ?2")?;
    for part in 0..head.part {
        match found.query_row(params![operation, part], |row| row.get::<_, Vec<u8>>(0)).optional()? {
            Some(piece) => bytes.extend(piece),
            None => return Ok(None),
        }
    }
    bytes.extend(piece);
    db.prepare_cached("DELETE FROM replica_parts WHERE operation = ?1")?.execute([operation])?;
    Ok(Some(Cow::Owned(bytes)))
}

/// Applies what another process wrote.
fn other(db: &Connection, whole: &[u8], replay: Replay) -> Result<(), Error> {
    // What only waits changes nothing anywhere.
    let Some((&tag, bytes)) = whole.split_first().filter(|(tag, _)| **tag != 0) else {
        return Ok(());
    };
    match in_savepoint(db, |db| replay(tag, bytes, db)) {
        Err(error) if !error.is_of_the_operation() => Err(error),
        _ => Ok(()),
    }
}

fn in_savepoint<T>(db: &Connection, run: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
    // A full disk may have rolled the transaction back: outside of it, a savepoint would commit by itself.
    if db.is_autocommit() {
        return Err(Error::Commit("no transaction is under way".to_owned()));
    }
    let execute = |sql| db.prepare_cached(sql)?.execute([]);
    execute("SAVEPOINT entry")?;
    let result = run(db);
    if !db.is_autocommit() {
        if result.is_err() {
            execute("ROLLBACK TO entry")?;
        }
        execute("RELEASE entry")?;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entrys_head_is_read_as_it_was_written_and_others_are_refused() {
        let head = Head { operation: [7; 16], part: 1, parts: 3 };
        let bytes = head.with(b"piece");
        assert_eq!(Head::read(&bytes).unwrap(), (head, &b"piece"[..]));
        let mut later = bytes.to_vec();
        later[0] = 2;
        let last_of_none = Head { part: 3, ..head }.with(b"");
        for wrong in [&later[..], &bytes[..10], &last_of_none[..], b""] {
            assert!(matches!(Head::read(wrong), Err(Error::Log(_))));
        }
    }
}
