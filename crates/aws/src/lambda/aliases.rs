//! Aliases: names that move over versions, with a share for another one.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    activate,
    op::{Named, Op},
};
use crate::{
    error::AwsError,
    face,
    names::LATEST,
    state::{Alias, Function},
};

impl Op<'_> {
    fn alias(&self, function: &str, name: &str, alias: &Alias) -> Value {
        let mut shown = json!({
            "AliasArn": self.arn(function, Some(name)),
            "Name": name,
            "FunctionVersion": alias.version,
            "Description": alias.description,
            "RevisionId": alias.revision,
        });
        if let Some(fields) = shown.as_object_mut().filter(|_| !alias.weights.is_empty()) {
            fields.insert("RoutingConfig".to_owned(), json!({ "AdditionalVersionWeights": alias.weights }));
        }
        shown
    }

    /// The weights that the request sets, if it sets some.
    fn weights(
        &self,
        name: &str,
        function: &Function,
        version: &str,
    ) -> Result<Option<BTreeMap<String, Value>>, AwsError> {
        let Some(routing) = self.input.get("RoutingConfig") else { return Ok(None) };
        let weights = routing.get("AdditionalVersionWeights").and_then(Value::as_object);
        let weights: BTreeMap<String, Value> = weights
            .into_iter()
            .flatten()
            .map(|(version, weight)| (version.clone(), weight.clone()))
            .collect();
        if weights.len() > 1 {
            return Err(AwsError::invalid(
                "Number of items in AdditionalVersionWeights cannot be greater than 1",
            ));
        }
        for other in weights.keys() {
            if version == LATEST {
                return Err(AwsError::invalid(
                    "$LATEST is not supported for an alias pointing to more than 1 version",
                )
                .untyped());
            }
            if other == version {
                return Err(AwsError::invalid(format!(
                    "Invalid function version {version}. Function version {version} is already included in routing \
                     configuration."
                )));
            }
            if function.version(other).is_none() {
                return Err(self.not_found(name, Some(other)));
            }
        }
        Ok(Some(weights))
    }

    pub(crate) async fn create_alias(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (name, _) = self.name()?;
        let alias_name = self.text("Name").unwrap_or_default().to_owned();
        let version = self.text("FunctionVersion").unwrap_or_default().to_owned();
        let at = self.find(&name).await?;
        let mut at = at.ok_or_else(|| self.not_found(&name, Some(&version)))?;
        if at.value.version(&version).is_none() {
            return Err(self.not_found(&name, Some(&version)));
        }
        if at.value.aliases.contains_key(&alias_name) {
            return Err(AwsError::conflict(format!(
                "Alias already exists: {}",
                self.arn(&name, Some(&alias_name))
            )));
        }
        let weights = self.weights(&name, &at.value, &version)?.unwrap_or_default();
        let description = self.text("Description").unwrap_or_default().to_owned();
        let alias = Alias { version, description, weights, revision: face::uuid() };
        let shown = self.alias(&name, &alias_name, &alias);
        at.value.aliases.insert(alias_name, alias);
        self.put(&name, &at).await?;
        Ok(shown)
    }

    pub(crate) async fn get_alias(&self) -> Result<Value, AwsError> {
        let Named { name, at, .. } = self.function().await?;
        let alias_name = self.text("Name").unwrap_or_default();
        match at.value.aliases.get(alias_name) {
            Some(alias) => Ok(self.alias(&name, alias_name, alias)),
            None => Err(self.no_alias(&name, alias_name)),
        }
    }

    pub(crate) async fn update_alias(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let Named { name, mut at, .. } = self.function().await?;
        let alias_name = self.text("Name").unwrap_or_default().to_owned();
        let Some(known) = at.value.aliases.get(&alias_name).cloned() else {
            return Err(AwsError::not_found(format!(
                "Alias not found: {}",
                self.arn(&name, Some(&alias_name))
            )));
        };
        self.expect(&known.revision)?;
        let version = self.text("FunctionVersion").map_or(known.version, str::to_owned);
        if at.value.version(&version).is_none() {
            return Err(self.not_found(&name, Some(&version)));
        }
        let weights = self.weights(&name, &at.value, &version)?.unwrap_or(known.weights);
        let description = self.text("Description").map_or(known.description, str::to_owned);
        let alias = Alias { version, description, weights, revision: face::uuid() };
        let shown = self.alias(&name, &alias_name, &alias);
        at.value.aliases.insert(alias_name, alias);
        let is_provisioned = at.value.provisioned.contains_key(self.text("Name").unwrap_or_default());
        self.put(&name, &at).await?;
        if is_provisioned {
            activate::later(self.face, &self.around.scope, &name);
        }
        self.remap(&name).await?;
        Ok(shown)
    }

    pub(crate) async fn delete_alias(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let Named { name, mut at, .. } = self.function().await?;
        let alias = self.text("Name").unwrap_or_default();
        // One that is not there is gone already.
        if at.value.aliases.remove(alias).is_some() {
            let function = &mut at.value;
            function.policies.remove(alias);
            let url = function.urls.remove(alias);
            function.event_invoke.remove(alias);
            let provisioned = function.provisioned.remove(alias);
            self.put(&name, &at).await?;
            self.forget_urls(&url).await;
            if provisioned.is_some() {
                activate::later(self.face, &self.around.scope, &name);
            }
        }
        Ok(Value::Null)
    }

    pub(crate) async fn list_aliases(&self) -> Result<Value, AwsError> {
        let Named { name, at, .. } = self.function().await?;
        let wanted = self.text("FunctionVersion");
        let fits = |(_, alias): &(&String, &Alias)| {
            wanted.is_none_or(|wanted| alias.version == wanted || alias.weights.contains_key(wanted))
        };
        let aliases = at.value.aliases.iter().filter(fits);
        let items = aliases.map(|(alias, of)| (alias.clone(), self.alias(&name, alias, of))).collect();
        let (page, next) = self.page(items)?;
        Ok(json!({ "Aliases": page, "NextMarker": next }))
    }
}
