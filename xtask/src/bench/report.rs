//! Results: one JSON object a line for scripts, and the table of docs/benchmarks.md for people.

use std::{fs, process::Command};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::stats;
use crate::{paths, sh};

/// What a figure is held to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    /// The value itself is at most this.
    AtMost(f64),
    /// The value itself is at least this.
    AtLeast(f64),
    /// The ratio is at least this.
    Ratio(f64),
    /// Nothing: the figure is for information.
    None,
}

/// One figure.
#[derive(Debug, Clone)]
pub(super) struct Row {
    name: &'static str,
    metric: String,
    value: f64,
    unit: &'static str,
    peer: Option<String>,
    ratio: Option<f64>,
    ci95: (f64, f64),
    target: Target,
}

impl Row {
    /// A figure without a peer, from one value a round.
    pub(super) fn alone(
        name: &'static str,
        metric: impl Into<String>,
        values: &[f64],
        unit: &'static str,
        target: Target,
    ) -> Self {
        let (value, ci95) = (stats::median(values), stats::ci95(values));
        Self { name, metric: metric.into(), value, unit, peer: None, ratio: None, ci95, target }
    }

    /// A figure beside a peer's, from both values of each round. The ratio says how many times better Rouse is: for
    /// what is better when small, `less_is_better`, it is the peer's over Rouse's.
    pub(super) fn beside(mut self, peer: &str, ours: &[f64], theirs: &[f64], less_is_better: bool) -> Self {
        let ratio = |(ours, theirs): (&f64, &f64)| if less_is_better { theirs / ours } else { ours / theirs };
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(ratio).collect();
        self.peer = Some(format!("{peer}: {} {}", round(stats::median(theirs)), self.unit));
        self.ratio = Some(stats::median(&ratios));
        self.ci95 = stats::ci95(&ratios);
        self
    }

    fn met(&self) -> Option<bool> {
        match self.target {
            Target::AtMost(most) => Some(self.value <= most),
            Target::AtLeast(least) => Some(self.value >= least),
            Target::Ratio(least) => Some(self.ratio.is_some_and(|ratio| ratio >= least)),
            Target::None => None,
        }
    }

    fn target(&self) -> String {
        match self.target {
            Target::AtMost(most) => format!("≤ {most} {}", self.unit),
            Target::AtLeast(least) => format!("≥ {least} {}", self.unit),
            Target::Ratio(least) => format!("≥ {least} ×"),
            Target::None => "–".to_owned(),
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name, "metric": self.metric, "value": self.value, "unit": self.unit,
            "peer": self.peer, "ratio": self.ratio, "ci95": [self.ci95.0, self.ci95.1],
            "target": match self.target { Target::None => Value::Null, _ => self.target().into() },
            "met": self.met(),
        })
    }

    /// For a terminal.
    pub(super) fn line(&self) -> String {
        self.markdown().trim_matches(['|', ' ']).replace("**", "")
    }

    fn markdown(&self) -> String {
        let met = match self.met() {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "–",
        };
        let interval = format!("{} … {}", round(self.ci95.0), round(self.ci95.1));
        let ratio = self.ratio.map_or("–".to_owned(), |ratio| format!("{} ×", round(ratio)));
        format!(
            "| {} | {} {} | {} | {ratio} | {interval} | {} | {met} |",
            self.metric,
            round(self.value),
            self.unit,
            self.peer.as_deref().unwrap_or("–"),
            self.target(),
        )
    }
}

/// Three digits that matter.
fn round(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// How the figures of one benchmark were made.
const ABOUT: [(&str, &str); 9] = [
    (
        "cold-wasm",
        "A new instance for each call, of a Rust component that answers 14 bytes. CPU is that of all of the \
         server's processes.",
    ),
    (
        "cold-process",
        "The first call of a function that was never called before, code in the page cache: from the request read to \
         the answer written, without the client's connection. crun gets the same handler and files, but neither limits, nor a \
         network of its own, nor a seccomp filter to set up.",
    ),
    ("warm-capacity", "As many calls as there can be, with instances that are there already."),
    ("density", "Functions that are deployed and that no one calls."),
    (
        "burst",
        "Calls that all come at once to a function without an instance, each held until all have begun.",
    ),
    ("meter", "The same calls with metering and without."),
    (
        "async",
        "Calls that are answered once they are on the disk, while the same machine handles them. The callers are threads \
         of one process, beside the servers on the same cores; each sends its next event when the last one was \
         acknowledged.",
    ),
    (
        "noisy",
        "A tenant that calls a component 40 times a second, each call some milliseconds of work, alone and \
         beside one that has 64 calls of tens of milliseconds under way all the time.",
    ),
    (
        "fleet-sim",
        "SIMULATED nodes of 16 cores and 64 GiB in three zones, and simulated calls, half of which come to one zone; real is the \
         code that says which node a call goes to, with what it is told of others once a second. A node is lost after \
         a third of the minute, a zone after two. Placements are timed alone.",
    ),
];

/// Writes the table of one benchmark into docs/benchmarks.md, and leaves those of the others as they are.
pub(super) fn write(name: &str, rows: &[Row], how: &str) -> Result<()> {
    let path = paths::root().join("docs/benchmarks.md");
    let before = fs::read_to_string(&path).unwrap_or_default();
    let about = ABOUT.iter().find(|(about, _)| *about == name).map_or("", |(_, about)| about);
    let mut section = format!("## {name}\n\n{about}\n{how}, {}.\n\n", machine()?);
    section.push_str(
        "| what | Rouse | peer | ratio | 95 % interval | target | |\n|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        section.push_str(&row.markdown());
        section.push('\n');
    }
    let mut text = "# Benchmarks\n\nWritten by `cargo xtask bench`: each figure from one run on one machine, beside \
                    its peers in the same run,\ninterleaved A B B A, by median. The ratio says how many times better \
                    Rouse is; the interval is that of the ratio where\nthere is one, else of the value. A miss is \
                    shown as a miss.\n"
        .to_owned();
    for (other, _) in ABOUT {
        if other == name {
            text.push_str(&format!("\n{section}"));
        } else if let Some(begin) = before.find(&format!("## {other}\n")) {
            let rest = &before[begin..];
            let end = rest[3..].find("\n## ").map_or(rest.len(), |end| end + 4);
            text.push_str(&format!("\n{}", rest[..end].trim_end()));
            text.push('\n');
        }
    }
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// The machine and the date.
fn machine() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown CPU");
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let date = sh::output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let commit = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(paths::root())
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    Ok(format!(
        "{cores} × {}, Linux {}, {}, commit {}",
        name.trim_start_matches([' ', '\t', ':']),
        kernel.trim(),
        date.trim(),
        commit.unwrap_or_default()
    ))
}
