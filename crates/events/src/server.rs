//! The socket of events: HTTP from our own processes alone.
//!
//! | request | answer |
//! |---|---|
//! | `POST /accept` | an event with its body; 202 once it is on the disk |
//! | `POST /once?window_ms=…` | a call with an idempotency key; 200 with its answer, framed |
//! | `POST /objects` | what happened to objects; 204 once what it rouses is on the disk |
//! | `POST /post` | an event of the platform's own and a URL; 204 once who answers there has taken it |
//! | `PUT /apps/<tenant>/<app>` | 204 when the app's snapshot is in force |
//! | `PUT /standing` | 204 when it pulls from queues, or does no more, as a node with this state does |
//! | `GET /work` | what is under way |
//! | `GET /metrics` | Prometheus' text |
//! | `GET /ps` | `[]`: no instances live here |
//! | `/queues/<tenant>/<queue>/…`, `/mappings/<tenant>/<id>` | what AWS' face asks: see `rouse_api::queues` |
//! | operations of the API for events | as `docs/openapi.json` says; control has checked who asks |

use std::{
    convert::Infallible, io, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rouse_api::operation;
use rouse_types::{
    AppName, Chain, Code, Egress, Event, NodeState, ObjectEvent, Refusal, TenantId, framed,
    limits::{HEADER_BYTES_MAX, HEADERS_MAX},
    trigger::EVENT_BYTES_MAX,
};
use serde::Serialize;
use tokio::{net::UnixListener, sync::Semaphore};
use tokio_util::task::TaskTracker;

use crate::{decide::Verdict, dispatch::Events, queue};

/// Connections at once, of all gateways and control.
const CONNECTIONS_MAX: usize = 4_096;
/// An event with its head.
const BODY_BYTES_MAX: usize = EVENT_BYTES_MAX + (1 << 20);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long requests under way may go on at the end.
const DRAIN: Duration = Duration::from_secs(5);

pub(crate) type Answer = Response<Full<Bytes>>;

/// Makes the socket, for the platform's own user alone. One that a killed predecessor left is replaced.
pub(crate) fn bind(state: &Path) -> io::Result<UnixListener> {
    let path = state.join("run").join("events.sock");
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until told to stop; then ends what is under way.
pub(crate) async fn serve(events: &Arc<Events>, listener: UnixListener) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            (accepted, place) = accepted => match accepted {
                Ok((stream, _)) => {
                    let events = Arc::clone(events);
                    connections.spawn(async move {
                        connection(events, TokioIo::new(stream)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = events.stop.cancelled() => break,
        }
    }
    drop(listener);
    connections.close();
    // What is still open after this ends with the process.
    let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
}

async fn connection(events: Arc<Events>, io: TokioIo<tokio::net::UnixStream>) {
    let service = service_fn(|request| {
        let events = Arc::clone(&events);
        async move {
            let answer = Box::pin(handle(&events, request)).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|refusal| refused(&refusal)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = events.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke off");
    }
}

async fn handle(events: &Arc<Events>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::POST, ["accept"]) => {
            let bytes = body(request.into_body(), BODY_BYTES_MAX).await?;
            let (event, body) =
                Event::decode(&bytes).map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))?;
            let accepted = events.accept(&event, body).await?;
            Ok(json(StatusCode::ACCEPTED, &accepted))
        }
        (&Method::POST, ["once"]) => {
            let window = request.uri().query().and_then(|query| query.strip_prefix("window_ms="));
            let window = window.and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
            let bytes = body(request.into_body(), BODY_BYTES_MAX).await?;
            let (event, body) =
                Event::decode(&bytes).map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))?;
            let body = bytes.slice_ref(body);
            let answered = events.once(event, body, window.unwrap_or_default()).await?;
            let framed = framed::encode(&answered.head, &answered.body);
            Ok(answer(StatusCode::OK, "application/octet-stream", framed))
        }
        (&Method::POST, ["objects"]) => {
            let bytes = body(request.into_body(), BODY_BYTES_MAX).await?;
            let happened: Vec<ObjectEvent> = serde_json::from_slice(&bytes)
                .map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))?;
            events.accept_objects(&happened).await?;
            Ok(answer(StatusCode::NO_CONTENT, "application/json", Bytes::new()))
        }
        (&Method::POST, ["post"]) => {
            let bytes = body(request.into_body(), BODY_BYTES_MAX).await?;
            let order: Post = serde_json::from_slice(&bytes)
                .map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))?;
            post(events, &order).await?;
            Ok(answer(StatusCode::NO_CONTENT, "application/json", Bytes::new()))
        }
        (&Method::PUT, ["apps", tenant, app]) => reload(events, tenant, app).await,
        (&Method::GET, ["metrics"]) => {
            const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            Ok(answer(StatusCode::OK, TYPE, events.metrics.text()))
        }
        (&Method::PUT, ["standing"]) => {
            let bytes = body(request.into_body(), BODY_BYTES_MAX).await?;
            let standing: NodeState = serde_json::from_slice(&bytes)
                .map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))?;
            let set = events.set_pulling(standing.takes_work()).await;
            set.map_err(|error| crate::accept::store(&error))?;
            Ok(answer(StatusCode::NO_CONTENT, "application/json", Bytes::new()))
        }
        (&Method::GET, ["work"]) => Ok(json(StatusCode::OK, &events.work())),
        (&Method::GET, ["ps"]) => Ok(answer(StatusCode::OK, "application/json", "[]")),
        (method, ["queues", rest @ ..]) => {
            let method = method.clone();
            let body = body(request.into_body(), BODY_BYTES_MAX).await?;
            let value = events.ask_queue(&method, rest, &body).await?;
            Ok(answer(StatusCode::OK, "application/json", value))
        }
        (method, ["mappings", rest @ ..]) => {
            let method = method.clone();
            let body = body(request.into_body(), BODY_BYTES_MAX).await?;
            let value = events.ask_mapping(&method, rest, &body).await?;
            Ok(answer(StatusCode::OK, "application/json", value))
        }
        (_, ["v1", ..]) => {
            let (operation, params) = operation::find(request.method(), &path)?;
            let text = request.uri().query().unwrap_or_default().to_owned();
            let (head, body_in) = request.into_parts();
            let (headers, body) = (head.headers, body(body_in, BODY_BYTES_MAX).await?);
            let of = |what: &str| operation.path.contains(what);
            let (status, value) = if of("/topics") {
                events.operate_topics(operation.id, &params, &headers, body).await?
            } else if of("/queues") {
                (StatusCode::OK, events.operate_queues(operation.id, &params, &text, &headers, body).await?)
            } else {
                (StatusCode::OK, events.operate(operation.id, &params, &text, &body).await?)
            };
            Ok(answer(status, "application/json", value))
        }
        _ => Err(Refusal::new(Code::OperationNotFound, format!("there is no operation {path} of events"))),
    }
}

/// An event of the platform's own that is posted to a URL, once.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Post {
    url: String,
    /// A CloudEvent in its structured form.
    event: serde_json::Value,
}

/// Posts it wherever functions with all egress may go: not to this machine, unless the operator's `hosts` say so.
async fn post(events: &Arc<Events>, order: &Post) -> Result<(), Refusal> {
    let event = serde_json::to_vec(&order.event).unwrap_or_default();
    match events.outgoing.post(&order.url, &Egress::All, &Chain::default(), &event).await {
        Verdict::Well => Ok(()),
        Verdict::Failed { reason, .. } => Err(Refusal::new(Code::BadRequest, reason)),
    }
}

async fn reload(events: &Arc<Events>, tenant: &str, app: &str) -> Result<Answer, Refusal> {
    let bad = |error: rouse_types::name::Error| Refusal::new(Code::BadRequest, error.to_string());
    let (tenant, app): (TenantId, AppName) = (tenant.parse().map_err(bad)?, app.parse().map_err(bad)?);
    events.table.reload(&tenant, &app).map_err(|error| {
        tracing::error!(%tenant, %app, %error, "a snapshot cannot be read; the one before stays in force");
        Refusal::new(Code::Internal, format!("the snapshot of '{app}' cannot be read: {error}"))
    })?;
    events.changed.send_replace(());
    events.make_queues().await;
    // What waits in a queue may have found its function.
    let resumed = events.resume(&queue::named(&tenant, "")).await;
    resumed.map_err(|error| crate::accept::store(&error))?;
    Ok(answer(StatusCode::NO_CONTENT, "application/json", Bytes::new()))
}

/// Reads a body within a bound.
pub(crate) async fn body(body: Incoming, bytes_max: usize) -> Result<Bytes, Refusal> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::new(Code::PayloadTooLarge, format!("the body has more than {bytes_max} bytes")))
        }
        Err(error) => Err(Refusal::new(Code::BadRequest, format!("the body broke off: {error}"))),
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer of one JSON value.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    answer(status, "application/json", serde_json::to_vec(value).unwrap_or_default())
}

fn refused(refusal: &Refusal) -> Answer {
    let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, refusal);
    if let Some(seconds) = refusal.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
