//! What is in force, as control hands it over: one file, replaced whole at each change, so that gateways and the node go on
//! while control is away.

use std::{
    io::{self, Write as _},
    path::Path,
};

use rouse_types::Quotas;

/// The file, below the state folder.
pub const FILE: &str = "control/quotas.json";

/// Reads what is in force. Without a file nothing is limited.
///
/// # Errors
/// It cannot be read.
pub fn read(state: &Path) -> io::Result<Quotas> {
    match std::fs::read(state.join(FILE)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Quotas::new()),
        Err(error) => Err(error),
    }
}

/// Makes the file hold these: whole or not at all, its mode 0600.
///
/// # Errors
/// What the disk says.
pub fn replace(state: &Path, quotas: &Quotas) -> io::Result<()> {
    let path = state.join(FILE);
    let folder = path.parent().unwrap_or(state);
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec(quotas)?)?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(())
}
