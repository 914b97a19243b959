//! Code signing configurations: kept, given back, attached to functions. No signature of code is checked.

use ring::rand::SecureRandom as _;
use serde_json::{Value, json};

use super::op::{Named, Op};
use crate::{error::AwsError, face, state};

impl Op<'_> {
    fn signing_id(arn: &str) -> &str {
        arn.rsplit(':').next().unwrap_or_default()
    }

    fn signing_shown(mut config: Value) -> Value {
        if let Some(fields) = config.as_object_mut() {
            fields.remove("Tags");
        }
        json!({ "CodeSigningConfig": config })
    }

    /// A configuration that is there.
    pub(crate) async fn signing_config(&self, arn: &str) -> Result<state::At<Value>, AwsError> {
        let id = Self::signing_id(arn);
        let at = self.face.store.get(state::SIGNING, &self.around.scope.tenant, id).await?;
        at.ok_or_else(|| {
            AwsError::new(
                "CodeSigningConfigNotFoundException",
                format!(
                    "The code signing configuration cannot be found. Check that the provided configuration is not deleted: \
                     {arn}."
                ),
            )
        })
    }

    async fn signing_found(&self) -> Result<state::At<Value>, AwsError> {
        let arn = self.text("CodeSigningConfigArn").unwrap_or_default();
        let missing = |error: AwsError| match error.name {
            "CodeSigningConfigNotFoundException" => {
                let text = format!("The Lambda code signing configuration {arn} can not be found.");
                AwsError::not_found(text).untyped()
            }
            _ => error,
        };
        self.signing_config(arn).await.map_err(missing)
    }

    pub(crate) async fn create_signing(&self) -> Result<Value, AwsError> {
        let mut random = [0; 9];
        let _ = ring::rand::SystemRandom::new().fill(&mut random);
        let id = format!("csc-{}", &hex::encode(random)[..17]);
        let policy = self.input.get("CodeSigningPolicies").cloned();
        let policy = policy.unwrap_or_else(|| json!({ "UntrustedArtifactOnDeployment": "Warn" }));
        let mut config = json!({
            "CodeSigningConfigId": id, "CodeSigningConfigArn": self.around.scope.arn("code-signing-config", &id),
            "AllowedPublishers": self.input.get("AllowedPublishers"), "CodeSigningPolicies": policy,
            "LastModified": face::time(self.around.now),
        });
        if let Some(description) = self.text("Description") {
            config["Description"] = description.into();
        }
        let mut kept = config.clone();
        kept["Tags"] = self.input.get("Tags").cloned().unwrap_or_else(|| json!({}));
        self.face.store.create(state::SIGNING, &self.around.scope.tenant, &id, &kept).await?;
        Ok(json!({ "CodeSigningConfig": config }))
    }

    pub(crate) async fn get_signing(&self) -> Result<Value, AwsError> {
        Ok(Self::signing_shown(self.signing_found().await?.value))
    }

    pub(crate) async fn update_signing(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let mut at = self.signing_found().await?;
        for member in ["Description", "AllowedPublishers", "CodeSigningPolicies"] {
            if let Some(value) = self.input.get(member) {
                at.value[member] = value.clone();
            }
        }
        at.value["LastModified"] = face::time(self.around.now).into();
        let id = Self::signing_id(self.text("CodeSigningConfigArn").unwrap_or_default());
        self.face.store.put(state::SIGNING, &self.around.scope.tenant, id, &at).await?;
        Ok(Self::signing_shown(at.value))
    }

    pub(crate) async fn delete_signing(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        self.signing_found().await?;
        let arn = self.text("CodeSigningConfigArn").unwrap_or_default();
        if self.all().await?.iter().any(|(_, function)| function.code_signing.as_deref() == Some(arn)) {
            return Err(AwsError::conflict(
                "Cannot delete the code signing configuration: functions use it.",
            ));
        }
        self.face.store.delete(state::SIGNING, &self.around.scope.tenant, Self::signing_id(arn)).await?;
        Ok(Value::Null)
    }

    pub(crate) async fn list_signing(&self) -> Result<Value, AwsError> {
        let all: Vec<(String, Value)> =
            self.face.store.list(state::SIGNING, &self.around.scope.tenant, "").await?;
        let bare = |config: Value| Self::signing_shown(config)["CodeSigningConfig"].clone();
        let (page, next) = self.page(all.into_iter().map(|(id, config)| (id, bare(config))).collect())?;
        Ok(json!({ "CodeSigningConfigs": page, "NextMarker": next }))
    }

    pub(crate) async fn list_functions_by_signing(&self) -> Result<Value, AwsError> {
        self.signing_found().await?;
        let arn = self.text("CodeSigningConfigArn");
        let all = self.all().await?.into_iter();
        let used = all.filter(|(_, function)| function.code_signing.as_deref() == arn);
        let (page, next) =
            self.page(used.map(|(name, _)| (name.clone(), self.arn(&name, None))).collect())?;
        Ok(json!({ "FunctionArns": page, "NextMarker": next }))
    }

    pub(crate) async fn put_function_signing(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let arn = self.text("CodeSigningConfigArn").unwrap_or_default();
        self.signing_config(arn).await?;
        let Named { name, mut at, .. } = self.function().await?;
        at.value.code_signing = Some(arn.to_owned());
        self.put(&name, &at).await?;
        Ok(json!({ "CodeSigningConfigArn": arn, "FunctionName": name }))
    }

    pub(crate) async fn get_function_signing(&self) -> Result<Value, AwsError> {
        let Named { name, at, .. } = self.function().await?;
        Ok(match at.value.code_signing {
            Some(arn) => json!({ "CodeSigningConfigArn": arn, "FunctionName": name }),
            None => json!({}),
        })
    }

    pub(crate) async fn delete_function_signing(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let Named { name, mut at, .. } = self.function().await?;
        at.value.code_signing = None;
        self.put(&name, &at).await?;
        Ok(Value::Null)
    }
}
