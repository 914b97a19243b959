//! What records and queues stand on: a database of this machine alone, or one that follows a cluster's log.
//!
//! Both are the same tables, and the same functions change them. Embedded, an operation runs in the writer's
//! transaction. In a cluster it is written to a log first; each node runs what the log says, in its order, and the
//! node that wrote it answers with what it came to ([decision 013](../../../docs/decisions/013-cluster-store.md)).

use std::sync::Arc;

use rusqlite::Connection;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use crate::{Error, cluster::Replica, embedded::Db};

/// A change of the tables. What it does depends on the tables and on itself alone: it looks at no clock, draws no
/// number, and orders what it picks, for every node of a cluster must come to the same.
pub trait Operation: Serialize + DeserializeOwned + Send + 'static {
    /// Tells it apart from others of its store in the log. Never used again for another.
    const TAG: u8;
    /// What it comes to.
    type Output: Send + 'static;

    /// Makes the change, inside a savepoint that is rolled back if it fails.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Conflict`] for what it is or finds, alike on every node; with any other error it is
    /// tried again until it works, for nothing may be left out.
    fn apply(&self, db: &Connection) -> Result<Self::Output, Error>;
}

/// Runs an operation that another process wrote to the log: its tag, and what [`Operation`] serialized.
pub type Replay = fn(u8, &[u8], &Connection) -> Result<(), Error>;

/// Runs an operation from its bytes.
///
/// # Errors
/// [`Error::Log`] for bytes that are none; what the operation says.
pub fn replay<O: Operation>(bytes: &[u8], db: &Connection) -> Result<(), Error> {
    let operation: O = postcard::from_bytes(bytes)
        .map_err(|error| Error::Log(format!("an operation {} cannot be read: {error}", O::TAG)))?;
    operation.apply(db).map(drop)
}

/// Where a store's tables are, and how they are changed.
#[derive(Debug, Clone)]
pub(crate) enum Backend {
    Embedded(Arc<Db>),
    Cluster(Arc<Replica>),
}

impl Backend {
    /// Changes the tables. When this returns, the change is on the disk, or on those of a quorum.
    pub(crate) async fn write<O: Operation>(&self, operation: O) -> Result<O::Output, Error> {
        match self {
            Self::Embedded(db) => db.write(move |connection| operation.apply(connection)).await,
            Self::Cluster(replica) => replica.write(operation).await,
        }
    }

    /// Reads the tables, of a cluster those of this node: they hold what this process was answered for.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match self {
            Self::Embedded(db) => db.read(read).await,
            Self::Cluster(replica) => replica.read(read).await,
        }
    }

    /// Waits until what was written anywhere before is seen by reads here.
    pub(crate) async fn catch_up(&self) -> Result<(), Error> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Cluster(replica) => replica.catch_up().await,
        }
    }

    /// Counts changes: whoever waits for one waits for the next count.
    pub(crate) fn commits(&self) -> watch::Receiver<u64> {
        match self {
            Self::Embedded(db) => db.commits(),
            Self::Cluster(replica) => replica.commits(),
        }
    }
}
