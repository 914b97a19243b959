//! Changes, pulled from a revision on.

use std::collections::VecDeque;

use rusqlite::{Connection, params};
use tokio::sync::watch;

use super::{Revision, revision, stored};
use crate::{Error, backend::Backend};

/// Changes that are fetched at a time.
const FETCH_MAX: i64 = 256;

/// A record that changed. A watcher sees the last state of each key; states between may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The record's key.
    pub key: String,
    /// Its value now; none if it was deleted.
    pub value: Option<Vec<u8>>,
    /// The write.
    pub revision: Revision,
}

/// A watcher of keys with a prefix.
#[derive(Debug)]
pub struct Watch {
    db: Backend,
    namespace: String,
    prefix: String,
    after: Revision,
    fetched: VecDeque<Change>,
    commits: watch::Receiver<u64>,
}

impl Watch {
    pub(super) fn new(db: Backend, namespace: String, prefix: String, after: Revision) -> Self {
        let commits = db.commits();
        Self { db, namespace, prefix, after, fetched: VecDeque::new(), commits }
    }

    /// The next change; waits for it. Cancelling it loses none.
    ///
    /// # Errors
    /// [`Error::Rescan`] if changes since the watcher's revision are no longer kept.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            if let Some(change) = self.fetched.pop_front() {
                return Ok(change);
            }
            // Before the look, so that a commit right after it wakes us.
            self.commits.borrow_and_update();
            let (namespace, prefix, after) = (self.namespace.clone(), self.prefix.clone(), self.after);
            let (changes, until) =
                self.db.read(move |connection| fetch(connection, &namespace, &prefix, after)).await?;
            self.after = until;
            self.fetched.extend(changes);
            if self.fetched.is_empty() && until == after {
                self.commits.changed().await.map_err(|_| Error::Closed)?;
            }
        }
    }
}

/// Changes after a revision, and the revision up to which they were looked through.
fn fetch(
    connection: &Connection,
    namespace: &str,
    prefix: &str,
    after: Revision,
) -> Result<(Vec<Change>, Revision), Error> {
    // One snapshot for both statements: a trim between them must not hide a gap.
    let snapshot = connection.unchecked_transaction()?;
    let mut oldest = snapshot.prepare_cached("SELECT min(revision), max(revision) FROM changes")?;
    let (oldest, head): (Option<i64>, Option<i64>) =
        oldest.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(oldest), Some(head)) = (oldest, head) else {
        return Ok((Vec::new(), after));
    };
    if revision(oldest).0 > after.0 + 1 || after > revision(head) {
        return Err(Error::Rescan { after });
    }
    let mut query = snapshot.prepare_cached(
        "SELECT c.key, r.value, c.revision, c.namespace = ?1 AND c.key >= ?2 AND c.key < ?2 || char(1114111),
                r.revision IS NULL OR r.revision = c.revision
         FROM changes c LEFT JOIN records r ON r.namespace = c.namespace AND r.key = c.key
         WHERE c.revision > ?3 AND c.revision <= ?4 ORDER BY c.revision LIMIT ?5",
    )?;
    let mut rows = query.query(params![namespace, prefix, stored(after.0), head, FETCH_MAX])?;
    let (mut changes, mut until) = (Vec::new(), after);
    while let Some(row) = rows.next()? {
        until = revision(row.get(2)?);
        let (wanted, latest): (bool, bool) = (row.get(3)?, row.get(4)?);
        if wanted && latest {
            changes.push(Change { key: row.get(0)?, value: row.get(1)?, revision: until });
        }
    }
    Ok((changes, until))
}
