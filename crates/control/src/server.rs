//! Listens and serves: HTTP/1.1 and HTTP/2, on TCP and on a unix socket, within bounds that hold before anyone
//! has shown a token.

use std::{io, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use rouse_types::limits;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{control::Control, handle};

/// Connections at once: the API is for people and tools, not for functions' callers.
const CONNECTIONS_MAX: usize = 1_024;
/// Requests at once on one connection of HTTP/2.
const STREAMS_MAX: u32 = 64;
/// What is waited after an error of accepting, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
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
    tcp: TcpListener,
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
            accepted = tcp.accept() => accepted.map(|(stream, _)| {
                let _ = stream.set_nodelay(true);
                Box::new(stream) as Box<dyn Stream>
            }),
            accepted = unix.accept() => accepted.map(|(stream, _)| Box::new(stream) as Box<dyn Stream>),
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok(stream) => {
                let (control, stop) = (Arc::clone(&control), stop.clone());
                connections.spawn(async move {
                    connection(control, stream, stop).await;
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

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connection(control: Arc<Control>, stream: Box<dyn Stream>, stop: CancellationToken) {
    // hyper's tasks of one connection end with it.
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_TIMEOUT)
        .max_headers(limits::HEADERS_MAX)
        .max_buf_size(limits::HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(limits::HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    let requests = stop.clone();
    let service = service_fn(move |request| {
        let answer = handle::handle(Arc::clone(&control), request, requests.clone());
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke off");
    }
}
