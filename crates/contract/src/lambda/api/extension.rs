//! The Extensions API: the operations below `/2020-01-01/extension/`, and the two subscriptions to telemetry, which
//! are answered as AWS answers them where there is no telemetry.

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;

use super::{ERROR_BYTES_MAX, Reply, error, ok, read, refuse};
use crate::lambda::{
    exchange::Exchange,
    extensions::{Denied, Event},
};

/// What the code is called, for extensions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    pub(crate) function: String,
    pub(crate) version: String,
    pub(crate) handler: String,
}

/// Answers a request whose path began with `/2020-01-01/extension/`.
pub(super) async fn answer(exchange: &Exchange, path: &str, request: Request<Incoming>) -> Reply {
    let answered = match (request.method(), path) {
        (&Method::POST, "register") => register(exchange, request).await,
        (&Method::GET, "event/next") => next(exchange, request.headers()).await,
        (&Method::POST, "init/error" | "exit/error") => failed(exchange, request).await,
        (_, "register" | "event/next" | "init/error" | "exit/error") => {
            Ok(refuse(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "not with this method"))
        }
        _ => Ok(refuse(StatusCode::NOT_FOUND, "NotFound", "no such operation of the Extensions API")),
    };
    answered.unwrap_or_else(denied)
}

/// Answers a subscription to telemetry or logs: taken, and nothing will come.
pub(super) async fn telemetry(exchange: &Exchange, kind: &str, request: Request<Incoming>) -> Reply {
    if request.method() != Method::PUT {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "not with this method");
    }
    if let Err(wrong) = identifier(request.headers()).and_then(|id| exchange.extensions.check(id)) {
        return denied(wrong);
    }
    // Read, so that the connection can be kept.
    drop(read(request.into_body(), ERROR_BYTES_MAX).await);
    let message = format!("{kind} API is not supported: read the function's log by `rouse logs`");
    refuse(StatusCode::ACCEPTED, &format!("{kind}.NotSupported"), &message)
}

async fn register(exchange: &Exchange, request: Request<Incoming>) -> Result<Reply, Denied> {
    #[derive(serde::Deserialize)]
    struct Body {
        #[serde(default)]
        events: Vec<String>,
    }
    let (head, body) = request.into_parts();
    let name = text(&head.headers, "lambda-extension-name").filter(|name| !name.is_empty());
    let name = name.ok_or(MISSING_NAME)?.to_owned();
    let wants_account = text(&head.headers, "lambda-extension-accept-feature")
        .is_some_and(|features| features.split(',').any(|feature| feature.trim() == "accountId"));
    let body = read(body, ERROR_BYTES_MAX).await.map_err(|_| INVALID_BODY)?;
    // Some clients that want no events send no body.
    let events = if body.is_empty() {
        Vec::new()
    } else {
        serde_json::from_slice::<Body>(&body).map_err(|_| INVALID_BODY)?.events
    };
    let id = exchange.extensions.register(&name, &events)?;
    let names = &exchange.names;
    let mut told = serde_json::json!({
        "functionName": names.function,
        "functionVersion": names.version,
        "handler": names.handler,
    });
    if wants_account {
        told["accountId"] = crate::lambda::environment::ACCOUNT.into();
    }
    Ok(with(("lambda-extension-identifier", &id), &told))
}

async fn next(exchange: &Exchange, headers: &HeaderMap) -> Result<Reply, Denied> {
    let event = exchange.extensions.next(identifier(headers)?).await?;
    let told = match &event {
        Event::Invoke { id, deadline_ms, trace } => serde_json::json!({
            "eventType": "INVOKE",
            "deadlineMs": deadline_ms,
            "requestId": id,
            "invokedFunctionArn": exchange.arn,
            "tracing": { "type": "X-Amzn-Trace-Id", "value": trace },
        }),
        Event::Shutdown { reason, deadline_ms } => serde_json::json!({
            "eventType": "SHUTDOWN",
            "shutdownReason": reason,
            "deadlineMs": deadline_ms,
        }),
    };
    let id = rouse_types::InvocationId::new().to_string();
    Ok(with(("lambda-extension-event-identifier", &id), &told))
}

async fn failed(exchange: &Exchange, request: Request<Incoming>) -> Result<Reply, Denied> {
    let id = identifier(request.headers())?.to_owned();
    exchange.extensions.check(&id)?;
    let kind = text(request.headers(), "lambda-extension-function-error-type").map(str::to_owned);
    let told = match error(request).await {
        Ok(told) => told,
        Err(reply) => return Ok(reply),
    };
    // The header is what the API requires; the body is as the extension likes.
    let told = match kind {
        Some(kind) if told.error_type == "Error" => crate::lambda::RuntimeError { error_type: kind, ..told },
        _ => told,
    };
    exchange.extensions.failed(&id, told)?;
    Ok(ok())
}

const MISSING_NAME: Denied =
    Denied::wrong("Extension.MissingHeader", "the header Lambda-Extension-Name is missing");
const INVALID_BODY: Denied =
    Denied::wrong("InvalidRequestFormat", r#"send {"events": ["INVOKE", "SHUTDOWN"]}"#);

fn identifier(headers: &HeaderMap) -> Result<&str, Denied> {
    const MISSING: Denied = Denied {
        status: 403,
        kind: "Extension.MissingExtensionIdentifier",
        message: "the header Lambda-Extension-Identifier is missing",
    };
    text(headers, "lambda-extension-identifier").ok_or(MISSING)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn denied(denied: Denied) -> Reply {
    let status = StatusCode::from_u16(denied.status).unwrap_or(StatusCode::FORBIDDEN);
    refuse(status, denied.kind, denied.message)
}

fn with((name, value): (&str, &str), body: &serde_json::Value) -> Reply {
    let reply = Response::builder()
        .header(name, value)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body.to_string().into()));
    reply.unwrap_or_else(|_| refuse(StatusCode::INTERNAL_SERVER_ERROR, "Internal", ""))
}
