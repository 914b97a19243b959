//! One request over one connection of its own, to TCP, TLS or a unix socket: what the client needs, and what our
//! processes need to speak to each other.
//!
//! The connection is driven by whoever waits for the head or reads the body, so no task runs on its own:
//! dropping the answer closes the connection, which tells the other side that no one listens any more.

mod tls;

use std::{
    fmt,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::{Instant, Sleep},
};

pub use self::tls::{Distrust, Trust};

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `host:port`.
    Tcp(String),
    /// `host:port`, by TLS.
    Tls(String, Trust),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Tls(authority, _) => write!(f, "https://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the connection.
    pub connect: Duration,
    /// From then until the answer's head, the sending of the request's body included.
    pub head: Duration,
    /// For each further piece of the answer's body.
    pub idle: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No one listens there, or not in time.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where.
        address: Address,
        /// Why.
        source: std::io::Error,
    },
    /// Who listens there is not to be trusted, or speaks no TLS.
    #[error("{address} is not spoken to: {why}")]
    Distrusted {
        /// Where.
        address: Address,
        /// Why.
        why: Distrust,
    },
    /// Nothing came for so long.
    #[error("{address} did not answer within {} ms", waited.as_millis())]
    Timeout {
        /// Who.
        address: Address,
        /// How long was waited.
        waited: Duration,
    },
    /// The exchange broke off, or what came is no HTTP.
    #[error("the exchange with {address} broke off: {source}")]
    Broken {
        /// With whom.
        address: Address,
        /// How.
        source: hyper::Error,
    },
}

type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// Sends a request and waits for the answer's head. The request needs a path only; `host` is added.
///
/// # Errors
/// There is no answer. The request may have had its effect unless the error is [`Error::Connect`].
pub async fn exchange<B>(
    address: &Address,
    request: Request<B>,
    timeouts: Timeouts,
) -> Result<Response<Answer>, Error>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connect = |source| Error::Connect { address: address.clone(), source };
    let connecting = async {
        let stream: Box<dyn Stream> = match address {
            Address::Tcp(authority) => Box::new(tcp(authority).await.map_err(connect)?),
            Address::Tls(authority, trust) => {
                let stream = tcp(authority).await.map_err(connect)?;
                let stream = trust.connect(authority, stream).await;
                Box::new(stream.map_err(|why| Error::Distrusted { address: address.clone(), why })?)
            }
            Address::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(connect)?),
        };
        Ok::<_, Error>(stream)
    };
    let stream = tokio::time::timeout(timeouts.connect, connecting)
        .await
        .map_err(|_| connect(std::io::ErrorKind::TimedOut.into()))??;
    match tokio::time::timeout(timeouts.head, send(address, stream, request, timeouts.idle)).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Timeout { address: address.clone(), waited: timeouts.head }),
    }
}

async fn tcp(authority: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn send<B>(
    address: &Address,
    stream: Box<dyn Stream>,
    mut request: Request<B>,
    idle: Duration,
) -> Result<Response<Answer>, Error>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let broken = |source| Error::Broken { address: address.clone(), source };
    let host = match address {
        Address::Tcp(authority) | Address::Tls(authority, _) => http::HeaderValue::from_str(authority).ok(),
        Address::Unix(_) => None,
    };
    let host = host.unwrap_or(http::HeaderValue::from_static("localhost"));
    request.headers_mut().entry(http::header::HOST).or_insert(host);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut connection: Option<Connection> = Some(Box::pin(connection));
    let mut sending = std::pin::pin!(sender.send_request(request));
    let response = std::future::poll_fn(|cx| {
        drive(&mut connection, cx);
        sending.as_mut().poll(cx)
    });
    let response = response.await.map_err(broken)?;
    Ok(response.map(|incoming| Answer {
        incoming,
        connection,
        idle,
        sleep: Box::pin(tokio::time::sleep(idle)),
        address: address.clone(),
    }))
}

/// Moves the connection on. How it ends is told by the body, too, so it is not looked at here.
fn drive(connection: &mut Option<Connection>, cx: &mut Context<'_>) {
    if connection.as_mut().is_some_and(|connection| connection.as_mut().poll(cx).is_ready()) {
        *connection = None;
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An answer's body, with the connection that it comes from.
pub struct Answer {
    incoming: Incoming,
    connection: Option<Connection>,
    idle: Duration,
    sleep: Pin<Box<Sleep>>,
    address: Address,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        drive(&mut this.connection, cx);
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.sleep.as_mut().reset(Instant::now() + this.idle);
                let address = &this.address;
                Poll::Ready(
                    frame.map(|frame| {
                        frame.map_err(|source| Error::Broken { address: address.clone(), source })
                    }),
                )
            }
            Poll::Pending => match this.sleep.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    let (address, waited) = (this.address.clone(), this.idle);
                    Poll::Ready(Some(Err(Error::Timeout { address, waited })))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.incoming.size_hint()
    }
}
