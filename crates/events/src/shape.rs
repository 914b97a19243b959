//! CloudEvents as the requests that servers and components get.

use rouse_triggers::cloud_event::{Error, Event};
use rouse_types::EventCall;

/// A `POST /` with one event, in binary mode: what the Functions Framework and Knative take.
pub(crate) fn post(event: Result<Event, Error>) -> (EventCall, Vec<u8>) {
    match event {
        Ok(event) => {
            let (headers, body) = event.to_binary();
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
    let content_type =
        ("content-type".to_owned(), "application/cloudevents-batch+json; charset=utf-8".to_owned());
    (request(vec![content_type]), Event::batch_to_json(events))
}

fn request(headers: Vec<(String, String)>) -> EventCall {
    EventCall::Http { method: "POST".to_owned(), path: "/".to_owned(), headers, peer: None }
}
