//! The client's operations on providers, members, trust policies and sessions.

use http::Method;
use rouse_types::{Provider, ProviderName, Refusal, TenantId, Trust, TrustName};

use super::{Client, empty, json};
use crate::{
    ApiKeyInfo, MemberInfo, MemberRequest, NewApiKey, ProviderInfo, SignInOption, SignInRequest, TrustInfo,
    operation::{Id, path},
};

impl Client {
    /// The providers with which people sign in. Needs no key.
    pub async fn sign_in_options(&self) -> Result<Vec<SignInOption>, Refusal> {
        self.get(path(Id::SignInOptions, &[])).await
    }

    /// Exchanges a provider's token for a session's key. Needs no key.
    pub async fn sign_in(&self, request: &SignInRequest) -> Result<NewApiKey, Refusal> {
        self.ask(Method::POST, path(Id::SignIn, &[]), json(request)?).await
    }

    /// Ends the session whose key this client shows.
    pub async fn sign_out(&self) -> Result<ApiKeyInfo, Refusal> {
        self.ask(Method::DELETE, path(Id::SignOut, &[]), empty()).await
    }

    /// Lists the providers of identities.
    pub async fn providers(&self) -> Result<Vec<ProviderInfo>, Refusal> {
        self.get(path(Id::ListProviders, &[])).await
    }

    /// Sets a provider of identities.
    pub async fn put_provider(
        &self,
        name: &ProviderName,
        provider: &Provider,
    ) -> Result<ProviderInfo, Refusal> {
        self.ask(Method::PUT, path(Id::PutProvider, &[name.as_str()]), json(provider)?).await
    }

    /// Deletes a provider of identities.
    pub async fn delete_provider(&self, name: &ProviderName) -> Result<ProviderInfo, Refusal> {
        self.ask(Method::DELETE, path(Id::DeleteProvider, &[name.as_str()]), empty()).await
    }

    /// Lists the members.
    pub async fn members(&self, tenant: &TenantId) -> Result<Vec<MemberInfo>, Refusal> {
        self.get(path(Id::ListMembers, &[tenant.as_str()])).await
    }

    /// Makes someone a member, or gives a member another role.
    pub async fn put_member(
        &self,
        tenant: &TenantId,
        request: &MemberRequest,
    ) -> Result<MemberInfo, Refusal> {
        self.ask(Method::POST, path(Id::PutMember, &[tenant.as_str()]), json(request)?).await
    }

    /// Removes a member, by id.
    pub async fn delete_member(&self, tenant: &TenantId, id: &str) -> Result<MemberInfo, Refusal> {
        self.ask(Method::DELETE, path(Id::DeleteMember, &[tenant.as_str(), id]), empty()).await
    }

    /// Lists the trust policies.
    pub async fn trust(&self, tenant: &TenantId) -> Result<Vec<TrustInfo>, Refusal> {
        self.get(path(Id::ListTrust, &[tenant.as_str()])).await
    }

    /// Sets a trust policy.
    pub async fn put_trust(
        &self,
        tenant: &TenantId,
        name: &TrustName,
        trust: &Trust,
    ) -> Result<TrustInfo, Refusal> {
        self.ask(Method::PUT, path(Id::PutTrust, &[tenant.as_str(), name.as_str()]), json(trust)?).await
    }

    /// Deletes a trust policy.
    pub async fn delete_trust(&self, tenant: &TenantId, name: &TrustName) -> Result<TrustInfo, Refusal> {
        self.ask(Method::DELETE, path(Id::DeleteTrust, &[tenant.as_str(), name.as_str()]), empty()).await
    }
}
