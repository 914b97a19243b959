//! Concurrency of functions: reserved, which bounds their calls at once, and provisioned.

use serde_json::{Value, json};

use super::{
    activate,
    op::{Named, Op},
};
use crate::{error::AwsError, face, names::LATEST, state::Function};

/// Calls at once of an account, as AWS begins with.
pub(crate) const ACCOUNT_CONCURRENCY: u64 = 1_000;
/// What must stay for functions without a reserve.
const UNRESERVED_MIN: u64 = 100;

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

    pub(crate) async fn put_concurrency(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let Named { name, at: mut function, .. } = self.function().await?;
        let wanted = self.number("ReservedConcurrentExecutions").unwrap_or_default();
        let others = self.reserved_by_others(Some(&name)).await?;
        if wanted > 0 && others + wanted > ACCOUNT_CONCURRENCY - UNRESERVED_MIN {
            return Err(AwsError::invalid(format!(
                "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution \
                 below its minimum value of [{UNRESERVED_MIN}]."
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

    /// The function and a qualifier that provisioned concurrency can be set for.
    async fn published(&self) -> Result<(Named, String), AwsError> {
        if self.text("Qualifier") == Some(LATEST) {
            return Err(AwsError::invalid(
                "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
            ));
        }
        let named = self.function().await?;
        let qualifier = named.qualifier.clone().unwrap_or_default();
        let function = &named.at.value;
        if function.aliases.contains_key(&qualifier) {
            return Ok((named, qualifier));
        }
        if function.version(&qualifier).is_none() {
            let what = if qualifier.bytes().all(|b| b.is_ascii_digit()) {
                self.not_found(&named.name, Some(&qualifier))
            } else {
                AwsError::not_found(format!(
                    "Cannot find alias arn: {}",
                    self.arn(&named.name, Some(&qualifier))
                ))
            };
            return Err(what);
        }
        Ok((named, qualifier))
    }

    pub(crate) async fn put_provisioned(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (Named { name, at: mut function, .. }, qualifier) = self.published().await?;
        let wanted = self.number("ProvisionedConcurrentExecutions").unwrap_or_default();
        let others = self.reserved_by_others(None).await?;
        let most =
            function.value.reserved.unwrap_or((ACCOUNT_CONCURRENCY - UNRESERVED_MIN).saturating_sub(others));
        if wanted > most {
            return Err(AwsError::invalid(match function.value.reserved {
                Some(_) => "Requested Provisioned Concurrency should not be greater than the \
                            reservedConcurrentExecution for function"
                    .to_owned(),
                None => format!(
                    "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{most}]."
                ),
            }));
        }
        let config = json!({
            "RequestedProvisionedConcurrentExecutions": wanted, "AvailableProvisionedConcurrentExecutions": 0,
            "AllocatedProvisionedConcurrentExecutions": 0, "Status": "IN_PROGRESS",
            "LastModified": face::time(self.around.now),
        });
        function.value.provisioned.insert(qualifier, config.clone());
        self.put(&name, &function).await?;
        Ok(config)
    }

    /// A provisioned concurrency as it is now: instances are started by demand, so it is there at once.
    fn allocated(config: &Value) -> Value {
        let mut config = config.clone();
        let wanted = config["RequestedProvisionedConcurrentExecutions"].clone();
        config["AvailableProvisionedConcurrentExecutions"] = wanted.clone();
        config["AllocatedProvisionedConcurrentExecutions"] = wanted;
        config["Status"] = "READY".into();
        config
    }

    pub(crate) async fn get_provisioned(&self) -> Result<Value, AwsError> {
        let (named, qualifier) = self.published().await?;
        let config = named.at.value.provisioned.get(&qualifier).map(Self::allocated);
        config.ok_or_else(|| {
            AwsError::new(
                "ProvisionedConcurrencyConfigNotFoundException",
                "No Provisioned Concurrency Config found for this function",
            )
        })
    }

    pub(crate) async fn delete_provisioned(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (Named { name, mut at, .. }, qualifier) = self.published().await?;
        if at.value.provisioned.remove(&qualifier).is_some() {
            self.put(&name, &at).await?;
        }
        Ok(Value::Null)
    }

    pub(crate) async fn list_provisioned(&self) -> Result<Value, AwsError> {
        let Named { name, at, .. } = self.function().await?;
        let function: &Function = &at.value;
        let items = function.provisioned.iter().map(|(qualifier, config)| {
            let mut config = Self::allocated(config);
            config["FunctionArn"] = self.arn(&name, Some(qualifier)).into();
            (qualifier.clone(), config)
        });
        let (page, next) = self.page(items.collect())?;
        Ok(json!({ "ProvisionedConcurrencyConfigs": page, "NextMarker": next }))
    }
}
