//! The JSON in which code written for other platforms expects its events: what AWS Lambda hands over, and what Google's
//! Functions Frameworks do. HTTP requests are shaped by the contract itself.
//!
//! | happened | Lambda handlers see | servers and components see, as a CloudEvent |
//! |---|---|---|
//! | an object | [`object`]: S3 records | `google.cloud.storage.object.v1.…` |
//! | messages of a queue | [`queue`]: SQS records | `google.cloud.pubsub.topic.v1.messagePublished`, each |
//! | a message of a topic | [`topic`]: SNS records | as it was published |
//! | a schedule, any other event | [`bus`]: EventBridge | `google.cloud.scheduler.job.v1.executed` |
//! | a row | [`database`]: changes | `dev.rouse.database.change.v1` |
//! | an asynchronous call ended | [`destination`]: Lambda's record | – |

pub mod bus;
pub mod database;
pub mod destination;
pub mod google;
pub mod object;
pub mod queue;
pub mod topic;

use rouse_types::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

/// Where the function believes itself to be: parts of each ARN.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// As in `AWS_REGION`.
    pub region: &'a str,
    /// Twelve digits.
    pub account: &'a str,
}

impl Place<'_> {
    fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{resource}", self.region, self.account)
    }
}

/// A list of records, as most of AWS' events are.
#[derive(Debug, Clone, Serialize)]
pub struct Records<R> {
    /// The records.
    #[serde(rename = "Records")]
    pub records: Vec<R>,
}

/// Bytes that are JSON as they are, and anything else as text.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Payload<'a> {
    /// JSON.
    Json(&'a RawValue),
    /// What is no JSON; bytes that are no UTF-8 are replaced.
    Text(std::borrow::Cow<'a, str>),
}

impl<'a> Payload<'a> {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        serde_json::from_slice(bytes).map_or_else(|_| Self::Text(String::from_utf8_lossy(bytes)), Self::Json)
    }
}

/// `2026-11-21T13:00:00.123Z`.
#[must_use]
pub fn millis(time: Timestamp) -> String {
    format!("{:.3}", instant(time))
}

/// `2026-11-21T13:00:00Z`.
fn seconds(time: Timestamp) -> String {
    format!("{:.0}", instant(time))
}

fn instant(time: Timestamp) -> jiff::Timestamp {
    i64::try_from(time.0)
        .ok()
        .and_then(|us| jiff::Timestamp::from_microsecond(us).ok())
        .unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests;
