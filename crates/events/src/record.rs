//! The record of an event that ended, for the target that its function names: in the shape of AWS Lambda's
//! destinations, so that functions written for those read it.

use std::time::Duration;

use rouse_api::queues::Attribute;
use rouse_store::queues::NewMessage;
use rouse_triggers::{
    cloud_event::Event as CloudEvent,
    retry::Reason,
    shape::{self, destination},
};
use rouse_types::{Event, EventCall, EventTarget, InvocationId, Timestamp, app::LATEST};

use crate::{deliver::Reply, messages::MessageHead, queue};

/// Where functions believe themselves to be: as in their environment.
pub(crate) const REGION: &str = "us-east-1";
pub(crate) const ACCOUNT: &str = "000000000000";
/// The types of outcomes as CloudEvents.
const SUCCEEDED: &str = "dev.rouse.invocation.succeeded.v1";
const FAILED: &str = "dev.rouse.invocation.failed.v1";

/// What a dead letter says of the error: what AWS cuts it to.
const ERROR_CHARS_MAX: usize = 1_024;

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
    match target {
        EventTarget::Function(function) => {
            let call = EventCall::Invoke { content_type: Some("application/json".to_owned()) };
            let next = Event {
                caller: event.caller,
                chain: event.chain.clone().then(&event.function),
                ..Event::new(&event.tenant, function, call, now)
            };
            Some((queue::function(&event.tenant, function), of(&next, body)))
        }
        EventTarget::Queue(name) => {
            // Whoever drains the queue is called by this function, as far as loops go.
            let head =
                MessageHead { chain: event.chain.clone().then(&event.function), ..MessageHead::default() };
            Some((queue::named(&event.tenant, name), head.message(body)))
        }
        EventTarget::Topic(topic) => outcome(told, EventCall::Topic(topic.clone()), body, now),
        EventTarget::Url(url) => outcome(told, EventCall::Url(url.clone()), body, now),
    }
}

/// An outcome that goes to a topic or a URL, as a CloudEvent. It is written with the end that it tells of, and sent later.
fn outcome(told: Told<'_>, call: EventCall, record: Vec<u8>, now: Timestamp) -> Option<(String, NewMessage)> {
    let Event { tenant, function, .. } = told.event;
    let (ty, trigger) = match told.given_up {
        None => (SUCCEEDED, "on_success"),
        Some(_) => (FAILED, "on_failure"),
    };
    let id = InvocationId::new();
    let source = format!("/tenants/{tenant}/functions/{function}");
    let event = CloudEvent::new(id.to_string(), source, ty)
        .and_then(|event| event.with("subject", told.event.id.to_string()))
        .and_then(|event| event.with("time", shape::millis(now)))
        .and_then(|event| event.with_data("application/json", record));
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            tracing::error!(%tenant, %function, %error, "an outcome is no CloudEvent");
            return None;
        }
    };
    let next = Event {
        id,
        caller: told.event.caller,
        chain: told.event.chain.clone().then(function),
        trigger: Some(trigger.to_owned()),
        ..Event::new(tenant, function, call, now)
    };
    Some((queue::out(tenant, function), of(&next, event.to_json())))
}

/// An event that was given up, as it was accepted, for the queue that its function names: what AWS Lambda sends to a
/// function's dead-letter queue.
pub(crate) fn dead_letter(told: Told<'_>) -> Option<(String, NewMessage)> {
    let (event, _) = (told.event, told.given_up?);
    let queue = event.own.as_ref()?.dead_letters.as_ref()?;
    let text = |value: String| Attribute { ty: "String".to_owned(), value };
    let number = |value: &str| Attribute { ty: "Number".to_owned(), value: value.to_owned() };
    let error = serde_json::from_slice::<serde_json::Value>(&told.reply.body).unwrap_or_default();
    let said = error["errorMessage"].as_str().or(error["message"].as_str()).unwrap_or("it was not tried");
    let attributes = [
        ("RequestID".to_owned(), text(event.id.to_string())),
        ("ErrorCode".to_owned(), number("200")),
        ("ErrorMessage".to_owned(), text(said.chars().take(ERROR_CHARS_MAX).collect())),
    ];
    let head = MessageHead {
        chain: event.chain.clone().then(&event.function),
        attributes: attributes.into(),
        ..MessageHead::default()
    };
    Some((queue::named(&event.tenant, queue), head.message(told.payload.to_vec())))
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

/// An event that a trigger sends, and the queue of its function; one that is known by the same words within the window
/// is not sent again.
pub(crate) fn once(event: &Event, body: Vec<u8>, known: String, window: Duration) -> (String, NewMessage) {
    let message = NewMessage { deduplication: Some(known), window: Some(window), ..of(event, body) };
    (queue::function(&event.tenant, &event.function), message)
}

fn record(told: &Told<'_>, now: Timestamp) -> Vec<u8> {
    let Told { event, reply, .. } = told;
    let version = event.alias.as_deref().unwrap_or(LATEST);
    let arn = match &event.lambda {
        // As its caller named it; `$LATEST` is said, not left out.
        Some(call) if call.arn.split(':').count() == 7 => format!("{}:{LATEST}", call.arn),
        Some(call) => call.arn.clone(),
        None => format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}:{version}", event.function),
    };
    let version = match &event.lambda {
        Some(_) => version.strip_prefix("v-").unwrap_or(LATEST),
        None => version,
    };
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
