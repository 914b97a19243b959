//! The command line: what a person types, and what it says back.

pub(crate) mod args;

pub(crate) fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
