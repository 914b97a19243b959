//! `rouse`: one binary that is the platform's every process, and the command line to talk to it.
//!
//! This file only chooses: `rouse serve` and the processes that it starts live in `roles`, all else in `cli`.

mod cli;
mod roles;

fn main() -> std::process::ExitCode {
    cli::main()
}
