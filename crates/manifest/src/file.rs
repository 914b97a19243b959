//! The tables of `rouse.toml` as people write them. The schema for editors is made from these types, and
//! the reader fills them; what was left out is filled in by [`Function::limits`] and the like.

use std::{collections::BTreeMap, time::Duration};

use rouse_types::{
    AppName, Contract, Domain, Egress, EventSettings, FunctionName, HttpSettings, InvokePolicy, Isolation,
    Limits, Protocol, Runtime, Scaling, Signature, Trigger,
};
use schemars::JsonSchema;

use crate::written::{EventsTable, TriggerTable};

/// A whole manifest: an app and its functions, which are deployed together.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Manifest {
    /// The app.
    pub app: App,
    /// The functions, by name. A function is also a host name: `http://<function>.<tenant>.<domain>/`.
    pub functions: BTreeMap<FunctionName, Function>,
}

/// The app itself.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct App {
    /// Its name: a-z, 0-9 and '-', unique within the tenant.
    pub name: AppName,
}

/// One function.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Function {
    /// The code: a folder, a `.zip` or a `.wasm`, relative to this file and below its folder. Nothing with `image`.
    #[schemars(default)]
    pub source: String,
    /// Instead of `source`, an OCI image: `registry.example.com/shop/api:1.4`, a layout as `oci:./folder`, or what `docker
    /// save` wrote as `docker-archive:./api.tar`. It brings its own interpreter and says how it is run.
    #[schemars(with = "String")]
    pub image: Option<String>,
    /// With an `image` from a registry: the secret that holds the login to it, as `user:password`. The login of the machine that
    /// deploys, when left out.
    #[schemars(with = "String")]
    pub image_secret: Option<String>,
    /// What runs it: `component`, `python3.N`, `nodejsN`, `provided`. Found out from the code when left
    /// out.
    #[schemars(with = "Runtime")]
    pub runtime: Option<Runtime>,
    /// How the platform talks to the code: `lambda` or `http` (any server on `$PORT`, Functions Framework). As code
    /// of the runtime usually does, when left out.
    #[schemars(with = "Contract")]
    pub contract: Option<Contract>,
    /// With the contract `http` or an image: the program and its arguments. The Functions Framework of the runtime with
    /// the handler as its target, or what the image says, when left out.
    #[schemars(default)]
    pub command: Vec<String>,
    /// With the contract `http`: how the function under the Functions Framework is called.
    #[schemars(with = "Signature")]
    pub signature: Option<Signature>,
    /// With the contract `http`: what the server speaks, `http1` or `h2c`.
    #[schemars(with = "Protocol")]
    pub protocol: Option<Protocol>,
    /// With the contract `http`: a path that answers 2xx once the server is ready, such as `/healthz`. It is ready
    /// when its port opens, when left out.
    #[schemars(with = "String")]
    pub health: Option<String>,
    /// Where the code begins, such as `app.handler`. Needed for Python and Node unless the file's name
    /// tells it.
    #[schemars(with = "String")]
    pub handler: Option<String>,
    /// How the code is confined: `wasm` for components, `container` for all else.
    #[schemars(with = "Isolation")]
    pub isolation: Option<Isolation>,
    /// Memory of one instance, such as `256MiB`.
    #[schemars(with = "Bytes")]
    pub memory: Option<Bytes>,
    /// How long one invocation may run, such as `30s`.
    #[schemars(with = "Span")]
    pub timeout: Option<Span>,
    /// How long the code may take from its start until it asks for work.
    #[schemars(with = "Span")]
    pub init_timeout: Option<Span>,
    /// `/tmp` of one instance.
    #[schemars(with = "Bytes")]
    pub tmp: Option<Bytes>,
    /// The largest body of a request.
    #[schemars(with = "Bytes")]
    pub request_body_max: Option<Bytes>,
    /// The largest body of an answer.
    #[schemars(with = "Bytes")]
    pub response_body_max: Option<Bytes>,
    /// Log lines that one invocation may write, in bytes; what is over is dropped and counted.
    #[schemars(with = "Bytes")]
    pub log_max: Option<Bytes>,
    /// Processes and threads of one instance.
    #[schemars(with = "u32", range(min = 1))]
    pub processes_max: Option<u32>,
    /// Invocations that run at once, over all instances.
    #[schemars(with = "u32", range(min = 1))]
    pub concurrency_max: Option<u32>,
    /// Invocations that one instance runs at once.
    #[schemars(with = "u32", range(min = 1))]
    pub concurrency_per_instance: Option<u32>,
    /// Invocations that may wait for an instance.
    #[schemars(with = "u32")]
    pub queue_max: Option<u32>,
    /// How long one may wait.
    #[schemars(with = "Span")]
    pub queue_timeout: Option<Span>,
    /// How often a Wasm instance is used before it is replaced: 1 means a new one for each call.
    #[schemars(with = "u32", range(min = 1))]
    pub instance_reuse: Option<u32>,
    /// Python Lambda functions alone: instances are forks of an interpreter that has imported the function's module. Say so
    /// only if importing once is right for all instances: random numbers drawn and files opened at import are shared by
    /// them.
    #[schemars(with = "bool")]
    pub preload: Option<bool>,
    /// What the code may reach: a list of `host:port`, or `"*"` for everything. Nothing when left out.
    #[schemars(default)]
    pub egress: Egress,
    /// Who may call it at its address: `tenant` (whoever shows a key of the tenant, when left out), `public` (anyone), or
    /// `internal` (nobody: events, triggers and the platform's APIs alone).
    #[schemars(with = "InvokePolicy")]
    pub invoke: Option<InvokePolicy>,
    /// Domains at which it answers besides, such as `api.example.com`. Each belongs to one function of the platform.
    #[schemars(default)]
    pub domains: Vec<Domain>,
    /// Environment variables.
    #[schemars(default)]
    pub env: BTreeMap<String, String>,
    /// Environment variables that hold secrets, by the secrets' names: `DB_PASSWORD = "db-password"`. `rouse secret set`
    /// sets them.
    #[schemars(default)]
    pub secrets: BTreeMap<String, String>,
    /// What rouses it besides calls.
    #[schemars(with = "Vec<TriggerTable>", default)]
    pub triggers: Vec<Trigger>,
    /// What becomes of its events: attempts, age, destinations.
    #[schemars(with = "EventsTable", default)]
    pub events: EventSettings,
    /// How the code is built before it is packed.
    #[schemars(with = "Build")]
    pub build: Option<Build>,
}

/// How a function's code is built.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Build {
    /// Run by `sh -c` in the source folder (the manifest's folder when the source is a file).
    pub command: String,
    /// What to deploy once built, relative to where the command ran. The source itself when left out.
    #[schemars(with = "String")]
    pub output: Option<String>,
    /// What `rouse dev` watches, relative to where the command ran. The whole folder when left out.
    #[schemars(default)]
    pub watch: Vec<String>,
}

/// A size in bytes, written as `256MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// A length of time, written as `30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Bytes {
    /// Whole MiB.
    #[must_use]
    pub fn mib(self) -> u32 {
        u32::try_from(self.0 >> 20).unwrap_or(u32::MAX)
    }
}

impl Span {
    /// Whole milliseconds.
    #[must_use]
    pub fn ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bytes".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^ *[0-9]+ *(B|KiB|MiB|GiB) *$", "examples": ["256MiB", "1GiB"],
        })
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^ *[0-9]+ *(ms|s|m|h|d) *$", "examples": ["30s", "1500ms", "15m"],
        })
    }
}

impl Function {
    /// What it may use, with the platform's defaults for what was left out.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let default = Limits::default();
        Limits {
            memory_mib: self.memory.map_or(default.memory_mib, Bytes::mib),
            timeout_ms: self.timeout.map_or(default.timeout_ms, Span::ms),
            init_timeout_ms: self.init_timeout.map_or(default.init_timeout_ms, Span::ms),
            request_body_bytes: self.request_body_max.map_or(default.request_body_bytes, |bytes| bytes.0),
            response_body_bytes: self.response_body_max.map_or(default.response_body_bytes, |bytes| bytes.0),
            tmp_mib: self.tmp.map_or(default.tmp_mib, Bytes::mib),
            processes: self.processes_max.unwrap_or(default.processes),
            log_bytes: self.log_max.map_or(default.log_bytes, |bytes| bytes.0),
        }
    }

    /// How it grows, with the platform's defaults for what was left out.
    #[must_use]
    pub fn scaling(&self) -> Scaling {
        let default = Scaling::default();
        Scaling {
            concurrency_per_instance: self
                .concurrency_per_instance
                .unwrap_or(default.concurrency_per_instance),
            concurrency_max: self.concurrency_max.unwrap_or(default.concurrency_max),
            queue_max: self.queue_max.unwrap_or(default.queue_max),
            queue_timeout_ms: self.queue_timeout.map_or(default.queue_timeout_ms, Span::ms),
            instance_reuse: self.instance_reuse.unwrap_or(default.instance_reuse),
            preload: self.preload.unwrap_or(default.preload),
            ..default
        }
    }

    /// More of the `http` contract.
    #[must_use]
    pub fn http(&self) -> HttpSettings {
        HttpSettings {
            command: self.command.clone(),
            signature: self.signature,
            protocol: self.protocol.unwrap_or_default(),
            health: self.health.clone(),
        }
    }

    /// How code of this runtime is confined.
    ///
    /// # Errors
    /// The function asks for a confinement that does not run code of this kind; the text says which does.
    pub fn isolation_for(&self, runtime: &Runtime) -> Result<Isolation, String> {
        let fitting = match runtime {
            Runtime::Component => Isolation::Wasm,
            Runtime::Python { .. } | Runtime::Node { .. } | Runtime::Provided | Runtime::Image => {
                Isolation::Container
            }
        };
        let name = |isolation| match isolation {
            Isolation::Wasm => "wasm",
            Isolation::Container => "container",
        };
        match self.isolation {
            Some(asked) if asked != fitting => Err(format!(
                "runtime {runtime} runs with isolation \"{}\", not \"{}\"",
                name(fitting),
                name(asked)
            )),
            Some(_) | None => Ok(fitting),
        }
    }
}
