//! `rouse`: one binary that is the platform's every process, and the command line to talk to it.
//!
//! This file only chooses: `rouse serve` and the processes that it starts live in `roles`, all else in `cli`.

mod backup;
mod cli;
mod roles;

/// A call makes and drops some dozens of small things; this allocator does that in half the time of glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
