//! Bodies: what clients send, read within bounds of size and time; what they get, whole or line by line.

use std::{convert::Infallible, marker::PhantomData, pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use rouse_api::{HEARTBEAT, NDJSON};
use rouse_types::{Code, Refusal};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The largest JSON that is read: the largest app with the largest environments.
const JSON_BYTES_MAX: usize = 32 << 20;
/// How long a client may take to send it.
const JSON_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may leave between two pieces of an upload or a payload.
pub(crate) const PIECE_TIMEOUT: Duration = Duration::from_secs(20);
/// Lines that wait for a slow reader.
const LINES_WAITING_MAX: usize = 64;
/// How long a reader may take none of them before it is given up.
const READER_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads a JSON body.
pub(crate) async fn read_json<T: DeserializeOwned>(body: Incoming) -> Result<T, Refusal> {
    read_json_within(body, JSON_BYTES_MAX).await
}

/// Reads a JSON body of so many bytes at most.
pub(crate) async fn read_json_within<T: DeserializeOwned>(
    body: Incoming,
    bytes_max: usize,
) -> Result<T, Refusal> {
    let collected = tokio::time::timeout(JSON_TIMEOUT, Limited::new(body, bytes_max).collect());
    let bytes = match collected.await {
        Err(_) => return Err(too_slow()),
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            return Err(Refusal::new(
                Code::PayloadTooLarge,
                format!("the request's body has more than {bytes_max} bytes"),
            ));
        }
        Ok(Err(error)) => {
            return Err(Refusal::new(Code::BadRequest, format!("the request's body broke off: {error}")));
        }
    };
    // An operation whose fields may all be left out may be asked without a body.
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|error| {
        Refusal::new(Code::BadRequest, format!("the request's body is not what the operation takes: {error}"))
            .hint("GET /openapi.json describes it")
    })
}

/// What is said to a client that sends too slowly.
pub(crate) fn too_slow() -> Refusal {
    Refusal::new(Code::RequestTimeout, "the request's body did not come in time").hint("send it faster")
}

/// An answer of bytes.
pub(crate) fn bytes(content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(bytes.into()).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer of one JSON value.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<Response<Body>, Refusal> {
    let text = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written");
        Refusal::new(Code::Internal, "the answer cannot be written")
    })?;
    Ok(bytes("application/json", text))
}

/// A refusal as an answer.
pub(crate) fn refusal(refusal: &Refusal) -> Response<Body> {
    let text = serde_json::to_vec(refusal).unwrap_or_default();
    let mut response = bytes("application/json", text);
    *response.status_mut() =
        StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(seconds) = refusal.retry_after_seconds() {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if refusal.code == Code::Unauthorized {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The sending side of a stream of JSON values.
#[derive(Debug)]
pub(crate) struct Lines<T> {
    to: Option<mpsc::Sender<Bytes>>,
    values: PhantomData<fn(T)>,
}

impl<T: Serialize> Lines<T> {
    /// Sends a value; tells whether someone still listens. A reader that takes nothing for long is given up.
    pub(crate) async fn send(&mut self, value: &T) -> bool {
        let Some(to) = &self.to else { return false };
        let Ok(mut line) = serde_json::to_vec(value) else { return true };
        line.push(b'\n');
        if to.send_timeout(line.into(), READER_TIMEOUT).await.is_err() {
            self.to = None;
        }
        self.to.is_some()
    }

    /// Whether no one listens any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.to.as_ref().is_none_or(mpsc::Sender::is_closed)
    }
}

/// A stream of JSON values, and the answer that it comes out of. While it has nothing to say it says so, by
/// empty lines: both sides learn of a connection that is dead.
pub(crate) fn lines<T: Serialize>() -> (Lines<T>, Response<Body>) {
    let (to, from) = mpsc::channel::<Bytes>(LINES_WAITING_MAX);
    let pieces = stream::unfold(from, |mut from| async {
        let piece = match tokio::time::timeout(HEARTBEAT, from.recv()).await {
            Ok(piece) => piece?,
            Err(_) => Bytes::from_static(b"\n"),
        };
        Some((Ok::<_, Infallible>(Frame::data(piece)), from))
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    (Lines { to: Some(to), values: PhantomData }, response)
}

/// The next piece of a body that is read as it comes.
pub(crate) async fn piece(body: &mut Incoming) -> Result<Option<Bytes>, Refusal> {
    loop {
        let frame = pin!(body.frame());
        match tokio::time::timeout(PIECE_TIMEOUT, frame).await {
            Err(_) => return Err(too_slow()),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => {
                return Err(Refusal::new(Code::BadRequest, format!("the request's body broke off: {error}")));
            }
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A body that is passed on as it comes, and broken off when its sender is too slow.
pub(crate) fn paced(body: Incoming) -> UnsyncBoxBody<Bytes, Refusal> {
    let pieces = stream::unfold(Some(body), |body| async {
        let mut body = body?;
        match piece(&mut body).await {
            Ok(piece) => Some((Ok(Frame::data(piece?)), Some(body))),
            Err(refusal) => Some((Err(refusal), None)),
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// The refusal that broke an exchange off, if one of ours did.
pub(crate) fn refusal_within<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Refusal> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
}
