//! `cargo xtask bench`: what Rouse costs, beside its peers, by the rules of docs/benchmarks.md.

mod crun;
mod durable;
mod fleet;
mod load;
mod meter;
mod noisy;
mod peers;
mod process;
mod report;
mod runtime_api;
mod stats;
mod suite;

use anyhow::{Result, bail};

use crate::setup;
use suite::{Bench, Effort};

/// All benchmarks, in the order in which they run.
const NAMES: [&str; 9] = [
    "cold-wasm",
    "cold-process",
    "warm-capacity",
    "density",
    "burst",
    "meter",
    "async",
    "noisy",
    "fleet-sim",
];
/// Fewer rounds than this say too little for the table.
const ROUNDS_MIN: usize = 11;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// cold-wasm, cold-process, warm-capacity, density, burst, meter, async, noisy or fleet-sim; all when left out.
    name: Option<String>,
    /// Print one JSON object a line, for scripts.
    #[arg(long)]
    json: bool,
    /// Rounds. With fewer than 11 nothing is written to docs/benchmarks.md.
    #[arg(long, env = "ROUSE_BENCH_ROUNDS", default_value_t = ROUNDS_MIN)]
    rounds: usize,
    /// Seconds of each round.
    #[arg(long, env = "ROUSE_BENCH_SECONDS", default_value_t = 3)]
    seconds: u64,
    /// Measure this binary instead of building one. Nothing is written to docs/benchmarks.md.
    #[arg(long)]
    binary: Option<std::path::PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let names: Vec<&str> = match &args.name {
        None => NAMES.to_vec(),
        Some(name) if NAMES.contains(&name.as_str()) => vec![name],
        Some(name) => bail!("no benchmark is called {name}; there are: {}", NAMES.join(", ")),
    };
    if args.rounds == 0 || args.seconds == 0 {
        bail!("nothing can be measured in no time");
    }
    let tools = setup::run()?;
    setup::apt(&["wrk"])?;
    let binary = args.binary.clone().map_or_else(suite::binary, Ok)?;
    let effort = Effort { rounds: args.rounds, seconds: args.seconds };
    let bench = Bench { binary: &binary, tools: &tools, effort };
    for name in names {
        let Some(measure) = suite::by_name(name) else { continue };
        let rows = measure(&bench)?;
        let short = args.rounds < ROUNDS_MIN || args.binary.is_some();
        for row in &rows {
            let mut json = row.json();
            if short {
                json["short"] = true.into();
            }
            match args.json {
                true => println!("{json}"),
                false => println!("{}", row.line()),
            }
        }
        if !short {
            let how = format!("{} rounds of {} s", args.rounds, args.seconds);
            report::write(name, &rows, &how)?;
        }
    }
    Ok(())
}
