//! Functions: made, shown, listed, deleted.

use std::collections::BTreeMap;

use rouse_types::Digest;
use serde_json::{Map, Value, json};

use super::{
    activate,
    config::{essence, platform_alias, set_state},
    op::{Named, Op},
    runtimes::ARCHITECTURE,
};
use crate::{
    error::AwsError,
    names::{self, LATEST},
    state::{self, At, Function, Version},
};

/// The longest name of a new function.
const NAME_CHARS_MAX: usize = 64;

impl Op<'_> {
    pub(crate) async fn create_function(&self) -> Result<Value, AwsError> {
        let (name, qualifier) = self.name()?;
        if qualifier.is_some() || name.chars().count() > NAME_CHARS_MAX {
            return Err(AwsError::validation(format!(
                "1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: Member must \
                 have length less than or equal to {NAME_CHARS_MAX}"
            )));
        }
        let package = self.text("PackageType").unwrap_or("Zip");
        let of = self.input.get("Code").cloned().unwrap_or_default();
        if package == "Image" {
            self.check_image(&of)?;
        } else {
            if of.get("ImageUri").is_some() {
                return Err(AwsError::invalid("Please provide a source for function code."));
            }
            if self.text("Runtime").is_none() || self.text("Handler").is_none() {
                return Err(AwsError::invalid(
                    "Runtime and Handler are mandatory parameters for functions created with deployment packages.",
                ));
            }
        }
        self.check_architectures()?;
        if self.find(&name).await?.is_some() {
            return Err(AwsError::conflict(format!("Function already exist: {name}")));
        }
        let layers = self.layers_asked().await?;
        let code = self.code(&of).await?;
        let mut config = Map::new();
        let usual = json!({
            "Description": "", "Timeout": 3, "MemorySize": 128, "TracingConfig": { "Mode": "PassThrough" },
            "PackageType": package, "Architectures": [ARCHITECTURE], "EphemeralStorage": { "Size": 512 },
            "SnapStart": { "ApplyOn": "None", "OptimizationStatus": "Off" },
            "LoggingConfig": { "LogFormat": "Text", "LogGroup": format!("/aws/lambda/{name}") },
            "CodeSize": code.size, "CodeSha256": code.sha256,
        });
        config.extend(usual.as_object().cloned().unwrap_or_default());
        self.configure(&mut config, &name)?;
        self.touch(&mut config);
        set_state(&mut config, "State", "Pending", Some(("The function is being created.", "Creating")));
        self.expect_unpacked(&code)?;
        let mut latest = Version { config, code: code.digest, image: code.image, ..Version::default() };
        self.attach_layers(&mut latest, layers).await?;
        let tags = self.input.get("Tags").and_then(Value::as_object).into_iter().flatten();
        let tags: BTreeMap<String, String> =
            tags.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
        super::tags::check(&tags)?;
        if let Some(arn) = self.text("CodeSigningConfigArn") {
            self.signing_config(arn).await?;
        }
        let mut function = Function {
            latest,
            next: 1,
            tags,
            code_signing: self.text("CodeSigningConfigArn").map(str::to_owned),
            ..Function::default()
        };
        let mut shown = self.shown(&name, LATEST, &function.latest, None);
        if self.flag("Publish") {
            let mut version = function.latest.clone();
            version.essence = Some(essence(&function.latest));
            // The name of the function alone, whatever the version.
            shown = self.shown(&name, "1", &version, None);
            function.versions.insert(1, version);
            function.next = 2;
        }
        let created = {
            let _lock = self.face.store.lock().await;
            self.face.store.create(state::FUNCTIONS, &self.around.scope.tenant, &name, &function).await
        };
        created.map_err(|error| match error.name {
            "ResourceConflictException" => AwsError::conflict(format!("Function already exist: {name}")),
            _ => error,
        })?;
        activate::later(self.face, &self.around.scope, &name);
        Ok(shown)
    }

    pub(crate) fn check_architectures(&self) -> Result<(), AwsError> {
        let asked = self.input.get("Architectures").and_then(Value::as_array);
        match asked {
            Some(asked) if asked.iter().any(|each| each != ARCHITECTURE) => {
                Err(AwsError::validation(format!(
                    "1 validation error detected: Value '{}' at 'architectures' failed to satisfy constraint: Member must \
                     satisfy constraint: [Member must satisfy enum value set: [{ARCHITECTURE}], Member must not be null]",
                    crate::validate::shown(&Value::Array(asked.clone()))
                )))
            }
            _ => Ok(()),
        }
    }

    fn check_image(&self, of: &Value) -> Result<(), AwsError> {
        if of.get("ImageUri").is_none() {
            return Err(AwsError::invalid("Please provide a source for function code."));
        }
        if ["Runtime", "Handler", "Layers"].into_iter().all(|member| self.input.get(member).is_none()) {
            return Ok(());
        }
        Err(AwsError::invalid(super::update::FOR_ARCHIVES))
    }

    pub(crate) async fn get_function(&self) -> Result<Value, AwsError> {
        let named = self.function().await?;
        let (configuration, version) = self.configuration(&named)?;
        let code = match (&version.code, &version.image) {
            (_, Some(image)) => json!({
                "RepositoryType": "ECR", "ImageUri": image, "ResolvedImageUri": image,
            }),
            (Some(digest), None) => {
                json!({ "RepositoryType": "S3", "Location": self.face.code_url(self.around, digest) })
            }
            (None, None) => Value::Null,
        };
        let function = &named.at.value;
        let mut answer = json!({ "Configuration": configuration, "Code": code });
        if let Some(fields) = answer.as_object_mut() {
            if !function.tags.is_empty() {
                fields.insert("Tags".to_owned(), json!(function.tags));
            }
            if let Some(reserved) = function.reserved {
                let concurrency = json!({ "ReservedConcurrentExecutions": reserved });
                fields.insert("Concurrency".to_owned(), concurrency);
            }
        }
        Ok(answer)
    }

    pub(crate) async fn get_function_configuration(&self) -> Result<Value, AwsError> {
        let named = self.function().await?;
        self.configuration(&named).map(|(configuration, _)| configuration)
    }

    /// The configuration that a request means, with the qualifier that it names in the ARN.
    fn configuration<'a>(&self, named: &'a Named) -> Result<(Value, &'a Version), AwsError> {
        let qualifier = named.qualifier.as_deref();
        let (version, of) = named.version().ok_or_else(|| self.not_found(&named.name, qualifier))?;
        Ok((self.shown(&named.name, &version, of, qualifier), of))
    }

    pub(crate) async fn list_functions(&self) -> Result<Value, AwsError> {
        let all = self.all().await?;
        if self.text("FunctionVersion") != Some("ALL") {
            let (page, next) =
                self.page(all.into_iter().map(|(name, f)| (name.clone(), (name, f))).collect())?;
            let functions = page.iter().map(|(name, f)| self.listed(name, LATEST, &f.latest, None));
            return Ok(json!({ "Functions": functions.collect::<Vec<_>>(), "NextMarker": next }));
        }
        let mut items = Vec::new();
        for (name, function) in &all {
            for (index, (version, of)) in function.all().enumerate() {
                let shown = self.listed(name, &version, of, Some(&version));
                items.push((format!("{name}/{index:06}"), shown));
            }
        }
        let (page, next) = self.page(items)?;
        Ok(json!({ "Functions": page, "NextMarker": next }))
    }

    pub(crate) async fn delete_function(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let Named { name, qualifier, at } = self.function().await?;
        let scope = &self.around.scope;
        match qualifier.as_deref() {
            None => {
                self.face.platform.delete(&scope.tenant, &activate::app(&name)).await.map_err(|refusal| {
                    tracing::warn!(%name, %refusal, "a function of the Lambda API cannot be deleted");
                    AwsError::service(refusal.message)
                })?;
                self.face.store.delete(state::FUNCTIONS, &scope.tenant, &name).await?;
                self.forget_code(at.value.all().flat_map(|(_, version)| version.blobs().collect::<Vec<_>>()))
                    .await;
                self.forget_urls(at.value.urls.values()).await;
                self.delete_mappings_of(&name).await?;
            }
            Some(LATEST) => {
                return Err(AwsError::invalid(
                    "$LATEST version cannot be deleted without deleting the function.",
                ));
            }
            Some(version) => self.delete_version(&name, version, at).await?,
        }
        Ok(json!({ "StatusCode": 204 }))
    }

    async fn delete_version(&self, name: &str, version: &str, mut at: At<Function>) -> Result<(), AwsError> {
        let Ok(number) = version.parse::<u64>() else {
            return Err(AwsError::invalid("Deletion of aliases is not currently supported."));
        };
        let uses = |(_, alias): &(&String, &state::Alias)| {
            alias.version == version || alias.weights.contains_key(version)
        };
        let aliases: Vec<&str> =
            at.value.aliases.iter().filter(uses).map(|(name, _)| name.as_str()).collect();
        if !aliases.is_empty() {
            return Err(AwsError::conflict(format!(
                "Unable to delete version because the following aliases reference it: [{}]",
                aliases.join(", ")
            )));
        }
        // One that is not there is gone already.
        if at.value.versions.remove(&number).is_some() {
            let alias = platform_alias(version).parse().map_err(|_| self.not_found(name, Some(version)))?;
            let tenant = &self.around.scope.tenant;
            self.face
                .platform
                .delete_alias(tenant, &names::platform(name), &alias)
                .await
                .map_err(|refusal| AwsError::service(refusal.message))?;
            self.put(name, &at).await?;
        }
        Ok(())
    }

    /// Deletes what no function and no layer has any more.
    pub(crate) async fn forget_code(&self, gone: impl IntoIterator<Item = Digest>) {
        let Ok(all) = self.face.store.scan::<Function>(state::FUNCTIONS, "", 0).await else { return };
        let Ok(layers) = self.layer_codes().await else { return };
        for digest in gone {
            let uses = |of: &Version| of.blobs().any(|used| used == digest);
            let used = all.iter().any(|(_, function)| function.all().any(|(_, of)| uses(of)));
            if !used
                && !layers.contains(&digest)
                && let Err(error) = self.face.blobs.delete(&digest)
            {
                tracing::warn!(%error, "code that nothing needs is still kept");
            }
        }
    }
}
