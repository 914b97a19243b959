//! Puts on the platform what the records say: each version of a function becomes a version there, found by an alias.
//! Takes no input but the function's name, so that the change, the start after a crash and the second try are one.
//!
//! ```text
//!   Pending, InProgress ─▶ upload ─▶ deploy published versions ─▶ deploy $LATEST ─▶ Active, Successful
//!                                          └─────────── refused ───────────┴──────▶ Failed, with the reason
//! ```

use std::sync::Arc;

use bytes::Bytes;
use rouse_api::{DeployFunction, DeployImage, DeployRequest};
use rouse_types::{
    AppName, Code, Contract, Digest, Egress, EventSettings, HttpSettings, InvokePolicy, Isolation,
    LambdaSettings, Limits, Refusal, Runtime, Scaling,
};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    concurrency::ACCOUNT_CONCURRENCY,
    config::{environment, essence, platform_alias, revise, set_state},
};
use crate::{
    face::Face,
    names::{self, LATEST, Scope},
    state::{self, Capacity, Function, Version},
};

/// How often a deployment is tried while control is away.
const ATTEMPTS: u32 = 20;
/// What is waited between two tries.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// The app of a function: one of its own, so that it is deployed and deleted alone.
pub(crate) fn app(name: &str) -> AppName {
    #[expect(clippy::expect_used, reason = "apps and functions are named alike")]
    AppName::new(names::platform(name).as_str()).expect("a name")
}

/// Puts a function on the platform, whether or not anyone waits for the task that is given.
pub(crate) fn later(face: &Arc<Face>, scope: &Scope, name: &str) -> JoinHandle<()> {
    let (own, scope, name) = (Arc::clone(face), scope.clone(), name.to_owned());
    face.tasks.spawn(async move { run(&own, &scope, &name).await })
}

/// Goes on with what was under way when this process ended.
pub(crate) async fn resume(face: Arc<Face>, stop: CancellationToken) {
    let Ok(all) = face.store.scan::<Function>(state::FUNCTIONS, "", 0).await else { return };
    for (key, function) in all {
        let Some((tenant, name)) = key.split_once('/') else { continue };
        let Ok(tenant) = tenant.parse() else { continue };
        if stop.is_cancelled() || !unsettled(&function) {
            continue;
        }
        // The region was that of whoever asked; it is in no record.
        let account = names::account(&tenant);
        let scope = Scope { tenant, account, region: region(&function) };
        run(&face, &scope, name).await;
    }
}

/// The region that a function was made in, as its record shows it.
fn region(function: &Function) -> String {
    let runtime = function.latest.config.get("RuntimeVersionConfig");
    let arn = runtime.and_then(|config| config.get("RuntimeVersionArn")).and_then(Value::as_str);
    arn.and_then(|arn| arn.split(':').nth(3)).unwrap_or("us-east-1").to_owned()
}

fn unsettled(function: &Function) -> bool {
    let waits = |(name, version): (String, &Version)| {
        version.text("State") == "Pending" || (name != LATEST && function.differs(&name, version))
    };
    function.all().any(waits) || function.latest.text("LastUpdateStatus") == "InProgress"
}

/// A version's name, what of it was deployed, and with what.
type Settled = Vec<(String, Digest, Capacity)>;

async fn run(face: &Arc<Face>, scope: &Scope, name: &str) {
    let _alone = face.activating(format!("{}/{name}", scope.tenant)).await;
    let mut settled = Settled::new();
    let result = settle(face, scope, name, &mut settled).await;
    let _lock = face.store.lock().await;
    let mut at = match face.store.get::<Function>(state::FUNCTIONS, &scope.tenant, name).await {
        Ok(Some(at)) => at,
        Ok(None) => {
            // Deleted in the meantime: what was deployed after that goes, too.
            let _ = face.platform.delete(&scope.tenant, &app(name)).await;
            return;
        }
        Err(_) => return,
    };
    let why = match &result {
        Ok(()) => None,
        Err(refusal) => {
            tracing::warn!(%name, %refusal, "a function of the Lambda API did not become active");
            Some((refusal.message.as_str(), "InternalError"))
        }
    };
    let function = &mut at.value;
    let published = function.versions.iter_mut().map(|(number, version)| (number.to_string(), version));
    let all = std::iter::once((LATEST.to_owned(), &mut function.latest)).chain(published);
    for (version, of) in all {
        // What came in the meantime has a task of its own.
        let now = essence(of);
        let same = |(name, then, _): &&(String, Digest, Capacity)| *name == version && now == *then;
        let Some((_, _, capacity)) = settled.iter().find(same) else { continue };
        of.deployed = Some(*capacity).filter(|_| why.is_none()).or(of.deployed);
        let config = &mut of.config;
        let pending = config.get("State").and_then(Value::as_str) == Some("Pending");
        if pending {
            set_state(config, "State", if why.is_some() { "Failed" } else { "Active" }, why);
        }
        let updating = config.get("LastUpdateStatus").and_then(Value::as_str) == Some("InProgress");
        if pending || updating {
            set_state(config, "Update", if why.is_some() { "Failed" } else { "Successful" }, why);
            revise(config);
        }
    }
    if let Err(error) = face.store.put(state::FUNCTIONS, &scope.tenant, name, &at).await {
        tracing::error!(%name, %error, "the state of a function cannot be written");
    }
}

async fn settle(face: &Arc<Face>, scope: &Scope, name: &str, settled: &mut Settled) -> Result<(), Refusal> {
    let lost = |error: crate::error::AwsError| Refusal::new(Code::Internal, error.message);
    let function = face.store.get::<Function>(state::FUNCTIONS, &scope.tenant, name).await.map_err(lost)?;
    // Deleted in the meantime.
    let Some(function) = function.map(|at| at.value) else { return Ok(()) };
    let published = function.versions.iter().map(|(number, version)| (number.to_string(), version));
    let pending = published
        .filter(|(name, version)| version.text("State") == "Pending" || function.differs(name, version));
    // `$LATEST` last: what callers without a version reach is the newest deployment.
    let all: Vec<_> = pending.chain([(LATEST.to_owned(), &function.latest)]).collect();
    let deployed = |(name, of): &(String, &Version)| (name.clone(), essence(of), function.capacity(name));
    settled.extend(all.iter().map(deployed));
    for (version, of) in all {
        deploy(face, scope, name, &version, of, &function).await?;
    }
    Ok(())
}

async fn deploy(
    face: &Arc<Face>,
    scope: &Scope,
    name: &str,
    version: &str,
    of: &Version,
    function: &Function,
) -> Result<(), Refusal> {
    let layers = layers(face, of).await?;
    let digest = layers.as_ref().map(|layers| Digest::of(layers));
    let request = DeployRequest {
        functions: vec![described(scope, name, version, of, function, digest)?],
        message: Some(format!("{name}:{version}, by the Lambda API")),
    };
    let mut tries = 0;
    loop {
        let done = async {
            if let Some(digest) = of.code {
                let kept =
                    face.kept(digest).await.map_err(|error| Refusal::new(Code::Internal, error.message))?;
                let kept =
                    kept.ok_or_else(|| Refusal::new(Code::CodeMissing, "the code is no longer kept"))?;
                face.platform.upload(&digest, kept.into()).await?;
            }
            if let (Some(digest), Some(layers)) = (digest, &layers) {
                face.platform.upload(&digest, layers.clone()).await?;
            }
            face.platform.deploy(&scope.tenant, &app(name), &request).await
        };
        match done.await {
            Err(refusal) if refusal.code == Code::ControlUnavailable && tries < ATTEMPTS => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

/// What a version finds in `/opt`, as one archive.
async fn layers(face: &Arc<Face>, of: &Version) -> Result<Option<Bytes>, Refusal> {
    let mut archives = Vec::new();
    for digest in &of.layers {
        let kept = face.kept(*digest).await.map_err(|error| Refusal::new(Code::Internal, error.message))?;
        archives.push(
            kept.ok_or_else(|| Refusal::new(Code::CodeMissing, "a layer's archive is no longer kept"))?,
        );
    }
    if archives.is_empty() {
        return Ok(None);
    }
    let merged = tokio::task::spawn_blocking(move || super::layers::merged(&archives)).await;
    merged.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?.map(Some)
}

/// A version as the platform is told of it.
fn described(
    scope: &Scope,
    name: &str,
    version: &str,
    of: &Version,
    function: &Function,
    layers: Option<Digest>,
) -> Result<DeployFunction, Refusal> {
    let invalid = |what: String| Refusal::new(Code::ManifestInvalid, what);
    let runtime = match of.image {
        Some(_) => Runtime::Image,
        None => super::runtimes::ours(of.text("Runtime")).map_err(|error| invalid(error.message))?,
    };
    let handler = Some(of.text("Handler").to_owned())
        .filter(|handler| !handler.is_empty() && runtime != Runtime::Provided);
    let small = |member: &str| u32::try_from(of.number(member)).unwrap_or(u32::MAX);
    let tmp =
        of.config.get("EphemeralStorage").and_then(|storage| storage.get("Size")).and_then(Value::as_u64);
    let image_config = of.config.get("ImageConfigResponse").and_then(|response| response.get("ImageConfig"));
    let words = |member: &str| -> Vec<String> {
        let list = image_config.and_then(|config| config.get(member)).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let log_group = of.config.get("LoggingConfig").and_then(|logging| logging.get("LogGroup"));
    let log_group =
        log_group.and_then(Value::as_str).map_or_else(|| format!("/aws/lambda/{name}"), str::to_owned);
    let Capacity { reserved, provisioned } = function.capacity(version);
    // One that reserves none is not called at all.
    let most = reserved.filter(|reserved| *reserved > 0).unwrap_or(ACCOUNT_CONCURRENCY);
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    Ok(DeployFunction {
        name: names::platform(name),
        code: of.code,
        image: of.image.clone().map(|reference| DeployImage { reference, login: None, secret: None }),
        runtime,
        contract: Some(Contract::Lambda),
        http: HttpSettings {
            command: [words("EntryPoint"), words("Command")].concat(),
            ..HttpSettings::default()
        },
        handler,
        isolation: Isolation::Container,
        env: environment(of, &scope.region),
        secrets: Default::default(),
        domains: Vec::new(),
        limits: Limits {
            memory_mib: small("MemorySize"),
            timeout_ms: of.number("Timeout") * 1_000,
            tmp_mib: tmp.and_then(|tmp| u32::try_from(tmp).ok()).unwrap_or(512),
            ..Limits::default()
        },
        scaling: Scaling {
            concurrency_max: most,
            instances_min: u32::try_from(provisioned).unwrap_or(u32::MAX).min(most),
            throttle: true,
            ..Scaling::default()
        },
        // Code that is written for AWS expects to be somebody there.
        egress: Egress::platform(),
        // It has an address where its owner gave it one: a function URL, which this process answers.
        invoke: InvokePolicy::Internal,
        triggers: Vec::new(),
        events: EventSettings::default(),
        aliases: vec![platform_alias(version).parse().map_err(|_| invalid("no alias".to_owned()))?],
        lambda: Some(LambdaSettings {
            function: name.to_owned(),
            version: version.to_owned(),
            log_group,
            layers,
            reserved: reserved
                .filter(|reserved| *reserved > 0)
                .and_then(|reserved| u32::try_from(reserved).ok()),
        }),
    })
}
