//! Several messages at once: each fails or not for itself.

use std::collections::BTreeSet;

use http::Method;
use rouse_api::queues::{Answer, Hold};
use serde_json::{Map, Value, json};

use super::{MESSAGE_BYTES_MAX, Op, bad_value, messages, missing, number, query_code, told};
use crate::error::AwsError;

/// Entries of one batch.
const ENTRIES_MAX: usize = 10;
const ID_CHARS_MAX: usize = 80;

/// An entry with its id.
type Entry<'a> = (&'a str, &'a Value);

/// What came of an entry.
type Came = Result<Map<String, Value>, AwsError>;

/// What came of deleting by a receipt; nothing if it is none.
pub(super) fn deleted(receipt: &str, gone: Option<bool>) -> Result<(), AwsError> {
    gone.map(drop).ok_or_else(|| no_receipt(receipt))
}

/// What came of holding on to a message.
pub(super) fn held(receipt: &str, held: Option<bool>) -> Result<(), AwsError> {
    match held {
        Some(true) => Ok(()),
        Some(false) => Err(bad_value(
            receipt,
            "ReceiptHandle",
            "Message does not exist or is not available for visibility timeout change.",
        )),
        None => Err(no_receipt(receipt)),
    }
}

fn no_receipt(receipt: &str) -> AwsError {
    let shown: String = receipt.chars().take(200).collect();
    AwsError::new(
        "ReceiptHandleIsInvalid",
        format!("The input receipt handle \"{shown}\" is not a valid receipt handle."),
    )
}

/// The entries of a batch, whose ids are there once each.
fn entries(input: &Value) -> Result<Vec<Entry<'_>>, AwsError> {
    let all = input.get("Entries").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if all.is_empty() {
        let message = "There should be at least one entry in the request.";
        return Err(AwsError::new("EmptyBatchRequest", message));
    }
    if all.len() > ENTRIES_MAX {
        return Err(AwsError::new(
            "TooManyEntriesInBatchRequest",
            format!("Maximum number of entries per request are {ENTRIES_MAX}. You have sent {}.", all.len()),
        ));
    }
    let mut ids = BTreeSet::new();
    all.iter()
        .map(|entry| {
            let id = entry["Id"].as_str().unwrap_or_default();
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            if id.is_empty() || id.len() > ID_CHARS_MAX || !id.bytes().all(plain) {
                return Err(AwsError::new(
                    "InvalidBatchEntryId",
                    "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at \
                     most 80 letters long.",
                ));
            }
            if !ids.insert(id) {
                return Err(AwsError::new("BatchEntryIdsNotDistinct", format!("Id {id} repeated.")));
            }
            Ok((id, entry))
        })
        .collect()
}

/// The answer of a batch.
fn answer(entries: &[Entry<'_>], came: Vec<Came>) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for ((id, _), came) in entries.iter().zip(came) {
        match came {
            Ok(mut told) => {
                told.insert("Id".to_owned(), (*id).into());
                successful.push(Value::from(told));
            }
            Err(error) => failed.push(json!({
                "Id": id,
                "SenderFault": error.name != "InternalFailure",
                "Code": query_code(error.name),
                "Message": error.message,
            })),
        }
    }
    json!({ "Successful": successful, "Failed": Some(failed).filter(|failed| !failed.is_empty()) })
}

impl Op<'_> {
    pub(super) async fn send_message_batch(&self) -> Result<Value, AwsError> {
        let queue = self.queue()?;
        let entries = entries(&self.input)?;
        let messages: Vec<_> = entries.iter().map(|(_, entry)| messages::outgoing(&queue, entry)).collect();
        // Without its group no message of such a queue can be told from others: none of them is taken.
        let groupless = |error: &&AwsError| error.message.ends_with(" MessageGroupId.");
        if let Some(error) = messages.iter().find_map(|message| message.as_ref().err().filter(groupless)) {
            return Err(super::invalid(error.message.clone()));
        }
        let bytes: usize = messages.iter().flatten().map(|message| message.bytes).sum();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(AwsError::new(
                "BatchRequestTooLong",
                format!(
                    "Batch requests cannot be longer than {MESSAGE_BYTES_MAX} bytes. You have sent {bytes} bytes."
                ),
            ));
        }
        let sends: Vec<_> = messages.iter().flatten().map(|message| &message.send).collect();
        let answers: Vec<Answer> = self.ask(Method::POST, &queue, "send", &sends).await?;
        let mut answers = answers.into_iter();
        let came = messages.into_iter().map(|message| {
            let message = message?;
            match answers.next() {
                Some(Answer::Sent(sent)) => Ok(messages::sent(&queue, message.told, &sent)),
                Some(Answer::Refused(refusal)) => Err(told(&refusal)),
                None => Err(AwsError::new("InternalFailure", "The message was not stored")),
            }
        });
        Ok(answer(&entries, came.collect()))
    }

    pub(super) async fn delete_message_batch(&self) -> Result<Value, AwsError> {
        let queue = self.queue()?;
        let entries = entries(&self.input)?;
        let receipts: Vec<_> =
            entries.iter().map(|(_, entry)| entry["ReceiptHandle"].as_str().unwrap_or_default()).collect();
        let gone: Vec<Option<bool>> = self.ask(Method::POST, &queue, "delete", &receipts).await?;
        let came =
            receipts.iter().zip(gone).map(|(receipt, gone)| deleted(receipt, gone).map(|()| Map::new()));
        Ok(answer(&entries, came.collect()))
    }

    pub(super) async fn change_message_visibility_batch(&self) -> Result<Value, AwsError> {
        let queue = self.queue()?;
        let entries = entries(&self.input)?;
        let holds: Vec<Result<Hold, AwsError>> = entries
            .iter()
            .map(|(_, entry)| {
                let receipt = entry["ReceiptHandle"].as_str().unwrap_or_default().to_owned();
                let seconds = number(entry, "VisibilityTimeout", 0..=43_200)?;
                let seconds = seconds.ok_or_else(|| missing("VisibilityTimeout"))?;
                Ok(Hold { receipt, visibility_ms: seconds * 1_000 })
            })
            .collect();
        let asked: Vec<&Hold> = holds.iter().flatten().collect();
        let told: Vec<Option<bool>> = self.ask(Method::POST, &queue, "hold", &asked).await?;
        let mut told = told.into_iter();
        let came = holds.iter().map(|hold| match hold {
            Ok(hold) => held(&hold.receipt, told.next().flatten()).map(|()| Map::new()),
            Err(error) => Err(error.clone()),
        });
        Ok(answer(&entries, came.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_one_to_ten_entries_with_ids_of_their_own() {
        let of = |ids: &[&str]| {
            let all: Vec<_> = ids.iter().map(|id| json!({ "Id": id })).collect();
            entries(&json!({ "Entries": all })).map(|entries| entries.len()).map_err(|error| error.name)
        };
        assert_eq!(of(&["a", "b-1_"]), Ok(2));
        assert_eq!(of(&[]), Err("EmptyBatchRequest"));
        assert_eq!(of(&["a"; 11]), Err("TooManyEntriesInBatchRequest"));
        assert_eq!(of(&["a", "a"]), Err("BatchEntryIdsNotDistinct"));
        assert_eq!(of(&["a b"]), Err("InvalidBatchEntryId"));
    }
}
