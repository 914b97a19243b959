//! The command line's words: every command, its arguments and their help.

mod backup;
mod build;
mod cluster;
mod events;
mod identity;
mod money;
mod objects;
mod runtime;
mod secrets;
mod tenants;
mod tls;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use rouse_types::{AliasName, AppName, FunctionName, TenantId};

pub(crate) use backup::{BackupArgs, RestoreArgs, StoreArgs};
pub(crate) use build::BuildArgs;
pub(crate) use cluster::{ClusterCommand, JoinArgs, MigrateArgs, NodeCommand};
pub(crate) use events::{EventsArgs, EventsCommand, Publish, QueueCommand, QueueSettingsArgs, TopicCommand};
pub(crate) use identity::{LoginArgs, MemberCommand, ProviderArgs, ProviderCommand, TrustArgs, TrustCommand};
pub(crate) use money::{BudgetArgs, BudgetCommand, LimitsCommand};
pub(crate) use objects::{BucketCommand, ObjectCommand, PlaceArgs};
pub(crate) use runtime::RuntimeCommand;
pub(crate) use secrets::SecretCommand;
pub(crate) use tenants::{KeyCommand, KeysCommand, TenantCommand};
pub(crate) use tls::TlsArgs;

/// Runs people's functions on people's own machines.
#[derive(Debug, Parser)]
#[command(name = "rouse", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Begin with `rouse init`, then `rouse dev`.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The platform's control address.
    #[arg(
        long,
        global = true,
        env = "ROUSE_URL",
        default_value = "http://127.0.0.1:8081",
        value_name = "URL"
    )]
    pub(crate) url: String,
    /// An API key, or the operator's token. Else the session of `rouse login`, or the latter from the state folder.
    #[arg(long, global = true, env = "ROUSE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// A file of authorities, as PEM, that the platform's certificate may be from besides those that this machine trusts.
    #[arg(long, global = true, env = "ROUSE_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The platform's state folder [default: /var/lib/rouse for root, else $XDG_DATA_HOME/rouse].
    #[arg(long, global = true, env = "ROUSE_STATE", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Whose functions.
    #[arg(long, global = true, env = "ROUSE_TENANT", default_value = "default", value_name = "NAME")]
    pub(crate) tenant: TenantId,
    /// Print data as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Begin a new app from a template.
    Init(InitArgs),
    /// Run an app here, and put each edit live.
    Dev(DevArgs),
    /// Run the platform on this machine.
    Serve(Box<ServeArgs>),
    /// Make the zip that a deployment would upload of each function, with its dependencies; or an image.
    Build(BuildArgs),
    /// Build, upload and put an app live, all of its functions at once.
    Deploy(DeployArgs),
    /// Call a function and show its answer, logs, time and cost.
    Invoke(InvokeArgs),
    /// List the functions.
    List(ListArgs),
    /// List a function's versions.
    Versions(FunctionArgs),
    /// Put an app's previous deployment live again, all of its functions at once.
    Rollback(RollbackArgs),
    /// Name versions, and share calls among them.
    #[command(subcommand)]
    Alias(AliasCommand),
    /// Make, list and delete tenants: whose functions, data and bills are kept apart. For the operator.
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Sign in with the company's identity provider, or as a build by its CI's token.
    Login(LoginArgs),
    /// End the session that `rouse login` began.
    Logout,
    /// Providers of identities, which say who people and builds are. For the operator.
    #[command(subcommand)]
    Provider(ProviderCommand),
    /// Members: people who sign in, each with a role.
    #[command(subcommand)]
    Member(MemberCommand),
    /// Trust policies: builds that deploy without a stored secret.
    #[command(subcommand)]
    Trust(TrustCommand),
    /// API keys of people and programs, each with a role.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Set, list and delete secrets, which functions get as environment variables.
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Show whose the key is that this command line uses, and what it may do.
    Whoami,
    /// Access keys for AWS' clients.
    #[command(subcommand, name = "access-key", alias = "keys")]
    Keys(KeysCommand),
    /// Show and steer events: what waits, what runs, what was given up.
    #[command(subcommand)]
    Events(EventsCommand),
    /// List the triggers that are in force, and what keeps one from acting.
    Triggers,
    /// Make queues, send to them, and look into them.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Make, list and delete buckets.
    #[command(subcommand)]
    Bucket(BucketCommand),
    /// List, put, get and delete objects.
    #[command(subcommand)]
    Object(ObjectCommand),
    /// Publish events to topics, and see who wants them.
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Show what functions printed.
    Logs(LogsArgs),
    /// Look at the cluster that the platform is a node of. For the operator.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Take nodes of the cluster out of work, and put them back. For the operator.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Back up the platform of this machine, while it runs: all that it was given, in one file or a bucket.
    Backup(BackupArgs),
    /// Make a state folder of a backup.
    Restore(RestoreArgs),
    /// Move what is on this machine into a cluster that is empty, and compare both sides.
    Migrate(MigrateArgs),
    /// List what HTTPS at the functions' domains is answered with, and why not.
    Certificates,
    /// Show the instances that are there now.
    Ps,
    /// Show what was used and what it costs.
    Usage(UsageArgs),
    /// Print a month's invoice.
    Invoice(InvoiceArgs),
    /// Grant a tenant so many calls, so much memory and code.
    #[command(subcommand)]
    Limits(LimitsCommand),
    /// Set what a tenant may spend in a month.
    #[command(subcommand)]
    Budget(BudgetCommand),
    /// Export the ledger of usage and the audit log as evidence, and check an export offline.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Delete an app: its functions stop answering.
    Delete(DeleteArgs),
    /// Put interpreters' runtime support in place.
    #[command(subcommand)]
    Runtime(RuntimeCommand),
    /// Show what this machine can run and confine, and what to do for each lack.
    Doctor,
    /// Show the prices that this machine's platform charges usage at.
    Prices,
    /// Print the OpenAPI document of the control API.
    Openapi,
    /// Print the JSON schema of rouse.toml, for editors.
    Schema,
    /// Print the completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// One of the platform's processes; `serve` starts them.
    #[command(hide = true, disable_help_flag = true)]
    Role {
        /// Which, and what it is told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// What `rouse serve` takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    /// Where functions answer.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// Where the control API answers. Its token is needed there.
    #[arg(long, default_value = "127.0.0.1:8081", value_name = "ADDR")]
    pub(crate) control: SocketAddr,
    /// Where AWS' clients are answered, or `off`.
    #[arg(long, default_value = "127.0.0.1:4566", value_name = "ADDR", value_parser = aws_address)]
    pub(crate) aws: AwsAddress,
    /// Take any access key there from this machine, as `rouse dev` does.
    #[arg(long, hide = true)]
    pub(crate) aws_any_key: bool,
    /// Gateway processes [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) gateways: Option<u32>,
    /// The domain of host names such as hello.default.localhost.
    #[arg(long, default_value = "localhost", value_name = "DOMAIN")]
    pub(crate) domain: String,
    /// Memory for instances, such as 4GiB [default: three quarters of the machine's].
    #[arg(long, value_name = "SIZE", value_parser = rouse_types::size::parse_bytes)]
    pub(crate) memory_budget: Option<u64>,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) objects: PlaceArgs,
    #[command(flatten)]
    pub(crate) join: JoinArgs,
    /// Stop when standard input ends: whoever started us went away.
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
}

/// How the dependencies are resolved that requirements.txt and package.json name.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Dependencies")]
pub(crate) struct ResolveArgs {
    /// Install without a sandbox: what the packages' authors wrote runs as you.
    #[arg(long, env = "ROUSE_BUILD_UNCONFINED", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) unconfined: bool,
    /// Run no code of packages: wheels alone, and npm's packages without their install scripts. Needs no sandbox.
    #[arg(long)]
    pub(crate) no_scripts: bool,
    /// Resolve anew what was resolved before.
    #[arg(long)]
    pub(crate) fresh: bool,
}

/// Where AWS' clients are answered, if they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AwsAddress(pub(crate) Option<SocketAddr>);

fn aws_address(text: &str) -> Result<AwsAddress, String> {
    if text == "off" {
        return Ok(AwsAddress(None));
    }
    let address = text.parse().map_err(|_| "write an address, such as 127.0.0.1:4566, or `off`")?;
    Ok(AwsAddress(Some(address)))
}

/// What `rouse deploy` takes.
#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// The app's folder, with its rouse.toml.
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// What this deployment is about, for the history.
    #[arg(long, short, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    #[command(flatten)]
    pub(crate) resolve: ResolveArgs,
}

/// What `rouse init` takes.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The new app's folder; its name becomes the app's.
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// What to begin with. Asked for on a terminal.
    #[arg(long, value_enum)]
    pub(crate) template: Option<Template>,
}

/// An app to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Template {
    /// A WebAssembly component in JavaScript.
    JsComponent,
    /// A WebAssembly component in Rust.
    RustComponent,
    /// An AWS Lambda handler in Python.
    PythonLambda,
    /// An AWS Lambda handler for Node.js.
    NodeLambda,
    /// A function for Google's Functions Framework in Python.
    HttpPython,
    /// An HTTP server in Node.js.
    HttpNode,
}

/// What `rouse dev` takes.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// The app's folder, with its rouse.toml.
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where functions answer [default: 127.0.0.1:8080, or a free port when that is taken].
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Gateway processes.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) gateways: u32,
    #[command(flatten)]
    pub(crate) resolve: ResolveArgs,
}

/// What `rouse invoke` takes.
#[derive(Debug, Args)]
pub(crate) struct InvokeArgs {
    /// The function.
    pub(crate) function: FunctionName,
    /// The payload: text, `@file`, or `-` for standard input [default: {}].
    #[arg(allow_hyphen_values = true)]
    pub(crate) payload: Option<String>,
    /// An alias or a version's number instead of what is live.
    #[arg(long, value_name = "ALIAS|N")]
    pub(crate) alias: Option<String>,
    /// The payload's media type.
    #[arg(long, default_value = "application/json", value_name = "TYPE")]
    pub(crate) content_type: String,
    /// Do not wait: the call is kept on the disk and runs as soon as it can, again if it fails.
    #[arg(long = "async")]
    pub(crate) later: bool,
    /// With --async: a second call with this key, within a day, does nothing.
    #[arg(long, value_name = "KEY", requires = "later")]
    pub(crate) idempotency_key: Option<String>,
    /// With --async: calls with this key run one after the other.
    #[arg(long, value_name = "KEY", requires = "later")]
    pub(crate) ordering_key: Option<String>,
}

/// What `rouse list` takes.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only the functions of this app.
    #[arg(long, value_name = "APP")]
    pub(crate) app: Option<AppName>,
}

/// Which function.
#[derive(Debug, Args)]
pub(crate) struct FunctionArgs {
    /// The function.
    pub(crate) function: FunctionName,
}

/// What `rouse rollback` takes.
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The app [default: the one of ./rouse.toml].
    pub(crate) app: Option<AppName>,
    /// The deployment to go to, by its number [default: the one before the live one].
    #[arg(long, value_name = "N")]
    pub(crate) to: Option<u64>,
}

/// `rouse alias …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AliasCommand {
    /// Point a name at a version, or share its calls among several: `1=90 2=10`.
    Set {
        /// The function.
        function: FunctionName,
        /// The alias.
        alias: AliasName,
        /// A version, or several with their weights.
        #[arg(required = true, value_name = "VERSION[=WEIGHT]")]
        versions: Vec<String>,
    },
    /// List a function's aliases.
    List(FunctionArgs),
    /// Delete an alias.
    Delete {
        /// The function.
        function: FunctionName,
        /// The alias.
        alias: AliasName,
    },
}

/// What `rouse logs` takes.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Only this function's.
    pub(crate) function: Option<FunctionName>,
    /// Only this invocation's.
    #[arg(long, value_name = "ID")]
    pub(crate) invocation: Option<rouse_types::InvocationId>,
    /// Go on showing what is printed.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// How far back, such as 10m, 2h, 1d.
    #[arg(long, default_value = "1h", value_name = "AGE", value_parser = rouse_types::size::parse_duration)]
    pub(crate) since: std::time::Duration,
}

/// What `rouse usage` takes.
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// What to sum by.
    #[arg(long, value_enum, default_value_t = By::Function)]
    pub(crate) by: By,
    /// How far back, such as 1h, 30d.
    #[arg(long, default_value = "30d", value_name = "AGE", value_parser = rouse_types::size::parse_duration)]
    pub(crate) since: std::time::Duration,
}

/// What `rouse invoice` takes.
#[derive(Debug, Args)]
pub(crate) struct InvoiceArgs {
    /// The month, in UTC, such as 2026-11.
    #[arg(long, value_name = "YYYY-MM")]
    pub(crate) month: rouse_metering::price::Month,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = InvoiceFormat::Csv)]
    pub(crate) format: InvoiceFormat,
}

/// How an invoice is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InvoiceFormat {
    /// A row for each function and discount, and the total.
    Csv,
    /// A page to be printed.
    Html,
    /// The columns of FinOps FOCUS 1.0, as CSV.
    Focus,
    /// All of it, amounts in billionths.
    Json,
}

/// `rouse audit …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Print each usage record and seal of whole hours, one JSON value a line.
    Export {
        /// How far back, such as 1h, 30d.
        #[arg(long, default_value = "30d", value_name = "AGE", value_parser = rouse_types::size::parse_duration)]
        since: std::time::Duration,
        /// How long ago it ends: the hour of that time is left out [default: all there is].
        #[arg(long, value_name = "AGE", value_parser = rouse_types::size::parse_duration)]
        until: Option<std::time::Duration>,
    },
    /// Check an export, without a platform: the first line that is wrong is named.
    Verify {
        /// The export.
        file: PathBuf,
        /// The public key that must have signed it.
        #[arg(long, value_name = "PUBLIC")]
        key: Option<rouse_metering::audit::key::Public>,
    },
    /// Show what was done by the control API to the tenant: when, who, from where, what. With --json, all of it, to be kept and
    /// checked.
    Log {
        /// Of the platform instead: what concerns no one tenant, and who made and deleted tenants.
        #[arg(long)]
        platform: bool,
    },
    /// Print the public key of the platform's seals.
    Key,
}

/// What usage is summed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// One row per function.
    Function,
    /// One row per app.
    App,
    /// One row per hour.
    Hour,
    /// One row per tenant.
    Tenant,
}

/// What `rouse delete` takes.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The app.
    pub(crate) app: AppName,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
}
