//! Bodies: the caller's on its way to the code, and the code's on its way back, within the call's time and size.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::connections::Lease;

/// Any error that ends a request's body early.
type RequestError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request to the code; it is read as fast as the code takes it.
pub type RequestBody = UnsyncBoxBody<Bytes, RequestError>;

/// Why an answer's body ended early. The caller must not take what came for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The call's time was up.
    #[error("it ran over its time")]
    Timeout,
    /// It is larger than this many bytes.
    #[error("its answer is larger than {0} bytes")]
    TooLarge(u64),
    /// The code broke it off.
    #[error("it broke off its answer")]
    Broken,
}

/// The body of the code's answer, with its trailers. Dropping it before its end closes the connection, which tells the
/// code that the caller has gone.
pub struct AnswerBody {
    inner: Incoming,
    left: u64,
    max: u64,
    deadline: Pin<Box<Sleep>>,
    /// Given back when the body has ended well.
    lease: Option<Lease>,
}

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerBody").field("left", &self.left).finish_non_exhaustive()
    }
}

impl AnswerBody {
    pub(crate) fn new(inner: Incoming, max: u64, deadline: Pin<Box<Sleep>>, lease: Option<Lease>) -> Self {
        let mut body = Self { inner, left: max, max, deadline, lease };
        if body.inner.is_end_stream() {
            body.ended_well();
        }
        body
    }

    fn ended_well(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(this.deadline.as_mut().poll(cx));
                return Poll::Ready(Some(Err(BodyError::Timeout)));
            }
        };
        let Some(frame) = frame else {
            this.ended_well();
            return Poll::Ready(None);
        };
        let Ok(frame) = frame else { return Poll::Ready(Some(Err(BodyError::Broken))) };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(left) = this.left.checked_sub(length) else {
            return Poll::Ready(Some(Err(BodyError::TooLarge(this.max))));
        };
        this.left = left;
        if this.inner.is_end_stream() {
            this.ended_well();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
