//! The connections to other nodes: one each, made when it is needed, shared by all calls.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Request, StatusCode};
use http_body_util::{Either, Empty};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use rouse_types::{function::VersionKey, node::Neighbour};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{Executor, Mesh, RequestBody};

/// How long it may take until a connection stands: a call waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a node may take to say whether it has a version.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// After a connection failed, its node is left out for so long: others are tried at once.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// How long a connection is used: who is at its other end was proven when it was made.
const AGE_MAX: Duration = Duration::from_secs(3_600);
/// A node that does not answer for so long is gone.
const SILENCE: Duration = Duration::from_secs(5);
/// Versions of which is remembered that a node has them.
const KNOWN_MAX: usize = 10_000;

/// The connections, by node.
#[derive(Default)]
pub(crate) struct Links(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Link>>>>);

#[derive(Default)]
struct Link {
    open: Option<Open>,
    failed: Option<Instant>,
}

struct Open {
    sender: SendRequest<RequestBody>,
    address: String,
    since: Instant,
    /// Versions that the node has. They stay: who has one forgets it no sooner than we do.
    has: HashSet<VersionKey>,
}

/// Why a node is not handed a call, which is then free to go to another.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("it takes no calls of other nodes")]
    Closed,
    #[error("this node has no certificate of the cluster yet")]
    Nobody,
    #[error("its connection failed a moment ago")]
    Failed,
    #[error("it does not answer at {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("it does not answer: {0}")]
    Silent(String),
    #[error("it does not have {0} yet")]
    Lacks(VersionKey),
    #[error(transparent)]
    Identity(#[from] rouse_tls::node::Error),
}

impl Mesh {
    /// A connection to a node that has a version. Nothing of a call is sent before.
    pub(crate) async fn link(
        &self,
        node: &Neighbour,
        version: &VersionKey,
    ) -> Result<SendRequest<RequestBody>, Error> {
        let link = {
            let mut links = self.links.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(links.entry(node.node.clone()).or_default())
        };
        // Those that come meanwhile wait for this connection, and do not make one each.
        let mut link = link.lock().await;
        let address = node.address.as_ref().ok_or(Error::Closed)?;
        let usable = |open: &Open| {
            !open.sender.is_closed() && open.address == *address && open.since.elapsed() < AGE_MAX
        };
        if !link.open.as_ref().is_some_and(usable) {
            if link.failed.is_some_and(|at| at.elapsed() < FAILED_FOR) {
                return Err(Error::Failed);
            }
            link.open = None;
            match self.connect(&node.node, address).await {
                Ok(sender) => {
                    let (address, since) = (address.clone(), Instant::now());
                    link.open = Some(Open { sender, address, since, has: HashSet::new() });
                }
                Err(error) => {
                    link.failed = Some(Instant::now());
                    return Err(error);
                }
            }
        }
        let Some(open) = &mut link.open else { return Err(Error::Failed) };
        if !open.has.contains(version) {
            match timeout(ASK_TIMEOUT, has(&mut open.sender, version)).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Err(Error::Lacks(version.clone())),
                // A certificate that was refused shows here, too.
                silent => {
                    let why = match silent {
                        Ok(Err(error)) => format!("{error:?}"),
                        _ => "no answer in time".to_owned(),
                    };
                    (link.open, link.failed) = (None, Some(Instant::now()));
                    return Err(Error::Silent(why));
                }
            }
            if open.has.len() >= KNOWN_MAX {
                open.has.clear();
            }
            open.has.insert(version.clone());
        }
        Ok(open.sender.clone())
    }

    async fn connect(&self, node: &str, address: &str) -> Result<SendRequest<RequestBody>, Error> {
        let shown = self.identities.now()?.ok_or(Error::Nobody)?;
        let name = shown.identity.name_of(node)?;
        let connected = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let stream = TlsConnector::from(Arc::clone(&shown.client)).connect(name, stream).await?;
            let handshake = Builder::new(Executor(self.background.clone()))
                .timer(TokioTimer::new())
                .keep_alive_interval(SILENCE)
                .keep_alive_timeout(SILENCE)
                .handshake(TokioIo::new(stream));
            handshake.await.map_err(io::Error::other)
        };
        let late = || Err(io::Error::from(io::ErrorKind::TimedOut));
        let connected = timeout(CONNECT_TIMEOUT, connected).await.unwrap_or_else(|_| late());
        let address = address.to_owned();
        let (sender, connection) = connected.map_err(|source| Error::Connect { address, source })?;
        self.background.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to another node ended");
            }
        });
        Ok(sender)
    }
}

/// Whether the node at the other end has a version.
async fn has(sender: &mut SendRequest<RequestBody>, version: &VersionKey) -> Result<bool, hyper::Error> {
    let VersionKey { tenant, function, number } = version;
    let mut request = Request::new(Either::Right(Empty::new()));
    // Names and a number: it is an address.
    *request.uri_mut() =
        format!("http://node/versions/{tenant}/{function}/{number}").parse().unwrap_or_default();
    sender.ready().await?;
    Ok(sender.send_request(request).await?.status() == StatusCode::NO_CONTENT)
}
