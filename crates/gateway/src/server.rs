//! Accepts connections and serves HTTP/1.1 and HTTP/2 on them, within bounds.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use rouse_types::limits::{HEADER_BYTES_MAX, HEADER_TIMEOUT, HEADERS_MAX};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    time::sleep,
};

use crate::{
    Error,
    handle::{Executor, Gateway},
    internal,
    secure::{self, Https},
};

/// Connections of one gateway: each is a descriptor and a few KiB, and processes have 65,536 of those at most
/// where nothing else is set.
const CONNECTIONS_MAX: i64 = 20_000;
/// Streams of one HTTP/2 connection at once: what RFC 9113 §6.5.2 recommends at least, doubled.
const STREAMS_MAX: u32 = 200;
/// How long to wait before accepting again when the process has no descriptor left.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until the gateway's `stop`, then waits for what is open, for `drain` at most.
pub(crate) async fn serve(
    gateway: Arc<Gateway>,
    listener: std::net::TcpListener,
    https: Option<Https>,
    internal_listener: UnixListener,
    drain: Duration,
) -> Result<(), Error> {
    let listener = take(listener)?;
    // Where TLS is on, nobody is served without.
    let redirect = https.as_ref().map(|https| https.port);
    let outside = |peer: IpAddr| redirect.map_or(Caller::Outside(peer), Caller::Plain);
    let secure = async {
        if let Some(https) = https {
            https.accept(&gateway).await;
        }
    };
    tokio::join!(secure, accept(&gateway, listener, internal_listener, outside));
    gateway.tasks.close();
    // What is still open after this ends with the process.
    let _ = tokio::time::timeout(drain, gateway.tasks.wait()).await;
    Ok(())
}

/// A socket that the supervisor made, as one of ours.
pub(crate) fn take(listener: std::net::TcpListener) -> Result<TcpListener, Error> {
    listener.set_nonblocking(true).map_err(Error::io("make the listening socket non-blocking"))?;
    TcpListener::from_std(listener).map_err(Error::io("use the listening socket"))
}

/// Accepts from outside without TLS, and from our own processes, until the gateway's `stop`.
async fn accept(
    gateway: &Arc<Gateway>,
    listener: TcpListener,
    internal_listener: UnixListener,
    outside: impl Fn(IpAddr) -> Caller,
) {
    loop {
        tokio::select! {
            () = gateway.stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if full(gateway) {
                        continue;
                    }
                    // Answers are one write each; waiting for more to send would only add latency.
                    let _ = stream.set_nodelay(true);
                    let io = TokioIo::new(stream);
                    gateway.tasks.spawn(connection(Arc::clone(gateway), io, outside(peer.ip())));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            accepted = internal_listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let io = TokioIo::new(stream);
                    gateway.tasks.spawn(connection(Arc::clone(gateway), io, Caller::Platform));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
}

/// Whether there is no room for another connection.
pub(crate) fn full(gateway: &Gateway) -> bool {
    gateway.metrics.connections.get() >= CONNECTIONS_MAX
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Caller {
    /// Anyone, without TLS.
    Outside(IpAddr),
    /// Anyone, without TLS although it is on: HTTPS is at this port.
    Plain(u16),
    /// Anyone, over TLS.
    Secure(IpAddr),
    /// Another of our processes.
    Platform,
}

pub(crate) async fn connection(
    gateway: Arc<Gateway>,
    io: TokioIo<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    caller: Caller,
) {
    gateway.metrics.connections.inc();
    let spoken = AtomicBool::new(false);
    let service = service_fn(|mut request: Request<Incoming>| {
        let gateway = Arc::clone(&gateway);
        spoken.store(true, Ordering::Relaxed);
        if let Caller::Secure(_) = caller {
            secure::mark(&mut request);
        }
        async move {
            Ok::<_, Infallible>(match caller {
                Caller::Outside(peer) | Caller::Secure(peer) => gateway.handle(request, peer).await,
                Caller::Plain(port) => secure::elsewhere(&gateway.config.state, &request, port),
                Caller::Platform => internal::handle(gateway, request).await,
            })
        }
    });
    let mut builder = auto::Builder::new(Executor(gateway.tasks.clone()));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .pipeline_flush(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20));
    let connection = builder.serve_connection_with_upgrades(io, service);
    tokio::pin!(connection);
    // HTTP/1's own time limit begins once it is known that HTTP/1 is spoken, which a client may never show.
    let silent = async {
        sleep(HEADER_TIMEOUT).await;
        if spoken.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = silent => Ok(()),
        () = gateway.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // Clients that go away in the middle are no news.
        tracing::debug!(%error, "a connection ended early");
    }
    gateway.metrics.connections.dec();
}
