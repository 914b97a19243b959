//! Bodies: of requests, bounded in size and time; of answers, from memory or streamed.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Sleep;

/// How long a client may pause while it sends its body. One that sends a byte a second is kept within
/// the function's time-out by the call's deadline; one that sends nothing is cut off here.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a body that is too large is read and thrown away before the client is told: a connection
/// that closes on unread bytes is reset, and the client may never see the answer.
const DISCARD_BYTES_MAX: u64 = 1 << 20;

/// Why a request's body ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("the request's body is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the client stopped sending")]
    Timeout,
    #[error("the connection broke")]
    Broken,
}

/// Bytes that were read of a request's body, seen by the meter while another holds the body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    bytes: AtomicU64,
    failure: OnceLock<Error>,
}

impl Count {
    /// Bytes that were read so far.
    pub(crate) fn get(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Why the body ended early, if it did.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.0.failure.get().copied()
    }
}

/// A request's body within its bounds.
pub(crate) struct RequestBody {
    inner: Incoming,
    bytes_max: u64,
    /// How long the client may pause.
    pause_max: Duration,
    count: Count,
    timer: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, bytes_max: u64) -> (Self, Count) {
        let count = Count::default();
        (Self { inner, bytes_max, pause_max: READ_TIMEOUT, count: count.clone(), timer: None }, count)
    }

    /// Lets the client pause this long: for bodies that are a conversation, within the call's own time.
    pub(crate) fn patient(mut self, pause_max: Duration) -> Self {
        self.pause_max = self.pause_max.max(pause_max);
        self
    }

    /// Reads what the client still sends, within bounds, and then says that it was too much.
    pub(crate) async fn refuse(mut self) {
        self.bytes_max = 0;
        while let Some(Ok(_)) = self.frame().await {}
    }

    fn fail(&self, error: Error) -> Error {
        *self.count.0.failure.get_or_init(|| error)
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            let over = self.count.get() > self.bytes_max;
            let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Pending => {
                    let pause = self.pause_max;
                    let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
                    std::task::ready!(timer.as_mut().poll(cx));
                    Some(Err(if over { Error::TooLarge(self.bytes_max) } else { Error::Timeout }))
                }
                Poll::Ready(None) if over => Some(Err(Error::TooLarge(self.bytes_max))),
                Poll::Ready(frame) => frame.map(|frame| frame.map_err(|_| Error::Broken)),
            };
            self.timer = None;
            let frame = match frame {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(self.fail(error)))),
                Some(Ok(frame)) => frame,
            };
            let len = frame.data_ref().map_or(0, |data| data.len() as u64);
            let read = self.count.0.bytes.fetch_add(len, Ordering::Relaxed) + len;
            if read > self.bytes_max + DISCARD_BYTES_MAX {
                return Poll::Ready(Some(Err(self.fail(Error::TooLarge(self.bytes_max)))));
            }
            if read <= self.bytes_max {
                return Poll::Ready(Some(Ok(frame)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Any error that ends an answer's body early: the connection is then broken off, so that no client takes
/// half of an answer for a whole one.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// An answer's body.
pub(crate) enum Body {
    /// All there.
    Full(Option<Bytes>),
    /// Still being made.
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>),
}

impl Body {
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self::Full(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    pub(crate) fn empty() -> Self {
        Self::Full(None)
    }

    pub(crate) fn stream(body: impl HttpBody<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self::Stream(Box::pin(body))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_none(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(body) => body.size_hint(),
        }
    }
}
