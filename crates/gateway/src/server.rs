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
};

/// Connections of one gateway: each is a descriptor and a few KiB, and processes have 65,536 of those at most
/// where nothing else is set.
const CONNECTIONS_MAX: i64 = 20_000;
/// Streams of one HTTP/2 connection at once: what RFC 9113 §6.5.2 recommends at least, doubled.
const STREAMS_MAX: u32 = 200;
/// How long to wait before accepting again when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until the gateway's `stop`, then waits for what is open, for `drain` at most.
pub(crate) async fn serve(
    gateway: Arc<Gateway>,
    listener: std::net::TcpListener,
    internal_listener: UnixListener,
    drain: Duration,
) -> Result<(), Error> {
    listener.set_nonblocking(true).map_err(Error::io("make the listening socket non-blocking"))?;
    let listener = TcpListener::from_std(listener).map_err(Error::io("use the listening socket"))?;
    loop {
        tokio::select! {
            () = gateway.stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if gateway.metrics.connections.get() >= CONNECTIONS_MAX {
                        continue;
                    }
                    // Answers are one write each; waiting for more to send would only add latency.
                    let _ = stream.set_nodelay(true);
                    let io = TokioIo::new(stream);
                    gateway.tasks.spawn(connection(Arc::clone(&gateway), io, Caller::Outside(peer.ip())));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            accepted = internal_listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let io = TokioIo::new(stream);
                    gateway.tasks.spawn(connection(Arc::clone(&gateway), io, Caller::Platform));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    drop(listener);
    gateway.tasks.close();
    // What is still open after this ends with the process.
    let _ = tokio::time::timeout(drain, gateway.tasks.wait()).await;
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Caller {
    Outside(IpAddr),
    Platform,
}

async fn connection(
    gateway: Arc<Gateway>,
    io: TokioIo<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    caller: Caller,
) {
    gateway.metrics.connections.inc();
    let spoken = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        let gateway = Arc::clone(&gateway);
        spoken.store(true, Ordering::Relaxed);
        async move {
            Ok::<_, Infallible>(match caller {
                Caller::Outside(peer) => gateway.handle(request, peer).await,
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
