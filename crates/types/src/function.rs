//! What a function is: code, the contract it speaks, how it is confined, what it may use.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    AppName, Digest, Egress, EventSettings, FunctionName, InvokePolicy, Limits, TenantId, Timing, Trigger,
};

/// How the platform talks to the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Contract {
    /// A WebAssembly component that exports `wasi:http`.
    Component,
    /// The AWS Lambda Runtime API: the code asks for its next invocation.
    Lambda,
    /// An HTTP server that listens on `$PORT`: Functions Framework, Cloud Run, Knative.
    Http,
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component => "component",
            Self::Lambda => "lambda",
            Self::Http => "http",
        })
    }
}

/// What the `http` contract needs to know beside the runtime. Nothing of it matters to other contracts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// The server's program and arguments. When empty: the Functions Framework of the runtime with the handler as
    /// its target, `bootstrap` for `provided`, or what an image says.
    pub command: Vec<String>,
    /// How the function under the Functions Framework is called.
    pub signature: Option<Signature>,
    /// What the server speaks.
    pub protocol: Protocol,
    /// A path that answers 2xx once the server is ready. When absent, it is ready when its port opens.
    pub health: Option<String>,
}

/// `FUNCTION_SIGNATURE_TYPE` of the Functions Framework contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Signature {
    /// Takes a request.
    Http,
    /// Takes a legacy background event.
    Event,
    /// Takes a CloudEvent.
    CloudEvent,
    /// Takes a typed value.
    Typed,
}

/// What an HTTP server speaks on its port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 (RFC 9112).
    #[default]
    Http1,
    /// HTTP/2 without TLS, by prior knowledge (RFC 9113 §3.3).
    H2c,
}

/// How the code is confined, weakest first: a tenant's minimum is compared by this order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Namespaces, control groups, seccomp; the host's kernel.
    Container,
    /// A WebAssembly store: memory-safe by construction, no system calls at all.
    Wasm,
}

/// What runs the code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Runtime {
    /// A WebAssembly component.
    Component,
    /// CPython of this minor version, with AWS's Lambda runtime interface client: `python3.11`.
    Python {
        /// The `N` of `python3.N`.
        minor: u8,
    },
    /// Node.js of this major version: `nodejs20`.
    Node {
        /// The `N` of `nodejsN`.
        major: u8,
    },
    /// An executable `bootstrap` in the code that speaks the Lambda Runtime API itself.
    Provided,
    /// An OCI image, which brings its own interpreter and says how it is run.
    Image,
}

/// A text that names no runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a runtime; known are component, python3.N (python3.11), nodejsN (nodejs20), provided, image"
)]
pub struct RuntimeError(String);

impl Runtime {
    /// The contract that code of this runtime speaks when nothing else is said.
    #[must_use]
    pub fn default_contract(&self) -> Contract {
        match self {
            Self::Component => Contract::Component,
            Self::Image => Contract::Http,
            Self::Python { .. } | Self::Node { .. } | Self::Provided => Contract::Lambda,
        }
    }

    /// Whether code of this runtime can speak a contract.
    #[must_use]
    pub fn speaks(&self, contract: Contract) -> bool {
        (*self == Self::Component) == (contract == Contract::Component)
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Component => f.write_str("component"),
            Self::Python { minor } => write!(f, "python3.{minor}"),
            Self::Node { major } => write!(f, "nodejs{major}"),
            Self::Provided => f.write_str("provided"),
            Self::Image => f.write_str("image"),
        }
    }
}

impl FromStr for Runtime {
    type Err = RuntimeError;
    fn from_str(text: &str) -> Result<Self, RuntimeError> {
        let unknown = || RuntimeError(text.chars().take(40).collect());
        match text {
            "component" => return Ok(Self::Component),
            "image" => return Ok(Self::Image),
            "provided" | "provided.al2" | "provided.al2023" => return Ok(Self::Provided),
            _ => {}
        }
        if let Some(minor) = text.strip_prefix("python3.") {
            return minor.parse().map(|minor| Self::Python { minor }).map_err(|_| unknown());
        }
        // AWS writes nodejs20.x.
        let major = text.strip_prefix("nodejs").ok_or_else(unknown)?;
        let major = major.strip_suffix(".x").unwrap_or(major);
        major.parse().map(|major| Self::Node { major }).map_err(|_| unknown())
    }
}

impl Serialize for Runtime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Runtime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Runtime {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Runtime".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(component|image|provided(\\.al2|\\.al2023)?|python3\\.[0-9]+|nodejs[0-9]+(\\.x)?)$",
            "examples": ["component", "python3.11", "nodejs20", "provided"],
        })
    }
}

/// How a function grows and how long callers may wait for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// Invocations that one instance runs at once.
    pub concurrency_per_instance: u32,
    /// Invocations of the function that run at once, over all instances.
    pub concurrency_max: u32,
    /// Invocations that may wait for an instance.
    pub queue_max: u32,
    /// How long one may wait, in milliseconds.
    pub queue_timeout_ms: u64,
    /// How often a Wasm instance is used before it is replaced: 1 means a new one for each call.
    pub instance_reuse: u32,
    /// Whether instances are forks of an interpreter that has imported the function's module: it is imported once for all
    /// of them. For Lambda functions in Python.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preload: bool,
    /// Instances that are there whether anyone calls or not, as far as there is memory for them. Not for Wasm.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub instances_min: u32,
    /// Whether a call is refused, and not held, while as many run as may: AWS Lambda's way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub throttle: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            concurrency_per_instance: 1,
            concurrency_max: 100,
            queue_max: 1_000,
            queue_timeout_ms: 10_000,
            instance_reuse: 1,
            preload: false,
            instances_min: 0,
            throttle: false,
        }
    }
}

/// One immutable version of a function: all that is needed to run it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionVersion {
    /// Whose it is.
    pub tenant: TenantId,
    /// The app that it was deployed with.
    pub app: AppName,
    /// The function.
    pub function: FunctionName,
    /// 1, 2, 3 …, never used twice for one function.
    pub number: u64,
    /// The digest of code and configuration together: equal digests are the same version.
    pub digest: Digest,
    /// The code: a component's bytes, or an archive that was unpacked under this digest; of an image its manifest.
    pub code: Digest,
    /// The image, with the digest of what its name stood for; nothing for other code, and for one that was uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What runs it.
    pub runtime: Runtime,
    /// How the platform talks to it; one that the runtime speaks.
    pub contract: Contract,
    /// More of the `http` contract.
    #[serde(default)]
    pub http: HttpSettings,
    /// Where it begins, such as `app.handler`; nothing for components and `provided`.
    pub handler: Option<String>,
    /// How it is confined.
    pub isolation: Isolation,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Environment variables that hold secrets of the tenant, by the secrets' names. Their values are not kept here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// What it may use.
    pub limits: Limits,
    /// How it grows.
    pub scaling: Scaling,
    /// What it may reach. Nothing, by default.
    pub egress: Egress,
    /// Who may call it at its address.
    #[serde(default, skip_serializing_if = "InvokePolicy::is_default")]
    pub invoke: InvokePolicy,
    /// What rouses it besides calls, while `live` names this version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
    /// What becomes of its events.
    #[serde(default)]
    pub events: EventSettings,
    /// What AWS' Lambda API says of it besides, if it was made there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda: Option<LambdaSettings>,
}

/// What AWS' Lambda API says of a version: what the code is told of itself, since that API names more freely than we
/// do, and what is not known elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LambdaSettings {
    /// The function's name.
    pub function: String,
    /// `$LATEST`, or the number that it was published under.
    pub version: String,
    /// Where its logs are found.
    pub log_group: String,
    /// A zip archive whose files the code finds in `/opt`: its layers, merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Digest>,
    /// Calls at once that no other function of the tenant can take: the function's, whatever its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<u32>,
}

impl FunctionVersion {
    /// The most that is billed of one call, in milliseconds: its time-out, and where code has to start, the time that it
    /// has for that.
    #[must_use]
    pub fn billed_ms_max(&self) -> u64 {
        let init = if self.contract == Contract::Component { 0 } else { self.limits.init_timeout_ms };
        self.limits.timeout_ms.saturating_add(init).max(1)
    }

    /// What is billed of a call that took so long, in milliseconds. That we were late to end it is not billed.
    #[must_use]
    pub fn billed_ms(&self, timing: &Timing) -> u64 {
        timing.billed_ms().min(self.billed_ms_max())
    }

    /// A key that is unique among all versions on this platform.
    #[must_use]
    pub fn key(&self) -> VersionKey {
        VersionKey { tenant: self.tenant.clone(), function: self.function.clone(), number: self.number }
    }

    /// The archive that is seen in `/opt`.
    #[must_use]
    pub fn layers(&self) -> Option<Digest> {
        self.lambda.as_ref().and_then(|lambda| lambda.layers)
    }

    /// A text of the function's without the values of its secrets, where `env` has them: what goes to logs.
    #[must_use]
    pub fn masked<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for value in self.secrets.keys().filter_map(|variable| self.env.get(variable)) {
            // Logs are written line by line. What is shorter is a word like any other.
            for part in value.lines().map(str::trim).filter(|part| part.len() >= SECRET_BYTES_MIN) {
                if text.contains(part) {
                    text = Cow::Owned(text.replace(part, MASK));
                }
            }
        }
        text
    }
}

/// What stands in logs in place of a secret.
const MASK: &str = "***";
/// The shortest secret that is masked, in bytes.
const SECRET_BYTES_MIN: usize = 5;

/// Whether a tenant's secret may have this name: 1 to 64 letters, digits, '-', '_' and '.', a letter or digit first.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len())
        && name.bytes().all(plain)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

/// Names one version among all on the platform. Displays as `tenant/function@number`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VersionKey {
    /// Whose it is.
    pub tenant: TenantId,
    /// The function.
    pub function: FunctionName,
    /// Its number.
    pub number: u64,
}

impl fmt::Display for VersionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.tenant, self.function, self.number)
    }
}

/// A version that is shared by all who run it.
pub type SharedVersion = Arc<FunctionVersion>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_read_as_people_write_them() {
        assert_eq!("python3.11".parse(), Ok(Runtime::Python { minor: 11 }));
        assert_eq!("nodejs20.x".parse(), Ok(Runtime::Node { major: 20 }));
        assert_eq!("provided.al2023".parse(), Ok(Runtime::Provided));
        assert!("python2.7".parse::<Runtime>().is_err());
        assert!("nodejs".parse::<Runtime>().is_err());
    }

    #[test]
    fn a_secret_is_masked_line_by_line_and_short_words_are_not() {
        let mut version: FunctionVersion = serde_json::from_value(serde_json::json!({
            "tenant": "shop", "app": "a", "function": "f", "number": 1,
            "digest": Digest::of(b"d"), "code": Digest::of(b"c"), "runtime": "provided", "contract": "lambda",
            "handler": null, "isolation": "container", "limits": Limits::default(),
            "env": { "KEY": "-----BEGIN-----\nabcdef123\n", "PIN": "1234", "OPEN": "visible" },
            "scaling": Scaling::default(), "egress": Egress::default(),
        }))
        .expect("a version");
        assert_eq!(version.masked("abcdef123 visible"), "abcdef123 visible");
        version.secrets = ["KEY", "PIN", "GONE"].map(|name| (name.to_owned(), name.to_lowercase())).into();
        assert_eq!(version.masked("abcdef123, 1234, visible, xabcdef123"), "***, 1234, visible, x***");
        assert_eq!(version.masked("-----BEGIN-----"), "***");
    }
}
