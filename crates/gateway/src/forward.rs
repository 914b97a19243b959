//! Hands an invocation to the node, which runs every function that is not a component, and takes its answer.
//!
//! Bodies pass in both directions piece by piece. Over HTTP/1.1, but over HTTP/2 where the function speaks it: its
//! trailers need no announcement there, which gRPC relies on. An answer of 101 makes the two connections a tunnel.

use std::{
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{body::Incoming, rt::Executor as _};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::TokioIo,
};
use prometheus_client::metrics::gauge::Gauge;
use rouse_types::{
    Code, Contract, Invocation, Outcome, OutcomeHead, Protocol, Refusal, Source,
    invocation::{INVOCATION_HEADER, OUTCOME_HEADER},
};
use tokio::net::UnixStream;

use crate::{
    answer,
    body::{Body, BodyError, Count, RequestBody},
    handle::Executor,
    run::{Arrived, request_refusal},
    table::Picked,
    upgrade,
};

/// How long to wait for a node that is starting again: the supervisor does that within milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often to try within that time.
const CONNECT_RETRY: Duration = Duration::from_millis(20);
/// Connections to the node that stay open without a call: one is some KiB at both ends.
const IDLE_CONNECTIONS: usize = 64;

/// The way to the node of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    http1: Client<Connector, RequestBody>,
    http2: Client<Connector, RequestBody>,
    executor: Executor,
    /// Open connections: a tunnel is one, longer than hyper has it.
    connections: Gauge,
}

impl Node {
    pub(crate) fn new(socket: PathBuf, executor: Executor, connections: Gauge) -> Self {
        let client = |http2: bool| {
            Client::builder(executor.clone())
                .http2_only(http2)
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                .pool_timer(hyper_util::rt::TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(30))
                // Only a request that never left is sent again: see `CONNECT_TIMEOUT`.
                .retry_canceled_requests(false)
                .build(Connector::new(socket.clone()))
        };
        Self { http1: client(false), http2: client(true), executor, connections }
    }

    /// Forwards one invocation. The caller's going away drops the future, and the node sees the connection close.
    pub(crate) async fn forward(
        &self,
        picked: &Picked,
        arrived: &Arrived,
        source: Source,
        mut request: Request<RequestBody>,
        bytes_in: &Count,
    ) -> Response<Body> {
        let version = &picked.version;
        let invocation = Invocation {
            id: arrived.id,
            tenant: version.tenant.clone(),
            function: version.function.clone(),
            version: version.number,
            source,
            received: arrived.at,
            attempt: arrived.attempt,
            caller: arrived.caller,
            peer: arrived.peer,
            lambda: arrived.lambda.clone(),
        };
        // The host is what the caller asked for: a function may look at it. Over HTTP/2 it stands in the URI.
        let host = request.uri().authority().and_then(|a| HeaderValue::try_from(a.as_str()).ok());
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(http::uri::Scheme::HTTP);
        uri.authority = Some(http::uri::Authority::from_static("node"));
        uri.path_and_query = Some(arrived.path.clone());
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        let switch = (version.contract == Contract::Http).then(|| upgrade::asked(&mut request)).flatten();
        let over_http2 = version.http.protocol == Protocol::H2c && switch.is_none();
        *request.version_mut() = if over_http2 { http::Version::HTTP_2 } else { http::Version::HTTP_11 };
        let headers = request.headers_mut();
        answer::strip(headers);
        if let Some(switch) = &switch {
            upgrade::put(headers, switch.protocol.clone());
        }
        if let Some(host) = host {
            headers.entry(header::HOST).or_insert(host);
        }
        // Without it the outcome of a streamed answer would not be sent (RFC 9110 §10.1.4).
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let json = serde_json::to_string(&invocation).expect("plain data");
        headers.insert(INVOCATION_HEADER, HeaderValue::try_from(json).expect("names and digits in ASCII"));
        let client = if over_http2 { &self.http2 } else { &self.http1 };
        match client.request(request).await {
            Ok(mut response) => {
                let switched = switch.and_then(|switch| switch.taken(&mut response));
                let mut converted = convert(arrived, response);
                if let Some(switched) = switched {
                    upgrade::put(converted.headers_mut(), switched.protocol.clone());
                    self.executor.execute(switched.tunnel(self.connections.clone()));
                }
                converted
            }
            Err(error) => {
                let refusal = match bytes_in.failure() {
                    Some(error) => request_refusal(error, version),
                    None => {
                        tracing::warn!(%error, version = %version.key(), "the node did not answer");
                        Refusal::new(
                            Code::NodeUnavailable,
                            format!(
                                "the process that runs '{}' is not there at the moment",
                                version.function
                            ),
                        )
                        .hint("call again; it is being started again")
                        .retry_after(Duration::from_secs(1))
                    }
                };
                answer::refuse(arrived.id, &refusal, None)
            }
        }
    }
}

fn convert(arrived: &Arrived, response: Response<Incoming>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let outcome = parts.headers.remove(OUTCOME_HEADER).and_then(|value| read_outcome(&value));
    let trailers = announced(&parts.headers);
    answer::strip(&mut parts.headers);
    answer::put_id(&mut parts.headers, arrived.id);
    let body = match outcome {
        Some(outcome) => {
            answer::put_outcome(&mut parts.headers, &outcome);
            if body.is_end_stream() { Body::empty() } else { Body::stream(NodeBody(body)) }
        }
        None if !trailers.is_empty() => {
            answer::announce_trailers(&mut parts.headers);
            // And the code's own.
            for name in trailers.iter().filter(|name| *name != OUTCOME_HEADER) {
                if let Ok(name) = HeaderValue::try_from(name) {
                    parts.headers.append(header::TRAILER, name);
                }
            }
            Body::stream(NodeBody(body))
        }
        None => Body::stream(NodeBody(body)),
    };
    Response::from_parts(parts, body)
}

/// The trailers that an answer is said to have.
fn announced(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(header::TRAILER).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect()
}

fn read_outcome(value: &HeaderValue) -> Option<OutcomeHead> {
    serde_json::from_slice(value.as_bytes()).ok()
}

/// A body from the node, whose trailer becomes the public ones.
struct NodeBody(Incoming);

impl HttpBody for NodeBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match std::task::ready!(Pin::new(&mut self.0).poll_frame(cx)) {
            Some(frame) => frame?,
            None => return Poll::Ready(None),
        };
        let frame = match frame.into_trailers() {
            Err(data) => data,
            Ok(mut trailers) => {
                if let Some(head) = trailers.remove(OUTCOME_HEADER).and_then(|value| read_outcome(&value)) {
                    if head.outcome != Outcome::Ok {
                        // The code failed after its head: nobody may take what came for the whole.
                        return Poll::Ready(Some(Err(head.outcome.as_str().into())));
                    }
                    answer::put_outcome(&mut trailers, &head);
                }
                Frame::trailers(trailers)
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Connects to the node's socket, whatever the URI says.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    socket: PathBuf,
}

impl Connector {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }
}

pub(crate) struct Connected_(TokioIo<UnixStream>);

impl Connection for Connected_ {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Connected_ {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Connected_ {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Connected_;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Connected_>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let socket = self.socket.clone();
        Box::pin(async move {
            let give_up = tokio::time::Instant::now() + CONNECT_TIMEOUT;
            loop {
                match UnixStream::connect(&socket).await {
                    Ok(stream) => return Ok(Connected_(TokioIo::new(stream))),
                    Err(error) if tokio::time::Instant::now() >= give_up => return Err(error),
                    Err(_) => tokio::time::sleep(CONNECT_RETRY).await,
                }
            }
        })
    }
}
