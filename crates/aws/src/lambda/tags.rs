//! Tags of functions, event source mappings and code signing configurations.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{config::revise, op::Op};
use crate::{error::AwsError, state};

/// Tags of one resource.
const TAGS_MAX: usize = 50;

/// Whether these are few enough.
pub(crate) fn check(tags: &BTreeMap<String, String>) -> Result<(), AwsError> {
    if tags.len() > TAGS_MAX {
        return Err(AwsError::invalid("Number of tags exceeds resource tag limit."));
    }
    Ok(())
}

impl Op<'_> {
    /// Changes the tags of what the request names. Gives them as they are then.
    async fn tags(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<BTreeMap<String, String>, AwsError> {
        let resource = self.text("Resource").unwrap_or_default();
        let store = &self.face.store;
        let tenant = &self.around.scope.tenant;
        let _lock = store.lock().await;
        let kind = resource.split(':').nth(5).unwrap_or_default();
        let id = resource.split(':').nth(6).unwrap_or_default();
        if kind == "function" {
            let (name, qualifier) = self.around.scope.read(resource, None)?;
            if qualifier.is_some() {
                return Err(AwsError::invalid(
                    "Tags on function aliases and versions are not supported. Please specify a function ARN.",
                ));
            }
            let mut at = self.find(&name).await?.ok_or_else(|| self.not_found(&name, None))?;
            let before = at.value.tags.clone();
            change(&mut at.value.tags);
            check(&at.value.tags)?;
            if at.value.tags != before {
                revise(&mut at.value.latest.config);
                self.put(&name, &at).await?;
            }
            return Ok(at.value.tags);
        }
        let namespace = match kind {
            "event-source-mapping" => state::MAPPINGS,
            "code-signing-config" => state::SIGNING,
            _ => return Err(AwsError::invalid(format!("Unsupported resource: {resource}"))),
        };
        let found: Option<state::At<Value>> = store.get(namespace, tenant, id).await?;
        let missing = || match kind {
            "event-source-mapping" => {
                AwsError::not_found(format!("Event source mapping not found: {resource}"))
            }
            _ => AwsError::not_found(format!(
                "The code signing configuration cannot be found. Check that the provided configuration is not deleted: {resource}."
            )),
        };
        let mut at = found.ok_or_else(missing)?;
        let mut tags: BTreeMap<String, String> =
            serde_json::from_value(at.value["Tags"].clone()).unwrap_or_default();
        change(&mut tags);
        check(&tags)?;
        at.value["Tags"] = json!(tags);
        store.put(namespace, tenant, id, &at).await?;
        Ok(tags)
    }

    pub(crate) async fn tag(&self) -> Result<Value, AwsError> {
        let tags = self.input.get("Tags").and_then(Value::as_object).cloned().unwrap_or_default();
        if tags.is_empty() {
            return Err(AwsError::invalid("An error occurred and the request cannot be processed."));
        }
        self.tags(|known| {
            for (key, value) in tags {
                known.insert(key, value.as_str().unwrap_or_default().to_owned());
            }
        })
        .await?;
        Ok(Value::Null)
    }

    pub(crate) async fn untag(&self) -> Result<Value, AwsError> {
        let keys = self.input.get("TagKeys").and_then(Value::as_array).cloned().unwrap_or_default();
        self.tags(|known| {
            for key in keys.iter().filter_map(Value::as_str) {
                known.remove(key);
            }
        })
        .await?;
        Ok(Value::Null)
    }

    pub(crate) async fn list_tags(&self) -> Result<Value, AwsError> {
        Ok(json!({ "Tags": self.tags(|_| {}).await? }))
    }
}
