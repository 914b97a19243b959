//! The socket of objects: HTTP from our own processes alone. Strangers are served by S3.
//!
//! | request | answer |
//! |---|---|
//! | `PUT /apps/<tenant>/<app>` | 204 when there are the buckets that the app's triggers name |
//! | `GET /metrics` | Prometheus' text |
//! | `GET /ps` | `[]`: no instances live here |
//! | operations of the API for objects | as `docs/openapi.json` says; control has checked who asks |

use std::{convert::Infallible, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::Service};
use prometheus_client::{encoding::text::encode, metrics::gauge::ConstGauge, registry::Registry};
use rouse_api::operation;
use rouse_types::{AppName, AppSnapshot, Code, Refusal, TenantId, trigger::On};

use crate::objects::{Caller, Error, Objects};

mod operations;

pub(crate) type Body = UnsyncBoxBody<Bytes, Error>;

/// Who makes the buckets of triggers.
const REQUESTER: &str = "rouse";

/// The service as a value for hyper.
#[derive(Debug, Clone)]
pub(crate) struct Own(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    objects: Objects,
    state: PathBuf,
}

impl Own {
    /// Takes up what was deployed while this process was away.
    pub(crate) async fn open(objects: Objects, state: PathBuf) -> Self {
        let own = Self(Arc::new(Inner { objects, state }));
        let tenants = own.0.state.join("apps").read_dir().into_iter().flatten().flatten();
        for app in tenants.flat_map(|tenant| tenant.path().read_dir().into_iter().flatten().flatten()) {
            let read = std::fs::read(app.path());
            let snapshot = read.map(|bytes| serde_json::from_slice::<AppSnapshot>(&bytes));
            match snapshot {
                Ok(Ok(snapshot)) => {
                    if let Err(error) = own.make_buckets(&snapshot).await {
                        let error: &dyn std::error::Error = &error;
                        tracing::error!(error, app = %snapshot.app, "a trigger's bucket cannot be made");
                    }
                }
                _ => tracing::error!(file = %app.path().display(), "a snapshot cannot be read"),
            }
        }
        own
    }

    async fn make_buckets(&self, snapshot: &AppSnapshot) -> Result<(), Error> {
        let caller = Caller { tenant: snapshot.tenant.clone(), requester: REQUESTER.to_owned() };
        let versions = snapshot.functions.iter().flat_map(|route| route.versions.values());
        for trigger in versions.flat_map(|version| &version.triggers) {
            let On::Object(source) = &trigger.on else { continue };
            match self.0.objects.create_bucket(&caller, &source.bucket).await {
                Ok(()) | Err(Error::BucketExists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (request.method(), parts.as_slice()) {
            (&Method::PUT, ["apps", tenant, app]) => self.deployed(tenant, app).await,
            (&Method::GET, ["metrics"]) => {
                const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                Ok(answer(StatusCode::OK, TYPE, self.metrics()))
            }
            (&Method::GET, ["ps"]) => Ok(answer(StatusCode::OK, "application/json", "[]")),
            (_, ["v1", ..]) => {
                let (operation, params) = operation::find(request.method(), &path)?;
                operations::run(&self.0.objects, operation.id, &params, request).await
            }
            _ => {
                Err(Refusal::new(Code::OperationNotFound, format!("there is no operation {path} of objects")))
            }
        }
    }

    /// Makes what the snapshot of an app asks for. One that is gone asks for nothing: objects outlive apps.
    async fn deployed(&self, tenant: &str, app: &str) -> Result<Response<Body>, Refusal> {
        let bad = |error: rouse_types::name::Error| Refusal::new(Code::BadRequest, error.to_string());
        let (tenant, app): (TenantId, AppName) = (tenant.parse().map_err(bad)?, app.parse().map_err(bad)?);
        let path = self.0.state.join("apps").join(tenant.as_str()).join(format!("{app}.json"));
        let failed = |what: String| {
            tracing::error!(%tenant, %app, what, "the buckets of an app cannot be made");
            Refusal::new(Code::Internal, format!("the buckets of '{app}' cannot be made: {what}"))
        };
        match std::fs::read(path) {
            Ok(bytes) => {
                let snapshot = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
                self.make_buckets(&snapshot).await.map_err(|error| failed(error.to_string()))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error.to_string())),
        }
        Ok(answer(StatusCode::NO_CONTENT, "application/json", Bytes::new()))
    }

    fn metrics(&self) -> String {
        let mut registry = Registry::with_prefix("rouse_objects");
        let waiting = i64::try_from(self.0.objects.outbox().waiting()).unwrap_or(i64::MAX);
        let help = "Events of objects that were not yet handed to the process of events";
        registry.register("events_waiting", help, ConstGauge::new(waiting));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

impl Service<Request<Incoming>> for Own {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let own = self.clone();
        async move { Ok(own.handle(request).await.unwrap_or_else(|refusal| refused(&refusal))) }.boxed()
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer(status, "application/json", serde_json::to_vec(refusal).unwrap_or_default());
    if let Some(seconds) = refusal.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
