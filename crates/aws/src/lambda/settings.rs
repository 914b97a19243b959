//! Settings that are kept and given back: of the account, of runtimes, of recursion, of scaling.

use serde_json::{Value, json};

use super::op::{Named, Op};
use crate::{error::AwsError, names::LATEST};

impl Op<'_> {
    pub(crate) async fn account_settings(&self) -> Result<Value, AwsError> {
        let all = self.all().await?;
        let size: u64 = all
            .iter()
            .flat_map(|(_, f)| f.all().map(|(_, v)| v.number("CodeSize")).collect::<Vec<_>>())
            .sum();
        let size: u64 = size + self.layer_bytes().await?;
        let reserved: u64 = all.iter().filter_map(|(_, function)| function.reserved).sum();
        let account = self.account_concurrency().await?;
        Ok(json!({
            "AccountLimit": {
                "TotalCodeSize": 80_530_636_800_u64, "CodeSizeUnzipped": 262_144_000, "CodeSizeZipped": 52_428_800,
                "ConcurrentExecutions": account,
                "UnreservedConcurrentExecutions": account.saturating_sub(reserved),
            },
            "AccountUsage": { "TotalCodeSize": size, "FunctionCount": all.len() },
        }))
    }

    pub(crate) async fn put_runtime_management(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let Named { name, qualifier, mut at } = self.qualified().await?;
        let mode = self.text("UpdateRuntimeOn").unwrap_or("Auto");
        let arn = self.text("RuntimeVersionArn");
        if (mode == "Manual") != arn.is_some() {
            return Err(AwsError::invalid(if arn.is_some() {
                format!("RuntimeVersionArn is not required for UpdateRuntimeOn={mode}")
            } else {
                "RuntimeVersionArn is required when UpdateRuntimeOn is set to Manual".to_owned()
            }));
        }
        let kept = json!({ "UpdateRuntimeOn": mode, "RuntimeVersionArn": arn });
        let key = qualifier.clone().unwrap_or_else(|| LATEST.to_owned());
        at.value.runtime_management.insert(key, kept.clone());
        self.put(&name, &at).await?;
        let mut shown = kept;
        shown["FunctionArn"] = self.arn(&name, qualifier.as_deref()).into();
        Ok(shown)
    }

    pub(crate) async fn get_runtime_management(&self) -> Result<Value, AwsError> {
        let Named { name, qualifier, at } = self.qualified().await?;
        let kept = at.value.runtime_management.get(qualifier.as_deref().unwrap_or(LATEST));
        let mut shown = kept.cloned().unwrap_or_else(|| json!({ "UpdateRuntimeOn": "Auto" }));
        shown["FunctionArn"] = self.arn(&name, qualifier.as_deref()).into();
        Ok(shown)
    }

    pub(crate) async fn put_recursion(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let Named { name, mut at, .. } = self.function().await?;
        at.value.recursion = self.text("RecursiveLoop").map(str::to_owned);
        self.put(&name, &at).await?;
        Ok(json!({ "RecursiveLoop": at.value.recursion }))
    }

    pub(crate) async fn get_recursion(&self) -> Result<Value, AwsError> {
        let named = self.function().await?;
        Ok(json!({ "RecursiveLoop": named.at.value.recursion.as_deref().unwrap_or("Terminate") }))
    }

    pub(crate) async fn put_scaling(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let Named { name, qualifier, mut at } = self.qualified().await?;
        let config = self.input.get("FunctionScalingConfig").cloned().unwrap_or_else(|| json!({}));
        at.value.scaling.insert(qualifier.unwrap_or_else(|| LATEST.to_owned()), config);
        self.put(&name, &at).await?;
        Ok(json!({ "FunctionState": at.value.latest.text("State") }))
    }

    pub(crate) async fn get_scaling(&self) -> Result<Value, AwsError> {
        let Named { name, qualifier, at } = self.qualified().await?;
        let key = qualifier.as_deref().unwrap_or(LATEST);
        let config = at.value.scaling.get(key);
        Ok(json!({
            "FunctionArn": self.arn(&name, Some(key)), "AppliedFunctionScalingConfig": config,
            "RequestedFunctionScalingConfig": config,
        }))
    }
}
