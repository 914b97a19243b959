//! Whether what is deployed has its snapshots and its code in the state folder.
//!
//! A folder that a backup was restored into has neither, nor has a node that has just joined a cluster, and both may have events
//! that wait. Delivered before, each would find no function and lose its attempts. So whoever makes such a folder notes it,
//! control removes the note once all is in its place, and until then what waits is not delivered.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// How often is looked.
const LOOK: Duration = Duration::from_millis(100);

/// The note, below the state folder.
pub const FILE: &str = "control/unsettled";

fn path(state: &Path) -> PathBuf {
    state.join(FILE)
}

/// Notes that it is not.
///
/// # Errors
/// What the operating system says.
pub fn begin(state: &Path) -> io::Result<()> {
    crate::file::replace(&path(state), b"")
}

/// Says that it is.
///
/// # Errors
/// What the operating system says.
pub fn settle(state: &Path) -> io::Result<()> {
    match std::fs::remove_file(path(state)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether it is.
#[must_use]
pub fn is(state: &Path) -> bool {
    !path(state).exists()
}

/// Waits until it is.
pub async fn wait(state: &Path) {
    while !is(state) {
        tokio::time::sleep(LOOK).await;
    }
}
