//! What comes of a call, as an HTTP answer to the gateway.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use rouse_contract::lambda::http_answer::Head;
use rouse_types::{
    Code, OutcomeHead, Refusal,
    invocation::{ERROR_HEADER, OUTCOME_HEADER},
};
use tokio::sync::{mpsc, oneshot};

use crate::job::Reply;

const OUTCOME: HeaderName = HeaderName::from_static(OUTCOME_HEADER);

/// The body of an answer: whole, or as it comes, with the outcome in a trailer.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    Whole(Option<Bytes>),
    Streamed(Streamed),
}

/// The body of an answer that comes in parts.
#[derive(Debug)]
pub(crate) struct Streamed {
    parts: mpsc::Receiver<Frame<Bytes>>,
    outcome: Option<oneshot::Receiver<OutcomeHead>>,
    /// The code's own, until the outcome joins them.
    trailers: HeaderMap,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(body) => {
                Poll::Ready(body.take().filter(|body| !body.is_empty()).map(Frame::data).map(Ok))
            }
            Self::Streamed(streamed) => streamed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(body) if body.as_ref().is_none_or(Bytes::is_empty))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Self::Streamed(_) => SizeHint::default(),
        }
    }
}

impl Streamed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        while let Some(part) = ready!(self.parts.poll_recv(cx)) {
            match part.into_trailers() {
                Ok(trailers) => self.trailers.extend(trailers),
                Err(data) => return Poll::Ready(Some(Ok(data))),
            }
        }
        let Some(told) = &mut self.outcome else { return Poll::Ready(None) };
        let told = ready!(Pin::new(told).poll(cx));
        self.outcome = None;
        // Without its outcome the answer is broken, and must not look complete.
        let head = told.map_err(|_| io::Error::other("the instance was lost"))?;
        let mut trailers = std::mem::take(&mut self.trailers);
        trailers.insert(OUTCOME, json(&head));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

/// The answer to a call.
pub(crate) fn answer(reply: Reply) -> Response<AnswerBody> {
    match reply {
        Reply::Refused(refusal) => refuse(&refusal),
        Reply::Failed(refusal, outcome) => {
            let mut response = refuse(&refusal);
            response.headers_mut().insert(OUTCOME, json(&outcome));
            response
        }
        Reply::Whole(head, body, outcome) => {
            let mut response = with_head(head, AnswerBody::Whole(Some(body)));
            response.headers_mut().insert(OUTCOME, json(&outcome));
            response
        }
        Reply::Streamed(head, parts, outcome) => {
            let streamed = Streamed { parts, outcome: Some(outcome), trailers: HeaderMap::new() };
            let mut response = with_head(head, AnswerBody::Streamed(streamed));
            let name = HeaderValue::from_static(OUTCOME_HEADER);
            // Beside those that the code announced.
            response.headers_mut().append(header::TRAILER, name);
            response
        }
        Reply::Switched(head) => with_head(head, AnswerBody::Whole(None)),
    }
}

/// A refusal: its status, and the refusal as JSON.
pub(crate) fn refuse(refusal: &Refusal) -> Response<AnswerBody> {
    let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_body(status, refusal);
    let code = HeaderValue::from_static(refusal.code.as_str());
    response.headers_mut().insert(HeaderName::from_static(ERROR_HEADER), code);
    if let Some(seconds) = refusal.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Anything as JSON.
pub(crate) fn json_body(status: StatusCode, body: &impl serde::Serialize) -> Response<AnswerBody> {
    match serde_json::to_vec(body) {
        Ok(bytes) => with_type(status, "application/json", bytes.into()),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            let told = format!("{{\"code\":\"{}\",\"message\":\"\"}}", Code::Internal);
            with_type(StatusCode::INTERNAL_SERVER_ERROR, "application/json", told.into())
        }
    }
}

/// A body of a content type.
pub(crate) fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<AnswerBody> {
    let mut head = Head::plain(HeaderValue::from_static(content_type));
    head.status = status;
    with_head(head, AnswerBody::Whole(Some(body)))
}

fn with_head(head: Head, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    response
}

fn json(outcome: &OutcomeHead) -> HeaderValue {
    let text = serde_json::to_string(outcome).unwrap_or_default();
    // Words and numbers alone: always visible ASCII.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("{}"))
}
