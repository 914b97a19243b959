//! Messages of a queue, as Amazon SQS' pollers hand them over: a batch of records.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use md5::{Digest as _, Md5};
use rouse_types::Timestamp;
use serde::Serialize;

use super::{Place, Records};

/// A message that is handed over.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// Its id: what an answer about a batch names.
    pub id: &'a str,
    /// The right to delete it.
    pub receipt: &'a str,
    /// Its text.
    pub body: &'a str,
    /// Which attempt this is: 1 for the first.
    pub attempt: u32,
    /// When it was sent.
    pub sent: Timestamp,
    /// When it was first handed over.
    pub first_received: Timestamp,
    /// Who sent it.
    pub sender: &'a str,
    /// Of a FIFO queue: where it stands in which order.
    pub order: Option<Order<'a>>,
    /// What its sender attached, by name.
    pub attributes: BTreeMap<&'a str, Attribute<'a>>,
}

/// Where a message of a FIFO queue stands.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// Its group.
    pub group: &'a str,
    /// What tells a repetition.
    pub deduplication: &'a str,
    /// Ascends within the queue.
    pub sequence: u64,
}

/// What a sender attached to a message: a type such as `String`, `Number.int` or `Binary`, and the value.
#[derive(Debug, Clone, Copy)]
pub struct Attribute<'a> {
    /// The type.
    pub ty: &'a str,
    /// The value.
    pub value: Value<'a>,
}

/// The value of an attribute.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Text, numbers too.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

/// The event of a batch of messages of this queue.
#[must_use]
pub fn records<'a>(
    place: Place<'a>,
    queue: &str,
    messages: &[Message<'a>],
) -> Records<impl Serialize + use<'a>> {
    let arn = place.arn("sqs", queue);
    let record = |message: &Message<'a>| {
        let mut attributes = BTreeMap::from([
            ("ApproximateReceiveCount", message.attempt.to_string()),
            ("SentTimestamp", message.sent.as_millis().to_string()),
            ("SenderId", message.sender.to_owned()),
            ("ApproximateFirstReceiveTimestamp", message.first_received.as_millis().to_string()),
        ]);
        if let Some(order) = message.order {
            attributes.insert("MessageGroupId", order.group.to_owned());
            attributes.insert("MessageDeduplicationId", order.deduplication.to_owned());
            // Twenty digits, as on AWS, so that comparing them as text is right.
            attributes.insert("SequenceNumber", format!("{:020}", order.sequence));
        }
        Record {
            message_id: message.id,
            receipt_handle: message.receipt,
            body: message.body,
            md5_of_body: hex::encode(Md5::digest(message.body)),
            md5_of_message_attributes: (!message.attributes.is_empty()).then(|| md5_of(&message.attributes)),
            attributes,
            message_attributes: message
                .attributes
                .iter()
                .map(|(&name, value)| (name, value.json()))
                .collect(),
            event_source: "aws:sqs",
            event_source_arn: arn.clone(),
            aws_region: place.region,
        }
    };
    Records { records: messages.iter().map(record).collect() }
}

/// The digest that senders compare (SQS Developer Guide, "Calculating the MD5 message digest for message attributes"):
/// of each attribute by its name, the lengths and bytes of name, type and value.
#[must_use]
pub fn md5_of(attributes: &BTreeMap<&str, Attribute<'_>>) -> String {
    let mut digest = Md5::new();
    // Attributes have 256 KiB at most.
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    for (name, attribute) in attributes {
        let (kind, value) = match attribute.value {
            Value::Text(text) => (1, text.as_bytes()),
            Value::Binary(bytes) => (2, bytes),
        };
        for text in [name, attribute.ty] {
            digest.update(length(text.as_bytes()));
            digest.update(text);
        }
        digest.update([kind]);
        digest.update(length(value));
        digest.update(value);
    }
    hex::encode(digest.finalize())
}

impl<'a> Attribute<'a> {
    fn json(&self) -> AttributeJson<'a> {
        let (string_value, binary_value) = match self.value {
            Value::Text(text) => (Some(text), None),
            Value::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
        };
        AttributeJson {
            string_value,
            binary_value,
            string_list_values: [],
            binary_list_values: [],
            data_type: self.ty,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    message_id: &'a str,
    receipt_handle: &'a str,
    body: &'a str,
    attributes: BTreeMap<&'a str, String>,
    message_attributes: BTreeMap<&'a str, AttributeJson<'a>>,
    md5_of_body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5_of_message_attributes: Option<String>,
    event_source: &'a str,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: String,
    aws_region: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AttributeJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    string_value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_value: Option<String>,
    string_list_values: [&'a str; 0],
    binary_list_values: [&'a str; 0],
    data_type: &'a str,
}
