//! Passes questions about events and queues on to the process that keeps them: it has the same operations at the same paths.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use rouse_api::wire;
use rouse_types::{Code, Refusal, chain::CHAIN_HEADER};

use crate::{
    body::{self, Body},
    control::Control,
};

/// A filter, or a message with its envelope.
const QUESTION_BYTES_MAX: usize = 8 << 20;
/// A page of events, or one with its body.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// Has the process of events answer.
pub(crate) async fn ask(
    control: &Arc<Control>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let (parts, incoming) = request.into_parts();
    let question =
        Limited::new(body::paced(incoming), QUESTION_BYTES_MAX).collect().await.map_err(|error| {
            match body::refusal_within(&*error) {
                Some(refusal) => refusal.clone(),
                None => Refusal::new(
                    Code::PayloadTooLarge,
                    format!("the request's body has more than {QUESTION_BYTES_MAX} bytes"),
                ),
            }
        })?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut onward = Request::builder().method(parts.method).uri(path);
    for (name, value) in parts.headers.iter().filter(|(name, _)| goes_on(name)) {
        onward = onward.header(name, value);
    }
    let onward = onward
        .body(Full::new(question.to_bytes()))
        .map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))?;
    let answer = control.peers.ask_events(onward).await.map_err(|error| away(&error))?;
    let (head, incoming) = answer.into_parts();
    let answer = Limited::new(incoming, ANSWER_BYTES_MAX).collect().await.map_err(|error| match error
        .downcast::<wire::Error>(
    ) {
        Ok(error) => away(&error),
        Err(_) => {
            Refusal::new(Code::ResponseTooLarge, "the answer is too large").hint("ask for less at a time")
        }
    })?;
    let mut response = body::bytes("application/json", answer.to_bytes());
    *response.status_mut() = head.status;
    if let Some(after) = head.headers.get(http::header::RETRY_AFTER) {
        response.headers_mut().insert(http::header::RETRY_AFTER, after.clone());
    }
    Ok(response)
}

/// What is said of an event that is published, or of a message that is sent, by whom.
fn goes_on(name: &HeaderName) -> bool {
    matches!(name.as_str(), "content-type" | "traceparent" | CHAIN_HEADER) || name.as_str().starts_with("ce-")
}

fn away(error: &wire::Error) -> Refusal {
    tracing::warn!(%error, "the process of events did not answer");
    Refusal::new(Code::EventsUnavailable, "the process that keeps events is not there at the moment")
        .hint("ask again; it is being started again")
        .retry_after(Duration::from_secs(1))
}
