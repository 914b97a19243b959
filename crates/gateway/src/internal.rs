//! What the other processes of this platform ask of a gateway, over its unix socket.
//!
//! | request | answer |
//! |---|---|
//! | `PUT /apps/<tenant>/<app>` | 204 when the app's snapshot is in force |
//! | `POST /invoke/<tenant>/<function>?alias=…` | the function's answer to the payload |
//! | `GET /metrics` | Prometheus' text |
//! | `GET /ps` | `[]`: component instances live for a call only |

use std::{path::PathBuf, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use rouse_types::{AppName, Code, InvocationId, Refusal, Source, TenantId};
use tokio::net::UnixListener;

use crate::{Config, Error, answer, body::Body, handle::Gateway, route::Target};

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
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::PUT, ["apps", tenant, app]) => reload(&gateway, tenant, app),
        (&Method::POST, ["invoke", tenant, function]) => {
            let alias = alias(request.uri()).map(str::to_owned);
            *request.uri_mut() = Uri::from_static("/");
            let target = Target { tenant, function, alias: alias.as_deref(), path: "/" };
            gateway.invoke(request, &target, Source::Invoke, None, started).await
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

fn alias(uri: &Uri) -> Option<&str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("alias=")).filter(|alias| !alias.is_empty())
}

fn reload(gateway: &Gateway, tenant: &str, app: &str) -> Response<Body> {
    let refuse =
        |message: String| answer::refuse(InvocationId::new(), &Refusal::new(Code::BadRequest, message), None);
    let (tenant, app) = match (tenant.parse::<TenantId>(), app.parse::<AppName>()) {
        (Ok(tenant), Ok(app)) => (tenant, app),
        (Err(error), _) | (_, Err(error)) => return refuse(error.to_string()),
    };
    match gateway.table.reload(&tenant, &app) {
        Ok(()) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Err(error) => {
            tracing::error!(%tenant, %app, %error, "a snapshot cannot be read; the one before stays in force");
            refuse(format!("the snapshot of '{app}' cannot be read: {error}"))
        }
    }
}
