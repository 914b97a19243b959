//! Who signs in: providers of identities, members, trust policies, sessions.

use rouse_types::{MemberIs, Provider, ProviderName, Role, TenantId, Timestamp, Trust, TrustName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A provider of identities, as the operator calls it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderInfo {
    /// Its name here.
    pub name: ProviderName,
    /// All else of it.
    pub provider: Provider,
}

/// A provider with which people sign in: what a client needs to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInOption {
    /// Its name here.
    pub name: ProviderName,
    /// Where it is.
    pub issuer: String,
    /// What this platform is called there.
    pub client_id: String,
    /// What is asked for besides `openid`.
    pub scopes: Vec<String>,
    /// Authorities that its certificate may be from, besides those that the client's host trusts: PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// A provider's token, to be exchanged for a session's key (after RFC 8693).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInRequest {
    /// The tenant that the session is for.
    pub tenant: TenantId,
    /// The token: an ID token of a person, or the identity token of a build.
    pub token: String,
    /// The nonce that the token was asked for with, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

impl std::fmt::Debug for SignInRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignInRequest").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

/// Who becomes a member, and with which role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberRequest {
    /// Who it is.
    pub is: MemberIs,
    /// The provider that says so; may be left out where there is one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderName>,
    /// What they may do.
    pub role: Role,
}

/// A member of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberInfo {
    /// The member's id.
    pub id: String,
    /// Who it is.
    pub is: MemberIs,
    /// The provider that says so.
    pub issuer: String,
    /// What they may do.
    pub role: Role,
    /// When they were added.
    pub created: Timestamp,
}

/// A trust policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustInfo {
    /// Its name.
    pub name: TrustName,
    /// Whom it trusts.
    pub trust: Trust,
}
