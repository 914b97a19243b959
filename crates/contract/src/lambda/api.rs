//! The Runtime API as one instance sees it: HTTP/1.1 on the sandbox's own loopback.
//!
//! The peer is the function's own code, and may be hostile. It has few connections, small heads, and bodies that
//! are counted; being slow is bounded by the call's deadline, which ends the whole sandbox.

pub(crate) mod extension;
mod response;

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rouse_sandbox::Listener;
use tokio::{sync::oneshot, task::JoinSet};

use super::exchange::{Call, Exchange, Posted, RuntimeError, Wrong};

/// Connections of one instance at a time, and for each call that it runs at once: clients use one to ask and one to
/// answer.
const CONNECTIONS_MAX: usize = 16;
const CONNECTIONS_PER_CALL: usize = 2;
/// The head of a request, in bytes: clients send a few hundred.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// The body of an error: a message and a stack trace.
const ERROR_BYTES_MAX: u64 = 256 << 10;
/// What is still read of an answer that is too large, so that the client gets to read why.
const DRAIN_BYTES_MAX: u64 = 64 << 20;
/// The kernel has no more descriptors, say: trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Reply = Response<Full<Bytes>>;

/// Serves until it is dropped.
pub(crate) async fn serve(mut listener: Listener, exchange: Arc<Exchange>) {
    let mut connections = JoinSet::new();
    let most = CONNECTIONS_MAX + CONNECTIONS_PER_CALL * exchange.concurrency;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(stream) if connections.len() < most => {
                    let exchange = Arc::clone(&exchange);
                    connections.spawn(async move {
                        let service = service_fn(move |request| {
                            let exchange = Arc::clone(&exchange);
                            async move { Ok::<_, Infallible>(answer(&exchange, request).await) }
                        });
                        let served = http1::Builder::new()
                            .max_buf_size(HEAD_BYTES_MAX)
                            // One write per answer: a head alone would wait for a delayed acknowledgement.
                            .writev(false)
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                        if let Err(error) = served {
                            tracing::debug!(%error, "a connection to the Runtime API broke");
                        }
                    });
                }
                Ok(_) => tracing::debug!("a connection too many to the Runtime API was closed"),
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
                Err(error) => {
                    tracing::warn!(%error, "the Runtime API cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn answer(exchange: &Exchange, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    if let Some(path) = path.strip_prefix("/2020-01-01/extension/") {
        return extension::answer(exchange, path, request).await;
    }
    match path.as_str() {
        "/2022-07-01/telemetry" => return extension::telemetry(exchange, "Telemetry", request).await,
        "/2020-08-15/logs" => return extension::telemetry(exchange, "Logs", request).await,
        _ => {}
    }
    let Some(path) = path.strip_prefix("/2018-06-01/runtime/") else {
        return refuse(StatusCode::NOT_FOUND, "NotFound", "no such operation of the Runtime API");
    };
    let segments: Vec<_> = path.split('/').collect();
    match (request.method(), segments.as_slice()) {
        (&Method::GET, ["invocation", "next"]) => match exchange.next().await {
            Ok(call) => next(exchange, call),
            Err(wrong) => wrong_post(wrong),
        },
        (&Method::POST, ["invocation", id, "response"]) => response::take(exchange, id, request).await,
        (&Method::POST, ["invocation", id, "error"]) => match error(request).await {
            Ok(error) => match exchange.take(id) {
                Ok(posted) => accepted(posted, Posted::Error(error)),
                Err(wrong) => wrong_post(wrong),
            },
            Err(reply) => reply,
        },
        (&Method::POST, ["init", "error"]) => match error(request).await {
            Ok(error) => match exchange.init_error(error) {
                Ok(()) => ok(),
                Err(wrong) => wrong_post(wrong),
            },
            Err(reply) => reply,
        },
        (_, ["invocation", "next"] | ["invocation", _, "response" | "error"] | ["init", "error"]) => {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "not with this method")
        }
        _ => refuse(StatusCode::NOT_FOUND, "NotFound", "no such operation of the Runtime API"),
    }
}

fn next(exchange: &Exchange, call: Call) -> Reply {
    let mut reply = Response::builder()
        .header(header::CONTENT_TYPE, "application/json")
        .header("lambda-runtime-aws-request-id", call.id.to_string())
        .header("lambda-runtime-deadline-ms", call.deadline.as_millis())
        .header("lambda-runtime-invoked-function-arn", call.arn.as_ref().unwrap_or(&exchange.arn))
        .header("lambda-runtime-trace-id", &call.trace);
    let header = |value: &String| HeaderValue::from_bytes(value.as_bytes()).ok();
    for (name, value) in [
        ("lambda-runtime-client-context", &call.client_context),
        ("lambda-runtime-cognito-identity", &call.cognito_identity),
        ("lambda-runtime-aws-tenant-id", &call.tenant_id),
    ] {
        // What cannot stand in a header was not meant for one: the call goes on without it.
        if let Some(value) = value.as_ref().and_then(header) {
            reply = reply.header(name, value);
        }
    }
    reply.body(Full::new(call.payload)).unwrap_or_else(|error| {
        tracing::error!(%error, "an invocation cannot be written as headers");
        refuse(StatusCode::INTERNAL_SERVER_ERROR, "Internal", "")
    })
}

async fn error(request: Request<Incoming>) -> Result<RuntimeError, Reply> {
    let (head, body) = request.into_parts();
    let kind = head.headers.get("lambda-runtime-function-error-type").and_then(|kind| kind.to_str().ok());
    match read(body, ERROR_BYTES_MAX).await {
        Ok(body) => Ok(RuntimeError::read(kind, &body)),
        // What is too long to be read still is an error of the handler.
        Err(ReadError::TooLarge) => Ok(RuntimeError::read(kind, &[])),
        Err(ReadError::Broken) => {
            Err(refuse(StatusCode::BAD_REQUEST, "InvalidRequest", "the body broke off"))
        }
    }
}

enum ReadError {
    TooLarge,
    Broken,
}

async fn read(mut body: Incoming, max: u64) -> Result<Bytes, ReadError> {
    let announced = body.size_hint().exact();
    let capacity = announced.unwrap_or(0).min(max).min(1 << 20);
    let mut whole = BytesMut::with_capacity(usize::try_from(capacity).unwrap_or(0));
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ReadError::Broken)?.into_data() else { continue };
        seen += data.len() as u64;
        if seen <= max {
            // The usual answer comes in one piece, and is not copied.
            if whole.is_empty() && announced == Some(seen) {
                return Ok(data);
            }
            whole.extend_from_slice(&data);
        } else if seen > max.saturating_add(DRAIN_BYTES_MAX) {
            break;
        } else {
            whole = BytesMut::new();
        }
    }
    if seen > max { Err(ReadError::TooLarge) } else { Ok(whole.freeze()) }
}

fn accepted(posted: oneshot::Sender<Posted>, answer: Posted) -> Reply {
    // If nobody waits any more, the sandbox is about to end; the code need not know.
    drop(posted.send(answer));
    ok()
}

fn ok() -> Reply {
    json(StatusCode::ACCEPTED, r#"{"status":"OK"}"#.into())
}

fn too_large(max: u64) -> Reply {
    let message = format!("Exceeded maximum allowed payload size ({max} bytes).");
    refuse(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message)
}

fn wrong_post(wrong: Wrong) -> Reply {
    match wrong {
        Wrong::RequestId => refuse(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID"),
        Wrong::State => {
            refuse(StatusCode::FORBIDDEN, "InvalidStateTransition", "State transition is not allowed")
        }
    }
}

fn refuse(status: StatusCode, kind: &str, message: &str) -> Reply {
    json(status, serde_json::json!({ "errorType": kind, "errorMessage": message }).to_string().into())
}

fn json(status: StatusCode, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
