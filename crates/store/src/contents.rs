//! What tables hold, by count and digest: to show that two databases hold the same.

use std::{collections::BTreeMap, path::Path};

use rouse_types::Digest;
use rusqlite::{Connection, OpenFlags, types::ValueRef};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::Error;

/// Columns that rows are told apart by, where a table has one: `messages` of each queue, `records` of each namespace.
const PARTS: [&str; 2] = ["namespace", "queue"];

/// Rows, and a digest over all their values in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// How many.
    pub rows: u64,
    /// Of them.
    pub digest: Digest,
}

/// What each table of a database holds, a table with namespaces or queues by these: `records control`. Tables that are `left`
/// out are not looked at. Reads each row once, and keeps none.
///
/// # Errors
/// What the database says.
pub fn contents(file: &Path, left: &[&str]) -> Result<BTreeMap<String, Contents>, Error> {
    let db = Connection::open_with_flags(
        file,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    let mut names = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")?;
    let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut found = BTreeMap::new();
    // SQLite's own remember the last number that was given: it is to go on from there.
    let own = |name: &str| name.starts_with("sqlite_") && name != "sqlite_sequence";
    for name in names.iter().filter(|name| !left.contains(&name.as_str()) && !own(name)) {
        table(&db, name, &mut found)?;
    }
    Ok(found)
}

fn table(db: &Connection, name: &str, found: &mut BTreeMap<String, Contents>) -> Result<(), Error> {
    let mut columns = db.prepare("SELECT name, pk FROM pragma_table_info(?1) ORDER BY cid")?;
    let columns: Vec<(String, i64)> =
        columns.query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let part = columns.iter().position(|(column, _)| PARTS.contains(&column.as_str()));
    let mut keys: Vec<_> = columns.iter().filter(|(_, key)| *key > 0).collect();
    keys.sort_by_key(|(_, key)| *key);
    let keys = if keys.is_empty() { columns.iter().collect() } else { keys };
    let order = part.map(|part| &columns[part].0).into_iter().chain(keys.iter().map(|(name, _)| name));
    let quoted = |name: &String| format!("\"{name}\"");
    let (all, order): (Vec<_>, Vec<_>) =
        (columns.iter().map(|(name, _)| quoted(name)).collect(), order.map(quoted).collect());
    let mut query =
        db.prepare(&format!("SELECT {} FROM \"{name}\" ORDER BY {}", all.join(", "), order.join(", ")))?;
    let mut rows = query.query([])?;
    let mut open: Option<(String, u64, Sha256)> = None;
    let mut close = |open: Option<(String, u64, Sha256)>| {
        if let Some((name, rows, hash)) = open {
            found.insert(name, Contents { rows, digest: Digest::from_hasher(hash) });
        }
    };
    while let Some(row) = rows.next()? {
        let label = match part {
            Some(part) => format!("{name} {}", row.get::<_, String>(part)?),
            None => name.to_owned(),
        };
        if open.as_ref().is_none_or(|(open, ..)| *open != label) {
            close(open.take());
        }
        let (_, count, hash) = open.get_or_insert_with(|| (label, 0, Sha256::new()));
        *count += 1;
        for column in 0..columns.len() {
            add(hash, row.get_ref(column)?);
        }
    }
    close(open);
    Ok(())
}

/// Each value with its type and length, so that no two rows look alike.
fn add(hash: &mut Sha256, value: ValueRef<'_>) {
    let (kind, bytes): (u8, &[u8]) = match &value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(number) => (1, &number.to_le_bytes()),
        ValueRef::Real(number) => (2, &number.to_le_bytes()),
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(bytes) => (4, bytes),
    };
    hash.update([kind]);
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;

    #[tokio::test]
    async fn the_same_rows_have_the_same_digest_by_namespace_and_any_change_has_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["a.db", "b.db"].map(|name| folder.path().join(name));
        for path in &paths {
            let records = Records::open(path).expect("a store");
            for (namespace, key) in [("one", "a"), ("one", "b"), ("two", "a")] {
                records.put(namespace, key, key.into()).await.expect("written");
            }
        }
        let of = |path| contents(path, &[]).expect("read");
        let before = of(&paths[0]);
        assert_eq!(before, of(&paths[1]));
        assert_eq!((before["records one"].rows, before["records two"].rows), (2, 1));
        Records::open(&paths[1]).expect("a store").put("one", "b", b"c".into()).await.expect("written");
        let after = of(&paths[1]);
        assert_ne!(before["records one"], after["records one"]);
        assert_eq!(before["records two"], after["records two"]);
        assert!(!contents(&paths[0], &["records"]).expect("read").contains_key("records one"));
    }
}
