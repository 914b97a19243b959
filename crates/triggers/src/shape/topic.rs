//! A message of a topic, as Amazon SNS hands it over: one record.

use std::collections::BTreeMap;

use rouse_types::Timestamp;
use serde::Serialize;

use super::{Place, Records, millis};

/// A message that was published.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// Its id, the same each time it is delivered.
    pub id: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The subscription that wants it.
    pub subscription: &'a str,
    /// Its subject, if it has one.
    pub subject: Option<&'a str>,
    /// Its text.
    pub text: &'a str,
    /// When it was published.
    pub published: Timestamp,
    /// What its sender attached, by name: a type such as `String`, and the value, of bytes in base64.
    pub attributes: BTreeMap<&'a str, Attribute<'a>>,
}

/// What a sender attached to a message.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Attribute<'a> {
    /// `String`, `String.Array`, `Number` or `Binary`.
    #[serde(rename = "Type")]
    pub ty: &'a str,
    /// The value.
    pub value: &'a str,
}

/// The event of a message. It is not signed: it never leaves the platform, so its signature is empty.
#[must_use]
pub fn records<'a>(place: Place<'a>, message: &Message<'a>) -> Records<impl Serialize + use<'a>> {
    let topic_arn = place.arn("sns", message.topic);
    Records {
        records: vec![Record {
            event_source: "aws:sns",
            event_version: "1.0",
            event_subscription_arn: format!("{topic_arn}:{}", message.subscription),
            sns: Sns {
                ty: "Notification",
                message_id: message.id,
                topic_arn,
                subject: message.subject,
                message: message.text,
                timestamp: millis(message.published),
                signature_version: "1",
                signature: "",
                signing_cert_url: "",
                unsubscribe_url: "",
                message_attributes: message.attributes.clone(),
            },
        }],
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Record<'a> {
    event_source: &'a str,
    event_version: &'a str,
    event_subscription_arn: String,
    sns: Sns<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Sns<'a> {
    #[serde(rename = "Type")]
    ty: &'a str,
    message_id: &'a str,
    topic_arn: String,
    subject: Option<&'a str>,
    message: &'a str,
    timestamp: String,
    signature_version: &'a str,
    signature: &'a str,
    signing_cert_url: &'a str,
    unsubscribe_url: &'a str,
    message_attributes: BTreeMap<&'a str, Attribute<'a>>,
}
