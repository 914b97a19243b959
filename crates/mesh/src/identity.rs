//! What this node shows to others: read again when control has renewed it.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rouse_tls::node::{self, Error, Identity};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

/// An identity, made ready for both ends.
pub(crate) struct Shown {
    pub(crate) identity: Identity,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) client: Arc<ClientConfig>,
}

/// Tells one file from the one that replaced it.
type Seen = (u64, i64, i64);

/// The identity of a state folder.
pub(crate) struct Identities {
    state: PathBuf,
    read: Mutex<Option<(Seen, Arc<Shown>)>>,
}

impl Identities {
    pub(crate) fn new(state: PathBuf) -> Self {
        Self { state, read: Mutex::default() }
    }

    /// The identity as it is now; none before control has made one.
    pub(crate) fn now(&self) -> Result<Option<Arc<Shown>>, Error> {
        let file = fs::metadata(self.state.join(node::FILE));
        let Ok(seen) = file.map(|file| (file.ino(), file.mtime(), file.mtime_nsec())) else {
            return Ok(None);
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, shown)) = read.as_ref().filter(|(at, _)| *at == seen) {
            return Ok(Some(Arc::clone(shown)));
        }
        let Some(identity) = Identity::read(&self.state)? else { return Ok(None) };
        let (server, client) = (Arc::new(identity.server()?), Arc::new(identity.client()?));
        let shown = Arc::new(Shown { identity, server, client });
        *read = Some((seen, Arc::clone(&shown)));
        Ok(Some(shown))
    }
}
