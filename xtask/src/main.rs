//! `cargo xtask …`: everything that a developer or CI runs besides cargo itself. Only commands are chosen here.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its terminal")]

mod bench;
mod demo;
mod examples;
mod fuzz;
mod generate;
mod http;
mod paths;
mod platform;
mod setup;
mod sh;
mod suites;
mod tidy;
mod toolchain;

use clap::{Parser, Subcommand};

/// Sets up, tries out, tests and measures Rouse.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what the examples and tests need, and build the components that tests call.
    Setup,
    /// Build the examples' components.
    Examples,
    /// Start a platform here, deploy the examples, call each, and show the bill.
    Demo {
        /// Stop the platform at the end.
        #[arg(long)]
        exit: bool,
    },
    /// Run the tests: all of them, or the suites that are named.
    Test {
        /// The suites: fmt, tidy, clippy, unit, doc, e2e …
        suites: Vec<String>,
        /// Let the suite `cluster` try every fault in every zone, which takes half an hour.
        #[arg(long)]
        long: bool,
    },
    /// Check the house rules that a machine can check.
    Tidy,
    /// Write the source files that are made from other people's models, such as Amazon's.
    Generate {
        /// What: `aws`.
        what: generate::What,
    },
    /// Measure, against peers from the registries.
    Bench(bench::Args),
    /// Fuzz one target of fuzz/.
    Fuzz {
        /// The target.
        target: String,
        /// How long.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

fn main() -> std::process::ExitCode {
    let done = match Cli::parse().command {
        Command::Setup => setup::run().and_then(|tools| examples::guests(&tools)),
        Command::Examples => setup::run().and_then(|tools| examples::build(&tools)),
        Command::Demo { exit } => demo::run(exit),
        Command::Test { suites, long } => suites::run(&suites, long),
        Command::Generate { what } => generate::run(what),
        Command::Tidy => tidy::run(),
        Command::Bench(args) => bench::run(&args),
        Command::Fuzz { target, seconds } => fuzz::run(&target, seconds),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
