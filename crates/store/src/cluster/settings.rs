//! What the processes of a node are told of their cluster. A file, since the engine's address may hold a password and
//! arguments are seen by everybody.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Options;
use crate::{Error, file};

/// A node's place in its cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the engine is.
    pub engine: Options,
    /// The node's name.
    pub node: String,
    /// Where it stands.
    pub zone: String,
    /// Where callers reach it: `host:port`.
    pub address: String,
    /// Where it takes calls of other nodes: `host:port`; none if it takes none.
    pub mesh: Option<String>,
}

/// The file below a state folder.
#[must_use]
pub fn path(state: &Path) -> PathBuf {
    state.join("run").join("cluster.json")
}

impl Settings {
    /// Reads them; none for a machine that is in no cluster.
    ///
    /// # Errors
    /// What the operating system says; [`Error::Corrupt`].
    pub fn read(state: &Path) -> Result<Option<Self>, Error> {
        let path = path(state);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|_| Error::Corrupt(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// Writes them, for this user alone.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn write(&self, state: &Path) -> Result<(), Error> {
        let path = path(state);
        let bytes = serde_json::to_vec(self).map_err(|error| Error::Invalid(error.to_string()))?;
        file::replace(&path, &bytes).map_err(Error::io("write", &path))
    }
}
