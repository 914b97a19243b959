//! Apps, functions, versions, aliases: what there is, and moves among it.

use std::collections::BTreeMap;

use rouse_types::{Alias, AliasName, AppName, FunctionName, FunctionVersion, Isolation, Runtime, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Deployment;

/// One app, in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppSummary {
    /// The app.
    pub app: AppName,
    /// The number of the deployment that answers now.
    pub live: u64,
    /// When the latest deployment was made.
    pub deployed: Timestamp,
    /// Its functions' names.
    pub functions: Vec<FunctionName>,
}

/// One app, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppDetail {
    /// The app.
    pub app: AppName,
    /// Grows with every change.
    pub revision: u64,
    /// The number of the deployment that answers now.
    pub live: u64,
    /// Its functions.
    pub functions: Vec<FunctionSummary>,
    /// Its deployments that are kept, newest first.
    pub deployments: Vec<Deployment>,
}

/// One function, in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionSummary {
    /// The app that it was deployed with.
    pub app: AppName,
    /// Its name.
    pub function: FunctionName,
    /// What runs its newest version.
    pub runtime: Runtime,
    /// How its newest version is confined.
    pub isolation: Isolation,
    /// The newest version's number.
    pub latest: u64,
    /// Its aliases; `live` answers when a caller names none.
    pub aliases: BTreeMap<AliasName, Alias>,
    /// When its newest version was made.
    pub created: Timestamp,
    /// Where it answers.
    pub url: String,
}

/// One version of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VersionInfo {
    /// The version.
    pub version: FunctionVersion,
    /// When it was made.
    pub created: Timestamp,
    /// The aliases that name it.
    pub aliases: Vec<AliasName>,
}

/// Goes back to an earlier deployment of an app.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The deployment's number; the one before the live one when left out. A later one can be named, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// What a rollback came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackAnswer {
    /// The deployment that answers now.
    pub deployment: Deployment,
    /// What does not stop the rollback, but should be known.
    pub warnings: Vec<String>,
}

/// An alias as it stands now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasAnswer {
    /// Its name.
    pub name: AliasName,
    /// Its versions and their shares.
    pub alias: Alias,
    /// What does not stop the change, but should be known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What a deletion came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteAnswer {
    /// The functions that no longer answer.
    pub functions: Vec<FunctionName>,
    /// What does not stop the deletion, but should be known.
    pub warnings: Vec<String>,
}
