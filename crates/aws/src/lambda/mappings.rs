//! Event source mappings: a queue is drained for a function. What a mapping is to be is in our records; the process that
//! keeps queues is told of it once the request has been answered, and again after a start that came between.
//!
//! ```text
//!   Creating, Enabling, Updating ─▶ told ─▶ Enabled     Disabling ─▶ told ─▶ Disabled     Deleting ─▶ told ─▶ gone
//! ```

mod checked;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Method;
use rouse_types::{Refusal, TenantId};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::op::Op;
use crate::{
    error::AwsError,
    face::{self, Face},
    names::{self, Scope},
    state::{self, Function},
};

/// What is waited before the process that keeps queues is told again.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is told: what it does not hear then it hears at the next change or start.
const TRIES: u32 = 120;

/// Members that a client sets and gets back as they are.
const SETTINGS: [&str; 17] = [
    "BatchSize",
    "MaximumBatchingWindowInSeconds",
    "ParallelizationFactor",
    "StartingPosition",
    "FilterCriteria",
    "KMSKeyArn",
    "MetricsConfig",
    "ScalingConfig",
    "DestinationConfig",
    "Topics",
    "Queues",
    "SourceAccessConfigurations",
    "MaximumRecordAgeInSeconds",
    "BisectBatchOnFunctionError",
    "MaximumRetryAttempts",
    "TumblingWindowInSeconds",
    "FunctionResponseTypes",
];

impl Op<'_> {
    fn no_mapping() -> AwsError {
        AwsError::not_found("The resource you requested does not exist.")
    }

    async fn mapping(&self) -> Result<(String, state::At<Value>), AwsError> {
        let id = self.text("UUID").unwrap_or_default().to_owned();
        let at = self.face.store.get(state::MAPPINGS, &self.around.scope.tenant, &id).await?;
        Ok((id, at.ok_or_else(Self::no_mapping)?))
    }

    /// The function that a mapping calls, which must be there.
    async fn mapped(&self) -> Result<String, AwsError> {
        let (name, qualifier) = self.name()?;
        let missing = || AwsError::invalid("Function does not exist");
        let function = self.find(&name).await?.ok_or_else(missing)?.value;
        if let Some(qualifier) = &qualifier
            && function.version(qualifier).is_none()
            && !function.aliases.contains_key(qualifier)
        {
            return Err(missing());
        }
        Ok(self.arn(&name, qualifier.as_deref()))
    }

    pub(crate) async fn create_mapping(&self) -> Result<Value, AwsError> {
        let Some(source) = self.text("EventSourceArn") else {
            return Err(AwsError::invalid("Unrecognized event source."));
        };
        if source.split(':').nth(2) == Some("sqs") && self.text("StartingPosition").is_some() {
            return Err(AwsError::invalid("StartingPosition is not valid for SQS event sources."));
        }
        let _lock = self.face.store.lock().await;
        let function = self.mapped().await?;
        if self.around.scope.queue_of(source).is_none() {
            return Err(AwsError::invalid(
                "Unrecognized event source. This platform maps queues of the caller's own account",
            ));
        }
        let all: Vec<(String, Value)> =
            self.face.store.list(state::MAPPINGS, &self.around.scope.tenant, "").await?;
        let same = all.iter().find(|(_, known)| {
            known["EventSourceArn"] == source && known["FunctionArn"] == function.as_str()
        });
        if let Some((id, _)) = same {
            let name = function.split(':').nth(6).unwrap_or_default();
            return Err(AwsError::conflict(format!(
                "An event source mapping with SQS arn (\" {source} \") and function (\" {name} \") already exists. Please \
                 update or delete the existing mapping with UUID {id}",
            )));
        }
        let id = face::uuid();
        let mut mapping = json!({
            "UUID": id, "EventSourceArn": source, "FunctionArn": function, "BatchSize": 10,
            "MaximumBatchingWindowInSeconds": 0, "FunctionResponseTypes": [],
            "LastModified": face::epoch(self.around.now), "State": "Creating", "StateTransitionReason": "USER_INITIATED",
            "EventSourceMappingArn": self.around.scope.arn("event-source-mapping", &id),
        });
        self.take_over(&mut mapping);
        checked::settings(&mapping)?;
        let enabled = self.input.get("Enabled").and_then(Value::as_bool).unwrap_or(true);
        if !enabled {
            mapping["State"] = "Disabled".into();
        }
        let mut kept = mapping.clone();
        kept["Enabled"] = enabled.into();
        self.face.store.create(state::MAPPINGS, &self.around.scope.tenant, &id, &kept).await?;
        self.settle_mapping(&id);
        Ok(mapping)
    }

    /// Has what is kept of a mapping come into force, when the request has been answered.
    fn settle_mapping(&self, id: &str) {
        let (face, tenant, id) = (Arc::clone(self.face), self.around.scope.tenant.clone(), id.to_owned());
        self.face.tasks.spawn(async move { settle(&face, &tenant, &id).await });
    }

    /// Has the mappings of a function told again: what its alias means has changed.
    pub(crate) async fn remap(&self, name: &str) -> Result<(), AwsError> {
        let all: Vec<(String, Value)> =
            self.face.store.list(state::MAPPINGS, &self.around.scope.tenant, "").await?;
        all.iter()
            .filter(|(_, mapping)| named(mapping) == Some(name))
            .for_each(|(id, _)| self.settle_mapping(id));
        Ok(())
    }

    fn take_over(&self, mapping: &mut Value) {
        for member in SETTINGS {
            if let Some(value) = self.input.get(member) {
                mapping[member] = value.clone();
            }
        }
    }

    pub(crate) async fn get_mapping(&self) -> Result<Value, AwsError> {
        Ok(shown(self.mapping().await?.1.value))
    }

    pub(crate) async fn update_mapping(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (id, mut at) = self.mapping().await?;
        if self.text("FunctionName").is_some() {
            at.value["FunctionArn"] = self.mapped().await?.into();
        }
        self.take_over(&mut at.value);
        checked::settings(&at.value)?;
        at.value["LastModified"] = face::epoch(self.around.now);
        at.value["State"] = match self.input.get("Enabled").and_then(Value::as_bool) {
            Some(true) => "Enabling",
            Some(false) => "Disabling",
            None => "Updating",
        }
        .into();
        if let Some(enabled) = self.input.get("Enabled") {
            at.value["Enabled"] = enabled.clone();
        }
        self.face.store.put(state::MAPPINGS, &self.around.scope.tenant, &id, &at).await?;
        self.settle_mapping(&id);
        Ok(shown(at.value))
    }

    pub(crate) async fn delete_mapping(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (id, mut at) = self.mapping().await?;
        at.value["State"] = "Deleting".into();
        self.face.store.put(state::MAPPINGS, &self.around.scope.tenant, &id, &at).await?;
        self.settle_mapping(&id);
        Ok(shown(at.value))
    }

    pub(crate) async fn list_mappings(&self) -> Result<Value, AwsError> {
        let all: Vec<(String, Value)> =
            self.face.store.list(state::MAPPINGS, &self.around.scope.tenant, "").await?;
        let function = match self.text("FunctionName") {
            Some(_) => {
                let (name, qualifier) = self.name()?;
                Some(self.arn(&name, qualifier.as_deref()))
            }
            None => None,
        };
        let fits = |(_, mapping): &(String, Value)| {
            self.text("EventSourceArn").is_none_or(|source| mapping["EventSourceArn"] == source)
                && function.as_ref().is_none_or(|function| mapping["FunctionArn"] == function.as_str())
        };
        let (page, next) =
            self.page(all.into_iter().filter(fits).map(|(id, mapping)| (id, shown(mapping))).collect())?;
        Ok(json!({ "EventSourceMappings": page, "NextMarker": next }))
    }

    /// A function that is gone has no mappings.
    pub(crate) async fn delete_mappings_of(&self, name: &str) -> Result<(), AwsError> {
        let tenant = &self.around.scope.tenant;
        let all: Vec<(String, Value)> = self.face.store.list(state::MAPPINGS, tenant, "").await?;
        for (id, _) in all.iter().filter(|(_, mapping)| named(mapping) == Some(name)) {
            if let Some(mut at) = self.face.store.get::<Value>(state::MAPPINGS, tenant, id).await? {
                at.value["State"] = "Deleting".into();
                self.face.store.put(state::MAPPINGS, tenant, id, &at).await?;
                self.settle_mapping(id);
            }
        }
        Ok(())
    }
}

/// The function's name.
fn named(mapping: &Value) -> Option<&str> {
    mapping["FunctionArn"].as_str().and_then(|arn| arn.split(':').nth(6))
}

/// A mapping as clients see it.
fn shown(mut mapping: Value) -> Value {
    if let Some(fields) = mapping.as_object_mut() {
        fields.remove("Enabled");
    }
    mapping
}

/// Goes on with what was under way when this process ended.
pub(crate) async fn resume(face: Arc<Face>, stop: CancellationToken) {
    let Ok(all) = face.store.scan::<Value>(state::MAPPINGS, "", 0).await else { return };
    for (key, mapping) in all {
        let settled = matches!(mapping["State"].as_str(), Some("Enabled" | "Disabled"));
        let Some((Ok(tenant), id)) = key.split_once('/').map(|(tenant, id)| (tenant.parse(), id)) else {
            continue;
        };
        if !settled && !stop.is_cancelled() {
            settle(&face, &tenant, id).await;
        }
    }
}

/// Has what is kept of a mapping come into force, and notes that it is. Takes no input but its id, so that a change, a
/// start after a crash and a second try are one.
async fn settle(face: &Arc<Face>, tenant: &TenantId, id: &str) {
    let _alone = face.activating(format!("mapping/{tenant}/{id}")).await;
    for _ in 0..TRIES {
        match settle_once(face, tenant, id).await {
            Ok(()) => return,
            Err(refusal) => tracing::warn!(%tenant, id, %refusal, "a mapping is not in force yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn settle_once(face: &Arc<Face>, tenant: &TenantId, id: &str) -> Result<(), Refusal> {
    let lost = |error: AwsError| Refusal::new(rouse_types::Code::Internal, error.message);
    let get = || face.store.get::<Value>(state::MAPPINGS, tenant, id);
    let Some(at) = get().await.map_err(lost)? else { return Ok(()) };
    let wanted = at.value["State"] != "Deleting" && at.value["Enabled"] != false;
    let path = format!("/mappings/{tenant}/{id}");
    let name = named(&at.value).unwrap_or_default();
    let function = face.store.get::<Function>(state::FUNCTIONS, tenant, name).await.map_err(lost)?;
    let mapping = match (wanted, function) {
        (true, Some(function)) => {
            let region = at.value["FunctionArn"].as_str().and_then(|arn| arn.split(':').nth(3));
            let region = region.unwrap_or("us-east-1").to_owned();
            let scope = Scope { tenant: tenant.clone(), account: names::account(tenant), region };
            checked::ours(&scope, id, &at.value, &function.value)
        }
        _ => None,
    };
    match &mapping {
        Some(mapping) => {
            let body = Bytes::from(serde_json::to_vec(mapping).unwrap_or_default());
            face.platform.events(Method::PUT, &path, body).await?;
        }
        None => drop(face.platform.events(Method::DELETE, &path, Bytes::new()).await?),
    }
    let _lock = face.store.lock().await;
    let Some(mut now) = get().await.map_err(lost)? else { return Ok(()) };
    if now.value != at.value {
        // It changed in the meantime: that change has a task of its own.
        return Ok(());
    }
    if now.value["State"] == "Deleting" {
        return face.store.delete(state::MAPPINGS, tenant, id).await.map_err(lost);
    }
    now.value["State"] = if mapping.is_some() { "Enabled" } else { "Disabled" }.into();
    face.store.put(state::MAPPINGS, tenant, id, &now).await.map_err(lost)
}
