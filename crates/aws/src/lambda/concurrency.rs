//! Concurrency of functions: reserved, which bounds their calls at once, and provisioned.

use serde_json::{Value, json};

use super::{
    activate,
    config::platform_alias,
    op::{Named, Op},
};
use crate::{
    error::AwsError,
    face,
    names::{self, LATEST},
    state::Function,
};

/// Calls at once of an account, as AWS begins with.
pub(crate) const ACCOUNT_CONCURRENCY: u64 = 1_000;
/// What must stay for functions without a reserve, of an account that has as many as AWS begins with.
const UNRESERVED_MIN: u64 = 100;

/// The same of an account with so many calls at once.
fn unreserved_min(account: u64) -> u64 {
    UNRESERVED_MIN.min(account / 10)
}

/// What is said of `$LATEST`.
const UNPUBLISHED: &str = "The function resource provided must be an alias or a published version.";

/// What a provisioned concurrency asks for.
fn asked(config: &Value) -> u64 {
    config["RequestedProvisionedConcurrentExecutions"].as_u64().unwrap_or_default()
}

/// A version has its own provisioned concurrency, or that of one alias.
fn expect_one_of_both(function: &Function, qualifier: &str) -> Result<(), AwsError> {
    let others = |alias: &str| alias != qualifier && function.provisioned.contains_key(alias);
    match function.aliases.get(qualifier) {
        Some(alias) if function.provisioned.contains_key(&alias.version) => Err(AwsError::conflict(
            "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
        )),
        None if function.aliases.iter().any(|(name, alias)| alias.version == qualifier && others(name)) => {
            Err(AwsError::conflict("Version is pointed by a Provisioned Concurrency alias"))
        }
        _ => Ok(()),
    }
}

impl Op<'_> {
    /// What the functions of the tenant have reserved, all but one.
    pub(crate) async fn reserved_by_others(&self, but: Option<&str>) -> Result<u64, AwsError> {
        let all = self.all().await?;
        Ok(all
            .iter()
            .filter(|(name, _)| but != Some(name))
            .filter_map(|(_, function)| function.reserved)
            .sum())
    }

    /// Calls at once of the account: as many as AWS begins with, or fewer where the operator grants fewer.
    pub(crate) async fn account_concurrency(&self) -> Result<u64, AwsError> {
        let granted = self.face.platform.concurrency(&self.around.scope.tenant).await;
        let granted = granted.map_err(|refusal| AwsError::service(refusal.message))?;
        Ok(granted.map_or(ACCOUNT_CONCURRENCY, |granted| u64::from(granted).min(ACCOUNT_CONCURRENCY)))
    }

    pub(crate) async fn put_concurrency(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (name, qualifier) = self.name()?;
        if qualifier.is_some() {
            return Err(AwsError::invalid(
                "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. \
                 Please specify either a function name or an unqualified function ARN.",
            ));
        }
        let function = self.find(&name).await?;
        let mut function = function.ok_or_else(|| self.not_found(&name, Some(LATEST)))?;
        let wanted = self.number("ReservedConcurrentExecutions").unwrap_or_default();
        let provisioned: u64 = function.value.provisioned.values().map(asked).sum();
        if wanted < provisioned {
            return Err(AwsError::invalid(format!(
                " ReservedConcurrentExecutions  {wanted} should not be lower than function's total provisioned concurrency \
                 [{provisioned}]."
            ))
            .untyped());
        }
        let others = self.reserved_by_others(Some(&name)).await?;
        let account = self.account_concurrency().await?;
        let least = unreserved_min(account);
        if wanted > 0 && others + wanted > account - least {
            return Err(AwsError::invalid(format!(
                "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution \
                 below its minimum value of [{least}]."
            )));
        }
        function.value.reserved = Some(wanted);
        self.put(&name, &function).await?;
        activate::later(self.face, &self.around.scope, &name);
        Ok(json!({ "ReservedConcurrentExecutions": wanted }))
    }

    pub(crate) async fn get_concurrency(&self) -> Result<Value, AwsError> {
        let named = self.function().await?;
        Ok(json!({ "ReservedConcurrentExecutions": named.at.value.reserved }))
    }

    pub(crate) async fn delete_concurrency(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let Named { name, mut at, .. } = self.function().await?;
        at.value.reserved = None;
        self.put(&name, &at).await?;
        activate::later(self.face, &self.around.scope, &name);
        Ok(Value::Null)
    }

    /// The function and a qualifier that provisioned concurrency can be set for; `unpublished` is what is said of `$LATEST`.
    async fn published(&self, unpublished: &str) -> Result<(Named, String), AwsError> {
        if self.text("Qualifier") == Some(LATEST) {
            return Err(AwsError::invalid(unpublished));
        }
        let named = self.named().await?;
        let qualifier = named.qualifier.clone().unwrap_or_default();
        Ok((named, qualifier))
    }

    pub(crate) async fn put_provisioned(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let unpublished =
            "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";
        let (Named { name, at: mut function, .. }, qualifier) = self.published(unpublished).await?;
        let wanted = self.number("ProvisionedConcurrentExecutions").unwrap_or_default();
        expect_one_of_both(&function.value, &qualifier)?;
        let reserved = function.value.reserved;
        let others = function.value.provisioned.iter().filter(|(other, _)| **other != qualifier);
        let others: u64 = others.map(|(_, config)| asked(config)).sum();
        if reserved.is_some_and(|reserved| others + wanted > reserved) {
            return Err(AwsError::invalid(
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
            ));
        }
        let account = self.account_concurrency().await?;
        let least = unreserved_min(account);
        let unreserved = account.saturating_sub(self.reserved_by_others(None).await?);
        if reserved.is_none() && wanted > unreserved {
            return Err(AwsError::invalid(format!(
                "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{unreserved}]."
            )));
        }
        if reserved.is_none() && wanted > unreserved.saturating_sub(least) {
            return Err(AwsError::invalid(format!(
                "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its \
                 minimum value of [{least}]."
            )));
        }
        let config = json!({
            "RequestedProvisionedConcurrentExecutions": wanted, "AvailableProvisionedConcurrentExecutions": 0,
            "AllocatedProvisionedConcurrentExecutions": 0, "Status": "IN_PROGRESS",
            "LastModified": face::time(self.around.now),
        });
        function.value.provisioned.insert(qualifier, config.clone());
        self.put(&name, &function).await?;
        activate::later(self.face, &self.around.scope, &name);
        Ok(config)
    }

    /// A provisioned concurrency as it is now: how many of its instances are there.
    async fn allocated(
        &self,
        name: &str,
        function: &Function,
        qualifier: &str,
        config: &Value,
    ) -> Result<Value, AwsError> {
        let version = function.aliases.get(qualifier).map_or(qualifier, |alias| alias.version.as_str());
        let deployed = function.version(version).and_then(|of| of.deployed);
        let wanted = asked(config);
        // What runs before the deployment has other instances.
        let there = if deployed == Some(function.capacity(version)) {
            let (tenant, own) = (&self.around.scope.tenant, names::platform(name));
            let (app, alias) = (activate::app(name), platform_alias(version));
            let there = self.face.platform.instances(tenant, &app, &own, &alias);
            there.await.map_err(|refusal| AwsError::service(refusal.message))?.min(wanted)
        } else {
            0
        };
        let mut config = config.clone();
        config["AvailableProvisionedConcurrentExecutions"] = there.into();
        config["AllocatedProvisionedConcurrentExecutions"] = there.into();
        config["Status"] = if there < wanted { "IN_PROGRESS" } else { "READY" }.into();
        Ok(config)
    }

    pub(crate) async fn get_provisioned(&self) -> Result<Value, AwsError> {
        let (Named { name, at, .. }, qualifier) = self.published(UNPUBLISHED).await?;
        match at.value.provisioned.get(&qualifier) {
            Some(config) => self.allocated(&name, &at.value, &qualifier, config).await,
            None => Err(AwsError::new(
                "ProvisionedConcurrencyConfigNotFoundException",
                "No Provisioned Concurrency Config found for this function",
            )),
        }
    }

    pub(crate) async fn delete_provisioned(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (Named { name, mut at, .. }, qualifier) = self.published(UNPUBLISHED).await?;
        if at.value.provisioned.remove(&qualifier).is_some() {
            self.put(&name, &at).await?;
            activate::later(self.face, &self.around.scope, &name);
        }
        Ok(Value::Null)
    }

    pub(crate) async fn list_provisioned(&self) -> Result<Value, AwsError> {
        let Named { name, at, .. } = self.function().await?;
        let function: &Function = &at.value;
        let mut items = Vec::new();
        for (qualifier, config) in &function.provisioned {
            let mut config = self.allocated(&name, function, qualifier, config).await?;
            config["FunctionArn"] = self.arn(&name, Some(qualifier)).into();
            items.push((qualifier.clone(), config));
        }
        let (page, next) = self.page(items)?;
        Ok(json!({ "ProvisionedConcurrencyConfigs": page, "NextMarker": next }))
    }
}
