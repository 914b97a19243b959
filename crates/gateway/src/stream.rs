//! The body of an answer that streams: counts its bytes, and ends with what the call came to as trailers.

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
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use rouse_types::{Outcome, OutcomeHead};
use rouse_wasm::Failure;
use tokio::{
    sync::oneshot,
    time::{Timeout, timeout},
};

use crate::{answer, body::BodyError};

/// How long the end of a body waits for the guest's own end, which the trailers tell of. A guest that works
/// on after its answer does not keep its caller waiting.
const TRAILER_WAIT: Duration = Duration::from_millis(10);

/// See the head of this file. Dropping it before its end tells the guest's driver that the caller is gone.
pub(crate) struct StreamBody {
    body: rouse_wasm::Body,
    sent: Arc<Sent>,
    end: End,
}

/// What the driver of the guest sees of the body.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Bytes so far.
    pub(crate) bytes: AtomicU64,
    /// Why the body broke off, where it was not the caller who left.
    pub(crate) failure: OnceLock<Failure>,
}

enum End {
    Body(Option<oneshot::Receiver<OutcomeHead>>),
    Trailers(Pin<Box<Timeout<oneshot::Receiver<OutcomeHead>>>>),
    Done,
}

impl StreamBody {
    pub(crate) fn new(
        body: rouse_wasm::Body,
        sent: Arc<Sent>,
        ended: oneshot::Receiver<OutcomeHead>,
    ) -> Self {
        Self { body, sent, end: End::Body(Some(ended)) }
    }
}

impl HttpBody for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let this = &mut *self;
            match &mut this.end {
                End::Body(ended) => match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        let len = frame.data_ref().map_or(0, |data| data.len() as u64);
                        this.sent.bytes.fetch_add(len, Ordering::Relaxed);
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    Some(Err(failure)) => {
                        let _ = this.sent.failure.set(failure.clone());
                        this.end = End::Done;
                        return Poll::Ready(Some(Err(failure.into())));
                    }
                    None => {
                        let ended = ended.take().expect("taken once, on the way to the next state");
                        this.end = End::Trailers(Box::pin(timeout(TRAILER_WAIT, ended)));
                    }
                },
                End::Trailers(ended) => {
                    let ended = std::task::ready!(ended.as_mut().poll(cx));
                    this.end = End::Done;
                    let head = match ended {
                        Ok(Ok(head)) => head,
                        // The driver is gone without a word: so is what would have ended the body.
                        Ok(Err(_)) => return Poll::Ready(Some(Err("the call ended early".into()))),
                        Err(_) => return Poll::Ready(None),
                    };
                    if head.outcome != Outcome::Ok {
                        // A trap closes the body as an end would; nobody may take it for one.
                        return Poll::Ready(Some(Err(head.outcome.as_str().into())));
                    }
                    let mut trailers = HeaderMap::new();
                    answer::put_outcome(&mut trailers, &head);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                End::Done => return Poll::Ready(None),
            }
        }
    }
}
