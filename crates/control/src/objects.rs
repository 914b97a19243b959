//! Passes questions about buckets and objects on to the process that keeps them: it has the same operations at the same
//! paths. Bodies stream through, both ways.

use std::{sync::Arc, time::Duration};

use futures_util::stream;
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use rouse_api::wire::{self, Answer};
use rouse_types::{Code, Refusal};

use crate::{
    body::{self, Body},
    control::Control,
};

/// Has the process of objects answer.
pub(crate) async fn ask(
    control: &Arc<Control>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let (parts, incoming) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut onward = Request::builder().method(parts.method).uri(path);
    for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH] {
        if let Some(value) = parts.headers.get(&name) {
            onward = onward.header(name, value);
        }
    }
    let onward = onward
        .body(body::paced(incoming))
        .map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))?;
    let answer =
        control.peers.ask_objects(onward).await.map_err(|error| match body::refusal_within(&error) {
            Some(refusal) => refusal.clone(),
            None => away(&error),
        })?;
    let (head, incoming) = answer.into_parts();
    let mut response = Response::new(through(incoming));
    *response.status_mut() = head.status;
    for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::RETRY_AFTER] {
        if let Some(value) = head.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}

/// A body as it comes. One that breaks off ends early, which its length tells its reader.
fn through(answer: Answer) -> Body {
    let pieces = stream::unfold(Some(answer), |answer| async {
        let mut answer = answer?;
        loop {
            match answer.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some((Ok(Frame::data(data)), Some(answer)));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "an object broke off");
                    return None;
                }
            }
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

fn away(error: &wire::Error) -> Refusal {
    tracing::warn!(%error, "the process of objects did not answer");
    Refusal::new(Code::ObjectsUnavailable, "the process that keeps objects is not there at the moment")
        .hint("ask again; it is being started again")
        .retry_after(Duration::from_secs(1))
}
