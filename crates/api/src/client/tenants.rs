//! The client's operations on tenants, API keys and the cluster.

use http::Method;
use rouse_types::{Refusal, TenantId};
use serde_json::value::RawValue;

use super::{Client, Lines, TIMEOUTS, empty, json};
use crate::{
    ApiKeyInfo, ApiKeyRequest, ClusterStatus, NewApiKey, NodeChange, RotateRequest, TenantInfo, WhoAmI,
    operation::{Id, path},
};

impl Client {
    /// Whose the key is that this client shows.
    pub async fn who_am_i(&self) -> Result<WhoAmI, Refusal> {
        self.get(path(Id::WhoAmI, &[])).await
    }

    /// What the node that is asked knows of its cluster.
    pub async fn cluster_status(&self) -> Result<ClusterStatus, Refusal> {
        self.get(path(Id::ClusterStatus, &[])).await
    }

    /// Says what a node of the cluster is to take on. It takes notice within seconds: see [`Self::cluster_status`].
    pub async fn put_node(&self, node: &str, change: NodeChange) -> Result<NodeChange, Refusal> {
        self.ask(Method::PUT, path(Id::PutNode, &[node]), json(&change)?).await
    }

    /// The audit log of a tenant, or without one of the platform, line by line as it was written: whoever checks it needs each
    /// byte.
    pub async fn audit_log(&self, tenant: Option<&TenantId>) -> Result<Lines<Box<RawValue>>, Refusal> {
        let path = match tenant {
            Some(tenant) => path(Id::AuditLog, &[tenant.as_str()]),
            None => path(Id::PlatformAuditLog, &[]),
        };
        let request = self.request(Method::GET, path, empty())?;
        Ok(Lines::new(self.checked(request, TIMEOUTS).await?.into_body()))
    }

    /// Makes a tenant. One that is there is left as it is.
    pub async fn create_tenant(&self, tenant: &TenantId) -> Result<TenantInfo, Refusal> {
        self.ask(Method::PUT, path(Id::CreateTenant, &[tenant.as_str()]), empty()).await
    }

    /// Lists the tenants.
    pub async fn tenants(&self) -> Result<Vec<TenantInfo>, Refusal> {
        self.get(path(Id::ListTenants, &[])).await
    }

    /// Shows a tenant.
    pub async fn tenant(&self, tenant: &TenantId) -> Result<TenantInfo, Refusal> {
        self.get(path(Id::GetTenant, &[tenant.as_str()])).await
    }

    /// Deletes a tenant that has nothing left.
    pub async fn delete_tenant(&self, tenant: &TenantId) -> Result<TenantInfo, Refusal> {
        self.ask(Method::DELETE, path(Id::DeleteTenant, &[tenant.as_str()]), empty()).await
    }

    /// Makes an API key.
    pub async fn create_api_key(
        &self,
        tenant: &TenantId,
        request: &ApiKeyRequest,
    ) -> Result<NewApiKey, Refusal> {
        self.ask(Method::POST, path(Id::CreateApiKey, &[tenant.as_str()]), json(request)?).await
    }

    /// Lists the API keys.
    pub async fn api_keys(&self, tenant: &TenantId) -> Result<Vec<ApiKeyInfo>, Refusal> {
        self.get(path(Id::ListApiKeys, &[tenant.as_str()])).await
    }

    /// Makes a key that takes an old one's place; the old one does for a while longer.
    pub async fn rotate_api_key(
        &self,
        tenant: &TenantId,
        id: &str,
        request: &RotateRequest,
    ) -> Result<NewApiKey, Refusal> {
        self.ask(Method::POST, path(Id::RotateApiKey, &[tenant.as_str(), id]), json(request)?).await
    }

    /// Revokes a key: it is refused from now on.
    pub async fn revoke_api_key(&self, tenant: &TenantId, id: &str) -> Result<ApiKeyInfo, Refusal> {
        self.ask(Method::DELETE, path(Id::RevokeApiKey, &[tenant.as_str(), id]), empty()).await
    }
}
