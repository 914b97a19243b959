//! What the other processes of this platform ask of a gateway, over its unix socket.
//!
//! | request | answer |
//! |---|---|
//! | `PUT /apps/<tenant>/<app>` | 204 when the app's snapshot is in force |
//! | `PUT /quotas` | 204 when what limits tenants is in force |
//! | `PUT /keys/<tenant>` | 204 when the tenant's keys are in force |
//! | `POST /invoke/<tenant>/<function>?alias=…` | the function's answer to the payload |
//! | any, with the header `x-rouse-delivery` | the function's answer to the request, which delivers an event |
//! | `PUT /neighbours` | 204: which other nodes there are |
//! | `GET /versions/<tenant>/<function>/<number>` | 204 if it is here, else 404 |
//! | `GET /work` | what is under way of components: of all else the node tells |
//! | `GET /metrics` | Prometheus' text |
//! | `GET /ps` | `[]`: component instances live for a call only |

use std::{path::PathBuf, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use rouse_types::{
    AppName, Code, Delivery, InvocationId, Refusal, Source, TenantId, event::DELIVERY_HEADER,
    node::FORWARDED_HEADER,
};
use tokio::net::UnixListener;

use crate::{
    Config, Error, answer,
    body::Body,
    handle::{Gateway, Origin},
    route::Target,
};

/// What control tells of all nodes: some KiB for each.
const NEIGHBOURS_BYTES_MAX: usize = 16 << 20;

/// Makes the gateway's socket. One that a killed predecessor left is replaced.
pub(crate) fn bind(config: &Config) -> Result<UnixListener, Error> {
    let path: PathBuf = config.state.join("run").join(format!("gateway-{}.sock", config.index));
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(format!("remove {}", path.display()))(error));
        }
        _ => {}
    }
    UnixListener::bind(&path).map_err(Error::io(format!("listen on {}", path.display())))
}

/// Answers one request of another of our processes.
pub(crate) async fn handle(gateway: Arc<Gateway>, mut request: Request<Incoming>) -> Response<Body> {
    let started = Instant::now();
    if let Some(delivery) = request.headers().get(DELIVERY_HEADER) {
        let delivery = serde_json::from_slice::<Delivery>(delivery.as_bytes());
        return deliver(&gateway, delivery, request, started).await;
    }
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::PUT, ["apps", tenant, app]) => reload(&gateway, tenant, app),
        (&Method::PUT, ["quotas"]) => match gateway.quota.reload() {
            Ok(()) => in_force(),
            Err(error) => {
                tracing::error!(%error, "what limits tenants cannot be read; what was before stays in force");
                bad(format!("what limits tenants cannot be read: {error}"))
            }
        },
        (&Method::PUT, ["keys", tenant]) => reload_keys(&gateway, tenant),
        (&Method::POST, ["invoke", tenant, function]) => {
            let alias = alias(request.uri()).map(str::to_owned);
            *request.uri_mut() = Uri::from_static("/");
            let target = Target { tenant, function, alias: alias.as_deref(), path: "/" };
            gateway.invoke(request, &target, Origin::call(Source::Invoke, None, started)).await
        }
        (&Method::PUT, ["neighbours"]) => neighbours(&gateway, request).await,
        (&Method::GET, ["versions", tenant, function, number]) => {
            let target = Target { tenant, function, alias: Some(number), path: "/" };
            let is_here = number.parse::<u64>().is_ok() && gateway.table.pick(&target, false, || 0).is_ok();
            if is_here { in_force() } else { status(StatusCode::NOT_FOUND) }
        }
        (&Method::GET, ["work"]) => {
            let work = serde_json::to_vec(&gateway.admission.work()).unwrap_or_default();
            Response::new(Body::full(Bytes::from(work)))
        }
        (&Method::GET, ["metrics"]) => {
            let text = gateway.metrics.text(gateway.table.len(), gateway.journals.lost());
            Response::new(Body::full(Bytes::from(text)))
        }
        (&Method::GET, ["ps"]) => Response::new(Body::full(Bytes::from_static(b"[]"))),
        _ => answer::refuse(
            InvocationId::new(),
            &Refusal::new(Code::OperationNotFound, format!("a gateway has no operation {path}")),
            None,
        ),
    }
}

/// Takes what control tells of the other nodes.
async fn neighbours(gateway: &Gateway, request: Request<Incoming>) -> Response<Body> {
    let body = Limited::new(request.into_body(), NEIGHBOURS_BYTES_MAX).collect().await;
    let read = body.map(|body| serde_json::from_slice(&body.to_bytes()));
    match read {
        Ok(Ok(known)) => {
            gateway.mesh.set(known);
            in_force()
        }
        Ok(Err(error)) => bad(format!("which nodes there are cannot be read: {error}")),
        Err(error) => bad(format!("which nodes there are cannot be read: {error}")),
    }
}

/// Has a function handle an event: the request is what the code sees, the target stands in the header.
async fn deliver(
    gateway: &Arc<Gateway>,
    delivery: Result<Delivery, serde_json::Error>,
    mut request: Request<Incoming>,
    started: Instant,
) -> Response<Body> {
    let forwarded = request.headers_mut().remove(FORWARDED_HEADER).is_some();
    if forwarded {
        // Its address was that of a socket; the caller's is in its header.
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
    }
    let delivery = match delivery {
        Ok(delivery) => delivery,
        Err(error) => {
            let refusal = Refusal::new(Code::BadRequest, format!("the header {DELIVERY_HEADER}: {error}"));
            return answer::refuse(InvocationId::new(), &refusal, None);
        }
    };
    let Delivery { id, tenant, function, alias, attempt, source, caller, peer } = delivery;
    let path = request.uri().path().to_owned();
    let (tenant, function) = (tenant.as_str(), function.as_str());
    let target = Target { tenant, function, alias: alias.as_deref(), path: &path };
    gateway
        .invoke(
            request,
            &target,
            Origin { id, attempt, source, peer, caller, defers: false, forwarded, started },
        )
        .await
}

fn alias(uri: &Uri) -> Option<&str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("alias=")).filter(|alias| !alias.is_empty())
}

fn reload_keys(gateway: &Gateway, tenant: &str) -> Response<Body> {
    let done = tenant.parse::<TenantId>().map_err(|error| error.to_string()).and_then(|tenant| {
        gateway.callers.reload(&tenant).map_err(|error| {
            tracing::error!(%tenant, %error, "a tenant's keys cannot be read; those before stay in force");
            format!("the keys of '{tenant}' cannot be read: {error}")
        })
    });
    match done {
        Ok(()) => in_force(),
        Err(message) => bad(message),
    }
}

fn reload(gateway: &Gateway, tenant: &str, app: &str) -> Response<Body> {
    let (tenant, app) = match (tenant.parse::<TenantId>(), app.parse::<AppName>()) {
        (Ok(tenant), Ok(app)) => (tenant, app),
        (Err(error), _) | (_, Err(error)) => return bad(error.to_string()),
    };
    match gateway.table.reload(&tenant, &app) {
        Ok(()) => in_force(),
        Err(error) => {
            tracing::error!(%tenant, %app, %error, "a snapshot cannot be read; the one before stays in force");
            bad(format!("the snapshot of '{app}' cannot be read: {error}"))
        }
    }
}

fn in_force() -> Response<Body> {
    status(StatusCode::NO_CONTENT)
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn bad(message: String) -> Response<Body> {
    answer::refuse(InvocationId::new(), &Refusal::new(Code::BadRequest, message), None)
}
