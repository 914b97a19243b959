//! What the platform's other processes have control write into the audit log: actions that control itself takes no part in. Asked
//! at its unix socket alone, with the operator's token.

use std::collections::BTreeMap;

use rouse_types::TenantId;
use serde::{Deserialize, Serialize};

/// Where it is asked: POST begins an action, PUT ends one.
pub const PATH: &str = "/internal/actions";

/// An action that begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// Whose log it goes to.
    pub tenant: TenantId,
    /// Who, such as `access key AKIA…`.
    pub who: String,
    /// From where.
    pub from: String,
    /// What, such as `sqs:CreateQueue`.
    pub operation: String,
    /// To what.
    pub of: BTreeMap<String, String>,
}

/// An action that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begun {
    /// What control calls it.
    pub key: String,
}

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// What control calls it.
    pub key: String,
    /// How it ended.
    pub how: How,
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// It was done.
    Done,
    /// It was refused, and changed nothing.
    Refused,
    /// The platform failed while it did it.
    Failed,
}

impl How {
    /// What the status of an answer tells (RFC 9110 §15).
    #[must_use]
    pub fn of(status: http::StatusCode) -> Self {
        match status {
            status if status.is_server_error() => Self::Failed,
            status if status.is_client_error() => Self::Refused,
            _ => Self::Done,
        }
    }
}
