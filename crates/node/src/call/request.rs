//! The caller's body on its way to a server: counted, within its size, never held in memory.
//!
//! As long as nothing was read of it, it is not lost: dropped with a request that was never sent, it comes back,
//! and another instance can be given the call.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::job::RequestBody;

/// Why a body ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the caller broke it off")]
    Off,
}

/// See the head of this file.
pub(super) struct Passing {
    body: Option<RequestBody>,
    bytes_max: u64,
    touched: bool,
    passed: Passed,
}

/// What is known of a body that another holds.
#[derive(Clone, Default)]
pub(super) struct Passed(Arc<State>);

#[derive(Default)]
struct State {
    bytes: AtomicU64,
    broken: OnceLock<Broken>,
    back: Mutex<Option<RequestBody>>,
}

impl Passed {
    /// Bytes that were read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Why it ended early, if it did.
    pub(super) fn broken(&self) -> Option<Broken> {
        self.0.broken.get().copied()
    }

    /// The body, if it was dropped before anything was read of it.
    pub(super) fn back(&self) -> Option<RequestBody> {
        self.0.back.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Passing {
    pub(super) fn new(body: RequestBody, bytes_max: u64) -> (Self, Passed) {
        let passed = Passed::default();
        (Self { body: Some(body), bytes_max, touched: false, passed: passed.clone() }, passed)
    }

    fn fail(&self, broken: Broken) -> Broken {
        *self.passed.0.broken.get_or_init(|| broken)
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        this.touched = true;
        let frame = match &mut this.body {
            None => return Poll::Ready(None),
            Some(RequestBody::Whole(bytes)) => {
                let bytes = std::mem::take(bytes);
                if bytes.is_empty() {
                    return Poll::Ready(None);
                }
                Frame::data(bytes)
            }
            Some(RequestBody::Stream(body)) => match ready!(Pin::new(body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return Poll::Ready(Some(Err(this.fail(Broken::Off)))),
            },
        };
        let len = frame.data_ref().map_or(0, |data| data.len() as u64);
        let read = this.passed.0.bytes.fetch_add(len, Ordering::Relaxed) + len;
        Poll::Ready(Some(if read > this.bytes_max {
            Err(this.fail(Broken::TooLarge(this.bytes_max)))
        } else {
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            None => true,
            Some(RequestBody::Whole(bytes)) => bytes.is_empty(),
            Some(RequestBody::Stream(body)) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            None => SizeHint::with_exact(0),
            Some(RequestBody::Whole(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Some(RequestBody::Stream(body)) => body.size_hint(),
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if !self.touched {
            *self.passed.0.back.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
        }
    }
}
