//! Event source mappings. They are kept and shown; queues are not drained by them yet, and `State` says so.

use serde_json::{Value, json};

use super::op::Op;
use crate::{error::AwsError, face, state};

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
        let missing = || {
            AwsError::invalid(format!("Function does not exist: {}", self.arn(&name, qualifier.as_deref())))
        };
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
        let _lock = self.face.store.lock().await;
        let function = self.mapped().await?;
        if !source.contains(":sqs:") {
            return Err(AwsError::invalid(
                "Unrecognized event source. This platform maps queues; write streams and topics as triggers in rouse.toml",
            ));
        }
        let all: Vec<(String, Value)> =
            self.face.store.list(state::MAPPINGS, &self.around.scope.tenant, "").await?;
        let same = all.iter().find(|(_, known)| {
            known["EventSourceArn"] == source && known["FunctionArn"] == function.as_str()
        });
        if let Some((id, _)) = same {
            let queue = source.rsplit(':').next().unwrap_or_default();
            let name = function.split(':').nth(6).unwrap_or_default();
            return Err(AwsError::conflict(format!(
                "An event source mapping with SQS arn (\" {source} \") and function (\" {name} \") already exists. Please \
                 update or delete the existing mapping with UUID {id} ({queue})",
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
        let mut kept = mapping.clone();
        let enabled = self.input.get("Enabled").and_then(Value::as_bool).unwrap_or(true);
        kept["State"] = if enabled { "Enabled" } else { "Disabled" }.into();
        self.face.store.create(state::MAPPINGS, &self.around.scope.tenant, &id, &kept).await?;
        Ok(mapping)
    }

    fn take_over(&self, mapping: &mut Value) {
        for member in SETTINGS {
            if let Some(value) = self.input.get(member) {
                mapping[member] = value.clone();
            }
        }
    }

    pub(crate) async fn get_mapping(&self) -> Result<Value, AwsError> {
        Ok(self.mapping().await?.1.value)
    }

    pub(crate) async fn update_mapping(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (id, mut at) = self.mapping().await?;
        if self.text("FunctionName").is_some() {
            at.value["FunctionArn"] = self.mapped().await?.into();
        }
        self.take_over(&mut at.value);
        at.value["LastModified"] = face::epoch(self.around.now);
        if let Some(enabled) = self.input.get("Enabled").and_then(Value::as_bool) {
            at.value["State"] = if enabled { "Enabled" } else { "Disabled" }.into();
        }
        self.face.store.put(state::MAPPINGS, &self.around.scope.tenant, &id, &at).await?;
        let mut shown = at.value;
        shown["State"] = "Updating".into();
        Ok(shown)
    }

    pub(crate) async fn delete_mapping(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (id, at) = self.mapping().await?;
        self.face.store.delete(state::MAPPINGS, &self.around.scope.tenant, &id).await?;
        let mut shown = at.value;
        shown["State"] = "Deleting".into();
        Ok(shown)
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
        let (page, next) = self.page(all.into_iter().filter(fits).collect())?;
        Ok(json!({ "EventSourceMappings": page, "NextMarker": next }))
    }

    /// A function that is gone has no mappings.
    pub(crate) async fn delete_mappings_of(&self, name: &str) -> Result<(), AwsError> {
        let tenant = &self.around.scope.tenant;
        let all: Vec<(String, Value)> = self.face.store.list(state::MAPPINGS, tenant, "").await?;
        for (id, mapping) in all {
            let of = mapping["FunctionArn"].as_str().and_then(|arn| arn.split(':').nth(6));
            if of == Some(name) {
                self.face.store.delete(state::MAPPINGS, tenant, &id).await?;
            }
        }
        Ok(())
    }
}
