//! Access keys of AWS' clients, and what the process that serves those has written into the audit log.

use http::Method;
use rouse_types::{Refusal, TenantId};

use super::{Client, empty, json};
use crate::{
    KeyInfo, KeyRequest, NewKey, actions,
    operation::{Id, path},
};

impl Client {
    /// Has an action written down that another process of the platform begins; what it is called, to end it by.
    pub async fn begin_action(&self, action: &actions::Begin) -> Result<String, Refusal> {
        let begun: actions::Begun = self.ask(Method::POST, actions::PATH.to_owned(), json(action)?).await?;
        Ok(begun.key)
    }

    /// Has it written down what came of an action.
    pub async fn end_action(&self, end: &actions::End) -> Result<(), Refusal> {
        self.ask(Method::PUT, actions::PATH.to_owned(), json(end)?).await.map(|_: serde_json::Value| ())
    }

    /// Makes an access key.
    pub async fn create_key(&self, tenant: &TenantId, wanted: &KeyRequest) -> Result<NewKey, Refusal> {
        self.ask(Method::POST, path(Id::CreateKey, &[tenant.as_str()]), json(wanted)?).await
    }

    /// Lists the access keys.
    pub async fn keys(&self, tenant: &TenantId) -> Result<Vec<KeyInfo>, Refusal> {
        self.get(path(Id::ListKeys, &[tenant.as_str()])).await
    }

    /// Deletes an access key.
    pub async fn delete_key(&self, tenant: &TenantId, id: &str) -> Result<KeyInfo, Refusal> {
        self.ask(Method::DELETE, path(Id::DeleteKey, &[tenant.as_str(), id]), empty()).await
    }
}
