//! The real placement code against simulated nodes, see benches/src/fleet.rs.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    report::{Row, Target},
    suite::Bench,
};
use crate::{paths, sh};

const NODES: [u64; 3] = [100, 1_000, 5_000];
/// Of each run, as the simulation counts them.
const SECONDS: u64 = 60;

pub(super) fn fleet(bench: &Bench<'_>) -> Result<Vec<Row>> {
    sh::open(sh::cargo("build").args(["--release", "--package", "rouse-bench", "--bin", "fleet"]))?;
    let mut rows = Vec::new();
    for nodes in NODES {
        let runs = (0..bench.effort.rounds).map(|seed| run(nodes, seed)).collect::<Result<Vec<_>>>()?;
        let row = |metric: String, values: &dyn Fn(&Value) -> f64, unit, target| {
            let values: Vec<f64> = runs.iter().map(values).collect();
            Row::alone("fleet-sim", metric, &values, unit, target)
        };
        let of = |name: &'static str| move |run: &Value| run[name].as_f64().unwrap_or(f64::NAN);
        let share = |part: &Value, run: &Value| 100.0 * part.as_f64().unwrap_or(f64::NAN) / of("calls")(run);
        // What is asked of the largest.
        let (rate, p99) = match nodes {
            5_000 => (Target::AtLeast(25_000.0), Target::AtMost(1_000.0)),
            _ => (Target::None, Target::None),
        };
        rows.extend([
            row(format!("{nodes} nodes: placements a second, one core"), &of("placements_per_s"), "/s", rate),
            row(format!("{nodes} nodes: a placement, p99"), &|run| of("p99_ns")(run) / 1e3, "µs", p99),
            row(
                format!("{nodes} nodes: putting in order what they told"),
                &|run| of("order_us")(run) / 1e3,
                "ms",
                Target::None,
            ),
            row(
                format!("{nodes} nodes: memory of the simulation"),
                &|run| of("memory_bytes")(run) / 1e6,
                "MB",
                Target::None,
            ),
            row(
                format!("{nodes} nodes: calls handed to another node"),
                &|run| share(&run["handed_on"], run),
                "%",
                Target::None,
            ),
            row(
                format!("{nodes} nodes: calls that found no room"),
                &|run| share(&run["refused"], run),
                "%",
                Target::None,
            ),
            row(
                format!("{nodes} nodes: settled after a node's loss"),
                &of("node_settled_s"),
                "s",
                Target::None,
            ),
            row(
                format!("{nodes} nodes: settled after a zone's loss"),
                &of("zone_settled_s"),
                "s",
                Target::None,
            ),
        ]);
    }
    Ok(rows)
}

fn run(nodes: u64, seed: usize) -> Result<Value> {
    let mut command = Command::new(paths::target().join("release/fleet"));
    command.args([nodes.to_string(), SECONDS.to_string(), seed.to_string()]);
    serde_json::from_str(&sh::output(&mut command)?).context("read what the simulation found")
}
