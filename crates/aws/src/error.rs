//! Errors as AWS shapes them: a name, a status, and a message under the key that the model has for that error.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Map, Value};

use crate::{Body, model};

/// What a client of AWS is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {message}")]
pub(crate) struct AwsError {
    /// Its name: `ResourceNotFoundException`.
    pub(crate) name: &'static str,
    /// What it says.
    pub(crate) message: String,
    /// Members besides the message.
    pub(crate) more: Vec<(&'static str, &'static str)>,
    /// Whether it has no `Type`, though its shape has one: some operations of AWS leave it out.
    pub(crate) untyped: bool,
    /// Seconds after which to try again.
    pub(crate) retry_after: Option<u64>,
}

/// Errors that every service has; botocore's models leave them out. With their status and the key of the message.
const COMMON: [(&str, u16, &str); 10] = [
    ("ValidationException", 400, "message"),
    ("SerializationException", 400, "Message"),
    ("AccessDeniedException", 403, "Message"),
    ("UnknownOperationException", 404, "Message"),
    ("MissingAuthenticationTokenException", 403, "message"),
    ("IncompleteSignatureException", 403, "message"),
    ("InvalidSignatureException", 403, "message"),
    ("UnrecognizedClientException", 403, "message"),
    ("ExpiredTokenException", 403, "message"),
    ("RequestEntityTooLargeException", 413, "Message"),
];

impl AwsError {
    pub(crate) fn new(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, message: message.into(), more: Vec::new(), untyped: false, retry_after: None }
    }

    /// The same without a `Type`.
    pub(crate) fn untyped(self) -> Self {
        Self { untyped: true, ..self }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new("ResourceNotFoundException", message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new("ResourceConflictException", message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterValueException", message)
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    /// A fault of ours. What it is goes to the log.
    pub(crate) fn service(what: impl Into<String>) -> Self {
        Self::new("ServiceException", what)
    }

    /// What a service says that is not there (yet).
    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self::invalid(what)
    }

    pub(crate) fn status(&self) -> u16 {
        let known = model::ERRORS.iter().find(|error| error.name == self.name).map(|error| error.status);
        let common = || COMMON.iter().find(|(name, ..)| *name == self.name).map(|(_, status, _)| *status);
        known.or_else(common).unwrap_or(400)
    }

    /// Its members, as JSON.
    pub(crate) fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        let shape = model::ERRORS.iter().find(|error| error.name == self.name);
        if let Some(shape) = shape.filter(|shape| shape.typed && !self.untyped) {
            body.insert("Type".to_owned(), Value::from(if shape.fault { "Service" } else { "User" }));
        }
        let common = || COMMON.iter().find(|(name, ..)| *name == self.name).map(|(.., key)| *key);
        let key = shape.map(|shape| shape.message).or_else(common).unwrap_or("message");
        body.insert(key.to_owned(), Value::from(self.message.clone()));
        for (name, value) in &self.more {
            body.insert((*name).to_owned(), Value::from(*value));
        }
        body
    }

    /// The answer of a service that speaks REST and JSON.
    pub(crate) fn rest_json(&self) -> Response<Body> {
        let body = Bytes::from(Value::from(self.body()).to_string());
        let mut response = Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HeaderName::from_static("x-amzn-errortype"), HeaderValue::from_static(self.name));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(error: &AwsError) -> Value {
        Value::from(error.body())
    }

    #[test]
    fn the_key_of_the_message_is_the_models() {
        let missing = AwsError::not_found("Function not found: x");
        assert_eq!(body(&missing), json!({ "Type": "User", "Message": "Function not found: x" }));
        assert_eq!(missing.status(), 404);
        let wrong = AwsError::invalid("no");
        assert_eq!(body(&wrong), json!({ "Type": "User", "message": "no" }));
        assert_eq!(body(&wrong.untyped()), json!({ "message": "no" }));
        assert_eq!(AwsError::conflict("x").status(), 409);
        let fault = AwsError::service("x");
        assert_eq!((&body(&fault)["Type"], fault.status()), (&json!("Service"), 500));
    }

    #[test]
    fn a_request_that_breaks_a_constraint_gets_no_type() {
        let error = AwsError::validation("1 validation error detected");
        assert_eq!(body(&error), json!({ "message": "1 validation error detected" }));
        let response = error.rest_json();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["x-amzn-errortype"], "ValidationException");
    }
}
