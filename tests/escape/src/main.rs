//! The escape corpus: programs that try to get out of a sandbox, each in several ways, none of which may succeed.
//!
//! ```text
//!  probes/*.py ──▶ corpus ─┬─▶ confined   in a sandbox as a function has it,
//!                          │              in a fork of a zygote, in what had
//!                          │              started before, and some in a full
//!                          │              network                             every way must be blocked
//!                          ├─▶ control    outside of any sandbox              every way must get through, or the
//!                          │                                                  probe proves nothing
//!                          └─▶ oracle     in a container of runc's            what another engine makes of it
//! ```
//!
//! `cargo xtask test escape` runs it, and `cargo test -p rouse-escape -- NAME…` the probes with such names. It
//! writes what the ordinary runner of tests writes, and a table of all probes at its end.

#![expect(clippy::print_stdout, reason = "a runner of tests talks to whoever runs it")]

mod confined;
mod control;
mod corpus;
mod families;
mod oracle;
mod table;

#[path = "../../../crates/sandbox/tests/support/host.rs"]
mod host;

use std::{process::ExitCode, sync::Arc, time::Instant};

use tokio::{sync::Semaphore, task::JoinSet};

use rouse_escape::Probe;

use confined::{Confined, FAMILY, Way};
use corpus::Corpus;
use host::Host;
use oracle::Oracle;
use table::{Came, Row};

/// Probes that are tried at once: a machine with two cores bears them.
const AT_ONCE: usize = 4;
/// Sandboxes that the spawner keeps built: as on a busy host, some probes get one of these and some a new one.
const BUILT_AHEAD: usize = 3;
/// The fewest probes that this corpus may have: none gets lost unseen.
const PROBES_MIN: usize = 60;

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let Some(host) = Host::with_pool("escape", BUILT_AHEAD) else {
        return ended(1, 0);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(host, &names))
}

async fn run(host: Host, names: &[String]) -> ExitCode {
    let begun = Instant::now();
    let corpus = Corpus::prepare(&host);
    assert!(corpus.probes.len() >= PROBES_MIN, "the corpus has {} probes alone", corpus.probes.len());
    let wanted = |probe: &&Probe| names.is_empty() || names.iter().any(|name| probe.path().contains(name));
    let probes: Vec<Probe> = corpus.probes.iter().filter(wanted).cloned().collect();
    let between = Some(families::probe(corpus.probes.len())).filter(|probe| wanted(&probe));
    println!("\nrunning {} tests", probes.len() + usize::from(between.is_some()));

    let mut passed = 0;
    let corpus = Arc::new(corpus);
    let confined = Arc::new(Confined::new(&host, Arc::clone(&corpus)).await);
    let oracle = Arc::new(Oracle::new(Arc::clone(&corpus)).await);
    if let Err(why) = oracle.as_ref() {
        host::skipped("escape::oracle", why);
        passed += 1;
    }
    if !confined.forks() {
        host::skipped(
            "escape::fork",
            "this host has no zygotes: it counts no processes or no memory by group",
        );
        passed += 1;
    }
    if let Err(why) = confined.full_network() {
        host::skipped("escape::full", &why);
        passed += 1;
    }
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for probe in probes {
        if let Some(why) = confined.lacks(&probe) {
            host::skipped(&format!("escape::{}", probe.path()), &why);
            passed += 1;
            continue;
        }
        let (corpus, confined) = (Arc::clone(&corpus), Arc::clone(&confined));
        let (oracle, places) = (Arc::clone(&oracle), Arc::clone(&places));
        running.spawn(async move {
            let _place = places.acquire().await.expect("it is never closed");
            let sockets = probe.is_for_sockets();
            let full = probe.is_for_full_network() && confined.has_full_network();
            let mut came = Came::default();
            if sockets {
                came.ours = Some(confined.run(&probe, Way::Plain).await);
            }
            if sockets && confined.forks() {
                came.fork = Some(confined.run(&probe, Way::Fork(FAMILY)).await);
            }
            if sockets {
                came.ahead = Some(confined.run(&probe, Way::Ahead(FAMILY)).await);
            }
            if full {
                came.full = Some(confined.run(&probe, Way::Full).await);
            }
            if sockets || full {
                came.control = control::run(&corpus, &probe).await;
            }
            if let Ok(oracle) = oracle.as_ref() {
                came.runc = oracle.run(&probe).await;
            }
            Row::new(probe, came)
        });
    }
    let mut rows = Vec::new();
    while let Some(row) = running.join_next().await {
        let row = row.expect("a probe's task ends");
        row.print();
        rows.push(row);
    }
    if let Some(between) = between.filter(|_| confined.forks()) {
        let row = families::run(&host, &corpus, between).await;
        row.print();
        rows.push(row);
    }
    if let Ok(oracle) = Arc::into_inner(oracle).expect("nobody else has it") {
        oracle.stop().await;
    }
    Arc::into_inner(confined).expect("nobody else has it").stop().await;
    drop(corpus);
    drop(host);
    rows.sort_by_key(|row| row.place);
    table::print(&rows, begun.elapsed());
    let failed = rows.iter().filter(|row| !row.passed()).count();
    ended(passed + rows.len() - failed, failed)
}

/// Says how it ended, as the ordinary runner of tests does.
fn ended(passed: usize, failed: usize) -> ExitCode {
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {result}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; escape"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
