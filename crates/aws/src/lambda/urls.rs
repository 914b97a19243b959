//! Function URLs: addresses at which a function answers HTTP. What is called there is in [`crate::url`].

use serde_json::{Value, json};

use super::op::{Named, Op};
use crate::{error::AwsError, face, names::LATEST, state, url};

const MISSING: &str = "The resource you requested does not exist.";
/// What creating, changing and listing say of a function that is not there.
const NO_FUNCTION: &str = "Function does not exist";

impl Op<'_> {
    /// The function, and the name that its URL is kept under; `missing` is what is said if it is not there.
    async fn url_of(&self, missing: &str) -> Result<(Named, String), AwsError> {
        let (name, qualifier) = self.name()?;
        let at = self.find(&name).await?.ok_or_else(|| AwsError::not_found(missing))?;
        let kept = qualifier.clone().unwrap_or_else(|| LATEST.to_owned());
        Ok((Named { name, qualifier, at }, kept))
    }

    fn url_shown(&self, name: &str, qualifier: &str, config: &Value) -> Value {
        let mut shown = config.clone();
        let of = Some(qualifier).filter(|qualifier| *qualifier != LATEST);
        shown["FunctionArn"] = self.arn(name, of).into();
        let id = config["Id"].as_str().unwrap_or_default();
        shown["FunctionUrl"] = format!("{}{}{id}/", self.around.url, url::PATH).into();
        if let Some(fields) = shown.as_object_mut() {
            fields.remove("Id");
        }
        shown
    }

    /// The answer to a change has the mode that it named alone.
    fn as_asked(&self, shown: &mut Value) {
        if let Some(fields) = shown.as_object_mut().filter(|_| self.text("InvokeMode").is_none()) {
            fields.remove("InvokeMode");
        }
    }

    pub(crate) async fn create_url(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (Named { name, at: mut function, .. }, qualifier) = self.url_of(NO_FUNCTION).await?;
        if qualifier != LATEST && !function.value.aliases.contains_key(&qualifier) {
            return Err(AwsError::not_found(NO_FUNCTION));
        }
        if function.value.urls.contains_key(&qualifier) {
            let of = Some(qualifier.as_str()).filter(|qualifier| *qualifier != LATEST);
            return Err(AwsError::conflict(format!(
                "Failed to create function url config for [functionArn = {}]. Error message:  FunctionUrlConfig exists for \
                 this Lambda function",
                self.arn(&name, of)
            )));
        }
        let now = face::time(self.around.now);
        let id = url::new_id();
        let mut config = json!({
            "Id": id, "AuthType": self.text("AuthType"), "CreationTime": now, "LastModifiedTime": now,
            "InvokeMode": self.text("InvokeMode").unwrap_or("BUFFERED"),
        });
        if let Some(cors) = self.input.get("Cors") {
            config["Cors"] = cors.clone();
        }
        let mut shown = self.url_shown(&name, &qualifier, &config);
        let place = url::Place {
            tenant: self.around.scope.tenant.clone(),
            region: self.around.scope.region.clone(),
            function: name.clone(),
            qualifier: qualifier.clone(),
        };
        self.as_asked(&mut shown);
        // The address first: what it leads to counts once the function says the same.
        self.face.store.name(state::URLS, &id, &place).await?;
        function.value.urls.insert(qualifier, config);
        self.put(&name, &function).await?;
        if let Some(fields) = shown.as_object_mut() {
            fields.remove("LastModifiedTime");
        }
        Ok(shown)
    }

    pub(crate) async fn get_url(&self) -> Result<Value, AwsError> {
        let (Named { name, at, .. }, qualifier) = self.url_of(MISSING).await?;
        match at.value.urls.get(&qualifier) {
            Some(config) => Ok(self.url_shown(&name, &qualifier, config)),
            None => Err(AwsError::not_found(MISSING)),
        }
    }

    pub(crate) async fn update_url(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (Named { name, at: mut function, .. }, qualifier) = self.url_of(NO_FUNCTION).await?;
        let is_there = qualifier == LATEST || function.value.aliases.contains_key(&qualifier);
        let Some(config) = function.value.urls.get_mut(&qualifier) else {
            return Err(AwsError::not_found(if is_there { MISSING } else { NO_FUNCTION }));
        };
        for member in ["AuthType", "InvokeMode", "Cors"] {
            if let Some(value) = self.input.get(member) {
                config[member] = value.clone();
            }
        }
        config["LastModifiedTime"] = face::time(self.around.now).into();
        let mut shown = self.url_shown(&name, &qualifier, config);
        self.as_asked(&mut shown);
        self.put(&name, &function).await?;
        Ok(shown)
    }

    pub(crate) async fn delete_url(&self) -> Result<Value, AwsError> {
        let _lock = self.face.store.lock().await;
        let (Named { name, mut at, .. }, qualifier) = self.url_of(MISSING).await?;
        let gone = at.value.urls.remove(&qualifier).ok_or_else(|| AwsError::not_found(MISSING))?;
        self.put(&name, &at).await?;
        self.forget_urls([&gone]).await;
        Ok(Value::Null)
    }

    pub(crate) async fn list_urls(&self) -> Result<Value, AwsError> {
        let (Named { name, at, .. }, _) = self.url_of(NO_FUNCTION).await?;
        let urls = at.value.urls.iter();
        let items =
            urls.map(|(qualifier, config)| (qualifier.clone(), self.url_shown(&name, qualifier, config)));
        let (page, next) = self.page(items.collect())?;
        Ok(json!({ "FunctionUrlConfigs": page, "NextMarker": next }))
    }

    /// Forgets the addresses of URLs that are gone. One that stays leads nowhere.
    pub(crate) async fn forget_urls(&self, gone: impl IntoIterator<Item = &Value>) {
        for config in gone {
            let id = config["Id"].as_str().unwrap_or_default();
            if let Err(error) = self.face.store.unname(state::URLS, id).await {
                tracing::warn!(%error, "the address of a function URL is still kept");
            }
        }
    }
}
