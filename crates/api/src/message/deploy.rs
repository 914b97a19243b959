//! A deployment: what is asked for, what is told on the way, what it came to.

use std::collections::BTreeMap;

use rouse_types::{
    AliasName, AppName, Contract, Digest, Domain, Egress, EventSettings, FunctionName, HttpSettings,
    InvokePolicy, Isolation, LambdaSettings, Limits, Refusal, Runtime, Scaling, TenantId, Timestamp, Trigger,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Puts an app live, whole and at once: functions that are not named here stop answering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// All functions of the app.
    pub functions: Vec<DeployFunction>,
    /// What this deployment is about, for the history. At most 1,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One function of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployFunction {
    /// Its name, unique within the tenant.
    pub name: FunctionName,
    /// The digest of its code, uploaded before: a component, a zip archive, or an image's tar archive. Absent with
    /// `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Digest>,
    /// An image to pull, in place of code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<DeployImage>,
    /// What runs it.
    pub runtime: Runtime,
    /// How the platform talks to it. When absent: as code of this runtime usually does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<Contract>,
    /// More of the `http` contract.
    #[serde(default)]
    pub http: HttpSettings,
    /// Where the code begins, such as `app.handler`; nothing for components and `provided`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// How it is confined.
    pub isolation: Isolation,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Environment variables that hold secrets of the tenant, by the secrets' names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// How it grows.
    #[serde(default)]
    pub scaling: Scaling,
    /// What it may reach, as `host:port`, or `*` for everything. Nothing, by default.
    #[serde(default)]
    pub egress: Egress,
    /// Who may call it at its address: keys of the tenant, unless said otherwise.
    #[serde(default, skip_serializing_if = "InvokePolicy::is_default")]
    pub invoke: InvokePolicy,
    /// Domains at which it answers besides, such as `api.example.com`. Each belongs to one function of the platform.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<Domain>,
    /// What rouses it besides calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
    /// What becomes of its events: attempts, age, destinations.
    #[serde(default)]
    pub events: EventSettings,
    /// Aliases that move to this version with the deployment, besides `live`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<AliasName>,
    /// What AWS' Lambda API says of it besides, for functions of that API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda: Option<LambdaSettings>,
}

/// An image that the platform pulls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployImage {
    /// Its name, such as `registry.example.com/shop/api:1.4`. What it stands for is found out once, for this deployment.
    pub reference: String,
    /// How to log in to the registry. Used for this pull, and not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<RegistryLogin>,
    /// The tenant's secret that holds the login instead, as `user:password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// A name and a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryLogin {
    /// Who.
    pub username: String,
    /// The password, or a token in its place.
    pub password: String,
}

impl std::fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryLogin").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What a deployment tells on its way, one a line. The last is [`DeployEvent::Live`] or
/// [`DeployEvent::Failed`]; a stream that ends with neither was cut off, and the app may be either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DeployEvent {
    /// An image is being pulled.
    Pulling {
        /// Whose.
        function: FunctionName,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all, of the layers that the platform does not have.
        total: u64,
    },
    /// An archive is being unpacked.
    Unpacking {
        /// Whose code.
        function: FunctionName,
    },
    /// An archive or an image is unpacked.
    Unpacked {
        /// Whose code.
        function: FunctionName,
        /// How long that took, in milliseconds.
        ms: u64,
        /// Whether it had been unpacked before.
        cached: bool,
    },
    /// A component is being compiled.
    Compiling {
        /// Whose code.
        function: FunctionName,
    },
    /// A component is compiled.
    Compiled {
        /// Whose code.
        function: FunctionName,
        /// How long that took, in milliseconds.
        ms: u64,
        /// Whether it had been compiled before.
        cached: bool,
    },
    /// Something that does not stop the deployment, but should be known.
    Warning {
        /// What.
        message: String,
    },
    /// The app is live.
    Live {
        /// What it came to.
        deployment: Deployment,
    },
    /// Nothing was changed.
    Failed {
        /// Why.
        refusal: Refusal,
    },
}

/// One deployment in an app's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Whose app.
    pub tenant: TenantId,
    /// The app.
    pub app: AppName,
    /// 1, 2, 3 …, never used twice for one app.
    pub number: u64,
    /// When it was made.
    pub created: Timestamp,
    /// What it is about.
    pub message: Option<String>,
    /// Whether it is the one that answers now.
    pub live: bool,
    /// Its functions.
    pub functions: Vec<DeployedFunction>,
}

/// One function of a deployment in the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployedFunction {
    /// Its name.
    pub function: FunctionName,
    /// Its version's number.
    pub version: u64,
    /// Whether that version was made by this deployment.
    pub changed: bool,
    /// Where it answers.
    pub url: String,
    /// Domains at which it answers besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<Domain>,
}
