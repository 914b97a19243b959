//! What is in force, as control hands it over: one file, replaced whole at each change, so that gateways and the node go on
//! while control is away.

use std::{
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rouse_types::{Quotas, TenantId, TenantLimits};

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

/// Tells one file from the one that replaced it: its inode, and when it was changed, in nanoseconds.
type Seen = (u64, i64, i64);

/// The limits as the file has them, for who asks now and then: looks at the file's time, and reads it when it was replaced.
#[derive(Debug)]
pub struct Limits {
    state: PathBuf,
    read: Mutex<(Option<Seen>, Quotas)>,
}

impl Limits {
    /// Those of the platform with this state folder.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { state: state.to_owned(), read: Mutex::default() }
    }

    /// A tenant's. A file that cannot be read leaves them as they were.
    #[must_use]
    pub fn of(&self, tenant: &TenantId) -> Option<TenantLimits> {
        let mut now = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let file = std::fs::metadata(self.state.join(FILE)).ok();
        let seen = file.map(|file| (file.ino(), file.mtime(), file.mtime_nsec()));
        if now.0 != seen {
            match read(&self.state) {
                Ok(quotas) => *now = (seen, quotas),
                Err(error) => tracing::error!(%error, "the limits of tenants cannot be read"),
            }
        }
        Some(now.1.get(tenant)?.limits.clone())
    }
}
