//! The client's operations on secrets.

use http::Method;
use rouse_types::{Refusal, TenantId};

use super::{Client, empty, json};
use crate::{
    SecretInfo, SecretValue, SecretsSealed,
    operation::{Id, path},
};

impl Client {
    /// Sets a secret.
    pub async fn put_secret(
        &self,
        tenant: &TenantId,
        name: &str,
        value: &SecretValue,
    ) -> Result<SecretInfo, Refusal> {
        self.ask(Method::PUT, path(Id::PutSecret, &[tenant.as_str(), name]), json(value)?).await
    }

    /// Lists the secrets, without their values.
    pub async fn secrets(&self, tenant: &TenantId) -> Result<Vec<SecretInfo>, Refusal> {
        self.get(path(Id::ListSecrets, &[tenant.as_str()])).await
    }

    /// Deletes a secret that no live function uses.
    pub async fn delete_secret(&self, tenant: &TenantId, name: &str) -> Result<SecretInfo, Refusal> {
        self.ask(Method::DELETE, path(Id::DeleteSecret, &[tenant.as_str(), name]), empty()).await
    }

    /// Seals all secrets under a new key.
    pub async fn rotate_secrets_key(&self) -> Result<SecretsSealed, Refusal> {
        self.ask(Method::POST, path(Id::RotateSecretsKey, &[]), empty()).await
    }
}
