//! Calls between the nodes of a cluster: one process of each node hands over what its gateways cannot run, and takes what
//! others hand over.
//!
//! ```text
//!  node a: gateway ──HTTP/2, unix socket──▶ outbound ──HTTP/2, mutual TLS──▶ inbound ──unix socket──▶ gateway :node b
//! ```
//!
//! The gateway has chosen which nodes are tried, and in which order; a call that was handed over is never handed over
//! again (`docs/decisions/021-calls-between-nodes.md`).
//! Invariant: nothing here waits for the store, for control or for the engine.

mod gateways;
mod identity;
mod inbound;
mod link;
mod outbound;

use std::{
    future::Future,
    net::TcpListener,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{Either, Empty, Full};
use hyper::body::Incoming;
use rouse_types::{Refusal, node::Neighbours};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{gateways::Gateways, identity::Identities, link::Links};

/// What is waited after an error of accepting, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long calls under way may go on at the end: as long as the gateways'.
const DRAIN: Duration = Duration::from_secs(30);
/// Calls of one connection at once: all gateways share one to each node.
const STREAMS_MAX: u32 = 10_000;

/// What the process is told at its start.
#[derive(Debug)]
pub struct Config {
    /// The state folder.
    pub state: PathBuf,
    /// Where other nodes come to; none if none may.
    pub listener: Option<TcpListener>,
    /// How many gateways there are.
    pub gateways: usize,
}

/// Why the process could not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub struct Error {
    action: &'static str,
    source: std::io::Error,
}

impl Error {
    fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self { action, source }
    }
}

/// A request's body on its way.
type RequestBody = Either<Incoming, Empty<Bytes>>;
/// An answer on its way: another's, or a refusal of ours.
type Answer = Response<Either<Incoming, Full<Bytes>>>;

/// All that the process holds.
struct Mesh {
    identities: Identities,
    gateways: Gateways,
    links: Links,
    neighbours: Mutex<Option<Arc<Neighbours>>>,
    /// Connections from other nodes and from our gateways, with their calls: waited for at the end.
    tasks: TaskTracker,
    /// Connections to them, which have no end of their own.
    background: TaskTracker,
    stop: CancellationToken,
}

impl Mesh {
    fn neighbours(&self) -> Option<Arc<Neighbours>> {
        self.neighbours.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves until `stop`, then lets calls under way end, within bounds.
///
/// # Errors
/// What keeps it from starting; nothing after that.
pub async fn serve(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let Config { state, listener, gateways } = config;
    let socket = outbound::bind(&state).map_err(Error::io("listen on the socket of calls to other nodes"))?;
    let listener = match listener {
        None => None,
        Some(listener) => {
            listener.set_nonblocking(true).map_err(Error::io("take the listener for other nodes"))?;
            let listener = tokio::net::TcpListener::from_std(listener);
            Some(listener.map_err(Error::io("take the listener for other nodes"))?)
        }
    };
    let background = TaskTracker::new();
    let mesh = Arc::new(Mesh {
        gateways: Gateways::new(&state, gateways, background.clone()),
        identities: Identities::new(state),
        links: Links::default(),
        neighbours: Mutex::default(),
        tasks: TaskTracker::new(),
        background,
        stop,
    });
    let inbound = async {
        if let Some(listener) = listener {
            inbound::accept(&mesh, listener).await;
        }
    };
    tokio::join!(inbound, outbound::accept(&mesh, socket));
    mesh.tasks.close();
    // What is still open after this ends with the process.
    let _ = tokio::time::timeout(DRAIN, mesh.tasks.wait()).await;
    Ok(())
}

/// Spawns what hyper wants spawned as tasks of the process.
#[derive(Debug, Clone)]
struct Executor(TaskTracker);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

fn refuse(refusal: &Refusal) -> Answer {
    let body = serde_json::to_vec(refusal).unwrap_or_default();
    let mut answer = Response::new(Either::Right(Full::new(Bytes::from(body))));
    *answer.status_mut() =
        StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(seconds) = refusal.retry_after_seconds() {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

fn status(status: StatusCode) -> Answer {
    let mut answer = Response::new(Either::Right(Full::default()));
    *answer.status_mut() = status;
    answer
}
