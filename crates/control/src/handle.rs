//! The path of one request to the API, as a list: which operation, who asks, what is answered.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use rouse_api::{
    AuditQuery, DeployRequest, InvoiceQuery, LogsQuery, RollbackRequest, UsageQuery, openapi,
    operation::{self, Id, Params},
    query,
};
use rouse_types::{Alias, AppName, Digest, FunctionName, Refusal, TenantId, limits};
use tokio_util::sync::CancellationToken;

use crate::{
    body::{self, Body},
    control::Control,
    deploy, invoke, logs, metrics, state,
};

/// Answers one request.
pub(crate) async fn handle(
    control: Arc<Control>,
    request: Request<Incoming>,
    stop: CancellationToken,
) -> Response<Body> {
    let result = match operation::find(request.method(), request.uri().path()) {
        // Whether an operation exists is written in a public document; all else needs the token.
        Err(refusal) => Err(refusal),
        Ok((operation, params)) => {
            let allowed = if operation.open { Ok(()) } else { control.token.check(request.headers()) };
            match allowed {
                Ok(()) => Box::pin(act(&control, operation.id, params, request, stop)).await,
                Err(refusal) => Err(refusal),
            }
        }
    };
    control.metrics.answered(result.is_ok());
    result.unwrap_or_else(|refusal| body::refusal(&refusal))
}

async fn act(
    control: &Arc<Control>,
    id: Id,
    params: Params,
    request: Request<Incoming>,
    stop: CancellationToken,
) -> Result<Response<Body>, Refusal> {
    let tenant = || params.parse::<TenantId>("tenant");
    let app = || params.parse::<AppName>("app");
    let function = || params.parse::<FunctionName>("function");
    let text = request.uri().query().unwrap_or_default().to_owned();
    match id {
        Id::Info => body::json(&control.info().await?),
        Id::HasBlob => has_blob(control, &params),
        Id::PutBlob => put_blob(control, &params, request).await,
        Id::Deploy => {
            let (tenant, app) = (tenant()?, app()?);
            let wanted: DeployRequest = body::read_json(request.into_body()).await?;
            let (events, response) = body::lines();
            control.tasks.spawn(deploy::run(Arc::clone(control), tenant, app, wanted, events));
            Ok(response)
        }
        Id::ListApps => body::json(&control.list_apps(&tenant()?).await?),
        Id::GetApp => body::json(&control.get_app(&tenant()?, &app()?).await?),
        Id::DeleteApp => {
            let (tenant, app) = (tenant()?, app()?);
            detached(control, async move |control| body::json(&control.delete_app(&tenant, &app).await?))
                .await
        }
        Id::Rollback => {
            let (tenant, app) = (tenant()?, app()?);
            let RollbackRequest { to } = body::read_json(request.into_body()).await?;
            detached(control, async move |control| body::json(&control.rollback(&tenant, &app, to).await?))
                .await
        }
        Id::ListFunctions => body::json(&control.list_functions(&tenant()?).await?),
        Id::ListVersions => body::json(&control.list_versions(&tenant()?, &function()?).await?),
        Id::PutAlias => {
            let (tenant, function, name) = (tenant()?, function()?, params.parse("alias")?);
            let alias: Alias = body::read_json(request.into_body()).await?;
            detached(control, async move |control| {
                body::json(&control.put_alias(&tenant, &function, name, alias).await?)
            })
            .await
        }
        Id::GetAlias => {
            body::json(&control.get_alias(&tenant()?, &function()?, params.parse("alias")?).await?)
        }
        Id::DeleteAlias => {
            let (tenant, function, name) = (tenant()?, function()?, params.parse("alias")?);
            detached(control, async move |control| {
                body::json(&control.delete_alias(&tenant, &function, &name).await?)
            })
            .await
        }
        Id::Invoke => control.invoke(&tenant()?, &function()?, invoke::query(&text)?, request).await,
        Id::CreateKey => body::json(&control.create_key(&tenant()?).await?),
        Id::ListKeys => body::json(&control.list_keys(&tenant()?).await?),
        Id::DeleteKey => body::json(&control.delete_key(&tenant()?, params.get("key")).await?),
        Id::ListEvents
        | Id::GetEvent
        | Id::CancelEvent
        | Id::RedriveEvents
        | Id::PurgeEvents
        | Id::ListTriggers
        | Id::ListQueues
        | Id::CreateQueue
        | Id::GetQueue
        | Id::UpdateQueue
        | Id::DeleteQueue
        | Id::RedriveQueue
        | Id::SendMessage
        | Id::ReceiveMessages
        | Id::DeleteMessage
        | Id::PurgeQueue
        | Id::ListTopics
        | Id::PublishEvents => {
            // Who asks is known by now; all else is for the process that keeps events.
            tenant()?;
            crate::events::ask(control, request).await
        }
        Id::ListBuckets
        | Id::CreateBucket
        | Id::DeleteBucket
        | Id::ListObjects
        | Id::PutObject
        | Id::GetObject
        | Id::DeleteObject => {
            tenant()?;
            crate::objects::ask(control, request).await
        }
        Id::Logs => {
            let filter = logs::Filter::new(tenant()?, query::read::<LogsQuery>(&text)?)?;
            let (lines, response) = body::lines();
            control.tasks.spawn(logs::run(control.config.state.clone(), filter, lines, stop));
            Ok(response)
        }
        Id::Usage => body::json(&control.usage.report(tenant()?, &query::read::<UsageQuery>(&text)?).await?),
        Id::Invoice => {
            let month = params.get("month").parse().map_err(|wrong| {
                Refusal::new(rouse_types::Code::BadRequest, format!("the month is wrong: {wrong}"))
            })?;
            let InvoiceQuery { format } = query::read(&text)?;
            let now = control.config.clock.now();
            let (media, text) = control.usage.invoice(tenant()?, month, format, now).await?;
            Ok(body::bytes(media, text))
        }
        Id::AuditExport => {
            let range = control.usage.range(tenant()?, &query::read::<AuditQuery>(&text)?);
            control.usage.ingest().await?;
            let (lines, response) = body::lines();
            control.tasks.spawn(control.usage.clone().export(range, lines));
            Ok(response)
        }
        Id::AuditKey => body::json(&control.usage.key()),
        Id::Ps => {
            let tenant = tenant()?;
            let mut instances = control.peers.instances().await;
            instances.retain(|instance| instance.tenant == tenant);
            body::json(&instances)
        }
        Id::Metrics => {
            let others = control.peers.metrics().await;
            Ok(body::bytes(metrics::CONTENT_TYPE, control.metrics.all(others)))
        }
        Id::Health => Ok(body::bytes("text/plain", "ok\n")),
        Id::Ready => control.ready().await.map(|()| body::bytes("text/plain", "ready\n")),
        Id::Openapi => Ok(body::bytes("application/json", openapi::text())),
    }
}

/// Does what must be ended once it was begun, whether or not the client waits for it.
async fn detached<F>(
    control: &Arc<Control>,
    work: impl FnOnce(Arc<Control>) -> F,
) -> Result<Response<Body>, Refusal>
where
    F: Future<Output = Result<Response<Body>, Refusal>> + Send + 'static,
{
    let done = control.tasks.spawn(work(Arc::clone(control))).await;
    done.unwrap_or_else(|error| Err(state::io_refusal("end a change", &std::io::Error::other(error))))
}

fn has_blob(control: &Control, params: &Params) -> Result<Response<Body>, Refusal> {
    let digest: Digest = params.parse("digest")?;
    match control.blobs.path(&digest) {
        Some(_) => {
            // Uploaded long ago and about to be deployed: it must not be collected in between.
            control.in_use(digest);
            Ok(body::bytes("application/octet-stream", ""))
        }
        None => {
            let mut response = body::bytes("application/octet-stream", "");
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            Ok(response)
        }
    }
}

async fn put_blob(
    control: &Control,
    params: &Params,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    /// How much is gathered before it is written, in a thread that may block.
    const WRITE_BYTES: usize = 1 << 20;
    let digest: Digest = params.parse("digest")?;
    let too_large = || {
        Refusal::new(
            rouse_types::Code::CodeTooLarge,
            format!("the code has more than {} MiB", limits::IMAGE_BYTES_MAX >> 20),
        )
        .hint("leave out what the function does not need at run time")
    };
    let mut incoming = request.into_body();
    let said = http_body::Body::size_hint(&incoming).exact().unwrap_or_default();
    if said > limits::IMAGE_BYTES_MAX {
        return Err(too_large());
    }
    let failed = |error: rouse_store::Error| state::refusal(&error);
    let joined = |error| state::io_refusal("store an upload", &std::io::Error::other(error));
    let mut upload = control.blobs.begin(said).map_err(failed)?;
    let (mut bytes, mut gathered, mut more) = (0, Vec::new(), true);
    while more {
        match body::piece(&mut incoming).await? {
            Some(piece) => {
                bytes += piece.len() as u64;
                gathered.extend_from_slice(&piece);
            }
            None => more = false,
        }
        if bytes > limits::IMAGE_BYTES_MAX {
            return Err(too_large());
        }
        if gathered.len() >= WRITE_BYTES || !more {
            let pieces = std::mem::take(&mut gathered);
            let written = tokio::task::spawn_blocking(move || upload.write(&pieces).map(|()| upload));
            upload = written.await.map_err(joined)?.map_err(failed)?;
        }
    }
    let finished = tokio::task::spawn_blocking(move || upload.finish(Some(digest)));
    finished.await.map_err(joined)?.map_err(failed)?;
    control.in_use(digest);
    Ok(body::bytes("application/json", "{}"))
}
