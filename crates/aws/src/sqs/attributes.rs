//! A queue's attributes: texts to SQS' clients, settings to us.

use rouse_api::{DeadLetters, QueueChange, QueueDetail};
use serde_json::{Map, Value, json};

use crate::{error::AwsError, names::Scope};

/// What nobody can set.
const READ_ONLY: [&str; 6] = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
];
/// What is kept and given back; the second and third of FIFO queues, where `DeduplicationScope` counts.
const KEPT: [&str; 7] = [
    "Policy",
    "DeduplicationScope",
    "FifoThroughputLimit",
    "RedriveAllowPolicy",
    "KmsMasterKeyId",
    "KmsDataKeyReusePeriodSeconds",
    "SqsManagedSseEnabled",
];
/// How long messages are kept unless a client says otherwise: four days, as at AWS.
const RETENTION_MS: u64 = 345_600_000;

fn wrong(name: &str) -> AwsError {
    AwsError::new("InvalidAttributeValue", format!("Invalid value for the parameter {name}."))
}

fn unknown(name: &str) -> AwsError {
    AwsError::new("InvalidAttributeName", format!("Unknown Attribute {name}."))
}

/// What a client sets of a queue. `new` says whether it is being made.
pub(super) fn change(
    scope: &Scope,
    queue: &str,
    attributes: &Map<String, Value>,
    new: bool,
) -> Result<QueueChange, AwsError> {
    let fifo = queue.ends_with(".fifo");
    let mut change = QueueChange::default();
    if new {
        change.retention_ms = Some(RETENTION_MS);
        change.message_bytes_max = Some(super::MESSAGE_BYTES_MAX as u64);
        if attributes.get("FifoQueue").is_none() && fifo {
            return Err(super::invalid(
                "The name of a FIFO queue ends with the .fifo suffix, and the attribute FifoQueue says true",
            ));
        }
    }
    for (name, value) in attributes {
        let text = value.as_str().unwrap_or_default();
        let within = |range: std::ops::RangeInclusive<u64>| {
            text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| wrong(name))
        };
        let truth = || text.parse::<bool>().map_err(|_| wrong(name));
        match name.as_str() {
            "VisibilityTimeout" => change.visibility_ms = Some(within(0..=43_200)? * 1_000),
            "DelaySeconds" => change.delay_ms = Some(within(0..=900)? * 1_000),
            "MessageRetentionPeriod" => change.retention_ms = Some(within(60..=1_209_600)? * 1_000),
            "ReceiveMessageWaitTimeSeconds" => change.wait_ms = Some(within(0..=20)? * 1_000),
            "MaximumMessageSize" => {
                change.message_bytes_max = Some(within(1_024..=super::MESSAGE_BYTES_MAX as u64)?);
            }
            "FifoQueue" if truth()? == fifo && (new || fifo) => {}
            "FifoQueue" if fifo && !new => {
                let text = "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported.";
                return Err(AwsError::new("InvalidAttributeValue", text));
            }
            "FifoQueue" if fifo => return Err(wrong(name)),
            "FifoQueue" if truth()? => {
                return Err(super::invalid(
                    "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must \
                     end with .fifo suffix and be 1 to 80 in length.",
                ));
            }
            "FifoQueue" => return Err(unknown(name)),
            "ContentBasedDeduplication" if fifo => change.content_deduplication = Some(truth()?),
            "DeduplicationScope" | "FifoThroughputLimit" | "ContentBasedDeduplication" if !fifo => {
                return Err(unknown(name));
            }
            "RedrivePolicy" if text.is_empty() => change.no_dead_letters = true,
            "RedrivePolicy" => change.dead_letters = Some(dead_letters(scope, text)?),
            kept if KEPT.contains(&kept) => {
                let value = Some(text.to_owned()).filter(|text| !text.is_empty());
                change.attributes.insert(name.clone(), value);
            }
            _ => return Err(unknown(name)),
        }
    }
    let named = |name: &str| attributes.get(name).and_then(Value::as_str).unwrap_or_default();
    if named("SqsManagedSseEnabled") == "true" && !named("KmsMasterKeyId").is_empty() {
        let text = "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or SQS SSE.";
        return Err(AwsError::new("InvalidAttributeName", text));
    }
    Ok(change)
}

fn dead_letters(scope: &Scope, text: &str) -> Result<DeadLetters, AwsError> {
    let reason = |why: &str| super::bad_value(text, "RedrivePolicy", why);
    let policy: Value =
        serde_json::from_str(text).map_err(|_| reason("Redrive policy is not a valid JSON map."))?;
    let arn = policy["deadLetterTargetArn"]
        .as_str()
        .ok_or_else(|| reason("Redrive policy does not contain mandatory attribute: deadLetterTargetArn."))?;
    let count = match &policy["maxReceiveCount"] {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_u64(),
        _ => return Err(reason("Redrive policy does not contain mandatory attribute: maxReceiveCount.")),
    };
    let count = count.and_then(|count| u32::try_from(count).ok()).filter(|count| (1..=1_000).contains(count));
    let receives_max = count.ok_or_else(|| {
        reason("Invalid value for maxReceiveCount: it must be between 1 and 1000 both inclusive.")
    })?;
    let queue = scope.queue_of(arn).ok_or_else(|| reason("Invalid value for deadLetterTargetArn."))?;
    Ok(DeadLetters { queue: queue.to_owned(), receives_max })
}

/// All attributes of a queue.
pub(super) fn shown(scope: &Scope, detail: &QueueDetail) -> Map<String, Value> {
    let settings = &detail.settings;
    let seconds = |ms: u64| (ms / 1_000).to_string();
    let mut all = Map::new();
    let mut put = |name: &str, value: String| drop(all.insert(name.to_owned(), Value::from(value)));
    put("QueueArn", scope.queue(&detail.name));
    put("ApproximateNumberOfMessages", detail.ready.to_string());
    put("ApproximateNumberOfMessagesNotVisible", detail.held.to_string());
    put("ApproximateNumberOfMessagesDelayed", detail.delayed.to_string());
    put("CreatedTimestamp", seconds(detail.created.as_millis()));
    put("LastModifiedTimestamp", seconds(detail.modified.as_millis()));
    put("VisibilityTimeout", seconds(settings.visibility_ms));
    put("MaximumMessageSize", settings.message_bytes_max.min(super::MESSAGE_BYTES_MAX as u64).to_string());
    // One that is bounded by nothing shows the longest.
    put("MessageRetentionPeriod", seconds(settings.retention_ms.unwrap_or(1_209_600_000)));
    put("DelaySeconds", seconds(settings.delay_ms));
    put("ReceiveMessageWaitTimeSeconds", seconds(settings.wait_ms));
    // A queue has one of two kinds of encryption.
    let own = !settings.attributes.contains_key("KmsMasterKeyId");
    put("SqsManagedSseEnabled", own.to_string());
    if let Some(to) = &settings.dead_letters {
        let policy =
            json!({ "deadLetterTargetArn": scope.queue(&to.queue), "maxReceiveCount": to.receives_max });
        put("RedrivePolicy", policy.to_string());
    }
    if detail.name.ends_with(".fifo") {
        put("FifoQueue", "true".to_owned());
        put("ContentBasedDeduplication", settings.content_deduplication.to_string());
        put("DeduplicationScope", "queue".to_owned());
        put("FifoThroughputLimit", "perQueue".to_owned());
    }
    for (name, value) in &settings.attributes {
        put(name, value.clone());
    }
    all
}

/// The attributes of these names.
pub(super) fn named(all: Map<String, Value>, names: &[Value]) -> Result<Map<String, Value>, AwsError> {
    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
    const OTHERS: [&str; 11] = [
        "All",
        "VisibilityTimeout",
        "MaximumMessageSize",
        "MessageRetentionPeriod",
        "DelaySeconds",
        "ReceiveMessageWaitTimeSeconds",
        "RedrivePolicy",
        "FifoQueue",
        "ContentBasedDeduplication",
        "DeduplicationScope",
        "FifoThroughputLimit",
    ];
    let known = |name: &str| READ_ONLY.contains(&name) || KEPT.contains(&name) || OTHERS.contains(&name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        return Err(unknown(name));
    }
    let wanted = |name: &String| names.contains(&"All") || names.contains(&name.as_str());
    Ok(all.into_iter().filter(|(name, _)| wanted(name)).collect())
}

/// The first attribute that a client names with another value than the queue has.
pub(super) fn differing(given: &Map<String, Value>, all: &Map<String, Value>) -> Option<String> {
    // Policies are JSON, which can be written in several ways.
    let same = |a: &Value, b: &Value| {
        let read = |value: &Value| value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        a == b || read(a).zip(read(b)).is_some_and(|(a, b)| loose(&a) == loose(&b))
    };
    let differs = |(name, value): &(&String, &Value)| all.get(*name).is_none_or(|has| !same(value, has));
    given.iter().find(differs).map(|(name, _)| name.clone())
}

/// A policy's numbers may be texts.
fn loose(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), loose(value))).collect(),
        Value::Number(number) => Value::from(number.to_string()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            tenant: "default".parse().expect("a tenant"),
            account: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
        }
    }

    fn of(queue: &str, attributes: Value) -> Result<QueueChange, &'static str> {
        let attributes = attributes.as_object().cloned().unwrap_or_default();
        change(&scope(), queue, &attributes, true).map_err(|error| error.name)
    }

    #[test]
    fn attributes_are_settings_and_what_cannot_be_is_refused() {
        let arn = "arn:aws:sqs:us-east-1:000000000000:failed";
        let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": "3" }).to_string();
        let made = of("q", json!({ "VisibilityTimeout": "5", "RedrivePolicy": policy })).expect("a change");
        assert_eq!((made.visibility_ms, made.retention_ms), (Some(5_000), Some(RETENTION_MS)));
        assert_eq!(made.dead_letters, Some(DeadLetters { queue: "failed".to_owned(), receives_max: 3 }));
        let invalid = "InvalidParameterValueException";
        let other = policy.replace("000000000000", "111111111111");
        for (queue, attributes, error) in [
            ("q", json!({ "VisibilityTimeout": "43201" }), "InvalidAttributeValue"),
            ("q", json!({ "VisibilityTimeout": "x" }), "InvalidAttributeValue"),
            ("q", json!({ "Nothing": "1" }), "InvalidAttributeName"),
            ("q", json!({ "QueueArn": "1" }), "InvalidAttributeName"),
            ("q", json!({ "ContentBasedDeduplication": "true" }), "InvalidAttributeName"),
            ("q", json!({ "FifoQueue": "true" }), invalid),
            ("q.fifo", json!({}), invalid),
            ("q.fifo", json!({ "FifoQueue": "false" }), "InvalidAttributeValue"),
            ("q", json!({ "SqsManagedSseEnabled": "true", "KmsMasterKeyId": "k" }), "InvalidAttributeName"),
            ("q", json!({ "RedrivePolicy": "{}" }), invalid),
            ("q", json!({ "RedrivePolicy": other }), invalid),
        ] {
            assert_eq!(of(queue, attributes.clone()).expect_err("wrong"), error, "{queue} {attributes}");
        }
        assert!(of("q.fifo", json!({ "FifoQueue": "true", "ContentBasedDeduplication": "true" })).is_ok());
    }

    #[test]
    fn a_policy_is_the_same_however_it_is_written() {
        let map = |text: &str| Map::from_iter([("RedrivePolicy".to_owned(), Value::from(text))]);
        assert_eq!(differing(&map(r#"{"a":"1", "b": 2}"#), &map(r#"{"b":2,"a":1}"#)), None);
        assert!(differing(&map(r#"{"a":"1"}"#), &map(r#"{"a":2}"#)).is_some());
    }
}
