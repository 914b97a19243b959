//! Tables of one machine that become the first of a cluster's, and back.
//!
//! A cluster begins with a log of one entry that changes nothing, and a copy of the tables that has come as far: each node begins
//! from that copy, as one that was away for long (module `snapshot`).
//!
//! ```text
//!   none ──begin──▶ begun ──tables, blobs──▶ end ──▶ done
//!                     └── nodes are refused, and the same machine's tables may come again
//! ```

use std::path::Path;

use async_nats::HeaderMap;
use rouse_types::Digest;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Cluster,
    blobs::Blobs,
    engine::{Answer, random},
    replica::{SCHEMA, entry_of_nothing, log_of, subject},
    snapshot::Pointer,
    stream::{Published, Stream},
};
use crate::Error;

/// No store has a dot in its name.
const MARK: &str = "rouse.copy.migration.mark";
/// Nodes begin from a copy that has come so far.
const APPLIED: u64 = 1;

/// What was moved into a cluster, as it is written there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    /// Whose state it is.
    source: Digest,
    done: bool,
}

/// Where a migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Nothing is there, or what a migration of the same state left that was cut off.
    Now,
    /// It was moved already, and no node has changed anything since.
    Before,
}

/// Begins to move a state into a cluster that has none.
///
/// # Errors
/// [`Error::Invalid`] if it has one; [`Error::Away`].
pub async fn begin(cluster: &Cluster, source: Digest) -> Result<Begun, Error> {
    let blobs = Blobs::open(cluster).await?;
    let mut streams = streams(cluster).await?;
    // One that is empty was made a moment ago.
    if blobs.stream().state().await?.last == 0 {
        streams.retain(|name| name != &blobs.stream().name);
    }
    let found = mark(&blobs).await?;
    let taken = |what: &str| {
        Error::Invalid(format!(
            "the cluster has state already ({what}): use an engine that was not used yet, or another account of it"
        ))
    };
    match &found {
        Some((_, mark)) if mark.source != source => return Err(taken("of another machine")),
        Some((_, mark)) if mark.done => {
            for name in streams.iter().filter_map(|stream| stream.strip_prefix("ROUSE_LOG_")) {
                if Stream::open(cluster, &log_of(name)).await?.state().await?.last > APPLIED {
                    return Err(taken("this machine's, which nodes have changed since"));
                }
            }
            return Ok(Begun::Before);
        }
        Some(_) => {}
        None if streams.is_empty() => {
            set(&blobs, 0, &Mark { source, done: false }).await?;
        }
        None => return Err(taken(&streams.join(", "))),
    }
    Ok(Begun::Now)
}

/// Ends what [`begin`] began: nodes may join.
///
/// # Errors
/// [`Error::Away`], [`Error::Log`] if it was not begun.
pub async fn end(cluster: &Cluster, source: Digest) -> Result<(), Error> {
    let blobs = Blobs::open(cluster).await?;
    match mark(&blobs).await? {
        Some((at, mark)) if mark.source == source => set(&blobs, at, &Mark { source, done: true }).await,
        _ => Err(Error::Log("another migration into the cluster was begun meanwhile".to_owned())),
    }
}

/// Refuses a node while a migration is under way or was cut off.
pub(super) async fn check(cluster: &Cluster) -> Result<(), Error> {
    match mark(&Blobs::open(cluster).await?).await? {
        Some((_, Mark { done: false, .. })) => Err(Error::Log(
            "a machine's state is being moved into this cluster: run `rouse migrate` to its end first"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Gives a cluster the tables in this file as those of a store. The file is changed by it. Does nothing where nodes have
/// them.
///
/// # Errors
/// [`Error::Invalid`] if the store's log was used; [`Error::Away`], [`Error::Full`].
pub async fn tables(cluster: &Cluster, name: &str, file: &Path) -> Result<(), Error> {
    let log = Stream::open(cluster, &log_of(name)).await?;
    let state = log.state().await?;
    if state.last > APPLIED {
        return Err(Error::Invalid(format!("the log of {name} was used: the cluster has state already")));
    }
    if state.last == 0 {
        let (text, id) = random()?;
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", text);
        log.publish(&subject(name), headers, entry_of_nothing(id)).await?;
    }
    let (path, id) = (file.to_owned(), log.id.clone());
    let prepared = tokio::task::spawn_blocking(move || prepare(&path, &id));
    prepared.await.map_err(|_| Error::Closed)??;
    let blobs = Blobs::open(cluster).await?;
    let before = Pointer::get(&blobs, name, &log.id).await?;
    let digest = blobs.put_file(file).await?;
    let pointer = Pointer { digest, applied: APPLIED, log: log.id.clone() };
    if !pointer.put(&blobs, name, before.as_ref().map(|(at, _)| *at)).await? {
        return Err(Error::Log("another migration into the cluster goes on at the same time".to_owned()));
    }
    // What a migration that was cut off had put there.
    if let Some((_, before)) = before.filter(|(_, before)| before.digest != digest) {
        blobs.delete(&before.digest).await?;
    }
    log.purge(&json!({ "seq": APPLIED + 1 })).await.map(drop)
}

/// Writes the tables of a store, as nodes would begin with them, to a file.
///
/// # Errors
/// [`Error::Log`] if there is none; [`Error::Digest`], [`Error::Away`].
pub async fn fetch(cluster: &Cluster, name: &str, file: &Path) -> Result<(), Error> {
    let (blobs, log) = (Blobs::open(cluster).await?, Stream::open(cluster, &log_of(name)).await?);
    let found = Pointer::get(&blobs, name, &log.id).await?;
    let none = || Error::Log(format!("the cluster has no tables of {name}"));
    let (_, Pointer { digest, .. }) = found.ok_or_else(none)?;
    blobs.get_file(&digest, file).await
}

/// The blobs that are copies of these stores' tables, and no code.
///
/// # Errors
/// [`Error::Away`].
pub async fn copies(cluster: &Cluster, names: &[&str]) -> Result<Vec<Digest>, Error> {
    let (blobs, mut found) = (Blobs::open(cluster).await?, Vec::new());
    for name in names {
        let log = Stream::open(cluster, &log_of(name)).await?;
        found.extend(Pointer::get(&blobs, name, &log.id).await?.map(|(_, pointer)| pointer.digest));
    }
    Ok(found)
}

/// How far the log of a store has come.
///
/// # Errors
/// [`Error::Away`].
pub async fn written(cluster: &Cluster, name: &str) -> Result<u64, Error> {
    Ok(Stream::open(cluster, &log_of(name)).await?.state().await?.last)
}

/// How far the tables in this file have come in their log.
///
/// # Errors
/// What the database says.
pub fn applied(file: &Path) -> Result<u64, Error> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(file, flags)?;
    Ok(db.query_row("SELECT applied FROM replica", [], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

/// Makes tables of one machine of a cluster's, in this file.
///
/// # Errors
/// What the database says.
pub fn alone(file: &Path) -> Result<(), Error> {
    let db = Connection::open(file)?;
    db.execute_batch("DROP TABLE replica; DROP TABLE replica_parts;")?;
    Ok(db.close().map_err(|(_, error)| error)?)
}

fn prepare(path: &Path, log: &str) -> Result<(), Error> {
    const VERSION: i64 = 2;
    let db = Connection::open(path)?;
    // One file, without a log beside it.
    db.pragma_update(None, "journal_mode", "delete")?;
    db.execute_batch(SCHEMA)?;
    db.execute("UPDATE replica SET log = ?1, applied = ?2", (log, i64::try_from(APPLIED).unwrap_or(1)))?;
    db.pragma_update(None, "user_version", VERSION)?;
    Ok(db.close().map_err(|(_, error)| error)?)
}

async fn mark(blobs: &Blobs) -> Result<Option<(u64, Mark)>, Error> {
    let Some(entry) = blobs.stream().last(MARK).await? else { return Ok(None) };
    let mark = serde_json::from_slice(&entry.payload);
    mark.map(|mark| Some((entry.sequence, mark))).map_err(|error| {
        Error::Log(format!("the mark of a migration cannot be read: {error}; use a later release"))
    })
}

async fn set(blobs: &Blobs, at: u64, mark: &Mark) -> Result<(), Error> {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Last-Subject-Sequence", at.to_string());
    let body = serde_json::to_vec(mark).map_err(|error| Error::Log(error.to_string()))?;
    match blobs.stream().publish(MARK, headers, body.into()).await? {
        Published::At(_) => Ok(()),
        Published::Refused => {
            Err(Error::Log("another migration into the cluster was begun at the same time".to_owned()))
        }
    }
}

/// The streams of Rouse that there are.
async fn streams(cluster: &Cluster) -> Result<Vec<String>, Error> {
    match cluster.ask("$JS.API.STREAM.NAMES", &json!({ "subject": "rouse.>" })).await? {
        Answer::Done(answer) => {
            let names = answer["streams"].as_array().into_iter().flatten();
            Ok(names.filter_map(Value::as_str).map(str::to_owned).collect())
        }
        Answer::Refused(_, text) => {
            Err(Error::Engine(format!("the engine does not list its streams: {text}")))
        }
    }
}
