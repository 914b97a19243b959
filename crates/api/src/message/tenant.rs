//! Tenants, and the API keys of people and programs.

use rouse_types::{FunctionName, Role, Session, TenantId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantInfo {
    /// Its name.
    pub tenant: TenantId,
    /// When it was made.
    pub created: Timestamp,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhoAmI {
    /// The key's tenant; none for the operator, who is over all.
    pub tenant: Option<TenantId>,
    /// The key's role; none for the operator.
    pub role: Option<Role>,
    /// The key's id; none for the operator.
    pub key: Option<String>,
    /// The functions that the key is for; none means all.
    #[serde(default)]
    pub functions: Vec<FunctionName>,
    /// From when on the key is refused.
    pub expires: Option<Timestamp>,
    /// Who signed in for the key; none for one that an owner made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

/// What an API key is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyRequest {
    /// What it may do.
    pub role: Role,
    /// The functions that it is for; none means all.
    #[serde(default)]
    pub functions: Vec<FunctionName>,
    /// After how many seconds it is refused; never, when absent.
    #[serde(default)]
    pub expires_in_seconds: Option<u64>,
    /// What it is for, in words.
    #[serde(default)]
    pub note: Option<String>,
}

/// How a key is replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotateRequest {
    /// How many seconds the old key still does; a day, when absent.
    pub overlap_seconds: Option<u64>,
}

/// A key that was just made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiKey {
    /// The key. It is not told again.
    pub key: String,
    /// All else of it.
    pub info: ApiKeyInfo,
}

impl std::fmt::Debug for NewApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewApiKey").field("info", &self.info).finish_non_exhaustive()
    }
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyInfo {
    /// Its id: the part of the key between its two first underscores.
    pub id: String,
    /// What it may do.
    pub role: Role,
    /// The functions that it is for; none means all.
    pub functions: Vec<FunctionName>,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is refused.
    pub expires: Option<Timestamp>,
    /// What it is for, in words.
    pub note: Option<String>,
    /// The id of the key that took its place.
    pub rotated_to: Option<String>,
    /// Who signed in for it; none for one that an owner made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}
