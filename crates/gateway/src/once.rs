//! Calls with an idempotency key, of functions that want each made once: the process of events makes them, and knows the
//! answers of those that were made.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use rouse_types::{
    Code, OnceHead, Refusal, Source,
    event::{IDEMPOTENCY_HEADER, REPLAYED_HEADER, from_latin1},
    framed,
    invocation::{BILLED_HEADER, COST_HEADER},
};

use crate::{
    answer,
    asynchronous::{Events, event_of},
    body::{Body, Count, RequestBody},
    run::Arrived,
    table::Picked,
};

/// What the answer may have in all: the process of events bounds its body.
const ANSWER_BYTES_MAX: usize = 2 << 20;
/// What a call may take besides its own time: its turn and its start.
const WAIT: Duration = Duration::from_secs(120);

/// How long keys are remembered, if the call has one and its function wants that.
pub(crate) fn window(picked: &Picked, headers: &HeaderMap) -> Option<u64> {
    picked.version.events.idempotency_ms.filter(|_| headers.contains_key(IDEMPOTENCY_HEADER))
}

impl Events {
    /// Has a call made unless it was, and answers as the first one was answered.
    pub(crate) async fn once(
        &self,
        picked: &Picked,
        alias: Option<&str>,
        arrived: &Arrived,
        (source, window_ms): (Source, u64),
        request: Request<RequestBody>,
        bytes_in: &Count,
    ) -> Response<Body> {
        let answered = async {
            let (event, body) = event_of(picked, alias, arrived, source, request, bytes_in).await?;
            let uri: Uri = format!("http://events/once?window_ms={window_ms}").parse().map_err(wrong)?;
            let timeout = picked.version.limits.timeout() + WAIT;
            let bytes = self.post(uri, event.encode(&body), ANSWER_BYTES_MAX, timeout).await?;
            let (head, body) = framed::decode::<OnceHead>(&bytes).map_err(wrong)?;
            response(&head, bytes.slice_ref(body)).map_err(wrong)
        };
        answered.await.unwrap_or_else(|refusal| answer::refuse(arrived.id, &refusal, None))
    }
}

fn wrong(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, format!("the answer of the process of events cannot be read: {error}"))
}

fn response(head: &OnceHead, body: Bytes) -> Result<Response<Body>, http::Error> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = StatusCode::from_u16(head.status)?;
    let headers = response.headers_mut();
    for (name, value) in &head.headers {
        headers.append(HeaderName::try_from(name)?, HeaderValue::from_bytes(&from_latin1(value))?);
    }
    if head.again {
        // It was paid for once.
        headers.remove("server-timing");
        for name in [BILLED_HEADER, COST_HEADER] {
            if let Some(value) = headers.get_mut(name) {
                *value = HeaderValue::from(0);
            }
        }
        headers.insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
    }
    Ok(response)
}
