//! Listens and serves: HTTP/1.1 and HTTP/2, on TCP and on a unix socket, within bounds that hold before anyone
//! has shown a token.

mod stream;

use std::{
    convert::Infallible,
    io,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rouse_tls::{Door, Guest};
use rouse_types::limits;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::stream::{Protocol, Stream};
use crate::{control::Control, handle};

/// Connections at once: the API is for people and tools, not for functions' callers.
const CONNECTIONS_MAX: usize = 1_024;
/// Requests at once on one connection of HTTP/2.
const STREAMS_MAX: u32 = 64;
/// What is waited after an error of accepting, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection may be open without a request.
const IDLE: Duration = Duration::from_secs(60);
/// How long requests under way may go on after the end was asked for.
const DRAIN: Duration = Duration::from_secs(10);

/// Makes the unix socket, for the platform's own user alone. One that a killed predecessor left is replaced.
pub(crate) fn bind(state: &Path) -> io::Result<UnixListener> {
    let path = state.join("run").join("control.sock");
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until told to stop; then ends what is under way.
pub(crate) async fn serve(
    control: Arc<Control>,
    (tcp, door): (TcpListener, Door),
    unix: UnixListener,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // A place first: who comes when all are taken waits in the kernel's queue.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = stop.cancelled() => break,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = tcp.accept() => accepted.map(|(stream, from)| {
                let _ = stream.set_nodelay(true);
                Accepted::Tcp(stream, from.ip())
            }),
            accepted = unix.accept() => accepted.map(|(stream, _)| Accepted::Unix(stream)),
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok(accepted) => {
                let (control, door, stop) = (Arc::clone(&control), door.clone(), stop.clone());
                connections.spawn(async move {
                    let entered = stop.run_until_cancelled(enter(&door, accepted)).await.flatten();
                    if let Some((stream, way)) = entered {
                        connection(control, stream, way, stop).await;
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!("connections were cut off at the end");
    }
}

/// A connection as it was accepted.
enum Accepted {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

/// How requests come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// From where; none for the unix socket.
    pub(crate) from: Option<IpAddr>,
    /// In the clear over a network, though the platform has certificates.
    pub(crate) exposed: bool,
}

/// Finds out what a connection speaks. Nothing of one that failed: who does not trust the certificate is no news.
async fn enter(door: &Door, accepted: Accepted) -> Option<(Box<dyn Stream>, Way)> {
    let (stream, from) = match accepted {
        Accepted::Unix(stream) => return Some((Box::new(stream), Way { from: None, exposed: false })),
        Accepted::Tcp(stream, from) => (stream, from),
    };
    let guest = door.open(stream, from).await;
    let guest =
        guest.inspect_err(|error| tracing::debug!(%error, %from, "a connection was not let in")).ok()?;
    let way = |exposed| Way { from: Some(from), exposed };
    Some(match guest {
        Guest::Secure(stream) => (Box::new(*stream), way(false)),
        Guest::Plain(stream) => (Box::new(stream), way(false)),
        Guest::Exposed(stream) => (Box::new(stream), way(true)),
    })
}

/// Serves one connection until it ends, is idle for long, or the server stops.
async fn connection(control: Arc<Control>, stream: Box<dyn Stream>, way: Way, stop: CancellationToken) {
    let sniffed = tokio::select! {
        sniffed = tokio::time::timeout(limits::HEADER_TIMEOUT, stream::sniff(stream)) => sniffed,
        () = stop.cancelled() => return,
    };
    let Ok(Ok((protocol, stream))) = sniffed else { return };
    let requests = Arc::new(Requests::default());
    let service = {
        let (requests, stop) = (Arc::clone(&requests), stop.clone());
        service_fn(move |request| {
            let under_way = requests.begin();
            let answer = handle::handle(Arc::clone(&control), request, way, stop.clone());
            async move {
                let answer = answer.await;
                drop(under_way);
                Ok::<_, Infallible>(answer)
            }
        })
    };
    match protocol {
        Protocol::Http1 => {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits::HEADER_TIMEOUT)
                .max_headers(limits::HEADERS_MAX)
                .max_buf_size(limits::HEADER_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            run(connection, |connection| connection.graceful_shutdown(), &requests, &stop).await;
        }
        Protocol::Http2 => {
            // hyper's tasks of one connection end with it.
            let connection = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .max_header_list_size(u32::try_from(limits::HEADER_BYTES_MAX).unwrap_or(u32::MAX))
                .keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(20))
                .serve_connection(TokioIo::new(stream), service);
            run(connection, |connection| connection.graceful_shutdown(), &requests, &stop).await;
        }
    }
}

/// Drives a connection; asks it to end, answers under way left to finish, once it is idle or all is to stop.
async fn run<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    end: impl Fn(Pin<&mut C>),
    requests: &Requests,
    stop: &CancellationToken,
) {
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = requests.idle() => None,
        () = stop.cancelled() => None,
    };
    let result = match ended {
        Some(result) => result,
        None => {
            end(connection.as_mut());
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke off");
    }
}

/// The requests of one connection: none under way for long means that its place is better given to others.
#[derive(Debug, Default)]
struct Requests {
    under_way: AtomicUsize,
    begun: AtomicU64,
}

/// One request, until its answer's head is there. A body that is still being sent is left to finish.
struct UnderWay(Arc<Requests>);

impl Requests {
    fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        self.begun.fetch_add(1, Ordering::SeqCst);
        UnderWay(Arc::clone(self))
    }

    /// Waits for [`IDLE`] without a request.
    async fn idle(&self) {
        loop {
            let begun = self.begun.load(Ordering::SeqCst);
            tokio::time::sleep(IDLE).await;
            if self.begun.load(Ordering::SeqCst) == begun && self.under_way.load(Ordering::SeqCst) == 0 {
                return;
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}
