//! The command line: what a person types, and what it says back.
//!
//! One file per command below `command/`; around them what several share: how failures are told, how tables
//! and numbers look, how an app is read, built and packed.

pub(crate) mod args;

mod app;
mod build;
mod command;
mod dev;
mod ignore;
mod image;
mod oci;
mod out;
mod pack;
mod progress;
mod report;
mod resolve;
mod runtimes;
mod session;
mod ship;
mod sign_in;
pub(crate) mod state;
mod style;
mod table;
mod template;
mod units;

pub(crate) use report::hinted;

use std::{future::Future, process::ExitCode};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};
use rouse_api::{Client, wire::Trust};

use self::{
    args::{Cli, Command, Global},
    style::Style,
};

/// Runs what was typed. Clap ends the process with 2 for what it does not understand.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            if let Some(text) = report::render(&error, Style::stderr()) {
                out::note(text.trim_end());
            }
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Cli { global, command } = cli;
    let global = &global;
    if speaks(&command) {
        block_on(sign_in::prepare(global))?;
    }
    match command {
        // The platform's processes choose their own way of running.
        Command::Serve(args) => return crate::roles::serve(global, &args),
        Command::Role { args } => return crate::roles::role(&args),
        Command::Init(args) => command::init::run(&args)?,
        Command::Doctor => return command::doctor::run(global),
        Command::Prices => command::prices::run(global)?,
        Command::Openapi => out::text(&rouse_api::openapi::text())?,
        Command::Schema => out::json(&rouse_manifest::json_schema())?,
        Command::Backup(args) => block_on(command::backup::backup(global, args))?,
        Command::Restore(args) => block_on(command::backup::restore(global, args))?,
        Command::Migrate(args) => block_on(command::migrate::run(global, args))?,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rouse", &mut script);
            out::raw(&script)?;
        }
        Command::Dev(args) => block_on(dev::run(global, &args))?,
        Command::Build(args) => block_on(command::build::run(global, &args))?,
        Command::Deploy(args) => block_on(command::deploy::run(global, &args))?,
        Command::Invoke(args) => return block_on(command::invoke::run(global, &args)),
        Command::List(args) => block_on(command::list::run(global, &args))?,
        Command::Versions(args) => block_on(command::versions::run(global, &args))?,
        Command::Rollback(args) => block_on(command::rollback::run(global, &args))?,
        Command::Alias(args) => block_on(command::alias::run(global, args))?,
        Command::Tenant(args) => block_on(command::tenant::run(global, args))?,
        Command::Login(args) => block_on(command::login::login(global, args))?,
        Command::Logout => block_on(command::login::logout(global))?,
        Command::Provider(args) => block_on(command::provider::run(global, args))?,
        Command::Member(args) => block_on(command::member::run(global, args))?,
        Command::Trust(args) => block_on(command::trust::run(global, args))?,
        Command::Key(args) => block_on(command::key::run(global, args))?,
        Command::Secret(args) => block_on(command::secret::run(global, args))?,
        Command::Whoami => block_on(command::key::whoami(global))?,
        Command::Keys(args) => block_on(command::keys::run(global, args))?,
        Command::Events(args) => block_on(command::events::run(global, args))?,
        Command::Triggers => block_on(command::triggers::run(global))?,
        Command::Queue(args) => block_on(command::queue::run(global, args))?,
        Command::Bucket(args) => block_on(command::object::bucket(global, args))?,
        Command::Object(args) => block_on(command::object::object(global, args))?,
        Command::Topic(args) => block_on(command::topic::run(global, args))?,
        Command::Logs(args) => block_on(command::logs::run(global, &args))?,
        Command::Cluster(args) => block_on(command::cluster::run(global, args))?,
        Command::Node(args) => block_on(command::node::run(global, args))?,
        Command::Certificates => block_on(command::certificates::run(global))?,
        Command::Ps => block_on(command::ps::run(global))?,
        Command::Usage(args) => block_on(command::usage::run(global, &args))?,
        Command::Invoice(args) => block_on(command::invoice::run(global, &args))?,
        Command::Limits(args) => block_on(command::limits::run(global, args))?,
        Command::Budget(args) => block_on(command::budget::run(global, args))?,
        Command::Audit(args) => block_on(command::audit::run(global, &args))?,
        Command::Delete(args) => block_on(command::delete::run(global, &args))?,
        Command::Runtime(args) => block_on(command::runtime::run(global, args))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a command asks the platform something, with whatever key there is.
fn speaks(command: &Command) -> bool {
    use Command::{
        Backup, Build, Completions, Dev, Doctor, Init, Login, Logout, Migrate, Openapi, Prices, Restore,
        Role, Runtime, Schema, Serve,
    };
    !matches!(
        command,
        Backup(_)
            | Build(_)
            | Completions { .. }
            | Dev(_)
            | Doctor
            | Init(_)
            | Login(_)
            | Logout
            | Migrate(_)
            | Openapi
            | Prices
            | Restore(_)
            | Role { .. }
            | Runtime(_)
            | Schema
            | Serve(_)
    )
}

/// The command line waits for one thing at a time: one thread does.
fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(Box::pin(command))
}

/// A client for the platform that was named, with the token that was given or found.
fn client(global: &Global) -> anyhow::Result<Client> {
    let session = session::find(global)?.filter(session::Saved::holds).map(|saved| saved.key);
    let token = match global.token.clone().or(session) {
        Some(token) => Some(token),
        None => {
            let state = state::folder(global);
            state::token(&state).map_err(|error| {
                report::hinted(
                    format!("cannot read the control token in {}: {error}", state.display()),
                    "run this as the user that runs the platform, or set ROUSE_TOKEN",
                )
            })?
        }
    };
    connect(global, token)
}

/// A client for the platform that was named, with this token.
fn connect(global: &Global, token: Option<String>) -> anyhow::Result<Client> {
    let trust = || {
        let Some(file) = &global.ca else { return Trust::new(rouse_image::authorities(), None) };
        let wrong = |why: String| format!("--ca or ROUSE_CA names {}, and {why}", file.display());
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        Trust::new(rouse_image::authorities(), Some(&text)).map_err(wrong)
    };
    Ok(Client::trusting(&global.url, token, trust)?)
}
