//! Messages: sent, received, deleted, held on to.

use http::Method;
use md5::{Digest as _, Md5};
use rouse_api::queues::{Answer, Attribute, Attributes, Hold, Receive, Received, Send, Sent};
use serde_json::{Map, Value, json};

use super::{MESSAGE_BYTES_MAX, Op, attached, bad_value, batch, invalid, missing, number, told};
use crate::error::AwsError;

/// Ids of groups and of deduplication, in characters.
const ID_CHARS_MAX: usize = 128;

/// A message that was read from a request, with what is answered of it.
pub(super) struct Outgoing {
    pub(super) send: Send,
    pub(super) bytes: usize,
    /// The digests of body, attributes and system attributes.
    pub(super) told: Map<String, Value>,
}

pub(super) fn md5(text: &str) -> String {
    hex::encode(Md5::digest(text))
}

/// Reads a message that is to be sent to a queue of this name.
pub(super) fn outgoing(queue: &str, input: &Value) -> Result<Outgoing, AwsError> {
    let text = |member: &str| input.get(member).and_then(Value::as_str).map(str::to_owned);
    let body = text("MessageBody").filter(|body| !body.is_empty()).ok_or_else(|| missing("MessageBody"))?;
    // The characters of XML 1.0: what clients of the query protocol can read.
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    if let Some(wrong) = body.chars().find(|c| !allowed(*c)) {
        return Err(AwsError::new(
            "InvalidMessageContents",
            format!(
                "Invalid binary character '#x{:X}' was found in the message body, the set of allowed characters is #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF",
                u32::from(wrong)
            ),
        ));
    }
    let attributes = attached::read(input.get("MessageAttributes"))?;
    let system = system(input.get("MessageSystemAttributes"))?;
    let fifo = queue.ends_with(".fifo");
    let delay = number(input, "DelaySeconds", 0..=900)?;
    if let Some(delay) = delay.filter(|_| fifo) {
        return Err(bad_value(
            delay,
            "DelaySeconds",
            "The request include parameter that is not valid for this queue type.",
        ));
    }
    let id = |member: &str| -> Result<Option<String>, AwsError> {
        let Some(id) = text(member) else { return Ok(None) };
        let punctuated = id.bytes().all(|b| b.is_ascii_graphic());
        match (1..=ID_CHARS_MAX).contains(&id.len()) && punctuated {
            true => Ok(Some(id)),
            false => Err(bad_value(
                &id,
                member,
                &format!(
                    "{member} can only include alphanumeric and punctuation characters. 1 to 128 in length."
                ),
            )),
        }
    };
    let (group, deduplication) = (id("MessageGroupId")?, id("MessageDeduplicationId")?);
    if fifo && group.is_none() {
        return Err(missing("MessageGroupId"));
    }
    if let Some(id) = deduplication.as_ref().filter(|_| !fifo) {
        return Err(bad_value(
            id,
            "MessageDeduplicationId",
            "The request includes a parameter that is not valid for this queue type.",
        ));
    }
    let bytes = body.len() + attached::bytes(&attributes);
    if bytes > MESSAGE_BYTES_MAX {
        return Err(invalid(format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {MESSAGE_BYTES_MAX} bytes."
        )));
    }
    let mut told = Map::new();
    told.insert("MD5OfMessageBody".to_owned(), md5(&body).into());
    if let Some(md5) = attached::md5(&attributes) {
        told.insert("MD5OfMessageAttributes".to_owned(), md5.into());
    }
    if let Some(md5) = attached::md5(&system) {
        told.insert("MD5OfMessageSystemAttributes".to_owned(), md5.into());
    }
    let trace = system.into_values().next().map(|attribute| attribute.value);
    let delay_ms = delay.map(|seconds| seconds * 1_000);
    Ok(Outgoing { send: Send { body, delay_ms, group, deduplication, attributes, trace }, bytes, told })
}

/// The attributes that are AWS' own: X-Ray's header alone.
fn system(given: Option<&Value>) -> Result<Attributes, AwsError> {
    let given = given.and_then(Value::as_object).cloned().unwrap_or_default();
    let one = |(name, value): (String, Value)| match (name.as_str(), value["StringValue"].as_str()) {
        ("AWSTraceHeader", Some(text)) if value["DataType"] == "String" => {
            Ok((name, Attribute { ty: "String".to_owned(), value: text.to_owned() }))
        }
        _ => Err(invalid(format!("Message system attribute name '{name}' is invalid."))),
    };
    given.into_iter().map(one).collect()
}

/// What is answered of a message that was sent.
pub(super) fn sent(queue: &str, mut told: Map<String, Value>, sent: &Sent) -> Map<String, Value> {
    told.insert("MessageId".to_owned(), sent.id.clone().into());
    if queue.ends_with(".fifo") {
        told.insert("SequenceNumber".to_owned(), sequence(sent.sequence).into());
    }
    told
}

/// Twenty digits, so that comparing them as texts is right.
fn sequence(number: u64) -> String {
    format!("{number:020}")
}

impl Op<'_> {
    pub(super) async fn send_message(&self) -> Result<Value, AwsError> {
        let queue = self.queue()?;
        let message = outgoing(&queue, &self.input)?;
        let answers: Vec<Answer> = self.ask(Method::POST, &queue, "send", &[message.send]).await?;
        match answers.into_iter().next() {
            Some(Answer::Sent(one)) => Ok(sent(&queue, message.told, &one).into()),
            Some(Answer::Refused(refusal)) => Err(told(&refusal)),
            None => Err(AwsError::new("InternalFailure", "The message was not stored")),
        }
    }

    fn names(&self, member: &str) -> Vec<&str> {
        let list = self.input.get(member).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    pub(super) async fn receive_message(&self) -> Result<Value, AwsError> {
        let queue = self.queue()?;
        let count = self.number("MaxNumberOfMessages", 1..=10)?.unwrap_or(1);
        let seconds = |value: Option<u64>| value.map(|seconds| seconds * 1_000);
        let how = Receive {
            count: u32::try_from(count).unwrap_or(1),
            visibility_ms: seconds(self.number("VisibilityTimeout", 0..=43_200)?),
            wait_ms: seconds(self.number("WaitTimeSeconds", 0..=20)?),
        };
        let system = [self.names("AttributeNames"), self.names("MessageSystemAttributeNames")].concat();
        let attached = self.names("MessageAttributeNames");
        let received: Vec<Received> = self.ask(Method::POST, &queue, "receive", &how).await?;
        let shown = received.iter().map(|message| self.shown(&queue, message, &system, &attached));
        Ok(json!({ "Messages": Some(shown.collect::<Vec<_>>()).filter(|all| !all.is_empty()) }))
    }

    fn shown(&self, queue: &str, message: &Received, system: &[&str], attached: &[&str]) -> Value {
        let mut all: Vec<(&str, Option<String>)> = vec![
            ("SenderId", Some(self.around.scope.account.clone())),
            ("SentTimestamp", Some(message.sent.as_millis().to_string())),
            ("ApproximateReceiveCount", Some(message.attempt.to_string())),
            ("ApproximateFirstReceiveTimestamp", Some(message.first.as_millis().to_string())),
            ("MessageGroupId", message.group.clone()),
            ("AWSTraceHeader", message.trace.clone()),
            ("DeadLetterQueueSourceArn", message.source.as_ref().map(|source| self.arn(source))),
        ];
        if queue.ends_with(".fifo") {
            all.push(("SequenceNumber", Some(sequence(message.sequence))));
            all.push(("MessageDeduplicationId", message.deduplication.clone()));
        }
        let wanted = |name: &str| system.contains(&"All") || system.contains(&name);
        let all = all.into_iter().filter(|(name, _)| wanted(name));
        let all: Map<_, _> = all.filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect();
        let attributes = attached::wanted(&message.attributes, attached);
        json!({
            "MessageId": message.id,
            "ReceiptHandle": message.receipt,
            "MD5OfBody": md5(&message.body),
            "Body": message.body,
            "Attributes": Some(all).filter(|all| !all.is_empty()),
            "MessageAttributes": attached::shown(&attributes),
            "MD5OfMessageAttributes": attached::md5(&attributes),
        })
    }

    pub(super) async fn delete_message(&self) -> Result<Value, AwsError> {
        let receipt = self.text("ReceiptHandle").unwrap_or_default();
        let gone: Vec<Option<bool>> = self.ask(Method::POST, &self.queue()?, "delete", &[receipt]).await?;
        // One whose receipt is no longer good is someone else's now, or gone: that is no error.
        batch::deleted(receipt, gone.first().copied().flatten()).map(|()| Value::Null)
    }

    pub(super) async fn change_message_visibility(&self) -> Result<Value, AwsError> {
        let receipt = self.text("ReceiptHandle").unwrap_or_default().to_owned();
        let seconds =
            self.number("VisibilityTimeout", 0..=43_200)?.ok_or_else(|| missing("VisibilityTimeout"))?;
        let hold = Hold { receipt: receipt.clone(), visibility_ms: seconds * 1_000 };
        let held: Vec<Option<bool>> = self.ask(Method::POST, &self.queue()?, "hold", &[hold]).await?;
        batch::held(&receipt, held.first().copied().flatten()).map(|()| Value::Null)
    }
}
