//! What our own gateways hand over, and what control tells.
//!
//! | request | answer |
//! |---|---|
//! | `PUT /neighbours` | 204: which nodes there are, once a second |
//! | any, with the header `x-rouse-nodes` | what the first of these nodes answers that takes the call; else a gateway of this one |

use std::{
    convert::Infallible,
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, PoisonError},
    time::Duration,
};

use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Either, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use rouse_types::{
    Code, Delivery, Refusal,
    event::DELIVERY_HEADER,
    function::VersionKey,
    limits::HEADER_BYTES_MAX,
    node::{FORWARDED_HEADER, NODES_HEADER},
};
use tokio::net::{UnixListener, UnixStream};

use crate::{ACCEPT_PAUSE, Answer, Executor, Mesh, STREAMS_MAX, refuse, status};

/// What control tells of all nodes: some KiB for each.
const NEIGHBOURS_BYTES_MAX: usize = 16 << 20;

/// Makes the socket, for the platform's own user alone. One that a killed predecessor left is replaced.
pub(crate) fn bind(state: &Path) -> io::Result<UnixListener> {
    let path = state.join("run").join("mesh.sock");
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Accepts until the process' `stop`.
pub(crate) async fn accept(mesh: &Arc<Mesh>, listener: UnixListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = mesh.stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => drop(mesh.tasks.spawn(connection(Arc::clone(mesh), stream))),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(mesh: Arc<Mesh>, stream: UnixStream) {
    let own = Arc::clone(&mesh);
    let service = service_fn(move |request| {
        let mesh = Arc::clone(&own);
        async move { Ok::<_, Infallible>(Box::pin(handle(&mesh, request)).await) }
    });
    let mut builder = auto::Builder::new(Executor(mesh.tasks.clone()));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX));
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = mesh.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of one of our processes ended early");
    }
}

async fn handle(mesh: &Mesh, mut request: Request<Incoming>) -> Answer {
    if let Some(nodes) = request.headers_mut().remove(NODES_HEADER) {
        return hand_over(mesh, &nodes, request).await;
    }
    match (request.method(), request.uri().path()) {
        (&Method::PUT, "/neighbours") => {
            let body = Limited::new(request.into_body(), NEIGHBOURS_BYTES_MAX).collect().await;
            let read = body.ok().and_then(|body| serde_json::from_slice(&body.to_bytes()).ok());
            let Some(neighbours) = read else { return status(StatusCode::BAD_REQUEST) };
            *mesh.neighbours.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(neighbours));
            status(StatusCode::NO_CONTENT)
        }
        _ => status(StatusCode::NOT_FOUND),
    }
}

/// Hands a call to the first of these nodes that takes it. It goes to another only as long as nothing of it was sent.
async fn hand_over(mesh: &Mesh, nodes: &HeaderValue, request: Request<Incoming>) -> Answer {
    let delivery = request.headers().get(DELIVERY_HEADER).map(HeaderValue::as_bytes).unwrap_or_default();
    let version = serde_json::from_slice::<Delivery>(delivery).ok().and_then(|delivery| {
        let number = delivery.alias?.parse().ok()?;
        Some(VersionKey { tenant: delivery.tenant, function: delivery.function, number })
    });
    let Some(version) = version else {
        return refuse(&Refusal::new(Code::BadRequest, "a call that is handed over names its version"));
    };
    let mut request = request.map(Either::Left);
    let neighbours = mesh.neighbours();
    let known = neighbours.iter().flat_map(|known| &known.others);
    let known: Vec<_> = known.collect();
    for name in nodes.to_str().unwrap_or_default().split(',') {
        let Some(node) = known.iter().find(|node| node.node == name) else { continue };
        let mut sender = match mesh.link(node, &version).await {
            Ok(sender) => sender,
            Err(error) => {
                tracing::warn!(node = name, %error, "a node is not handed calls");
                continue;
            }
        };
        match sender.try_send_request(request).await {
            Ok(answer) => return answer.map(Either::Left),
            Err(mut failed) => match failed.take_message() {
                // It never left.
                Some(unsent) => request = unsent,
                None => {
                    let error = failed.into_error();
                    tracing::warn!(node = name, %error, "a node was lost with a call that it was handed");
                    let what =
                        format!("the node '{name}' was lost while it had the call; it may have run it");
                    let hint = "call again if running it twice does no harm";
                    let refusal = Refusal::new(Code::NodeUnavailable, what).hint(hint);
                    return refuse(&refusal.retry_after(Duration::from_secs(1)));
                }
            },
        }
    }
    // Here it is run as well as it can be, or waits.
    if let Ok(own) =
        HeaderValue::try_from(neighbours.map_or_else(String::new, |known| known.own.node.clone()))
    {
        request.headers_mut().insert(FORWARDED_HEADER, own);
    }
    match mesh.gateways.send(request).await {
        Ok(answer) => answer.map(Either::Left),
        Err(error) => {
            tracing::warn!(%error, "a gateway did not answer");
            let refusal = Refusal::new(Code::NodeUnavailable, "no gateway of this node answered the call");
            refuse(&refusal.retry_after(Duration::from_secs(1)))
        }
    }
}
