//! Has a gateway run a function for a client of the API, and says what it came to in the answer's head.
//!
//! What an invocation came to is known at its end, so the answer is held until then; what is too large for
//! that is to be asked at the function's own address.

use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use rouse_api::{
    COST_HEADER, OUTCOME_HEADER,
    query::{self, InvokeMode, InvokeQuery},
    wire,
};
use rouse_types::{
    Code, FunctionName, LIVE, Outcome, Refusal, TenantId,
    chain::CHAIN_HEADER,
    event::{ASYNC_HEADER, IDEMPOTENCY_HEADER, ORDERING_HEADER},
    invocation::{BILLED_HEADER, ERROR_HEADER, ID_HEADER},
};

use crate::{
    body::{self, Body},
    control::Control,
    view,
};

/// The largest answer that is held.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// What of the gateway's answer goes on to the client.
const FORWARDED: [&str; 8] = [
    "content-type",
    "retry-after",
    "server-timing",
    "x-amz-function-error",
    ID_HEADER,
    BILLED_HEADER,
    COST_HEADER,
    ERROR_HEADER,
];

impl Control {
    pub(crate) async fn invoke(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
        asked: InvokeQuery,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let alias = asked.alias.clone().unwrap_or_else(|| LIVE.to_owned());
        if alias.len() > 63 || !alias.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'$') {
            return Err(Refusal::new(
                Code::AliasNotFound,
                format!("function '{function}' has no such alias"),
            )
            .hint(format!("`rouse versions {function}` shows which there are")));
        }
        self.function(tenant, function).await?;
        let gateway: PathBuf = self.peers.gateway().await.ok_or_else(view::no_gateway)?;
        let (parts, body) = request.into_parts();
        let length = http_body::Body::size_hint(&body).exact();
        let mut onward = Request::new(body::paced(body));
        if let Some(length) = length {
            onward.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        *onward.method_mut() = Method::POST;
        // The gateway reads an alias as it stands; what was let through above needs no encoding.
        let path = match asked.alias {
            Some(alias) => format!("/invoke/{tenant}/{function}?alias={alias}"),
            None => format!("/invoke/{tenant}/{function}"),
        };
        *onward.uri_mut() = path
            .parse()
            .map_err(|_| Refusal::new(Code::BadRequest, "the function or alias is not a name"))?;
        let later = asked.mode == Some(InvokeMode::Event);
        if later {
            onward.headers_mut().insert(ASYNC_HEADER, HeaderValue::from_static("true"));
        }
        for name in ["content-type", "traceparent", CHAIN_HEADER, IDEMPOTENCY_HEADER, ORDERING_HEADER]
            .map(HeaderName::from_static)
        {
            if let Some(value) = parts.headers.get(&name) {
                onward.headers_mut().insert(name, value.clone());
            }
        }
        // Without it a server may leave trailers out (RFC 9110 §6.5.1), and hyper does.
        onward.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        let lost = |error: wire::Error| {
            if let Some(refusal) = body::refusal_within(&error) {
                return refusal.clone();
            }
            tracing::warn!(%error, "a gateway did not answer an invocation");
            Refusal::new(Code::NodeUnavailable, "the process that runs the function broke off")
                .hint("whether the function ran is not known: see `rouse logs`")
        };
        let answer = self.peers.invoke(gateway, onward).await.map_err(lost)?;
        let (head, body) = answer.into_parts();
        let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| {
            match error.downcast::<wire::Error>() {
                Ok(error) => lost(*error),
                Err(_) => Refusal::new(
                    Code::ResponseTooLarge,
                    format!("the answer has more than {} MiB", ANSWER_BYTES_MAX >> 20),
                )
                .hint(format!("call the function at its own address, {}", self.url(tenant, function))),
            }
        })?;
        let mut told = head.headers;
        if let Some(trailers) = collected.trailers() {
            told.extend(trailers.clone());
        }
        let bytes = collected.to_bytes();
        if later && head.status == StatusCode::ACCEPTED {
            let mut response = body::bytes("application/json", bytes);
            *response.status_mut() = StatusCode::ACCEPTED;
            if let Some(id) = told.get(ID_HEADER) {
                response.headers_mut().insert(ID_HEADER, id.clone());
            }
            return Ok(response);
        }
        let Some(outcome) = outcome(&told) else {
            return Err(refusal(&bytes, head.status));
        };
        // A refusal has the same form everywhere in this API.
        let bytes = match unwrap(&bytes).filter(|_| outcome != Outcome::Ok) {
            Some(refusal) => serde_json::to_vec(&refusal).map_or(bytes, Bytes::from),
            None => bytes,
        };
        let mut response = Response::new(Full::new(bytes).boxed_unsync());
        *response.status_mut() = head.status;
        let headers = response.headers_mut();
        for name in FORWARDED {
            if let Some(value) = told.get(name) {
                headers.insert(HeaderName::from_static(name), value.clone());
            }
        }
        headers.insert(OUTCOME_HEADER, HeaderValue::from_static(outcome.as_str()));
        Ok(response)
    }
}

/// How an invocation ended, of what the gateway tells. Nothing if none was begun: then nothing is billed.
fn outcome(told: &HeaderMap) -> Option<Outcome> {
    let error = told.get(ERROR_HEADER).and_then(|value| value.to_str().ok());
    let Some(error) = error else { return Some(Outcome::Ok) };
    Some(match error {
        "function-error" | "invalid-response" | "response-too-large" => Outcome::FunctionError,
        "function-timeout" | "timeout" => Outcome::Timeout,
        "out-of-memory" => Outcome::OutOfMemory,
        "start-failed" => Outcome::StartFailed,
        "internal" | "platform-error" => Outcome::PlatformError,
        _ => return None,
    })
}

/// A gateway puts a refusal into an object, for the function's callers.
fn unwrap(bytes: &[u8]) -> Option<Refusal> {
    #[derive(serde::Deserialize)]
    struct Wrapped {
        error: Refusal,
    }
    serde_json::from_slice::<Wrapped>(bytes)
        .map(|wrapped| wrapped.error)
        .or_else(|_| serde_json::from_slice(bytes))
        .ok()
}

fn refusal(bytes: &[u8], status: http::StatusCode) -> Refusal {
    unwrap(bytes).unwrap_or_else(|| Refusal::new(Code::Internal, format!("the gateway answered {status}")))
}

/// Reads the query of an invocation.
pub(crate) fn query(text: &str) -> Result<InvokeQuery, Refusal> {
    query::read(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_has_an_outcome_and_what_was_refused_has_none() {
        let told = |error: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(error) = error {
                headers.insert(ERROR_HEADER, HeaderValue::from_static(error));
            }
            outcome(&headers)
        };
        assert_eq!(told(None), Some(Outcome::Ok));
        assert_eq!(told(Some("function-timeout")), Some(Outcome::Timeout));
        assert_eq!(told(Some("too-many-requests")), None);
        let wrapped = br#"{"error":{"code":"function-not-found","message":"no"}}"#;
        assert_eq!(refusal(wrapped, http::StatusCode::NOT_FOUND).code, Code::FunctionNotFound);
        assert_eq!(refusal(b"?", http::StatusCode::BAD_GATEWAY).code, Code::Internal);
    }
}
