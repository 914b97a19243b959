//! Secrets of tenants. Their values go in, and never out.

use rouse_types::{FunctionName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The value of a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretValue {
    /// Text of at most 16 KiB, without NUL.
    pub value: String,
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretInfo {
    /// Its name.
    pub name: String,
    /// When it was first set.
    pub created: Timestamp,
    /// When its value was set last.
    pub updated: Timestamp,
    /// The functions that are live and have it in their environment.
    pub functions: Vec<FunctionName>,
}

/// What a change of the key did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretsSealed {
    /// How many secrets, of all tenants, are sealed under the new key.
    pub secrets: usize,
}
