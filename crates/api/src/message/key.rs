//! Access keys, with which AWS' clients sign what they ask for.

use rouse_types::{Role, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A key that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyRequest {
    /// What it may do; a deployer's without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// A key that was just made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Its id, 20 characters.
    pub id: String,
    /// What requests are signed with. It is not told again.
    pub secret: String,
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyInfo {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub created: Timestamp,
    /// What it may do.
    pub role: Role,
}
