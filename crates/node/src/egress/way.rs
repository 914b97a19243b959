//! The way out of one sandbox: takes what its code dials, and brings it to where it is meant to go, or says why not.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use rouse_sandbox::{Listener, Stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::sleep,
};

use super::{
    dial::Dialer,
    names::{Found, Names},
    pipe::{self, Bytes},
    plan::Target,
};

/// Connections of one instance at once; more wait. Far above what one instance has a use for, and each takes two
/// descriptors of the node's.
pub(super) const CONNECTIONS_MAX: usize = 256;
/// Lines about refusals in one instance's life: a loop that dials must not fill the log.
const SAID_MAX: usize = 64;
/// When the host has no descriptor left, trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Takes a line for the function's log.
pub(super) type Say = Box<dyn Fn(String) + Send + Sync>;

/// One sandbox' way out.
pub(super) struct Way {
    names: Mutex<Names>,
    dialer: Arc<Dialer>,
    say: Say,
    said: Mutex<HashSet<String>>,
    permits: Arc<Semaphore>,
    pub(super) bytes: Bytes,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Way {
    pub(super) fn new(names: Names, dialer: Arc<Dialer>, say: Say) -> Self {
        Self {
            names: Mutex::new(names),
            dialer,
            say,
            said: Mutex::default(),
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            bytes: Bytes::default(),
        }
    }

    /// Where the code finds a name. What is refused is told in the function's log.
    pub(super) fn find(&self, name: &str) -> Found {
        let found = lock(&self.names).find(name);
        match found {
            // Programs ask for the names of addresses to log them, and for services nearby; nobody means to go there.
            Found::No if !name.ends_with(".arpa") && !name.ends_with(".local") => {
                self.say(format!(
                    "egress to {name} is not allowed; to allow it, add egress = [\"{name}:443\"] with the port \
                     that is used"
                ));
            }
            Found::Full => {
                self.say(format!(
                    "egress to {name}: this instance has asked for too many names of a wildcard"
                ));
            }
            Found::At(_) | Found::Outside | Found::No => {}
        }
        found
    }

    /// What a name really leads to, for code that may reach everything: of version 4, which is all that its network
    /// carries.
    pub(super) async fn outside(&self, name: &str) -> Option<Vec<IpAddr>> {
        let mut addresses = self.dialer.addresses(name).await.ok()?;
        addresses.retain(IpAddr::is_ipv4);
        Some(addresses)
    }

    /// Says a line once, and not without end.
    pub(super) fn say(&self, line: String) {
        {
            let mut said = lock(&self.said);
            if said.len() >= SAID_MAX || !said.insert(line.clone()) {
                return;
            }
        }
        (self.say)(line);
    }

    /// Serves one listener of the sandbox, which listens at this address, for as long as the sandbox lives.
    pub(super) async fn serve(self: Arc<Self>, mut listener: Listener, at: SocketAddr) {
        let mut connections = JoinSet::new();
        loop {
            let permit = self.permit().await;
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            };
            match accepted {
                Ok(stream) => {
                    connections.spawn(Arc::clone(&self).carry(stream, at, permit));
                }
                Err(error) if matches!(listener, Listener::Sim(_)) => {
                    tracing::debug!(%error, "a simulated sandbox is gone");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept what a sandbox dialled");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// The right to have one more connection.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        if self.permits.available_permits() == 0 {
            self.say(format!(
                "egress: {CONNECTIONS_MAX} connections are open, which is the most for one instance; more wait"
            ));
        }
        // It is never closed.
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    async fn carry(self: Arc<Self>, inside: Stream, at: SocketAddr, permit: Option<OwnedSemaphorePermit>) {
        // A listener at every address learns here which it was.
        let dialled = match &inside {
            Stream::Tcp(stream) => stream.local_addr().unwrap_or(at),
            Stream::Unix(_) | Stream::Sim(_) => at,
        };
        let meant = lock(&self.names).meant(dialled.ip(), dialled.port());
        let Some((target, allowed)) = meant else { return pipe::reset(&inside) };
        let host = match &target {
            Target::Name(name) => name.clone(),
            Target::Address(IpAddr::V6(address)) => format!("[{address}]"),
            Target::Address(IpAddr::V4(address)) => address.to_string(),
        };
        let place = format!("{host}:{}", dialled.port());
        if !allowed {
            self.say(format!("egress to {place} is not allowed; to allow it, add egress = [\"{place}\"]"));
            return pipe::reset(&inside);
        }
        match Box::pin(self.dialer.dial(&target, dialled.port())).await {
            Ok(outside) => {
                if let Err(error) = pipe::pipe(inside, outside, &self.bytes).await {
                    tracing::debug!(%error, %place, "a connection broke");
                }
            }
            Err(error) => {
                self.say(format!("egress to {place} failed: {error}"));
                pipe::reset(&inside);
            }
        }
        drop(permit);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        let sent = self.bytes.sent.load(Ordering::Relaxed);
        let received = self.bytes.received.load(Ordering::Relaxed);
        if sent + received > 0 {
            tracing::debug!(sent, received, "bytes of an instance's egress");
        }
    }
}
