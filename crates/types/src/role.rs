//! What a member or a key may do within its tenant. Which operations that is stands in one table:
//! `rouse_api::operation::access`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A role within one tenant.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything within the tenant, keys included.
    Owner,
    /// Deploys, and works with all that the tenant keeps.
    Deployer,
    /// Calls functions, sends messages, publishes events.
    Invoker,
    /// Reads what there is, and changes nothing.
    Viewer,
    /// Reads usage, invoices and the ledger.
    Billing,
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a role; roles are owner, deployer, invoker, viewer, billing")]
pub struct RoleError(String);

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Owner, Self::Deployer, Self::Invoker, Self::Viewer, Self::Billing];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Deployer => "deployer",
            Self::Invoker => "invoker",
            Self::Viewer => "viewer",
            Self::Billing => "billing",
        }
    }

    /// Whether who has the role may call functions at their addresses.
    #[must_use]
    pub fn calls(self) -> bool {
        matches!(self, Self::Owner | Self::Deployer | Self::Invoker)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = RoleError;
    fn from_str(text: &str) -> Result<Self, RoleError> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| RoleError(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_written_as_it_is_read() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_string(&role).expect("json"), format!("\"{role}\""));
        }
        assert!("admin".parse::<Role>().is_err());
    }
}
