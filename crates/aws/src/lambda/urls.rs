//! Function URLs: an address at which a function answers HTTP, the gateway's own.

use serde_json::{Value, json};

use super::{
    config::platform_alias,
    op::{Named, Op},
};
use crate::{error::AwsError, face, names, names::LATEST, state::Function};

impl Op<'_> {
    /// The function, and the name that its URL is kept under. Versions have none.
    async fn url_of(&self) -> Result<(Named, String), AwsError> {
        let named = self.function().await?;
        let qualifier = named.qualifier.clone();
        match qualifier {
            Some(qualifier) if !named.at.value.aliases.contains_key(&qualifier) => {
                Err(AwsError::not_found("Function does not exist"))
            }
            qualifier => Ok((named, qualifier.unwrap_or_else(|| LATEST.to_owned()))),
        }
    }

    /// Where a function answers: the gateway's address of the version that an alias points to first.
    fn address(&self, name: &str, function: &Function, qualifier: &str) -> String {
        let version = function.aliases.get(qualifier).map_or(qualifier, |alias| alias.version.as_str());
        let (tenant, own) = (&self.around.scope.tenant, names::platform(name));
        let base = self.face.config.public_url.trim_end_matches('/');
        match version {
            LATEST => format!("{base}/fn/{tenant}/{own}/"),
            version => format!("{base}/fn/{tenant}/{own}@{}/", platform_alias(version)),
        }
    }

    fn url_shown(&self, name: &str, function: &Function, qualifier: &str, config: &Value) -> Value {
        let mut shown = config.clone();
        let of = Some(qualifier).filter(|qualifier| *qualifier != LATEST);
        shown["FunctionArn"] = self.arn(name, of).into();
        shown["FunctionUrl"] = self.address(name, function, qualifier).into();
        shown
    }

    pub(crate) async fn create_url(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (Named { name, at: mut function, .. }, qualifier) = self.url_of().await?;
        if function.value.urls.contains_key(&qualifier) {
            let of = Some(qualifier.as_str()).filter(|qualifier| *qualifier != LATEST);
            return Err(AwsError::conflict(format!(
                "Failed to create function url config for [functionArn = {}]. Error message:  FunctionUrlConfig exists for \
                 this Lambda function",
                self.arn(&name, of)
            )));
        }
        let now = face::time(self.around.now);
        let mut config = json!({
            "AuthType": self.text("AuthType"), "CreationTime": now, "LastModifiedTime": now,
            "InvokeMode": self.text("InvokeMode").unwrap_or("BUFFERED"),
        });
        if let Some(cors) = self.input.get("Cors") {
            config["Cors"] = cors.clone();
        }
        let shown = self.url_shown(&name, &function.value, &qualifier, &config);
        function.value.urls.insert(qualifier, config);
        self.put(&name, &function).await?;
        let mut shown = shown;
        if let Some(fields) = shown.as_object_mut() {
            fields.remove("LastModifiedTime");
        }
        Ok(shown)
    }

    pub(crate) async fn get_url(&self) -> Result<Value, AwsError> {
        let (Named { name, at, .. }, qualifier) = self.url_of().await?;
        match at.value.urls.get(&qualifier) {
            Some(config) => Ok(self.url_shown(&name, &at.value, &qualifier, config)),
            None => Err(AwsError::not_found("The resource you requested does not exist.")),
        }
    }

    pub(crate) async fn update_url(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (Named { name, at: mut function, .. }, qualifier) = self.url_of().await?;
        let Some(config) = function.value.urls.get_mut(&qualifier) else {
            return Err(AwsError::not_found("The resource you requested does not exist."));
        };
        for member in ["AuthType", "InvokeMode", "Cors"] {
            if let Some(value) = self.input.get(member) {
                config[member] = value.clone();
            }
        }
        config["LastModifiedTime"] = face::time(self.around.now).into();
        let config = config.clone();
        let shown = self.url_shown(&name, &function.value, &qualifier, &config);
        self.put(&name, &function).await?;
        Ok(shown)
    }

    pub(crate) async fn delete_url(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (Named { name, mut at, .. }, qualifier) = self.url_of().await?;
        if at.value.urls.remove(&qualifier).is_none() {
            return Err(AwsError::not_found("The resource you requested does not exist."));
        }
        self.put(&name, &at).await?;
        Ok(Value::Null)
    }

    pub(crate) async fn list_urls(&self) -> Result<Value, AwsError> {
        let Named { name, at, .. } = self.function().await?;
        let urls = at.value.urls.iter();
        let items = urls.map(|(qualifier, config)| {
            (qualifier.clone(), self.url_shown(&name, &at.value, qualifier, config))
        });
        let (page, next) = self.page(items.collect())?;
        Ok(json!({ "FunctionUrlConfigs": page, "NextMarker": next }))
    }
}
