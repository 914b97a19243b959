//! The path of one request to the API, as a list: which operation, who asks, what is answered.

use std::{net::IpAddr, sync::Arc};

use http::{Request, Response};
use hyper::body::Incoming;
use rouse_api::{
    AuditQuery, DeployRequest, InvoiceQuery, LogsQuery, RollbackRequest, UsageQuery, openapi,
    operation::{self, Id, Operation, Params},
    query,
};
use rouse_types::{Alias, AppName, Code, FunctionName, Refusal, TenantId};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::{self, UnderWay},
    body::{self, Body},
    control::Control,
    deploy, invoke, logs, metrics,
    server::Way,
    sign_in, state, uploads,
    who::Who,
};

/// Answers one request.
pub(crate) async fn handle(
    control: Arc<Control>,
    request: Request<Incoming>,
    way: Way,
    stop: CancellationToken,
) -> Response<Body> {
    let from = way.from;
    if from.is_none() && audit::theirs::is_meant(request.uri().path()) {
        let result = control.their_action(request).await;
        return result.unwrap_or_else(|refusal| body::refusal(&refusal));
    }
    let result = match operation::find(request.method(), request.uri().path()) {
        // Whether an operation exists is written in a public document; all else needs a token or a key.
        Err(refusal) => Err(refusal),
        // Probes tell nothing, and are told nothing, that others may not read.
        Ok((operation, _)) if way.exposed && !matches!(operation.id, Id::Health | Id::Ready) => {
            Err(Refusal::new(Code::HttpsRequired, "this address takes plain HTTP from its own machine alone")
                .hint("write https:// in --url or ROUSE_URL; --ca FILE names a company's own authority"))
        }
        Ok((operation, params)) => Box::pin(answer(&control, operation, params, request, from, stop)).await,
    };
    control.metrics.answered(result.is_ok());
    result.unwrap_or_else(|refusal| body::refusal(&refusal))
}

async fn answer(
    control: &Arc<Control>,
    operation: &Operation,
    params: Params,
    request: Request<Incoming>,
    from: Option<IpAddr>,
    stop: CancellationToken,
) -> Result<Response<Body>, Refusal> {
    if operation.open {
        return open(control, operation.id, request, from).await;
    }
    let who = control.who(request.headers()).await?;
    control.allow(&who, operation.id, &params, request.uri().query().unwrap_or_default()).await?;
    let id = operation.id;
    let Some(action) = control.begin_action(&who, from, operation, &params).await? else {
        return act(control, who, id, params, request, stop).await;
    };
    // To its end, whether or not the client waits for it: what is done is written down.
    detached(control, async move |control| {
        if id == Id::Deploy {
            return deploy(&control, who, action, &params, request).await;
        }
        let result = act(&control, who, id, params, request, stop).await;
        control.end_action(action, result.as_ref().err()).await;
        result
    })
    .await
}

/// What comes of a deployment is known at the end of its answer.
async fn deploy(
    control: &Arc<Control>,
    who: Who,
    action: UnderWay,
    params: &Params,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let read = async {
        let wanted: DeployRequest = body::read_json(request.into_body()).await?;
        Ok((params.parse("tenant")?, params.parse("app")?, wanted))
    };
    let read: Result<(TenantId, AppName, DeployRequest), Refusal> = read.await;
    let (tenant, app, wanted) = match read {
        Ok(read) => read,
        Err(refusal) => {
            control.end_action(action, Some(&refusal)).await;
            return Err(refusal);
        }
    };
    let (events, response) = body::lines();
    let control = Arc::clone(control);
    let tasks = control.tasks.clone();
    tasks.spawn(async move { deploy::run(&control, &who, action, &tenant, &app, &wanted, events).await });
    Ok(response)
}

/// What anyone may ask for.
async fn open(
    control: &Arc<Control>,
    id: Id,
    request: Request<Incoming>,
    from: Option<IpAddr>,
) -> Result<Response<Body>, Refusal> {
    match id {
        Id::SignInOptions => body::json(&control.sign_in_options().await?),
        Id::SignIn => {
            let _place = control.gate.enter(from)?;
            let wanted = body::read_json_within(request.into_body(), sign_in::BODY_BYTES_MAX).await?;
            body::json(&control.sign_in(wanted, from).await?)
        }
        Id::Ready => control.ready().await.map(|()| body::bytes("text/plain", "ready\n")),
        Id::Openapi => Ok(body::bytes("application/json", openapi::text())),
        _ => Ok(body::bytes("text/plain", "ok\n")),
    }
}

async fn act(
    control: &Arc<Control>,
    who: Who,
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
        Id::ClusterStatus => body::json(&control.cluster_status().await?),
        Id::PutNode => {
            let change = body::read_json(request.into_body()).await?;
            body::json(&control.put_node(params.get("node"), change).await?)
        }
        Id::WhoAmI => body::json(&who.told()),
        Id::ListTenants => body::json(&control.list_tenants().await?),
        Id::CreateTenant => body::json(&control.create_tenant(&tenant()?).await?),
        Id::GetTenant => body::json(&control.tenant(&tenant()?).await?),
        Id::DeleteTenant => {
            let tenant = tenant()?;
            detached(control, async move |control| body::json(&control.delete_tenant(&tenant).await?)).await
        }
        Id::CreateApiKey => {
            let tenant = tenant()?;
            let wanted = body::read_json(request.into_body()).await?;
            body::json(&control.create_api_key(&tenant, wanted).await?)
        }
        Id::ListApiKeys => body::json(&control.list_api_keys(&tenant()?).await?),
        Id::RotateApiKey => {
            let tenant = tenant()?;
            let wanted = body::read_json(request.into_body()).await?;
            body::json(&control.rotate_api_key(&tenant, params.get("key"), wanted).await?)
        }
        Id::RevokeApiKey => body::json(&control.revoke_api_key(&tenant()?, params.get("key")).await?),
        Id::SignOut => body::json(&control.sign_out(&who).await?),
        Id::ListProviders => body::json(&control.list_providers().await?),
        Id::PutProvider => {
            let name = params.parse("provider")?;
            body::json(&control.put_provider(name, body::read_json(request.into_body()).await?).await?)
        }
        Id::DeleteProvider => {
            let name = params.parse("provider")?;
            detached(control, async move |control| body::json(&control.delete_provider(name).await?)).await
        }
        Id::ListMembers => body::json(&control.list_members(&tenant()?).await?),
        Id::PutMember => {
            let tenant = tenant()?;
            let wanted = body::read_json(request.into_body()).await?;
            body::json(&control.put_member(&who, &tenant, wanted).await?)
        }
        Id::DeleteMember => body::json(&control.delete_member(&who, &tenant()?, params.get("member")).await?),
        Id::ListTrust => body::json(&control.list_trust(&tenant()?).await?),
        Id::PutTrust => {
            let (tenant, name) = (tenant()?, params.parse("trust")?);
            body::json(&control.put_trust(&tenant, name, body::read_json(request.into_body()).await?).await?)
        }
        Id::DeleteTrust => body::json(&control.delete_trust(&tenant()?, params.parse("trust")?).await?),
        Id::HasBlob => uploads::has_blob(control, &who, &params).await,
        Id::PutBlob => uploads::put_blob(control, &who, &params, request).await,
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
        Id::PutSecret => {
            let tenant = tenant()?;
            let value = body::read_json(request.into_body()).await?;
            body::json(&control.put_secret(&tenant, params.get("secret"), value).await?)
        }
        Id::ListSecrets => body::json(&control.list_secrets(&tenant()?).await?),
        Id::DeleteSecret => body::json(&control.delete_secret(&tenant()?, params.get("secret")).await?),
        Id::RotateSecretsKey => {
            detached(control, async move |control| body::json(&control.rotate_secrets_key().await?)).await
        }
        Id::CreateKey => {
            let tenant = tenant()?;
            let wanted = body::read_json(request.into_body()).await?;
            body::json(&control.create_key(&tenant, wanted).await?)
        }
        Id::ListKeys => body::json(&control.list_keys(&tenant()?).await?),
        Id::DeleteKey => body::json(&control.delete_key(&tenant()?, params.get("key")).await?),
        Id::GetLimits => body::json(&control.limits(&tenant()?).await?),
        Id::PutLimits => {
            let (tenant, limits) = (tenant()?, body::read_json(request.into_body()).await?);
            detached(control, async move |control| body::json(&control.put_limits(&tenant, limits).await?))
                .await
        }
        Id::GetBudget => body::json(&control.budget(&tenant()?).await?),
        Id::PutBudget => {
            let (tenant, budget) = (tenant()?, body::read_json(request.into_body()).await?);
            detached(control, async move |control| {
                body::json(&control.put_budget(&tenant, Some(budget)).await?)
            })
            .await
        }
        Id::DeleteBudget => {
            let tenant = tenant()?;
            detached(control, async move |control| body::json(&control.put_budget(&tenant, None).await?))
                .await
        }
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
        Id::AuditLog | Id::PlatformAuditLog => {
            let of = if id == Id::AuditLog { Some(tenant()?) } else { None };
            let (lines, response) = body::lines();
            control.tasks.spawn(audit::export(Arc::clone(control), of, lines));
            Ok(response)
        }
        Id::AuditKey => body::json(&control.usage.key()),
        Id::ListCertificates => body::json(&control.certificates(&tenant()?).await?),
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
        // Answered before: an operation of its own kind.
        Id::Deploy | Id::Health | Id::Ready | Id::Openapi | Id::SignInOptions | Id::SignIn => {
            open(control, id, request, None).await
        }
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
