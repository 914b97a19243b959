//! Batches in the shape that code of the version's contract expects.

use std::collections::BTreeMap;

use rouse_api::queues::Attributes;
use rouse_store::queues::Leased;
use rouse_triggers::shape::{
    self,
    queue::{Attribute, Message, Order, Value},
};
use rouse_types::{Contract, EventCall};

use super::drain::Drain;
use crate::{dispatch::Events, messages::MessageHead};

/// A batch as a call.
pub(super) fn batch(events: &Events, drain: &Drain, batch: &[Leased]) -> (EventCall, Vec<u8>) {
    match drain.version.contract {
        Contract::Lambda => {
            let receipts = batch.iter().map(|message| events.receipts.write(&drain.queue, message.lease));
            let body = records(drain, batch, &receipts.collect::<Vec<_>>());
            (EventCall::Invoke { content_type: Some("application/json".to_owned()) }, body)
        }
        Contract::Component | Contract::Http => {
            let tenant = drain.version.tenant.as_str();
            let event = |message: &Leased| {
                let head = MessageHead::of(message);
                let text = |(name, value): (&String, &rouse_api::queues::Attribute)| {
                    (!value.is_binary()).then(|| (name.clone(), value.value.clone()))
                };
                let attributes: BTreeMap<String, String> = head.attributes.iter().filter_map(text).collect();
                shape::google::published(&shape::google::Message {
                    id: &message.name,
                    project: tenant,
                    topic: &drain.name,
                    subscription: &drain.trigger,
                    data: &message.payload,
                    attributes: attributes
                        .iter()
                        .map(|(name, value)| (name.as_str(), value.as_str()))
                        .collect(),
                    ordering_key: message.group.as_deref(),
                    published: message.enqueued,
                })
            };
            match batch {
                [only] => crate::shape::post(event(only)),
                many => {
                    let events: Vec<_> = many.iter().filter_map(|message| event(message).ok()).collect();
                    crate::shape::batch(&events)
                }
            }
        }
    }
}

/// A message's record as filters see it: its body is what it says, where that is JSON.
pub(super) fn filtered(drain: &Drain, message: &Leased) -> serde_json::Value {
    let records = records(drain, std::slice::from_ref(message), &[String::new()]);
    let mut records: serde_json::Value = serde_json::from_slice(&records).unwrap_or_default();
    let mut record = records["Records"][0].take();
    if let Ok(body) = serde_json::from_slice::<serde_json::Value>(&message.payload) {
        record["body"] = body;
    }
    record
}

fn records(drain: &Drain, batch: &[Leased], receipts: &[String]) -> Vec<u8> {
    let heads: Vec<MessageHead> = batch.iter().map(MessageHead::of).collect();
    let bodies: Vec<_> = batch.iter().map(|message| String::from_utf8_lossy(&message.payload)).collect();
    let bytes: Vec<BTreeMap<&str, Vec<u8>>> = heads.iter().map(|head| binary(&head.attributes)).collect();
    let messages = batch.iter().enumerate().map(|(at, message)| Message {
        id: &message.name,
        receipt: &receipts[at],
        body: &bodies[at],
        attempt: message.lease.attempt,
        sent: message.enqueued,
        first_received: message.first,
        sender: drain.version.tenant.as_str(),
        order: message.group.as_deref().map(|group| Order {
            group,
            deduplication: heads[at].deduplication.as_deref().unwrap_or(&message.name),
            sequence: message.lease.id.0,
        }),
        attributes: heads[at]
            .attributes
            .iter()
            .map(|(name, attribute)| {
                let value = match bytes[at].get(name.as_str()) {
                    Some(bytes) => Value::Binary(bytes),
                    None => Value::Text(&attribute.value),
                };
                (name.as_str(), Attribute { ty: &attribute.ty, value })
            })
            .collect(),
    });
    let messages: Vec<_> = messages.collect();
    serde_json::to_vec(&shape::queue::records(drain.place(), &drain.name, &messages)).unwrap_or_default()
}

/// The bytes of binary attributes, by name.
fn binary(attributes: &Attributes) -> BTreeMap<&str, Vec<u8>> {
    use base64::Engine as _;
    let engine = &base64::engine::general_purpose::STANDARD;
    let binary = attributes.iter().filter(|(_, attribute)| attribute.is_binary());
    binary
        .map(|(name, attribute)| (name.as_str(), engine.decode(&attribute.value).unwrap_or_default()))
        .collect()
}
