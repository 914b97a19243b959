//! The triggers that are in force, and how they fare.

use rouse_types::{FunctionName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TriggerInfo {
    /// The function that it rouses.
    pub function: FunctionName,
    /// Its name, unique within the function.
    pub trigger: String,
    /// What it waits for: `schedule`, `queue`, `database` …
    pub kind: String,
    /// How it fares.
    pub state: TriggerState,
    /// Since when, where it can change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Of a database trigger: up to where in the database's log changes are safe here, as PostgreSQL writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// What keeps it from acting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How a trigger fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TriggerState {
    /// It acts.
    Active,
    /// It connects to what it waits for.
    Starting,
    /// It cannot act now, and tries again.
    Failing,
    /// It has gone, and what it left elsewhere is still to be removed.
    Removing,
}
