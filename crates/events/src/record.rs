//! The record of an event that ended, for the target that its function names: in the shape of AWS Lambda's
//! destinations, so that functions written for those read it.

use rouse_store::queues::NewMessage;
use rouse_triggers::{retry::Reason, shape::destination};
use rouse_types::{Event, EventCall, EventTarget, InvocationId, Timestamp};

use crate::{deliver::Reply, queue};

/// Where functions believe themselves to be: as in their environment.
pub(crate) const REGION: &str = "us-east-1";
pub(crate) const ACCOUNT: &str = "000000000000";

/// An event that ended, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) event: &'a Event,
    pub(crate) payload: &'a [u8],
    pub(crate) reply: &'a Reply,
    pub(crate) attempts: u32,
    /// Why it was given up, if it was.
    pub(crate) given_up: Option<Reason>,
}

/// The message that tells a target of an event's end, and the queue that it goes to.
pub(crate) fn message(
    target: Option<&EventTarget>,
    told: Told<'_>,
    now: Timestamp,
) -> Option<(String, NewMessage)> {
    let target = target?;
    let event = told.event;
    let body = record(&told, now);
    let id = InvocationId::new();
    match target {
        EventTarget::Function(function) => {
            let next = Event {
                id,
                tenant: event.tenant.clone(),
                function: function.clone(),
                alias: None,
                accepted: now,
                call: EventCall::Invoke { content_type: Some("application/json".to_owned()) },
                caller: event.caller,
                chain: event.chain.clone().then(&event.function),
                idempotency_key: None,
                ordering_key: None,
                trigger: None,
            };
            Some((queue::function(&event.tenant, function), of(&next, body)))
        }
        EventTarget::Queue(name) => {
            let message =
                NewMessage { name: id.to_string(), attempts_max: u32::MAX, ..NewMessage::new(body) };
            Some((queue::named(&event.tenant, name), message))
        }
        EventTarget::Topic(_) | EventTarget::Url(_) => {
            tracing::warn!(%target, function = %event.function, "this release cannot send outcomes there");
            None
        }
    }
}

/// An event as a message. How often it is tried is decided here and not by the store.
pub(crate) fn of(event: &Event, body: Vec<u8>) -> NewMessage {
    NewMessage {
        name: event.id.to_string(),
        head: serde_json::to_vec(event).unwrap_or_default(),
        group: event.ordering_key.clone(),
        attempts_max: u32::MAX,
        ..NewMessage::new(body)
    }
}

fn record(told: &Told<'_>, now: Timestamp) -> Vec<u8> {
    let Told { event, reply, .. } = told;
    let version = event.alias.as_deref().unwrap_or("$LATEST");
    let arn = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}:{version}", event.function);
    let answer = destination::Answer {
        version,
        error: told.given_up.map(|_| "Unhandled"),
        payload: if reply.body.is_empty() { b"null" } else { &reply.body },
    };
    let ended = destination::Ended {
        request_id: &event.id.to_string(),
        function_arn: &arn,
        given_up: told.given_up,
        attempts: told.attempts,
        time: now,
        request: told.payload,
        answer: reply.ran.then_some(answer),
    };
    serde_json::to_vec(&destination::record(&ended)).unwrap_or_default()
}
