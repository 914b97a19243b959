//! Layers: archives that are published by name and number, and attached to functions.

mod attached;

use std::collections::BTreeSet;

pub(crate) use attached::{UNPACKED_BYTES_MAX, merged, unpacked_bytes};
use rouse_types::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::op::Op;
use crate::{error::AwsError, face, state};

/// A layer with its versions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Layer {
    next: u64,
    versions: std::collections::BTreeMap<u64, LayerVersion>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct LayerVersion {
    /// As `ListLayerVersions` shows it, without its names.
    shown: Value,
    size: usize,
    sha256: String,
    code: Option<Digest>,
    policy: state::Policy,
}

const MISSING: &str = "The resource you requested does not exist.";
/// What AWS says is to be called for a policy's revision.
const POLICY: &str = "GetLayerPolicy";

impl Op<'_> {
    fn layer_name(&self) -> String {
        let given = self.text("LayerName").unwrap_or_default();
        given.split(':').nth(6).unwrap_or(given).to_owned()
    }

    fn layer_arn(&self, name: &str, version: Option<u64>) -> String {
        let arn = self.around.scope.arn("layer", name);
        version.map_or(arn.clone(), |version| format!("{arn}:{version}"))
    }

    async fn layer(&self, name: &str) -> Result<Option<state::At<Layer>>, AwsError> {
        self.face.store.get(state::LAYERS, &self.around.scope.tenant, name).await
    }

    /// The code of all layers of all tenants, which stays.
    pub(crate) async fn layer_codes(&self) -> Result<BTreeSet<Digest>, AwsError> {
        let all = self.face.store.scan::<Layer>(state::LAYERS, "", 0).await?;
        let codes = |(_, layer): &(String, Layer)| -> Vec<Digest> {
            layer.versions.values().filter_map(|version| version.code).collect()
        };
        Ok(all.iter().flat_map(codes).collect())
    }

    /// The bytes of the archives of all layers of the tenant.
    pub(crate) async fn layer_bytes(&self) -> Result<u64, AwsError> {
        let all: Vec<(String, Layer)> =
            self.face.store.list(state::LAYERS, &self.around.scope.tenant, "").await?;
        Ok(all.iter().flat_map(|(_, layer)| layer.versions.values()).map(|version| version.size as u64).sum())
    }

    fn layer_listed(&self, name: &str, number: u64, version: &LayerVersion) -> Value {
        let mut shown = version.shown.clone();
        shown["LayerVersionArn"] = self.layer_arn(name, Some(number)).into();
        shown["Version"] = number.into();
        shown
    }

    fn layer_whole(&self, name: &str, number: u64, version: &LayerVersion) -> Value {
        let mut shown = self.layer_listed(name, number, version);
        shown["LayerArn"] = self.layer_arn(name, None).into();
        shown["Content"] = json!({
            "Location": version.code.map(|digest| self.face.code_url(self.around, &digest)),
            "CodeSha256": version.sha256, "CodeSize": version.size,
        });
        shown
    }

    pub(crate) async fn publish_layer(&self) -> Result<Value, AwsError> {
        let name = self.layer_name();
        let code = self.code(self.input.get("Content").unwrap_or(&Value::Null)).await?;
        self.expect_unpacked(&code)?;
        let _lock = self.face.store.lock().await;
        let known = self.layer(&name).await?;
        let mut layer = known.as_ref().map(|at| at.value.clone()).unwrap_or_default();
        let number = layer.next.max(1);
        let mut shown = json!({ "Description": self.text("Description").unwrap_or_default(), "CreatedDate": face::time(self.around.now) });
        for member in ["CompatibleRuntimes", "CompatibleArchitectures", "LicenseInfo"] {
            if let Some(value) = self.input.get(member) {
                shown[member] = value.clone();
            }
        }
        let version = LayerVersion {
            shown,
            size: code.size,
            sha256: code.sha256,
            code: code.digest,
            policy: state::Policy::default(),
        };
        let answer = self.layer_whole(&name, number, &version);
        layer.next = number + 1;
        layer.versions.insert(number, version);
        let tenant = &self.around.scope.tenant;
        match known {
            Some(mut at) => {
                at.value = layer;
                self.face.store.put(state::LAYERS, tenant, &name, &at).await?;
            }
            None => self.face.store.create(state::LAYERS, tenant, &name, &layer).await?,
        }
        Ok(answer)
    }

    async fn layer_version(
        &self,
        name: &str,
        number: u64,
    ) -> Result<(state::At<Layer>, LayerVersion), AwsError> {
        let missing = || AwsError::not_found(MISSING);
        let layer = self.layer(name).await?.ok_or_else(missing)?;
        let version = layer.value.versions.get(&number).cloned().ok_or_else(missing)?;
        Ok((layer, version))
    }

    fn layer_number(&self) -> Result<u64, AwsError> {
        match self.input.get("VersionNumber").and_then(Value::as_i64) {
            Some(number) if number >= 1 => Ok(number.unsigned_abs()),
            _ => Err(AwsError::invalid("Layer Version Cannot be less than 1")),
        }
    }

    pub(crate) async fn get_layer(&self) -> Result<Value, AwsError> {
        let (name, number) = (self.layer_name(), self.layer_number()?);
        let (_, version) = self.layer_version(&name, number).await?;
        Ok(self.layer_whole(&name, number, &version))
    }

    pub(crate) async fn get_layer_by_arn(&self) -> Result<Value, AwsError> {
        let arn = self.text("Arn").unwrap_or_default();
        let name = arn.split(':').nth(6).unwrap_or_default().to_owned();
        let number = arn.split(':').nth(7).and_then(|number| number.parse().ok()).unwrap_or_default();
        let version = self.layer_at(arn).await?.ok_or_else(|| AwsError::not_found(MISSING))?;
        let mut shown = self.layer_whole(&name, number, &version);
        // It may be another account's.
        shown["LayerVersionArn"] = arn.into();
        shown["LayerArn"] = arn.rsplit_once(':').map_or(arn, |(layer, _)| layer).into();
        Ok(shown)
    }

    /// Whether a version is for what a list is asked for.
    fn layer_fits(&self, version: &LayerVersion) -> bool {
        let has = |member: &str, wanted: Option<&str>| {
            wanted.is_none_or(|wanted| {
                version.shown[member].as_array().is_some_and(|list| list.iter().any(|each| each == wanted))
            })
        };
        has("CompatibleRuntimes", self.text("CompatibleRuntime"))
            && has("CompatibleArchitectures", self.text("CompatibleArchitecture"))
    }

    pub(crate) async fn list_layers(&self) -> Result<Value, AwsError> {
        let all: Vec<(String, Layer)> =
            self.face.store.list(state::LAYERS, &self.around.scope.tenant, "").await?;
        let items = all.iter().filter_map(|(name, layer)| {
            let (number, version) = layer.versions.iter().rev().find(|(_, version)| self.layer_fits(version))?;
            let latest = self.layer_listed(name, *number, version);
            Some((name.clone(), json!({ "LayerName": name, "LayerArn": self.layer_arn(name, None), "LatestMatchingVersion": latest })))
        });
        let (page, next) = self.page(items.collect())?;
        Ok(json!({ "Layers": page, "NextMarker": next }))
    }

    pub(crate) async fn list_layer_versions(&self) -> Result<Value, AwsError> {
        let name = self.layer_name();
        let layer = self.layer(&name).await?.map(|at| at.value).unwrap_or_default();
        let newest_first = layer.versions.iter().rev().filter(|(_, version)| self.layer_fits(version));
        let items = newest_first.map(|(number, version)| {
            (format!("{:020}", u64::MAX - number), self.layer_listed(&name, *number, version))
        });
        let (page, next) = self.page(items.collect())?;
        Ok(json!({ "LayerVersions": page, "NextMarker": next }))
    }

    pub(crate) async fn delete_layer(&self) -> Result<Value, AwsError> {
        let (name, number) = (self.layer_name(), self.layer_number()?);
        let _lock = self.face.store.lock().await;
        // One that is not there is gone already. Functions that have it keep it.
        if let Some(mut at) = self.layer(&name).await?
            && let Some(gone) = at.value.versions.remove(&number)
        {
            self.face.store.put(state::LAYERS, &self.around.scope.tenant, &name, &at).await?;
            self.forget_code(gone.code).await;
        }
        Ok(Value::Null)
    }

    /// A version whose policy is to be seen or to change.
    async fn layer_to_permit(
        &self,
        name: &str,
        number: u64,
    ) -> Result<(state::At<Layer>, LayerVersion), AwsError> {
        self.layer_version(name, number).await.map_err(|error| match error.name {
            "ResourceNotFoundException" => {
                let arn = self.layer_arn(name, Some(number));
                AwsError::not_found(format!("Layer version {arn} does not exist."))
            }
            _ => error,
        })
    }

    pub(crate) async fn add_layer_permission(&self) -> Result<Value, AwsError> {
        let (name, number) = (self.layer_name(), self.layer_number()?);
        let _lock = self.face.store.lock().await;
        let (mut at, mut version) = self.layer_to_permit(&name, number).await?;
        let id = self.text("StatementId").unwrap_or_default();
        if version.policy.statements.iter().any(|statement| statement["Sid"] == id) {
            return Err(AwsError::conflict(format!(
                "The statement id ({id}) provided already exists. Please provide a new statement id, or remove the existing \
                 statement."
            )));
        }
        self.expect_revision(&version.policy.revision, POLICY)
            .or_else(|error| if version.policy.statements.is_empty() { Ok(()) } else { Err(error) })?;
        let principal = match self.text("Principal").unwrap_or_default() {
            "*" => json!("*"),
            account if account.len() == 12 => json!({ "AWS": format!("arn:aws:iam::{account}:root") }),
            other => json!({ "AWS": other }),
        };
        let mut statement = json!({
            "Sid": id, "Effect": "Allow", "Principal": principal, "Action": self.text("Action"),
            "Resource": self.layer_arn(&name, Some(number)),
        });
        if let Some(organization) = self.text("OrganizationId") {
            statement["Condition"] = json!({ "StringEquals": { "aws:PrincipalOrgID": organization } });
        }
        version.policy.statements.push(statement.clone());
        version.policy.revision = face::uuid();
        let revision = version.policy.revision.clone();
        at.value.versions.insert(number, version);
        self.face.store.put(state::LAYERS, &self.around.scope.tenant, &name, &at).await?;
        Ok(json!({ "Statement": statement.to_string(), "RevisionId": revision }))
    }

    pub(crate) async fn remove_layer_permission(&self) -> Result<Value, AwsError> {
        let (name, number) = (self.layer_name(), self.layer_number()?);
        let _lock = self.face.store.lock().await;
        let (mut at, mut version) = self.layer_to_permit(&name, number).await?;
        let id = self.text("StatementId").unwrap_or_default();
        let Some(index) = version.policy.statements.iter().position(|statement| statement["Sid"] == id)
        else {
            return Err(AwsError::not_found(format!("Statement {id} is not found in resource policy.")));
        };
        self.expect_revision(&version.policy.revision, POLICY)?;
        version.policy.statements.remove(index);
        version.policy.revision = face::uuid();
        at.value.versions.insert(number, version);
        self.face.store.put(state::LAYERS, &self.around.scope.tenant, &name, &at).await?;
        Ok(Value::Null)
    }

    pub(crate) async fn get_layer_policy(&self) -> Result<Value, AwsError> {
        let (_, version) = self.layer_to_permit(&self.layer_name(), self.layer_number()?).await?;
        if version.policy.statements.is_empty() {
            return Err(AwsError::not_found("No policy is associated with the given resource."));
        }
        let document =
            json!({ "Version": "2012-10-17", "Id": "default", "Statement": version.policy.statements });
        Ok(json!({ "Policy": document.to_string(), "RevisionId": version.policy.revision }))
    }
}
