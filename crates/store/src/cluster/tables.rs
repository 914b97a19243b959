//! Tables of another crate's that all nodes of a cluster have, changed by one log: as records and queues are, and with
//! all that these have: each change once, in one order, on a quorum before it is answered, copies of the tables that
//! let the log be cut, and nodes that catch up.
//!
//! Whoever makes a change sees to it that it comes to the same on every node: see [`Operation`].

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::Connection;

use super::{Cluster, Replica};
use crate::Error;
pub use crate::backend::{Operation, Replay, replay};

/// Tables that follow a log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tables(Arc<Replica>);

impl Tables {
    /// Opens the tables of this name in a cluster, or makes them there by `schema`. This node's copy is in this folder, which
    /// one process owns. Waits until the copy is up to date.
    ///
    /// # Errors
    /// [`Error::Away`] if the engine does not answer, [`Error::Log`] if the folder holds the copy of another cluster or
    /// the log was written by a later release.
    pub async fn join(
        cluster: &Cluster,
        name: &str,
        folder: &Path,
        schema: &str,
        replay: Replay,
    ) -> Result<Self, Error> {
        Ok(Self(Arc::new(Replica::open(cluster, name, folder, schema, replay).await?)))
    }

    /// Changes the tables of all nodes. When this returns, the change is on a quorum, and was made here.
    ///
    /// # Errors
    /// What the operation says; [`Error::Away`], [`Error::Unknown`].
    pub async fn write<O: Operation>(&self, operation: O) -> Result<O::Output, Error> {
        self.0.write(operation).await
    }

    /// Waits until what was written anywhere before is in this node's tables.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn catch_up(&self) -> Result<(), Error> {
        self.0.catch_up().await
    }

    /// Reads this node's tables.
    ///
    /// # Errors
    /// What the database says.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.0.read(read).await
    }

    /// The file with this node's tables at the moment, for readers of their own. Another takes its place when this node
    /// begins from a copy.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.path()
    }
}
