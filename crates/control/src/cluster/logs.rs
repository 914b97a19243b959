//! One log of all nodes: each hands its lines over, and keeps those of the others beside its own, so that any node is asked.
//!
//! ```text
//!   journal/log ──Handover──▶ stream ──Collect──▶ journal/log-of-others (of every other node)
//! ```
//!
//! Lines come within a second or so. A node that is killed between keeping lines and noting how far it came keeps the
//! last of them twice; one that was away for longer than the stream holds misses the oldest.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rouse_store::{
    Error,
    cluster::journals::{Collect, Handover},
    journal::{Options, Writer},
};
use tokio_util::sync::CancellationToken;

use crate::{control::Control, logs};

/// The journal's name in the cluster.
const JOURNAL: &str = "log";
/// How often lines are handed over.
const HAND_OVER: Duration = Duration::from_millis(500);
/// After what failed.
const RETRY: Duration = Duration::from_secs(2);
/// For how long lines are kept for nodes that are away.
const KEPT: Duration = Duration::from_secs(3_600);
/// How often is looked for what need not be kept longer.
const FORGET: Duration = Duration::from_secs(60);
/// What the stream may hold before older lines are dropped at once, in bytes: half of what it takes.
const BYTES_MAX: u64 = 512 << 20;

/// Where the lines of other nodes are.
pub(crate) fn of_others(state: &Path) -> PathBuf {
    state.join("journal").join("log-of-others")
}

/// Hands this node's lines over, until told to stop.
pub(crate) async fn hand_over(control: Arc<Control>, stop: CancellationToken) {
    let Some(shared) = &control.shared else { return };
    let journal = logs::journal(&control.config.state);
    let mut open = None;
    loop {
        let step = async {
            let handover = match &mut open {
                Some(handover) => handover,
                none => {
                    none.insert(Handover::open(shared.cluster(), JOURNAL, shared.node(), &journal).await?)
                }
            };
            while !handover.next().await?.caught_up {}
            Ok::<_, Error>(())
        };
        let pause = match stop.run_until_cancelled(step).await {
            None => return,
            Some(Ok(())) => HAND_OVER,
            Some(Err(error)) => {
                tracing::warn!(%error, "lines of the log wait on this node's disk");
                RETRY
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// Keeps the lines of other nodes, until told to stop.
pub(crate) async fn collect(control: Arc<Control>, stop: CancellationToken) {
    while let Some(Err(error)) = stop.run_until_cancelled(try_collect(&control)).await {
        tracing::warn!(%error, "lines of other nodes do not come; trying again");
        if stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
            return;
        }
    }
}

async fn try_collect(control: &Control) -> Result<(), Error> {
    let Some(shared) = &control.shared else { return Ok(()) };
    let folder = of_others(&control.config.state);
    let failed = |error: &dyn std::fmt::Display| Error::Log(format!("the lines of other nodes: {error}"));
    let mut writer = Writer::open(&folder, Options::new("lines")).map_err(|error| failed(&error))?;
    let place = folder.join("place");
    let begin = std::fs::read_to_string(&place).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut collect = Collect::open(shared.cluster(), JOURNAL, begin).await?;
    let mut places = VecDeque::from([(Instant::now(), begin)]);
    loop {
        if let Some(collected) = collect.next().await? {
            if collected.node != shared.node() {
                for record in &collected.records {
                    writer.append(record.time, &record.payload).map_err(|error| failed(&error))?;
                }
            }
            std::fs::write(&place, collected.sequence.to_string()).map_err(|error| failed(&error))?;
            if places.back().is_none_or(|(since, _)| since.elapsed() >= FORGET) {
                places.push_back((Instant::now(), collected.sequence));
                forget(shared, &collect, &mut places).await?;
            }
        }
    }
}

/// Drops what all nodes have had time for. One node does it: which one makes no difference.
async fn forget(
    shared: &super::Shared,
    collect: &Collect,
    places: &mut VecDeque<(Instant, u64)>,
) -> Result<(), Error> {
    let full = collect.bytes().await? > BYTES_MAX;
    while places.len() > 1 && (full || places[0].0.elapsed() >= KEPT) {
        if let Some((_, place)) = places.pop_front()
            && shared.is_first().await
        {
            collect.forget(place).await?;
        }
    }
    Ok(())
}
