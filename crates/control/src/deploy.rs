//! A deployment from its request to its last event. Nothing of what is live is touched before all code is in
//! its place; then everything changes at once.

use std::time::Instant;

use rouse_api::{DeployEvent, DeployFunction, DeployRequest};
use rouse_types::{AppName, Code, Contract, Digest, Refusal, Runtime, TenantId, limits};

use crate::{
    audit::UnderWay,
    body::Lines,
    check, code,
    control::Control,
    plan::domains,
    state::{self, Claim},
    who::Who,
};

/// Deploys, telling of it on the way. Goes on when no one listens any more: what was begun is ended.
pub(crate) async fn run(
    control: &Control,
    who: &Who,
    action: UnderWay,
    tenant: &TenantId,
    app: &AppName,
    request: &DeployRequest,
    mut events: Lines<DeployEvent>,
) {
    let started = Instant::now();
    let result = deploy(control, who, tenant, app, request, &mut events).await;
    control.end_action(action, result.as_ref().err()).await;
    let last = match result {
        Ok(event) => {
            control.metrics.deployed(true);
            tracing::info!(%tenant, %app, functions = request.functions.len(), elapsed = ?started.elapsed(), "deployed");
            event
        }
        Err(refusal) => {
            control.metrics.deployed(false);
            tracing::info!(%tenant, %app, %refusal, "a deployment failed");
            DeployEvent::Failed { refusal }
        }
    };
    events.send(&last).await;
}

async fn deploy(
    control: &Control,
    who: &Who,
    tenant: &TenantId,
    app: &AppName,
    request: &DeployRequest,
    events: &mut Lines<DeployEvent>,
) -> Result<DeployEvent, Refusal> {
    check::request(&control.with_secrets(tenant, request).await?)?;
    check::networks(request, &control.config.full_network)?;
    control.check_space()?;
    let _lock = control.lock(tenant, app).await;
    refuse_taken(control, tenant, app, request).await?;
    // Held until the versions are kept: two deployments at once must not both find room.
    let _room = control.room_for_code(tenant, request).await?;
    let mut request = request.clone();
    for function in &mut request.functions {
        if let Some(digest) = uploads(function).filter(|digest| control.blobs.path(digest).is_some()) {
            let own = control.uploaded(who, &digest).await?;
            // Just as if it were not there, which is what is said below.
            if !own {
                return Err(about(function, code::missing(&digest)));
            }
        }
        let prepared = match function.runtime {
            Runtime::Image => control.prepare_image(tenant, function, events).await,
            _ => prepare(control, function, events).await,
        };
        prepared.map_err(|refusal| about(function, refusal))?;
        if let Some(layers) = function.lambda.as_ref().and_then(|lambda| lambda.layers) {
            prepare_layers(control, layers).await.map_err(|refusal| about(function, refusal))?;
        }
    }
    control.spread(&request).await?;
    for function in &request.functions {
        if let Some(lambda) = &function.lambda {
            control.put_share(tenant, &function.name, lambda.reserved).await?;
        }
    }
    let (deployment, warnings) = control.put_live(tenant, app, &request).await?;
    for message in warnings {
        events.send(&DeployEvent::Warning { message }).await;
    }
    Ok(DeployEvent::Live { deployment: control.told(tenant, app, deployment, true) })
}

/// A name or a domain that is taken is told at once, not after minutes of compiling. The transaction checks it again.
async fn refuse_taken(
    control: &Control,
    tenant: &TenantId,
    app: &AppName,
    request: &DeployRequest,
) -> Result<(), Refusal> {
    for function in &request.functions {
        let key = state::function_key(tenant, &function.name);
        let known = state::get::<state::Function>(&control.records, state::FUNCTIONS, &key).await?;
        if let Some(other) = known.and_then(|at| at.value.app).filter(|other| other != app) {
            return Err(crate::plan::taken(tenant, &function.name, &other));
        }
        for domain in &function.domains {
            let refused = |refusal| about(function, refusal);
            domains::not_ours(domain, &control.config.domain).map_err(refused)?;
            let claim = state::get::<Claim>(&control.records, state::DOMAINS, domain.as_str()).await?;
            if claim.is_some_and(|at| at.value.tenant != *tenant || at.value.app != *app) {
                return Err(refused(domains::taken(domain)));
            }
        }
    }
    Ok(())
}

/// What a function is made of that was uploaded.
fn uploads(function: &DeployFunction) -> Option<Digest> {
    if function.image.is_none() { function.code } else { None }
}

/// Puts a function's code in its place.
async fn prepare(
    control: &Control,
    function: &DeployFunction,
    events: &mut Lines<DeployEvent>,
) -> Result<(), Refusal> {
    let name = &function.name;
    let digest = function.code.ok_or_else(|| Refusal::new(Code::ManifestInvalid, "it has no code"))?;
    expect_size(control, &digest)?;
    let is_component = function.runtime == Runtime::Component;
    // The same code may be in two apps that are deployed at the same time.
    let _lock = control.locks.hold(format!("code {digest}")).await;
    control.in_use(digest);
    let started = Instant::now();
    if !is_component {
        events.send(&DeployEvent::Unpacking { function: name.clone() }).await;
    } else {
        events.send(&DeployEvent::Compiling { function: name.clone() }).await;
    }
    let (store, blobs, config) = (control.code.clone(), control.blobs.clone(), &control.config);
    let (check, check_server, state) = (config.runtime_check, config.server_check, config.state.clone());
    let (runtime, http, handler) =
        (function.runtime.clone(), function.http.clone(), function.handler.clone());
    let contract = function.contract.unwrap_or_else(|| runtime.default_contract());
    let installed = tokio::task::spawn_blocking(move || {
        // It may run an interpreter to ask for its version.
        if contract == Contract::Lambda {
            check(&runtime, &state)?;
        }
        let cached = store.install(&blobs, &digest, &runtime)?;
        if contract == Contract::Http {
            check_server(&runtime, &http, handler.as_deref(), &store.place(&digest), &state)?;
        }
        Ok(cached)
    });
    let installed = installed.await;
    let cached =
        installed.map_err(|error| state::io_refusal("unpack code", &std::io::Error::other(error)))??;
    let function = name.clone();
    let event = if !is_component {
        DeployEvent::Unpacked { function, ms: ms(started), cached }
    } else {
        let compiled = Box::pin(control.compiler.compile(&control.code, &digest)).await;
        // A compiler that found the disk full can say many things.
        let cached = compiled.map_err(|refusal| control.check_space().err().unwrap_or(refusal))?;
        DeployEvent::Compiled { function, ms: ms(started), cached }
    };
    events.send(&event).await;
    Ok(())
}

/// Code that is there, and as small as it must be.
fn expect_size(control: &Control, digest: &Digest) -> Result<(), Refusal> {
    let blob = control.blobs.path(digest).ok_or_else(|| code::missing(digest))?;
    // Uploads may be larger: images are.
    if std::fs::metadata(blob).is_ok_and(|blob| blob.len() > limits::CODE_BYTES_MAX) {
        let what = format!("the code has more than {} MiB", limits::CODE_BYTES_MAX >> 20);
        return Err(Refusal::new(Code::CodeTooLarge, what)
            .hint("leave out what the function does not need at run time"));
    }
    Ok(())
}

/// Puts what a function finds in `/opt` in its place.
pub(crate) async fn prepare_layers(control: &Control, digest: Digest) -> Result<(), Refusal> {
    expect_size(control, &digest)?;
    let _lock = control.locks.hold(format!("code {digest}")).await;
    control.in_use(digest);
    let (store, blobs) = (control.code.clone(), control.blobs.clone());
    let installed = tokio::task::spawn_blocking(move || store.install_layers(&blobs, &digest)).await;
    installed.map_err(|error| state::io_refusal("unpack layers", &std::io::Error::other(error)))?
}

fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Says which function a refusal is about.
fn about(function: &DeployFunction, mut refusal: Refusal) -> Refusal {
    if refusal.code != Code::StorageFull {
        refusal.message = format!("function '{}': {}", function.name, refusal.message);
    }
    refusal
}
