//! Connections to one server: HTTP/1.1 ones that are kept for a moment between calls, and one of HTTP/2 that all
//! calls share.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rouse_sandbox::{Error, Sandbox, Stream};
use rouse_types::{
    Protocol,
    limits::{HEADER_BYTES_MAX, HEADERS_MAX},
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{Failure, PORT, RequestBody, Why};
use crate::lock;

/// Servers close connections that idle, some after two seconds, and a request that crosses the close is lost. A new
/// connection costs some 50 µs, so none is used that is near.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// Connections that are kept: more than this many calls at once are rare, and a descriptor each.
const KEPT_MAX: usize = 64;
/// How long a kept connection may take to be ready: it is, unless the code answered before it read the request whole.
const READY_MAX: Duration = Duration::from_millis(5);

/// Where every server listens.
pub(crate) const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);

type Http1 = http1::SendRequest<RequestBody>;
type Http2 = http2::SendRequest<RequestBody>;

/// See the head of this file. Dropping it closes all.
pub(crate) struct Connections<S> {
    sandbox: Arc<S>,
    protocol: Protocol,
    kept: Arc<Kept>,
    shared: Mutex<Option<Http2>>,
    tasks: Arc<Tasks>,
}

/// HTTP/1.1 connections without a request, and since when.
#[derive(Default)]
struct Kept(Mutex<Vec<(Http1, Instant)>>);

/// The right to use a connection again.
pub(crate) struct Lease {
    sender: Http1,
    kept: Weak<Kept>,
}

impl Lease {
    /// The answer was read to its end.
    pub(crate) fn give_back(self) {
        let Some(kept) = self.kept.upgrade() else { return };
        let mut kept = lock(&kept.0);
        if kept.len() < KEPT_MAX && !self.sender.is_closed() {
            kept.push((self.sender, Instant::now()));
        }
    }
}

impl<S: Sandbox> Connections<S> {
    pub(crate) fn new(sandbox: Arc<S>, protocol: Protocol) -> Self {
        let (kept, tasks) = (Arc::default(), Arc::default());
        Self { sandbox, protocol, kept, shared: Mutex::default(), tasks }
    }

    /// Sends a request and waits for the head of its answer. Dropping the future closes the request's connection, or
    /// resets its stream.
    pub(crate) async fn send(
        &self,
        request: Request<RequestBody>,
        upgrade: bool,
    ) -> Result<(Response<Incoming>, Option<Lease>), Failure> {
        match self.protocol {
            Protocol::H2c if !upgrade => Ok((self.send_http2(request).await?, None)),
            // An upgrade is a matter of HTTP/1.1 alone.
            Protocol::H2c | Protocol::Http1 => self.send_http1(request, upgrade).await,
        }
    }

    /// Whether requests go over HTTP/2.
    pub(crate) fn over_h2(&self) -> bool {
        self.protocol == Protocol::H2c
    }

    /// Takes over a connection that was made to see whether the server is there.
    pub(crate) async fn adopt(&self, stream: Stream) -> Result<(), Failure> {
        match self.protocol {
            Protocol::Http1 => {
                let sender = self.http1(stream).await?;
                lock(&self.kept.0).push((sender, Instant::now()));
            }
            Protocol::H2c => *lock(&self.shared) = Some(self.http2(stream).await?),
        }
        Ok(())
    }

    async fn send_http1(
        &self,
        mut request: Request<RequestBody>,
        upgrade: bool,
    ) -> Result<(Response<Incoming>, Option<Lease>), Failure> {
        // Each turn but the last uses up a connection that was kept.
        loop {
            let kept = self.take_kept().await;
            let fresh = kept.is_none();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.http1(self.dial().await?).await?,
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let lease = Lease { sender, kept: Arc::downgrade(&self.kept) };
                    return Ok((response, (!upgrade).then_some(lease)));
                }
                Err(error) => request = unsent(error, fresh)?,
            }
        }
    }

    async fn send_http2(&self, mut request: Request<RequestBody>) -> Result<Response<Incoming>, Failure> {
        let known = lock(&self.shared).clone().filter(|sender| !sender.is_closed());
        if let Some(mut sender) = known {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(error) => request = unsent(error, false)?,
            }
        }
        let mut sender = self.http2(self.dial().await?).await?;
        *lock(&self.shared) = Some(sender.clone());
        match sender.try_send_request(request).await {
            Ok(response) => Ok(response),
            Err(error) => Err(unsent(error, true).err().unwrap_or(Failure::unsent(Why::Closed))),
        }
    }

    async fn take_kept(&self) -> Option<Http1> {
        loop {
            let (mut sender, since) = lock(&self.kept.0).pop()?;
            if since.elapsed() > IDLE_MAX {
                // All below are older still.
                lock(&self.kept.0).clear();
                return None;
            }
            if matches!(timeout(READY_MAX, sender.ready()).await, Ok(Ok(()))) {
                return Some(sender);
            }
        }
    }

    async fn dial(&self) -> Result<Stream, Failure> {
        self.sandbox.dial(ADDRESS).await.map_err(|error| {
            Failure::unsent(match error {
                Error::NotListening(_) | Error::Gone => Why::NotListening,
                error => Why::Host(error.to_string()),
            })
        })
    }

    async fn http1(&self, stream: Stream) -> Result<Http1, Failure> {
        let (sender, connection) = http1::Builder::new()
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEADER_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::unsent(why(&error)))?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a server broke");
            }
        });
        Ok(sender)
    }

    async fn http2(&self, stream: Stream) -> Result<Http2, Failure> {
        let (sender, connection) = http2::Builder::new(Executor(Arc::downgrade(&self.tasks)))
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::unsent(why(&error)))?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a server broke");
            }
        });
        Ok(sender)
    }
}

/// The request, if it was not sent and may be tried on another connection.
fn unsent(
    mut error: TrySendError<Request<RequestBody>>,
    fresh: bool,
) -> Result<Request<RequestBody>, Failure> {
    match error.take_message() {
        Some(request) if !fresh => Ok(request),
        Some(_) => Err(Failure::unsent(why(error.error()))),
        None => Err(Failure::sent(why(error.error()))),
    }
}

fn why(error: &hyper::Error) -> Why {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    // hyper calls an error of the request's body one of the user's.
    if error.is_user() {
        return Why::Caller(cause.unwrap_or_else(|| error.to_string()));
    }
    if error.is_parse() {
        return Why::Invalid(error.to_string());
    }
    Why::Closed
}

/// What drives the connections.
#[derive(Default)]
struct Tasks(Mutex<JoinSet<()>>);

impl Tasks {
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.0);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(future);
    }
}

/// Not an owner: tasks that owned the set that they are in would live for ever.
#[derive(Clone)]
struct Executor(Weak<Tasks>);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, future: F) {
        if let Some(tasks) = self.0.upgrade() {
            tasks.spawn(async move { drop(future.await) });
        }
    }
}
