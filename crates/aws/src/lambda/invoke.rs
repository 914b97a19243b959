//! Calls: which version, what is checked before it runs, and how what it came to is told.

mod unreadable;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use rouse_api::wire::Answer;
use rouse_types::{
    Code, LambdaCall, Refusal,
    invocation::{BILLED_HEADER, ERROR_HEADER, FUNCTION_ERROR_HEADER, ID_HEADER},
};
use serde_json::{Value, json};

use super::{EVENT_BYTES_MAX, config::platform_alias, op::Op};
use crate::{
    Body,
    error::AwsError,
    face, logs,
    names::{self, LATEST},
    server::body_of,
    state::Function,
};

/// The largest answer to a call that waits.
pub(crate) const ANSWER_BYTES_MAX: usize = 6_291_556;

/// How long a call waits for a function that is being created, and how often it looks.
const PENDING_WAIT: std::time::Duration = std::time::Duration::from_secs(10);
const PENDING_LOOK: std::time::Duration = std::time::Duration::from_millis(50);

/// What is said of a payload that is too large.
pub(crate) fn too_large(most: usize) -> AwsError {
    AwsError::new(
        "RequestEntityTooLargeException",
        format!("Request must be smaller than {most} bytes for the InvokeFunction operation"),
    )
}

/// A version that a call reached.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    pub(crate) name: String,
    /// `$LATEST`, or a number.
    pub(crate) version: String,
    /// As the caller named it.
    pub(crate) arn: String,
    pub(crate) memory: u64,
    pub(crate) timeout: u64,
    /// Whether its function has a concurrency of its own.
    pub(crate) reserved: bool,
}

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) id: String,
    pub(crate) billed_ms: u64,
    pub(crate) payload: Bytes,
    /// Whether the function failed.
    pub(crate) failed: bool,
    /// From the hand-over to the answer, in microseconds.
    pub(crate) run_us: u64,
    /// The code's start, in microseconds, if it was started for this call.
    pub(crate) init_us: Option<u64>,
}

impl Op<'_> {
    /// Finds the version for a call, by chance where an alias has weights. One that is about to be there is waited for:
    /// tools that create a function call it at once.
    pub(crate) async fn reach(&self) -> Result<Reached, AwsError> {
        let end = tokio::time::Instant::now() + PENDING_WAIT;
        loop {
            match self.look().await? {
                Some(reached) => return Ok(reached),
                None if tokio::time::Instant::now() < end => tokio::time::sleep(PENDING_LOOK).await,
                None => {
                    return Err(AwsError::conflict(
                        "The operation cannot be performed at this time. The function is currently in the following state: \
                         Pending",
                    ));
                }
            }
        }
    }

    /// The same; nothing as long as the version is not there yet.
    async fn look(&self) -> Result<Option<Reached>, AwsError> {
        let named = self.function().await?;
        let function = &named.at.value;
        let qualifier = named.qualifier.as_deref();
        let missing = || self.not_found(&named.name, qualifier);
        let picked = pick(function, qualifier.unwrap_or(LATEST), f64::from(rand()) / f64::from(u32::MAX));
        let picked = picked.ok_or_else(missing)?;
        let version = function.version(&picked).ok_or_else(missing)?;
        match version.text("State") {
            "Pending" => Ok(None),
            "Failed" => Err(AwsError::conflict(format!(
                "The operation cannot be performed at this time. The function is currently in the following state: \
                 Failed. {}",
                version.text("StateReason")
            ))),
            _ if function.is_shut(&picked) => Err(throttled(true)),
            _ => Ok(Some(Reached {
                arn: self.arn(&named.name, qualifier),
                memory: version.number("MemorySize"),
                timeout: version.number("Timeout"),
                reserved: function.reserved.is_some(),
                name: named.name,
                version: picked,
            })),
        }
    }

    pub(crate) async fn invoke(&self, payload: Bytes) -> Result<Response<Body>, AwsError> {
        let kind = self.text("InvocationType").unwrap_or("RequestResponse");
        let payload = checked(payload)?;
        let reached = self.reach().await?;
        match kind {
            "DryRun" => {
                let mut response = Response::new(body_of(""));
                *response.status_mut() = StatusCode::NO_CONTENT;
                Ok(response)
            }
            "Event" => {
                if payload.len() > EVENT_BYTES_MAX {
                    return Err(too_large(EVENT_BYTES_MAX));
                }
                let id = self.accept(&reached, &payload).await?;
                let mut response = Response::new(body_of(""));
                *response.status_mut() = StatusCode::ACCEPTED;
                put(response.headers_mut(), "x-amzn-requestid", &id);
                Ok(response)
            }
            _ => {
                let client_context = self.text("ClientContext").map(str::to_owned);
                let call = LambdaCall { arn: reached.arn.clone(), client_context };
                let outcome = call_once(self, &reached, &call, payload).await?;
                let mut response = Response::new(body_of(outcome.payload.clone()));
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                put(headers, "x-amz-executed-version", &reached.version);
                put(headers, "x-amzn-requestid", &outcome.id);
                if outcome.failed {
                    put(headers, FUNCTION_ERROR_HEADER, "Unhandled");
                }
                if self.text("LogType") == Some("Tail") {
                    let tail = logs::tail(self.face, self.around, &reached, &outcome).await;
                    put(headers, "x-amz-log-result", &STANDARD.encode(tail));
                }
                Ok(response)
            }
        }
    }

    pub(crate) async fn invoke_async(&self, payload: Bytes) -> Result<Response<Body>, AwsError> {
        let payload = checked(payload)?;
        if payload.len() > EVENT_BYTES_MAX {
            return Err(too_large(EVENT_BYTES_MAX));
        }
        let reached = self.reach().await?;
        self.accept(&reached, &payload).await?;
        let mut response = Response::new(body_of("{}"));
        *response.status_mut() = StatusCode::ACCEPTED;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }
}

/// Whether a payload is JSON, as every event is.
pub(crate) fn checked(payload: Bytes) -> Result<Bytes, AwsError> {
    if payload.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(&payload) {
        Ok(_) => Ok(payload),
        Err(error) => {
            let why = unreadable::told(&payload).unwrap_or_else(|| error.to_string());
            Err(AwsError::new(
                "InvalidRequestContentException",
                format!("Could not parse request body into json: Could not parse payload into json: {why}"),
            ))
        }
    }
}

/// Runs a version once, and waits for what it comes to.
pub(crate) async fn call_once(
    op: &Op<'_>,
    reached: &Reached,
    call: &LambdaCall,
    payload: Bytes,
) -> Result<Outcome, AwsError> {
    let (function, alias) = (names::platform(&reached.name), platform_alias(&reached.version));
    let tenant = &op.around.scope.tenant;
    let answer = op.face.platform.invoke(tenant, &function, &alias, call, payload).await;
    whole(reached, answer.map_err(|refusal| error(reached, &refusal))?).await
}

pub(crate) async fn whole(reached: &Reached, answer: Response<Answer>) -> Result<Outcome, AwsError> {
    let (head, body) = answer.into_parts();
    let id = text(&head.headers, ID_HEADER).map_or_else(face::uuid, str::to_owned);
    let code = text(&head.headers, ERROR_HEADER).map(str::to_owned);
    let failed = head.headers.contains_key(FUNCTION_ERROR_HEADER);
    let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let mut told = head.headers;
    let (payload, failed) = match (collected, code) {
        (Ok(collected), code) => {
            if let Some(trailers) = collected.trailers() {
                told.extend(trailers.clone());
            }
            let bytes = collected.to_bytes();
            match code.and_then(|_| refusal(&bytes)) {
                None => (bytes, failed),
                Some(refusal) => {
                    (told_of(reached, &id, &refusal).ok_or_else(|| error(reached, &refusal))?, true)
                }
            }
        }
        (Err(error), _) if error.is::<http_body_util::LengthLimitError>() => {
            let text = format!(
                "Response payload size exceeded maximum allowed payload size ({ANSWER_BYTES_MAX} bytes)."
            );
            (errors("Function.ResponseSizeTooLarge", &text), true)
        }
        (Err(_), _) => {
            let text = format!("RequestId: {id} Error: Runtime exited without providing a reason");
            (errors("Runtime.ExitError", &text), true)
        }
    };
    let billed_ms = text(&told, BILLED_HEADER).and_then(|ms| ms.parse().ok()).unwrap_or_default();
    let timing = text(&told, "server-timing").unwrap_or_default();
    let run_us = part_us(timing, "run;dur=").unwrap_or_default();
    let init_us = part_us(timing, "init;dur=").filter(|us| *us > 0);
    Ok(Outcome { id, billed_ms, payload, failed, run_us, init_us })
}

/// A part of what an answer says of its time, in microseconds. It is in milliseconds there, as W3C Server Timing has it.
fn part_us(timing: &str, name: &str) -> Option<u64> {
    let ms: f64 = timing.split(", ").find_map(|part| part.strip_prefix(name)?.parse().ok())?;
    let part = Duration::try_from_secs_f64(ms / 1e3).ok()?;
    u64::try_from(part.as_micros()).ok()
}

/// The refusal that an answer without a result holds, bare or wrapped.
fn refusal(bytes: &[u8]) -> Option<Refusal> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let value = value.get("error").cloned().filter(Value::is_object).unwrap_or(value);
    serde_json::from_value(value).ok()
}

/// What a function's failure looks like to its caller, in the words of AWS; nothing if no code ran.
pub(crate) fn told_of(reached: &Reached, id: &str, refusal: &Refusal) -> Option<Bytes> {
    Some(match refusal.code {
        Code::FunctionTimeout => errors(
            "Sandbox.Timedout",
            &format!("RequestId: {id} Error: Task timed out after {}.00 seconds", reached.timeout),
        ),
        Code::OutOfMemory => errors(
            "Runtime.OutOfMemory",
            &format!("RequestId: {id} Error: Runtime exited with error: signal: killed"),
        ),
        Code::ResponseTooLarge => errors(
            "Function.ResponseSizeTooLarge",
            &format!(
                "Response payload size exceeded maximum allowed payload size ({ANSWER_BYTES_MAX} bytes)."
            ),
        ),
        Code::FunctionError | Code::InvalidResponse => exited(id, &refusal.message),
        Code::StartFailed => {
            let told = refusal.message.split_once("did not start: ").map_or("", |(_, told)| told);
            let line = told.lines().next().unwrap_or_default();
            match line.split_once(": ").filter(|(kind, _)| !kind.contains(' ')) {
                Some((kind, message)) => errors(kind, message),
                None => exited(id, line),
            }
        }
        _ => return None,
    })
}

/// What is said of a runtime that ended of itself: one that says that it went well gives no reason.
fn exited(id: &str, message: &str) -> Bytes {
    let status = message.split_once("exit status ").or_else(|| message.split_once("status "));
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let why = match status.map(|(_, text)| digits(text)).filter(|status| status != "0") {
        Some(status) => format!("Runtime exited with error: exit status {status}"),
        None => "Runtime exited without providing a reason".to_owned(),
    };
    errors("Runtime.ExitError", &format!("RequestId: {id} Error: {why}"))
}

fn errors(kind: &str, message: &str) -> Bytes {
    Bytes::from(json!({ "errorType": kind, "errorMessage": message }).to_string())
}

/// What is said when no code ran.
pub(crate) fn error(reached: &Reached, refusal: &Refusal) -> AwsError {
    match refusal.code {
        Code::TooManyRequests => throttled(reached.reserved),
        Code::CapacityExhausted | Code::QuotaExceeded => throttled(false),
        Code::PayloadTooLarge => too_large(super::PAYLOAD_BYTES_MAX),
        _ => AwsError::service(refusal.message.clone()),
    }
}

fn throttled(reserved: bool) -> AwsError {
    let reason = if reserved {
        "ReservedFunctionConcurrentInvocationLimitExceeded"
    } else {
        "ConcurrentInvocationLimitExceeded"
    };
    let mut error = AwsError::new("TooManyRequestsException", "Rate Exceeded.");
    error.more.push(("Reason", reason));
    error
}

/// The version that a qualifier means, at a point between 0 and 1 of an alias' weights. Pure.
fn pick(function: &Function, qualifier: &str, point: f64) -> Option<String> {
    let Some(alias) = function.aliases.get(qualifier) else {
        return function.version(qualifier).map(|_| qualifier.to_owned());
    };
    let mut weights = alias.weights.iter().filter_map(|(version, weight)| Some((version, weight.as_f64()?)));
    // The point is never above 1, so that a weight of 1 takes all.
    let other = weights.find(|(_, weight)| *weight > 0.0 && point <= *weight);
    Some(other.map_or_else(|| alias.version.clone(), |(version, _)| version.clone()))
}

fn rand() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    #[expect(clippy::cast_possible_truncation, reason = "the low half is as good as any")]
    let low = RandomState::new().hash_one(0) as u32;
    low
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

pub(crate) fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Alias, Version};

    #[test]
    fn an_alias_shares_its_calls_by_weight() {
        let mut function = Function::default();
        function.versions.insert(1, Version::default());
        function.versions.insert(2, Version::default());
        let weights = [("2".to_owned(), json!(0.25))].into();
        let alias = Alias { version: "1".to_owned(), weights, ..Alias::default() };
        function.aliases.insert("live".to_owned(), alias);
        let picked = |qualifier: &str, point| pick(&function, qualifier, point);
        assert_eq!(picked("live", 0.2).as_deref(), Some("2"));
        assert_eq!(picked("live", 0.3).as_deref(), Some("1"));
        assert_eq!(picked("2", 0.9).as_deref(), Some("2"));
        assert_eq!(picked(LATEST, 0.9).as_deref(), Some(LATEST));
        assert_eq!((picked("3", 0.0), picked("none", 0.0)), (None, None));
    }

    #[test]
    fn failures_are_told_in_the_words_of_aws() {
        let reached = Reached {
            name: "f".to_owned(),
            version: LATEST.to_owned(),
            arn: String::new(),
            memory: 128,
            timeout: 3,
            reserved: false,
        };
        let told = |code, message: &str| {
            told_of(&reached, "id", &Refusal::new(code, message))
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        assert!(told(Code::FunctionTimeout, "").expect("told").contains("Task timed out after 3.00 seconds"));
        let init =
            told(Code::StartFailed, "default/f@1 did not start: Runtime.ImportModuleError: no module\nmore");
        let init: Value = serde_json::from_str(&init.expect("told")).expect("json");
        assert_eq!(init, json!({ "errorType": "Runtime.ImportModuleError", "errorMessage": "no module" }));
        let ended = |message: &str| told(Code::StartFailed, message).expect("told");
        let early = "default/f@1 did not start: it exited with status";
        assert!(
            ended(&format!("{early} 127 before it asked for work")).contains("with error: exit status 127\"")
        );
        assert!(ended(&format!("{early} 0 before it asked for work")).contains("without providing a reason"));
        assert_eq!(told(Code::NodeUnavailable, ""), None);
        assert_eq!(
            checked(Bytes::from_static(b"{")).expect_err("no JSON").name,
            "InvalidRequestContentException"
        );
    }
}
