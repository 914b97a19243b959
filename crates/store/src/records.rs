//! Records: values under a namespace and a key, each at a revision.
//!
//! Revisions count the writes of a store: they only grow, over all keys. A write may name the revision it
//! expects (compare-and-set), and several writes may be one transaction. A watch gives changes from a
//! revision on; it pulls, so a slow watcher costs nothing, and once what it wants is no longer kept it is
//! told to scan again.

mod watch;

use std::{path::Path, sync::Arc};

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

pub use watch::{Change, Watch};

use crate::{
    Error,
    backend::{self, Backend, Operation},
    cluster::{Cluster, Replica},
    embedded::Db,
};

/// A namespace's length, in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 64;
/// A key's length, in bytes: the longest name of an object, encoded, with what it belongs to.
pub const KEY_BYTES_MAX: usize = 2_304;
/// A value's size, in bytes: records describe, blobs contain.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Writes of one transaction: a deploy of the largest app with its aliases.
pub const WRITES_MAX: usize = 4_096;
/// The values of one transaction together, in bytes: bounds memory, and how long others wait for it.
pub const TRANSACTION_BYTES_MAX: usize = 64 << 20;
/// Records of one page of a scan.
pub const PAGE_MAX: usize = 1_000;
/// Changes that are kept for watchers.
const CHANGES_KEPT: i64 = 10_000;

const SCHEMA: &str = "
CREATE TABLE records (
  namespace TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, revision INTEGER NOT NULL,
  PRIMARY KEY (namespace, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE changes (
  revision INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, key TEXT NOT NULL
) STRICT;
";

/// The number of a write. The first is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key, unique in its namespace.
    pub key: String,
    /// Its bytes.
    pub value: Vec<u8>,
    /// The write that it comes from.
    pub revision: Revision,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expect {
    /// Whatever is there.
    Any,
    /// No record.
    Absent,
    /// The record at this revision.
    At(Revision),
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The record's namespace.
    pub namespace: String,
    /// Its key.
    pub key: String,
    /// What must be there, else nothing of the transaction happens.
    pub expect: Expect,
    /// The new value; none deletes.
    pub value: Option<Vec<u8>>,
}

/// A part of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Records, by key.
    pub records: Vec<Record>,
    /// The cursor of the next page; none if this is the last.
    pub next: Option<String>,
}

/// A store of records. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Records(Backend);

impl Records {
    /// Opens the store in this file, or makes it.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Version`], or what the operating system says.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Db::open(path, "records", SCHEMA).map(|db| Self(Backend::Embedded(Arc::new(db))))
    }

    /// Opens the store of this name in a cluster, or makes it there. This node's copy of it is in this folder, which
    /// one process owns. Needs the runtime that the cluster was joined on, and waits until the copy is up to date.
    ///
    /// # Errors
    /// [`Error::Away`] if the engine does not answer, [`Error::Log`] if the folder holds the copy of another cluster or
    /// the log was written by a later release.
    pub async fn join(cluster: &Cluster, name: &str, folder: &Path) -> Result<Self, Error> {
        let replica = Replica::open(cluster, name, folder, SCHEMA, replay).await?;
        Ok(Self(Backend::Cluster(Arc::new(replica))))
    }

    /// Waits until what was written anywhere before is seen by reads of this process. Embedded, it always is.
    ///
    /// # Errors
    /// [`Error::Away`] if the engine does not answer.
    pub async fn catch_up(&self) -> Result<(), Error> {
        self.0.catch_up().await
    }

    /// The record under this key.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name.
    pub async fn get(&self, namespace: &str, key: &str) -> Result<Option<Record>, Error> {
        check(namespace, key)?;
        let (namespace, key) = (namespace.to_owned(), key.to_owned());
        self.0.read(move |connection| find(connection, &namespace, &key)).await
    }

    /// Writes, whatever is there.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Full`].
    pub async fn put(&self, namespace: &str, key: &str, value: Vec<u8>) -> Result<Revision, Error> {
        self.one(namespace, key, Expect::Any, Some(value)).await
    }

    /// Writes a record that does not exist yet.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it does.
    pub async fn create(&self, namespace: &str, key: &str, value: Vec<u8>) -> Result<Revision, Error> {
        self.one(namespace, key, Expect::Absent, Some(value)).await
    }

    /// Replaces the record at this revision (compare-and-set).
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is at another or does not exist.
    pub async fn replace(
        &self,
        namespace: &str,
        key: &str,
        value: Vec<u8>,
        expected: Revision,
    ) -> Result<Revision, Error> {
        self.one(namespace, key, Expect::At(expected), Some(value)).await
    }

    /// Deletes. With [`Expect::Any`], deleting what does not exist is no error.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is not as expected.
    pub async fn delete(&self, namespace: &str, key: &str, expect: Expect) -> Result<Revision, Error> {
        self.one(namespace, key, expect, None).await
    }

    async fn one(
        &self,
        namespace: &str,
        key: &str,
        expect: Expect,
        value: Option<Vec<u8>>,
    ) -> Result<Revision, Error> {
        let write = Write { namespace: namespace.to_owned(), key: key.to_owned(), expect, value };
        self.commit(vec![write]).await
    }

    /// Makes all writes, in their order, or none. Gives the revision of the last.
    ///
    /// # Errors
    /// [`Error::Conflict`] names the first record that is not as expected.
    pub async fn commit(&self, writes: Vec<Write>) -> Result<Revision, Error> {
        if writes.is_empty() || writes.len() > WRITES_MAX {
            let count = writes.len();
            return Err(Error::Invalid(format!(
                "a transaction of {count} writes: 1 to {WRITES_MAX} are allowed"
            )));
        }
        let bytes: usize = writes.iter().map(|write| write.value.as_ref().map_or(0, Vec::len)).sum();
        if bytes > TRANSACTION_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "a transaction of {bytes} bytes: at most {TRANSACTION_BYTES_MAX} are allowed"
            )));
        }
        for write in &writes {
            check(&write.namespace, &write.key)?;
            let bytes = write.value.as_ref().map_or(0, Vec::len);
            if bytes > VALUE_BYTES_MAX {
                let Write { namespace, key, .. } = write;
                return Err(Error::Invalid(format!(
                    "the value of {namespace}/{key} has {bytes} bytes: at most {VALUE_BYTES_MAX} are allowed"
                )));
            }
        }
        self.0.write(Commit { writes }).await
    }

    /// Records whose keys begin with `prefix` and come after `after`, by key. `limit` is cut to
    /// [`PAGE_MAX`]. Each page is consistent in itself; pages are not with each other.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong name.
    pub async fn scan(
        &self,
        namespace: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, Error> {
        check(namespace, if prefix.is_empty() { "-" } else { prefix })?;
        let (namespace, prefix) = (namespace.to_owned(), prefix.to_owned());
        let after = after.unwrap_or_default().to_owned();
        let limit = limit.clamp(1, PAGE_MAX);
        self.0.read(move |connection| page(connection, &namespace, &prefix, &after, limit)).await
    }

    /// The revision of the last write; zero before the first. To see everything once: take it, scan, then
    /// watch from it.
    ///
    /// # Errors
    /// Only what the database says.
    pub async fn revision(&self) -> Result<Revision, Error> {
        self.0.read(head).await
    }

    /// Changes of keys with this prefix, after the revision.
    #[must_use]
    pub fn watch(&self, namespace: &str, prefix: &str, after: Revision) -> Watch {
        Watch::new(self.0.clone(), namespace.to_owned(), prefix.to_owned(), after)
    }
}

/// A transaction.
#[derive(Debug, Serialize, Deserialize)]
struct Commit {
    writes: Vec<Write>,
}

impl Operation for Commit {
    const TAG: u8 = 1;
    type Output = Revision;

    fn apply(&self, db: &Connection) -> Result<Revision, Error> {
        apply(db, &self.writes)
    }
}

fn replay(tag: u8, bytes: &[u8], db: &Connection) -> Result<(), Error> {
    match tag {
        Commit::TAG => backend::replay::<Commit>(bytes, db),
        _ => Err(Error::Log(format!("this release knows no operation {tag} of records"))),
    }
}

/// Characters that every engine takes in a key: NATS JetStream's buckets are the narrowest.
fn check(namespace: &str, key: &str) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let dots = |text: &str| text.starts_with('.') || text.ends_with('.');
    let namespace_ok = (1..=NAMESPACE_BYTES_MAX).contains(&namespace.len()) && namespace.bytes().all(plain);
    let characters_ok = key.bytes().all(|b| plain(b) || matches!(b, b'/' | b'=' | b'.'));
    let key_ok = (1..=KEY_BYTES_MAX).contains(&key.len()) && characters_ok && !dots(key);
    if namespace_ok && key_ok {
        return Ok(());
    }
    let shown = |text: &str| text.chars().take(80).collect::<String>();
    Err(Error::Invalid(format!(
        "'{}/{}' is not a record's name: use letters, digits, '-' and '_', in keys also '/', '=' and '.', \
         not at an end; at most {NAMESPACE_BYTES_MAX} and {KEY_BYTES_MAX} characters",
        shown(namespace),
        shown(key)
    )))
}

/// SQLite's integers are signed; none of ours comes near that bound.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn revision(number: i64) -> Revision {
    Revision(number.unsigned_abs())
}

fn find(connection: &Connection, namespace: &str, key: &str) -> Result<Option<Record>, Error> {
    let mut query =
        connection.prepare_cached("SELECT value, revision FROM records WHERE namespace = ?1 AND key = ?2")?;
    let record = query.query_row(params![namespace, key], |row| {
        Ok(Record { key: key.to_owned(), value: row.get(0)?, revision: revision(row.get(1)?) })
    });
    Ok(record.optional()?)
}

fn head(connection: &Connection) -> Result<Revision, Error> {
    let mut query = connection.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")?;
    Ok(query.query_row([], |row| row.get(0).map(revision)).optional()?.unwrap_or_default())
}

fn page(
    connection: &Connection,
    namespace: &str,
    prefix: &str,
    after: &str,
    limit: usize,
) -> Result<Page, Error> {
    // Keys are ASCII, so the prefix with the highest character behind it ends the range.
    let mut query = connection.prepare_cached(
        "SELECT key, value, revision FROM records
         WHERE namespace = ?1 AND key >= ?2 AND key > ?3 AND key < ?2 || char(1114111) ORDER BY key LIMIT ?4",
    )?;
    let rows = query.query_map(params![namespace, prefix, after, stored(limit as u64 + 1)], |row| {
        Ok(Record { key: row.get(0)?, value: row.get(1)?, revision: revision(row.get(2)?) })
    })?;
    let mut records: Vec<Record> = rows.collect::<Result<_, _>>()?;
    let more = records.len() > limit;
    records.truncate(limit);
    let next = records.last().filter(|_| more).map(|last| last.key.clone());
    Ok(Page { records, next })
}

fn apply(connection: &Connection, writes: &[Write]) -> Result<Revision, Error> {
    let mut last = Revision::default();
    let mut current =
        connection.prepare_cached("SELECT revision FROM records WHERE namespace = ?1 AND key = ?2")?;
    let mut change = connection.prepare_cached("INSERT INTO changes (namespace, key) VALUES (?1, ?2)")?;
    let mut put = connection.prepare_cached(
        "INSERT INTO records (namespace, key, value, revision) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, revision = excluded.revision",
    )?;
    let mut delete = connection.prepare_cached("DELETE FROM records WHERE namespace = ?1 AND key = ?2")?;
    for Write { namespace, key, expect, value } in writes {
        let expected = match expect {
            Expect::Any => None,
            Expect::Absent => Some(None),
            Expect::At(at) => Some(Some(*at)),
        };
        if let Some(expected) = expected {
            let found =
                current.query_row(params![namespace, key], |row| row.get(0).map(revision)).optional()?;
            if found != expected {
                let (namespace, key) = (namespace.clone(), key.clone());
                return Err(Error::Conflict { namespace, key, expected, found });
            }
        }
        change.execute(params![namespace, key])?;
        let number = connection.last_insert_rowid();
        last = revision(number);
        match value {
            Some(value) => put.execute(params![namespace, key, value, number])?,
            None => delete.execute(params![namespace, key])?,
        };
    }
    let mut trim = connection.prepare_cached("DELETE FROM changes WHERE revision <= ?1")?;
    trim.execute([stored(last.0) - CHANGES_KEPT])?;
    Ok(last)
}
