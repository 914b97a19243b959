//! Tables that follow a log: every node has them, and changes them by the same operations in the same order.
//!
//! ```text
//!   write: operation ──▶ log ──(its turn)──▶ apply ──▶ answer     the node that wrote it
//!                         └────(its turn)──▶ apply                every other node
//! ```
//!
//! The tables say how far they have come, in the transaction of what they came to, so a node that dies goes on where
//! it was. They are synced now and then only: what a power loss takes is read from the log again. A node that has missed what the log
//! no longer holds begins from a copy of the tables ([`super::snapshot`]).

mod apply;

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use async_nats::HeaderMap;
use bytes::Bytes;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, oneshot, watch},
    task::JoinSet,
};

pub(super) use self::apply::SCHEMA;
use self::apply::{Applied, Head, Pending, Waiting};
use super::{
    Cluster,
    engine::{PAUSE, random},
    seed,
    stream::{Entry, Follow, Published, Spec, State, Stream},
};
use crate::{
    Error,
    backend::{Operation, Replay},
    embedded::{Db, Durability},
};

/// Writes of one process that may be under way; a further one waits to be let in.
const PENDING_MAX: usize = 1_024;
/// Entries of the log that are applied in one transaction, and their bytes.
const BATCH_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 16 << 20;
/// How long a write that is in the log may take to be applied here.
const APPLY_MAX: Duration = Duration::from_secs(30);
/// How long the first catching up may stand still.
const STILL_MAX: Duration = Duration::from_secs(60);
/// A part of an operation: well below what servers take in one message unless told otherwise (1 MiB).
const PART_BYTES: usize = 512 << 10;
/// The log: what [`super::Options::copy_after_bytes`] keeps it to, with room for when no copy can be made.
const LOG_BYTES_MAX: i64 = 1 << 30;
/// Between two tries of a batch that cannot be applied, as on a full disk.
const RETRY: Duration = Duration::from_secs(1);

/// Tables that follow a log. Dropping it stops following.
pub(crate) struct Replica {
    shared: Arc<Shared>,
    /// The task that follows.
    _tasks: JoinSet<()>,
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("store", &self.shared.name).finish_non_exhaustive()
    }
}

pub(super) struct Shared {
    pub(super) cluster: Cluster,
    pub(super) name: String,
    pub(super) stream: Stream,
    pub(super) folder: PathBuf,
    schema: String,
    replay: Replay,
    db: RwLock<Arc<Db>>,
    pending: Mutex<HashMap<[u8; 16], Box<dyn Pending>>>,
    permits: Semaphore,
    applied: watch::Sender<u64>,
    commits: watch::Sender<u64>,
    /// Why the log cannot be followed any more.
    failed: watch::Sender<Option<String>>,
}

/// Changes nothing: for waiting until everything before it was applied.
#[derive(Debug, Serialize, Deserialize)]
struct Nothing;

impl Operation for Nothing {
    const TAG: u8 = 0;
    type Output = ();

    fn apply(&self, _: &Connection) -> Result<(), Error> {
        Ok(())
    }
}

impl Replica {
    /// Opens this node's tables of that name and catches up.
    pub(crate) async fn open(
        cluster: &Cluster,
        name: &str,
        folder: &Path,
        schema: &str,
        replay: Replay,
    ) -> Result<Self, Error> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || name.len() > 32 || !name.bytes().all(plain) {
            return Err(Error::Invalid(format!(
                "'{name}' is not a store's name: use 1 to 32 of a-z, 0-9 and '-'"
            )));
        }
        seed::check(cluster).await?;
        let stream = Stream::open(cluster, &log_of(name)).await?;
        std::fs::create_dir_all(folder).map_err(Error::io("make the folder", folder))?;
        let schema = format!("{schema}{}", apply::SCHEMA);
        let db = Db::open_as(&newest(folder)?, name, &schema, Durability::Checkpoint)?;
        let applied = db.read(apply::applied).await?;
        let shared = Arc::new(Shared {
            cluster: cluster.clone(),
            name: name.to_owned(),
            stream,
            folder: folder.to_owned(),
            schema,
            replay,
            db: RwLock::new(Arc::new(db)),
            pending: Mutex::default(),
            permits: Semaphore::new(PENDING_MAX),
            applied: watch::Sender::new(applied),
            commits: watch::Sender::new(0),
            failed: watch::Sender::new(None),
        });
        let target = shared.check_log().await?.last;
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&shared).run());
        let replica = Self { shared, _tasks: tasks };
        replica.reach(target).await?;
        Ok(replica)
    }

    /// Waits until the tables have come so far.
    async fn reach(&self, target: u64) -> Result<(), Error> {
        let (mut applied, mut failed) = (self.shared.applied.subscribe(), self.shared.failed.subscribe());
        while *applied.borrow_and_update() < target {
            tokio::select! {
                changed = applied.changed() => changed.map_err(|_| Error::Closed)?,
                changed = failed.changed() => {
                    changed.map_err(|_| Error::Closed)?;
                    self.shared.check()?;
                }
                () = tokio::time::sleep(STILL_MAX) => {
                    return Err(Error::Away(format!("the log of {} does not come", self.shared.name)));
                }
            }
        }
        Ok(())
    }

    /// Changes the tables of all nodes. When this returns, the change is on a quorum, and seen by reads here.
    pub(crate) async fn write<O: Operation>(&self, operation: O) -> Result<O::Output, Error> {
        let shared = &self.shared;
        shared.check()?;
        let _permit = shared.permits.acquire().await.map_err(|_| Error::Closed)?;
        let id = random()?.1;
        let bytes = postcard::to_extend(&operation, vec![O::TAG])
            .map_err(|error| Error::Log(format!("an operation cannot be written: {error}")))?;
        let (sender, mut receiver) = oneshot::channel();
        let waiting = Waiting { operation, result: None, sender };
        shared.pending().insert(id, Box::new(waiting));
        // A caller that stops waiting leaves nothing behind; the operation takes its course.
        let _forget = Forget(shared, id);
        let appended = shared.append(&id, bytes);
        tokio::select! {
            biased;
            answer = &mut receiver => return answer.map_err(|_| Error::Closed)?,
            appended = appended => appended?,
        }
        match tokio::time::timeout(APPLY_MAX, receiver).await {
            Ok(answer) => answer.map_err(|_| Error::Closed)?,
            Err(_) => {
                shared.check()?;
                Err(Error::Unknown(format!("the log of {} does not come to its turn here", shared.name)))
            }
        }
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.shared.check()?;
        self.shared.db().read(read).await
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.shared.db().path().to_owned()
    }

    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        self.shared.commits.subscribe()
    }

    pub(crate) async fn catch_up(&self) -> Result<(), Error> {
        self.write(Nothing).await
    }
}

struct Forget<'a>(&'a Shared, [u8; 16]);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.pending().remove(&self.1);
    }
}

pub(super) fn subject(name: &str) -> String {
    format!("rouse.log.{name}")
}

/// The log of the store of this name.
pub(super) fn log_of(name: &str) -> Spec {
    Spec {
        name: format!("ROUSE_LOG_{name}"),
        subjects: vec![subject(name)],
        bytes_max: Some(LOG_BYTES_MAX),
        last_only: false,
        may_expire: false,
    }
}

/// An entry of a log that changes nothing, under this random name.
pub(super) fn entry_of_nothing(operation: [u8; 16]) -> Bytes {
    Head { operation, part: 0, parts: 1 }.with(&[Nothing::TAG])
}

/// The file of a copy that was taken there in the log; the first is at zero.
pub(super) fn file(folder: &Path, applied: u64) -> PathBuf {
    folder.join(format!("tables-{applied:020}.db"))
}

/// The newest file of the tables; others are what a killed process left of replacing one.
fn newest(folder: &Path) -> Result<PathBuf, Error> {
    let mut found: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list the folder", folder))? {
        let entry = entry.map_err(Error::io("list the folder", folder))?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if name.starts_with("tables-") && name.ends_with(".db") {
            found.push(name);
        }
    }
    found.sort_unstable();
    let newest = found.pop();
    for old in found {
        remove(&folder.join(old));
    }
    Ok(newest.map_or_else(|| file(folder, 0), |name| folder.join(name)))
}

/// Removes a file of tables that another has taken the place of. One that stays is removed at the next start.
pub(super) fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        drop(std::fs::remove_file(name));
    }
}

impl Shared {
    pub(super) fn db(&self) -> Arc<Db> {
        Arc::clone(&self.db.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 16], Box<dyn Pending>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<(), Error> {
        self.failed.borrow().as_ref().map_or(Ok(()), |why| Err(Error::Log(why.clone())))
    }

    /// Writes an operation to the log, in as many parts as it takes.
    async fn append(&self, id: &[u8; 16], bytes: Vec<u8>) -> Result<(), Error> {
        let parts = u32::try_from(bytes.len().div_ceil(PART_BYTES)).unwrap_or(u32::MAX);
        let (bytes, name) = (Bytes::from(bytes), hex::encode(id));
        for part in 0..parts {
            let start = part as usize * PART_BYTES;
            let piece = &bytes[start..bytes.len().min(start + PART_BYTES)];
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", format!("{name}.{part}"));
            let head = Head { operation: *id, part, parts };
            match self.stream.publish(&subject(&self.name), headers, head.with(piece)).await? {
                Published::At(_) => {}
                Published::Refused => return Err(Error::Log("the log refused an entry".to_owned())),
            }
        }
        Ok(())
    }

    /// Follows the log for as long as it can be followed.
    async fn run(self: Arc<Self>) {
        let mut copies = JoinSet::new();
        loop {
            match self.follow(&mut copies).await {
                Err(Error::Log(why)) => {
                    tracing::error!(store = self.name, why, "the cluster's log cannot be followed");
                    self.failed.send_replace(Some(why));
                    self.pending().clear();
                    return;
                }
                Err(error) => tracing::warn!(store = self.name, %error, "following the cluster's log anew"),
                Ok(()) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether the log is the one that these tables are of, and what it holds.
    async fn check_log(&self) -> Result<State, Error> {
        let state = self.stream.state().await?;
        let (id, name) = (self.stream.id.clone(), self.name.clone());
        self.db().write(move |db| apply::belongs(db, &name, &id)).await?;
        let applied = *self.applied.borrow();
        if state.last < applied {
            return Err(Error::Log(format!(
                "the log of {} ends at {} and this node has come to {applied}: the engine lost what it acknowledged, or \
                 was restored from a backup. Remove {} on every node but the one to go on from",
                self.name,
                state.last,
                self.folder.display()
            )));
        }
        Ok(state)
    }

    async fn follow(self: &Arc<Self>, copies: &mut JoinSet<()>) -> Result<(), Error> {
        let state = self.check_log().await?;
        let mut applied = *self.applied.borrow();
        if state.first > applied + 1 {
            applied = self.restore(state.first).await?;
        }
        let mut follow = self.stream.follow(applied + 1).await?;
        loop {
            while copies.try_join_next().is_some() {}
            let Some(first) = follow.next().await? else { continue };
            let batch = gather(first, &mut follow).await?;
            // A copy was made meanwhile and the log cut: look again where it begins.
            if batch.first().is_none_or(|first| first.sequence != *self.applied.borrow() + 1) {
                return Ok(());
            }
            if self.apply(batch).await? && copies.is_empty() {
                copies.spawn(Arc::clone(self).copy());
            }
        }
    }

    /// Applies entries, and answers for those of this process. Tells whether it is this process' turn to make a copy.
    async fn apply(&self, entries: Vec<Entry>) -> Result<bool, Error> {
        let mut own = Vec::with_capacity(entries.len());
        for entry in &entries {
            let head = Head::read(&entry.payload)?.0;
            own.push(if head.is_last() { self.pending().remove(&head.operation) } else { None });
        }
        let last = entries.last().map_or(0, |entry| entry.sequence);
        let work = Arc::new(Mutex::new((entries, own)));
        let (replay, after) = (self.replay, self.cluster.copy_after_bytes());
        let applied: Applied = loop {
            let batch = Arc::clone(&work);
            let db = self.db();
            let done = db.write(move |db| {
                let mut batch = batch.lock().unwrap_or_else(PoisonError::into_inner);
                let (entries, own) = &mut *batch;
                apply::entries(db, entries, own, replay, after)
            });
            match done.await {
                Ok(applied) => break applied,
                Err(Error::Log(why)) => return Err(Error::Log(why)),
                Err(Error::Closed) => return Err(Error::Closed),
                // As a full disk: nothing may be left out, so it is tried until it works.
                Err(error) => {
                    tracing::error!(store = self.name, %error, "the cluster's log cannot be applied here; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        let own = std::mem::take(&mut work.lock().unwrap_or_else(PoisonError::into_inner).1);
        // Its writer makes the copy: so it is made once, whatever number of nodes there is.
        let copy = applied.copy_at.is_some_and(|index| own[index].is_some());
        own.into_iter().flatten().for_each(|own| own.answer());
        self.applied.send_replace(last);
        if applied.changed {
            self.commits.send_modify(|count| *count += 1);
        }
        Ok(copy)
    }

    /// Takes another file of tables, which has come further.
    pub(super) async fn replace(&self, path: &Path) -> Result<u64, Error> {
        let db = Db::open_as(path, &self.name, &self.schema, Durability::Checkpoint)?;
        let applied = db.read(apply::applied).await?;
        let (id, name) = (self.stream.id.clone(), self.name.clone());
        db.write(move |db| apply::belongs(db, &name, &id)).await?;
        let mut current = self.db.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, Arc::new(db));
        drop(current);
        drop(old);
        newest(&self.folder)?;
        self.applied.send_replace(applied);
        self.commits.send_modify(|count| *count += 1);
        Ok(applied)
    }
}

/// What is here already, up to a bound.
async fn gather(first: Entry, follow: &mut Follow) -> Result<Vec<Entry>, Error> {
    let mut bytes = first.payload.len();
    let mut batch = vec![first];
    while batch.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
        // An error comes again with the next look; what is here already is applied first.
        let Ok(Some(entry)) = follow.ready().await else { break };
        bytes += entry.payload.len();
        batch.push(entry);
    }
    Ok(batch)
}
