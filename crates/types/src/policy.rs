//! Who may call a function at its address.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Who may call a function at its HTTP address. Events, triggers, the control API and AWS' clients are other doors, with
/// locks of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InvokePolicy {
    /// Whoever shows a key of the tenant whose role calls functions.
    #[default]
    Tenant,
    /// Anyone.
    Public,
    /// Nobody: events, triggers and the platform's APIs alone rouse it.
    Internal,
}

impl InvokePolicy {
    /// Whether nothing else was said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A text that names no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not who may call; write public, tenant or internal")]
pub struct PolicyError(String);

impl fmt::Display for InvokePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tenant => "tenant",
            Self::Public => "public",
            Self::Internal => "internal",
        })
    }
}

impl FromStr for InvokePolicy {
    type Err = PolicyError;
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let all = [Self::Tenant, Self::Public, Self::Internal];
        let found = all.into_iter().find(|policy| policy.to_string() == text);
        found.ok_or_else(|| PolicyError(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_is_closed() {
        assert_eq!(InvokePolicy::default(), InvokePolicy::Tenant);
        for policy in [InvokePolicy::Tenant, InvokePolicy::Public, InvokePolicy::Internal] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
            assert_eq!(serde_json::to_string(&policy).expect("json"), format!("\"{policy}\""));
        }
        assert!("everyone".parse::<InvokePolicy>().is_err());
    }
}
