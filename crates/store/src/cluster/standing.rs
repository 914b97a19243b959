//! What a node takes on, as its processes are told: a file, so that one which is started again knows without control.
//! Only what outlives the node is in it: the operator's word.

use std::{
    io,
    path::{Path, PathBuf},
};

use rouse_types::NodeState;

use crate::{Error, file};

fn path(state: &Path) -> PathBuf {
    state.join("run").join("standing.json")
}

/// Reads it; a node that was told nothing is active.
///
/// # Errors
/// What the operating system says; [`Error::Corrupt`].
pub fn read(state: &Path) -> Result<NodeState, Error> {
    let path = path(state);
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| Error::Corrupt(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(NodeState::default()),
        Err(error) => Err(Error::io("read", &path)(error)),
    }
}

/// Writes it.
///
/// # Errors
/// What the operating system says.
pub fn write(state: &Path, standing: NodeState) -> Result<(), Error> {
    let path = path(state);
    let bytes = serde_json::to_vec(&standing).map_err(|error| Error::Invalid(error.to_string()))?;
    file::replace(&path, &bytes).map_err(Error::io("write", &path))
}
