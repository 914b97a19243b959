//! Certificates: read and checked, handed over to the processes that answer HTTPS, and chosen by the name that a client
//! asks for.
//!
//! ```text
//!  operator's files ─▶ supervisor (root) ─▶ tls/files.json ─┐
//!                                                           ├─▶ Resolver, in each process that listens: looks at each
//!  ACME ────────────▶ control ───────────▶ tls/acme.json ───┘    handshake whether a file was replaced
//! ```
//!
//! What nodes of a cluster show to each other is in [`node`].
//!
//! Both files have mode 0600 and belong to the unprivileged user: gateways never read what the operator's files let
//! root alone read (`docs/decisions/017-tls.md`). No task; opens no socket.

pub mod challenge;
mod door;
pub mod node;
mod pair;
mod resolver;
mod sources;
mod table;
mod validity;

use std::{
    io::{self, Write as _},
    path::Path,
};

pub use door::{Door, Guest};
pub use pair::{Certificate, Error, Pair};
pub use resolver::{Resolver, server_config};
pub use sources::{Mark, Sources};

/// What the supervisor hands over, below the state folder.
pub const FILES: &str = "tls/files.json";
/// What was got by ACME, below the state folder.
pub const ACME: &str = "tls/acme.json";

/// The pairs of one of the files. One that is not there holds none.
///
/// # Errors
/// What the disk says, or that it is none of ours.
pub fn read(path: &Path) -> io::Result<Vec<Pair>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Makes a file of a state folder hold these pairs: whole or not at all, its mode 0600, for the user and group `owner` if
/// that is not us.
///
/// # Errors
/// What the disk says.
pub fn hand_over(state: &Path, file: &str, pairs: &[Pair], owner: Option<(u32, u32)>) -> io::Result<()> {
    replace(&state.join(file), &serde_json::to_vec(pairs)?, owner)
}

/// Writes a file whole or not at all. Mode 0600 is what tempfile makes.
fn replace(path: &Path, bytes: &[u8], owner: Option<(u32, u32)>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    // Before it has its name: who finds it can read it.
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::fchown(file.as_file(), Some(uid), Some(gid))?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
