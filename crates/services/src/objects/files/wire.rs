//! HTTP to another S3, for the library that speaks its protocol: the workspace's own hyper and rustls, within bounds.
//!
//! Answers are read whole before they are handed on, so a connection is never held by someone who reads slowly.

use std::{
    error::Error as StdError,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::{
    client::legacy::{
        Client, Error as ClientError,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
        HttpService,
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, Error as TlsError, crypto::ring, pki_types::ServerName},
};
use tokio_util::either::Either;
use tower_service::Service;

/// Requests at once, and with that connections. What comes then waits.
const REQUESTS_MAX: usize = 64;
/// How long a request waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the store may take to take a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may take whole: 8 MiB over a line of 1 Mbit/s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(70);
/// The same for what the store itself moves bytes for: copies, and parts that become one.
const WORK_TIMEOUT: Duration = Duration::from_secs(600);
/// Connections that wait for the next request, and how long.
const IDLE_MAX: usize = 16;
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest answer: a chunk of a file, or a page of a listing.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Gives the library its client.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    http: Client<Dial, HttpRequestBody>,
    turns: Arc<Semaphore>,
}

impl Wire {
    /// A client that trusts the authorities that the host trusts, or else Mozilla's.
    pub(super) fn new() -> Result<Self, TlsError> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(rouse_image::authorities())
            .with_no_client_auth();
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(Dial(TlsConnector::from(Arc::new(config))));
        Ok(Self { http, turns: Arc::new(Semaphore::new(REQUESTS_MAX)) })
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.http.request(request).await.map_err(refused)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| HttpError::new_boxed(HttpErrorKind::Interrupted, error))?;
        Ok(HttpResponse::from_parts(head, body.to_bytes().into()))
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait::async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let late = |what: &'static str| {
            move |_| HttpError::new(HttpErrorKind::Timeout, io::Error::new(io::ErrorKind::TimedOut, what))
        };
        let turn = timeout(TURN_TIMEOUT, self.turns.acquire()).await;
        let _turn = turn
            .map_err(late("too many requests wait for the store"))?
            .map_err(|closed| HttpError::new(HttpErrorKind::Unknown, closed))?;
        timeout(longest(&request), self.ask(request))
            .await
            .map_err(late("the store gave no answer in time"))?
    }
}

/// How long this request may take.
fn longest(request: &HttpRequest) -> Duration {
    let copies = request.headers().contains_key("x-amz-copy-source");
    let completes = request.method() == Method::POST;
    if copies || completes { WORK_TIMEOUT } else { REQUEST_TIMEOUT }
}

/// What the library needs to know in order to try again or not.
fn refused(error: ClientError) -> HttpError {
    let kind = if error.is_connect() {
        HttpErrorKind::Connect
    } else {
        let hyper = error.source().and_then(|source| source.downcast_ref::<hyper::Error>());
        match hyper {
            Some(error) if error.is_canceled() || error.is_closed() => HttpErrorKind::Request,
            _ => HttpErrorKind::Interrupted,
        }
    };
    HttpError::new(kind, error)
}

/// Opens connections.
#[derive(Clone)]
struct Dial(TlsConnector);

impl Service<Uri> for Dial {
    type Response = TokioIo<Line>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.0.clone();
        Box::pin(async move {
            let dialled = timeout(CONNECT_TIMEOUT, dial(&tls, &uri)).await;
            let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the store takes no connection");
            Ok(TokioIo::new(Line(dialled.map_err(late)??)))
        })
    }
}

async fn dial(tls: &TlsConnector, uri: &Uri) -> io::Result<Either<TcpStream, TlsStream<TcpStream>>> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let encrypted = uri.scheme_str() != Some("http");
    let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
    let tcp = TcpStream::connect((host, port)).await?;
    tcp.set_nodelay(true)?;
    if !encrypted {
        return Ok(Either::Left(tcp));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(Either::Right(tls.connect(name, tcp).await?))
}

/// One connection, for hyper to keep.
struct Line(Either<TcpStream, TlsStream<TcpStream>>);

impl Connection for Line {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
