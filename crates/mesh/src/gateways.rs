//! The gateways of this node, each in its turn.

use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri, uri};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioIo, TokioTimer},
};
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

use crate::{Executor, RequestBody};

/// Connections to each gateway: it takes 200 calls on one.
const CONNECTIONS: usize = 16;
/// How long to wait for one that is started again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often to try within that time.
const CONNECT_RETRY: Duration = Duration::from_millis(20);

/// The ways to the gateways.
pub(crate) struct Gateways {
    client: Client<Connector, RequestBody>,
    count: usize,
    turn: AtomicUsize,
}

impl Gateways {
    pub(crate) fn new(state: &Path, count: usize, tasks: TaskTracker) -> Self {
        let client = Client::builder(Executor(tasks))
            .http2_only(true)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            // Only what never left is sent again, and that the connector does.
            .retry_canceled_requests(false)
            .build(Connector { run: state.join("run") });
        Self { client, count: count.max(1), turn: AtomicUsize::new(0) }
    }

    /// Has a gateway answer.
    pub(crate) async fn send(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (gateway, connection) = (turn % self.count, turn / self.count % CONNECTIONS);
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(uri::Scheme::HTTP);
        // The client keeps a connection for each authority.
        parts.authority = format!("gateway-{gateway}.{connection}").parse().ok();
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = http::Version::HTTP_2;
        self.client.request(request).await
    }
}

#[derive(Debug, Clone)]
struct Connector {
    run: PathBuf,
}

/// A connection, as the client wants it.
struct Stream(TokioIo<UnixStream>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let gateway = uri.host().and_then(|host| host.split('.').next()).unwrap_or_default();
        let socket = self.run.join(format!("{gateway}.sock"));
        Box::pin(async move {
            let give_up = tokio::time::Instant::now() + CONNECT_TIMEOUT;
            loop {
                match UnixStream::connect(&socket).await {
                    Ok(stream) => return Ok(Stream(TokioIo::new(stream))),
                    Err(error) if tokio::time::Instant::now() >= give_up => return Err(error),
                    Err(_) => tokio::time::sleep(CONNECT_RETRY).await,
                }
            }
        })
    }
}
