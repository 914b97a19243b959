//! What became of an asynchronous call, as AWS Lambda tells its destinations.

use rouse_types::Timestamp;
use serde::Serialize;

use super::{Payload, millis};
use crate::retry::Reason;

/// A call that ended: for good, or given up.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// The invocation's id, the same for each of its attempts.
    pub request_id: &'a str,
    /// The function's ARN, with its version or alias.
    pub function_arn: &'a str,
    /// Why it was given up; none if it ended well.
    pub given_up: Option<Reason>,
    /// Attempts that the code had.
    pub attempts: u32,
    /// When it ended.
    pub time: Timestamp,
    /// What the function was called with.
    pub request: &'a [u8],
    /// What came of the last attempt; none if the code never ran.
    pub answer: Option<Answer<'a>>,
}

/// The answer of the last attempt.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The version that ran.
    pub version: &'a str,
    /// `Unhandled` or `Handled` if it failed.
    pub error: Option<&'a str>,
    /// What it answered: the error, if it failed.
    pub payload: &'a [u8],
}

/// The record of a call.
#[must_use]
pub fn record<'a>(ended: &Ended<'a>) -> impl Serialize + use<'a> {
    Record {
        version: "1.0",
        timestamp: millis(ended.time),
        request_context: Request {
            request_id: ended.request_id,
            function_arn: ended.function_arn,
            condition: ended.given_up.map_or("Success", Reason::condition),
            approximate_invoke_count: ended.attempts,
        },
        request_payload: Payload::of(ended.request),
        response_context: ended.answer.map(|answer| Response {
            // Of the Invoke API: an error of the code is an answer too.
            status_code: 200,
            executed_version: answer.version,
            function_error: answer.error,
        }),
        response_payload: ended.answer.map(|answer| Payload::of(answer.payload)),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    version: &'a str,
    timestamp: String,
    request_context: Request<'a>,
    request_payload: Payload<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<Response<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<Payload<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    request_id: &'a str,
    function_arn: &'a str,
    condition: &'a str,
    approximate_invoke_count: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    status_code: u16,
    executed_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_error: Option<&'a str>,
}
