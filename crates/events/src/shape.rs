//! CloudEvents as the requests that servers and components get.

use rouse_triggers::cloud_event::{Error, Event};
use rouse_types::EventCall;

/// Attributes of an event that servers take as headers: of more, many take none (nginx and Node.js by default).
const HEADER_BYTES_MAX: usize = 8 << 10;

/// A `POST /` with one event, in binary mode, which the Functions Framework and Knative take; in structured mode where its
/// attributes are too much for headers.
pub(crate) fn post(event: Result<Event, Error>) -> (EventCall, Vec<u8>) {
    match event {
        Ok(event) => {
            let (headers, body) = event.to_binary();
            let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            if bytes > HEADER_BYTES_MAX {
                return (of_type("application/cloudevents+json; charset=utf-8"), event.to_json());
            }
            let latin1 =
                |value: &http::HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
            let headers = headers.iter().map(|(name, value)| (name.to_string(), latin1(value)));
            (request(headers.collect()), body)
        }
        Err(error) => {
            // Names were checked at the deploy, so this is a fault of ours: the function still hears of it.
            tracing::error!(%error, "an event has no shape");
            (request(Vec::new()), Vec::new())
        }
    }
}

/// A `POST /` with a batch of events (CloudEvents 1.0, JSON batch format).
pub(crate) fn batch(events: &[Event]) -> (EventCall, Vec<u8>) {
    (of_type("application/cloudevents-batch+json; charset=utf-8"), Event::batch_to_json(events))
}

fn of_type(content_type: &str) -> EventCall {
    request(vec![("content-type".to_owned(), content_type.to_owned())])
}

fn request(headers: Vec<(String, String)>) -> EventCall {
    EventCall::Http { method: "POST".to_owned(), path: "/".to_owned(), headers, peer: None }
}
