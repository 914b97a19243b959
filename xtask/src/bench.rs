//! `cargo xtask bench`: what Rouse costs, beside its peers.

use anyhow::{Result, bail};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// cold-wasm, warm-capacity, density or meter; all when left out.
    name: Option<String>,
    /// One JSON object a line, for scripts.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    bail!("{:?} {}", args.name, args.json)
}
