//! What becomes of the events of a function: attempts, age, destinations.

use serde_json::{Map, Value, json};

use super::{later, op::Op};
use crate::{
    error::AwsError,
    face,
    names::LATEST,
    state::{At, Function},
};

impl Op<'_> {
    fn event_shown(&self, name: &str, qualifier: &str, config: &Value) -> Value {
        let mut shown = config.clone();
        shown["FunctionArn"] = self.arn(name, Some(qualifier)).into();
        shown
    }

    /// What the request names as destinations.
    fn destinations(&self) -> impl Iterator<Item = &str> {
        let sides = self.input.get("DestinationConfig").and_then(Value::as_object);
        sides.into_iter().flatten().filter_map(|(_, side)| side.get("Destination")?.as_str())
    }

    /// Refuses destinations that nothing can be sent to.
    async fn check_destinations(&self) -> Result<(), AwsError> {
        let scope = &self.around.scope;
        for arn in self.destinations().filter(|arn| !arn.is_empty()) {
            let service = arn.split(':').nth(2).unwrap_or_default();
            if !["lambda", "sqs", "sns", "events", "s3"].contains(&service) {
                let told = |side: &str, class: &str| {
                    let arn = self.input["DestinationConfig"][side]["Destination"].as_str();
                    arn.map_or("null".to_owned(), |arn| format!("{class}(destination={arn})"))
                };
                return Err(AwsError::invalid(format!(
                    "The provided destination config DestinationConfig(onSuccess={}, onFailure={}) is invalid.",
                    told("OnSuccess", "OnSuccess"),
                    told("OnFailure", "OnFailure")
                )));
            }
            later::check(scope, arn)?;
            if service == "lambda" {
                let (name, _) = scope.read(arn, None)?;
                if self.find(&name).await?.is_none() {
                    return Err(AwsError::invalid(format!("The destination ARN {arn} is invalid.")));
                }
            }
        }
        Ok(())
    }

    fn no_event_config(&self, name: &str, qualifier: &str) -> AwsError {
        AwsError::not_found(format!(
            "The function {} doesn't have an EventInvokeConfig",
            self.arn(name, Some(qualifier))
        ))
    }

    /// The function, and the name that its settings are kept under. Nothing of a function or qualifier that is not there.
    async fn event_of(&self) -> Result<(String, String, Option<At<Function>>), AwsError> {
        let (name, qualifier) = self.name()?;
        let qualifier = qualifier.unwrap_or_else(|| LATEST.to_owned());
        let at = self.find(&name).await?;
        let has = |at: &At<Function>| {
            at.value.version(&qualifier).is_some() || at.value.aliases.contains_key(&qualifier)
        };
        let at = at.filter(has);
        Ok((name, qualifier, at))
    }

    /// Sets the settings: all of them, or those that are named.
    pub(crate) async fn put_event_invoke(&self, all: bool) -> Result<Value, AwsError> {
        let members = ["MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig"];
        if all && members.iter().all(|member| self.input.get(*member).is_none()) {
            return Err(AwsError::invalid(
                "You must specify at least one of error handling or destination setting.",
            ));
        }
        let _lock = self.face.store.lock().await;
        let (name, qualifier, at) = self.event_of().await?;
        let mut at = at.ok_or_else(|| AwsError::not_found("The function doesn't exist."))?;
        self.check_destinations().await?;
        let own = self.arn(&name, None);
        if self
            .destinations()
            .any(|arn| arn.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')))
        {
            return Err(AwsError::invalid("You can't specify the function as a destination for itself."));
        }
        let known = at.value.event_invoke.get(&qualifier);
        if !all && known.is_none() {
            return Err(self.no_event_config(&name, &qualifier));
        }
        let mut config = match known.filter(|_| !all) {
            Some(Value::Object(config)) => config.clone(),
            _ => Map::new(),
        };
        config.insert("LastModified".to_owned(), face::epoch(self.around.now));
        for member in members {
            if let Some(value) = self.input.get(member) {
                config.insert(member.to_owned(), value.clone());
            }
        }
        let destinations = config.entry("DestinationConfig").or_insert_with(|| json!({}));
        for side in ["OnSuccess", "OnFailure"] {
            if destinations.get(side).is_none() {
                destinations[side] = json!({});
            }
        }
        let config = Value::Object(config);
        let shown = self.event_shown(&name, &qualifier, &config);
        at.value.event_invoke.insert(qualifier, config);
        self.put(&name, &at).await?;
        Ok(shown)
    }

    pub(crate) async fn get_event_invoke(&self) -> Result<Value, AwsError> {
        let (name, qualifier, at) = self.event_of().await?;
        match at.as_ref().and_then(|at| at.value.event_invoke.get(&qualifier)) {
            Some(config) => Ok(self.event_shown(&name, &qualifier, config)),
            None => Err(self.no_event_config(&name, &qualifier)),
        }
    }

    pub(crate) async fn delete_event_invoke(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (name, qualifier, at) = self.event_of().await?;
        let mut at = at.ok_or_else(|| self.no_event_config(&name, &qualifier))?;
        if at.value.event_invoke.remove(&qualifier).is_none() {
            return Err(self.no_event_config(&name, &qualifier));
        }
        self.put(&name, &at).await?;
        Ok(Value::Null)
    }

    pub(crate) async fn list_event_invoke(&self) -> Result<Value, AwsError> {
        let named = self.function().await.map_err(|error| match error.name {
            "ResourceNotFoundException" => AwsError::not_found("The function doesn't exist."),
            _ => error,
        })?;
        let configs = named.at.value.event_invoke.iter();
        let items = configs
            .map(|(qualifier, config)| (qualifier.clone(), self.event_shown(&named.name, qualifier, config)));
        let (page, next) = self.page(items.collect())?;
        Ok(json!({ "FunctionEventInvokeConfigs": page, "NextMarker": next }))
    }
}
