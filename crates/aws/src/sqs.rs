//! Amazon SQS: reads a request by the model, does it through the process that keeps queues, answers as SQS does.
//!
//! The protocol is AWS' JSON 1.0 with the operation in `x-amz-target`. Clients that spoke the query protocol before know
//! errors by their older codes, which a header tells (`awsQueryCompatible`).

mod attached;
mod attributes;
mod batch;
mod messages;
mod moves;
#[cfg(test)]
mod offered;
mod queues;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use rouse_types::{Code, Refusal};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    Body,
    error::AwsError,
    face::{Around, Face},
    model, protocol, server,
};

/// What the operation's name stands behind in `x-amz-target`.
pub(crate) const TARGET: &str = "AmazonSQS";
/// The largest message, and all messages of a batch together, with what is attached to them.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// One operation under way.
struct Op<'a> {
    face: &'a Arc<Face>,
    around: &'a Around,
    name: &'a str,
    input: Value,
}

/// Answers one request.
pub(crate) async fn answer(
    face: &Arc<Face>,
    around: &Around,
    operation: &str,
    payload: &[u8],
) -> Response<Body> {
    let answered = match read(operation, payload) {
        Ok(input) => Box::pin(run(&Op { face, around, name: operation, input })).await,
        Err(error) => Err(error),
    };
    match answered {
        Ok(Value::Null) => server::answer(StatusCode::OK, "application/x-amz-json-1.0", String::new()),
        Ok(output) => {
            let text = protocol::without_nulls(output).to_string();
            server::answer(StatusCode::OK, "application/x-amz-json-1.0", text)
        }
        Err(error) => refused(&error),
    }
}

/// An error as this service answers it.
pub(crate) fn refused(error: &AwsError) -> Response<Body> {
    let known = model::SQS_ERRORS.iter().find(|shape| shape.name == error.name);
    let namespace = if known.is_some() { "com.amazonaws.sqs" } else { "com.amazon.coral.service" };
    let (status, fault) = match error.name {
        "ServiceUnavailable" => (503, "Receiver"),
        "InternalFailure" => (500, "Receiver"),
        _ => (known.map_or_else(|| error.status(), |shape| shape.status), "Sender"),
    };
    let body = json!({ "__type": format!("{namespace}#{}", error.name), "message": error.message });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = server::answer(status, "application/x-amz-json-1.0", body.to_string());
    let code = format!("{};{fault}", query_code(error.name));
    if let Ok(code) = HeaderValue::try_from(code) {
        response.headers_mut().insert(HeaderName::from_static("x-amzn-query-error"), code);
    }
    response
}

/// What the query protocol called an error, as the API's reference has it.
fn query_code(name: &str) -> String {
    match name {
        "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue".to_owned(),
        "QueueNameExists" => "QueueAlreadyExists".to_owned(),
        "InvalidParameterValueException" => "InvalidParameterValue".to_owned(),
        "MissingRequiredParameterException" => "MissingParameter".to_owned(),
        "BatchEntryIdsNotDistinct"
        | "BatchRequestTooLong"
        | "EmptyBatchRequest"
        | "InvalidBatchEntryId"
        | "MessageNotInflight"
        | "PurgeQueueInProgress"
        | "QueueDeletedRecently"
        | "TooManyEntriesInBatchRequest"
        | "UnsupportedOperation" => format!("AWS.SimpleQueueService.{name}"),
        other => other.to_owned(),
    }
}

/// A parameter whose value cannot be.
fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new("InvalidParameterValueException", message)
}

fn bad_value(value: impl std::fmt::Display, parameter: &str, reason: &str) -> AwsError {
    invalid(format!("Value {value} for parameter {parameter} is invalid. Reason: {reason}"))
}

fn missing(parameter: &str) -> AwsError {
    let message = format!("The request must contain the parameter {parameter}.");
    AwsError::new("MissingRequiredParameterException", message)
}

/// Reads a request by the model: types, and that what must be there is.
fn read(operation: &str, payload: &[u8]) -> Result<Value, AwsError> {
    let operation = model::SQS_OPERATIONS.iter().find(|known| known.name == operation);
    let operation = operation
        .ok_or_else(|| AwsError::new("UnknownOperationException", "Amazon SQS has no such operation"))?;
    let text = if payload.is_empty() { b"{}" } else { payload };
    let value: Value = serde_json::from_slice(text)
        .map_err(|error| AwsError::new("SerializationException", format!("The body is no JSON: {error}")))?;
    let Some(shape) = operation.input else { return Ok(json!({})) };
    let input = protocol::typed(shape, &value)?;
    for member in model::members(Some(shape)).iter().filter(|member| member.required) {
        match &input[member.name] {
            Value::Null => return Err(missing(member.name)),
            Value::String(text) if text.is_empty() => return Err(missing(member.name)),
            _ => {}
        }
    }
    Ok(input)
}

async fn run(op: &Op<'_>) -> Result<Value, AwsError> {
    match op.name {
        "CreateQueue" => op.create_queue().await,
        "DeleteQueue" => op.delete_queue().await,
        "ListQueues" => op.list_queues().await,
        "GetQueueUrl" => op.get_queue_url().await,
        "GetQueueAttributes" => op.get_queue_attributes().await,
        "SetQueueAttributes" => op.set_queue_attributes().await,
        "PurgeQueue" => op.purge_queue().await,
        "TagQueue" => op.tag_queue().await,
        "UntagQueue" => op.untag_queue().await,
        "ListQueueTags" => op.list_queue_tags().await,
        "ListDeadLetterSourceQueues" => op.list_dead_letter_source_queues().await,
        "SendMessage" => op.send_message().await,
        "SendMessageBatch" => op.send_message_batch().await,
        "ReceiveMessage" => op.receive_message().await,
        "DeleteMessage" => op.delete_message().await,
        "DeleteMessageBatch" => op.delete_message_batch().await,
        "ChangeMessageVisibility" => op.change_message_visibility().await,
        "ChangeMessageVisibilityBatch" => op.change_message_visibility_batch().await,
        "StartMessageMoveTask" => op.start_message_move_task().await,
        "ListMessageMoveTasks" => op.list_message_move_tasks().await,
        "CancelMessageMoveTask" => op.cancel_message_move_task().await,
        other => Err(AwsError::new(
            "UnsupportedOperation",
            format!("Rouse does not offer {other}; docs/guides/aws.md lists what it does"),
        )),
    }
}

impl Op<'_> {
    fn text(&self, member: &str) -> Option<&str> {
        self.input.get(member).and_then(Value::as_str)
    }

    /// A whole number within bounds.
    fn number(&self, member: &str, range: std::ops::RangeInclusive<i64>) -> Result<Option<u64>, AwsError> {
        number(&self.input, member, range)
    }

    /// The name of the queue that the request's address means, which is one of the caller's own.
    fn queue(&self) -> Result<String, AwsError> {
        let url = self.text("QueueUrl").unwrap_or_default();
        let mut parts = url.rsplit('/');
        let (name, account) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match account == self.around.scope.account && rouse_types::trigger::is_queue_name(name) {
            true => Ok(name.to_owned()),
            false => Err(no_queue()),
        }
    }

    fn url(&self, queue: &str) -> String {
        format!("{}/{}/{queue}", self.around.url, self.around.scope.account)
    }

    fn arn(&self, queue: &str) -> String {
        self.around.scope.queue(queue)
    }

    /// Asks the process that keeps queues, of a queue, in the words of `rouse_api::queues`.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        queue: &str,
        what: &str,
        body: &impl Serialize,
    ) -> Result<T, AwsError> {
        let path = format!("/queues/{}/{queue}/{what}", self.around.scope.tenant);
        self.events(method, &path, body).await
    }

    /// Asks it an operation of the API.
    async fn manage<T: DeserializeOwned>(
        &self,
        method: Method,
        queue: &str,
        body: &impl Serialize,
    ) -> Result<T, AwsError> {
        let slash = if queue.is_empty() { "" } else { "/" };
        let path = format!("/v1/tenants/{}/queues{slash}{queue}", self.around.scope.tenant);
        self.events(method, &path, body).await
    }

    async fn events<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, AwsError> {
        let body = serde_json::to_vec(body).map_err(|error| invalid(error.to_string()))?;
        let answer = self.face.platform.events(method, path, Bytes::from(body)).await;
        let answer = answer.map_err(|refusal| told(&refusal))?;
        serde_json::from_slice(&answer).map_err(|error| {
            tracing::error!(path, %error, "the process of events gave an answer that cannot be read");
            AwsError::new("InternalFailure", "The process that keeps queues gave no answer that can be read")
        })
    }
}

fn number(
    input: &Value,
    member: &str,
    range: std::ops::RangeInclusive<i64>,
) -> Result<Option<u64>, AwsError> {
    let Some(value) = input.get(member).and_then(Value::as_i64) else { return Ok(None) };
    if range.contains(&value) {
        return Ok(u64::try_from(value).ok());
    }
    let reason = match member {
        "MaxNumberOfMessages" => {
            format!("Must be between {} and {}, if provided.", range.start(), range.end())
        }
        _ => format!("{member} must be >= {} and <= {}.", range.start(), range.end()),
    };
    Err(bad_value(value, member, &reason))
}

fn no_queue() -> AwsError {
    AwsError::new("QueueDoesNotExist", "The specified queue does not exist.")
}

/// A refusal in the words of this service.
fn told(refusal: &Refusal) -> AwsError {
    match refusal.code {
        Code::QueueNotFound => no_queue(),
        Code::TooManyRequests | Code::QuotaExceeded | Code::StorageFull => {
            AwsError::new("OverLimit", refusal.message.clone())
        }
        Code::PayloadTooLarge => {
            invalid(format!("One or more parameters are invalid. Reason: {}", refusal.message))
        }
        Code::BadRequest => invalid(refusal.message.clone()),
        Code::EventsUnavailable => AwsError::new("ServiceUnavailable", refusal.message.clone()),
        _ => AwsError::new("InternalFailure", refusal.message.clone()),
    }
}
