//! Moves a state folder's tables and code into a cluster that has none, and compares both sides.
//!
//! ```text
//!   state folder ──copies, converted──▶ cluster ──fetched as a node would──▶ compared, table by table
//! ```
//!
//! The state folder is only read. What was cut off is begun anew by the same command: until its end, no node can join.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use rouse_metering::ledger::{Ledger, shared};
use rouse_store::{
    Blobs, Cluster,
    backup::database,
    cluster::{
        Options,
        blobs::Blobs as Shared,
        seed::{self, Begun},
    },
    contents::contents,
};
use rouse_types::Digest;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use super::node::STORES;
use crate::cli::hinted;

/// What a cluster's tables have beside those of one machine, and a ledger of one machine beside a cluster's.
const BESIDE: [&str; 5] = ["replica", "replica_parts", "handed", "keys", "cursor"];

/// A table, or a part of one, on both sides.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    /// Rows here, and in the cluster.
    pub(crate) here: u64,
    pub(crate) cluster: u64,
    /// Of those here.
    pub(crate) digest: String,
    pub(crate) same: bool,
}

/// What was moved.
#[derive(Debug, Serialize)]
pub(crate) struct Moved {
    pub(crate) rows: Vec<Row>,
    pub(crate) code_bytes: u64,
    /// Whether it had been moved before.
    pub(crate) before: bool,
}

/// Moves, and compares.
pub(crate) async fn migrate(state: &Path, options: &Options) -> anyhow::Result<Moved> {
    if !state.join("control/rouse.db").exists() {
        return Err(hinted(
            format!("{} is not the state folder of a machine that is alone", state.display()),
            "name it with --state",
        ));
    }
    let lock = fs::File::options().read(true).write(true).open(state.join("lock"));
    let lock =
        lock.or_else(|_| fs::File::create(state.join("lock"))).context("open the state folder's lock")?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(hinted(
            format!("a platform runs on {}", state.display()),
            "stop it: what it does meanwhile would not be moved",
        ));
    }
    let cluster = Cluster::join(options).await.context("reach the cluster's engine")?;
    let key = fs::read(state.join("control/ledger.key")).context("read the ledger's key")?;
    let source = Digest::of(&key);
    let before = seed::begin(&cluster, source).await? == Begun::Before;
    let scratch = tempfile::tempdir().context("make a folder for copies (TMPDIR says where)")?;

    let mut rows = Vec::new();
    for (store, _, name) in STORES {
        let here = scratch.path().join(format!("{store}.db"));
        prepare(state, name, &here, &key)?;
        // The ledger's copy has what its journal had; all else is compared with what is in the folder.
        let own = if store == shared::NAME { here.clone() } else { state.join(name) };
        let expected = contents(&own, &BESIDE)?;
        if !before {
            seed::tables(&cluster, store, &here).await.with_context(|| format!("move {name}"))?;
        }
        let there = scratch.path().join(format!("{store}-there.db"));
        seed::fetch(&cluster, store, &there).await.with_context(|| format!("read {name} of the cluster"))?;
        let found = contents(&there, &BESIDE)?;
        let all: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
        for what in all {
            let (here, there) = (expected.get(what), found.get(what));
            rows.push(Row {
                what: format!("{store}: {what}"),
                here: here.map_or(0, |one| one.rows),
                cluster: there.map_or(0, |one| one.rows),
                digest: here.map(|one| one.digest.to_string()).unwrap_or_default(),
                same: here == there,
            });
        }
        for path in [here, there] {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    let (row, code_bytes) = code(state, &cluster).await?;
    rows.push(row);
    if let Some(row) = rows.iter().find(|row| !row.same) {
        bail!(
            "{} is not the same on both sides: {} here, {} in the cluster",
            row.what,
            row.here,
            row.cluster
        );
    }
    if !before {
        seed::end(&cluster, source).await?;
    }
    Ok(Moved { rows, code_bytes, before })
}

/// A copy of a database, as the cluster is to have it.
fn prepare(state: &Path, name: &str, to: &Path, key: &[u8]) -> anyhow::Result<()> {
    let from = state.join(name);
    if !from.exists() {
        bail!("{} is not there: start the platform once, and stop it", from.display());
    }
    database(&from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o600)).context("close the copy")?;
    if name == "control/ledger.db" {
        // What was called and is not on the bill yet: the new nodes begin with journals of their own.
        let prices = crate::roles::prices(&state.join("prices.toml"))?;
        let mut ledger = Ledger::open(to, prices)?;
        while !ledger.ingest(&state.join("journal/usage"))?.caught_up {}
        drop(ledger);
        shared::share(to, key)?;
    }
    Ok(())
}

/// Gives the cluster the code, each blob once, and compares digests and lengths.
async fn code(state: &Path, cluster: &Cluster) -> anyhow::Result<(Row, u64)> {
    let folder: PathBuf = state.join("blobs");
    let local = Blobs::view(&folder);
    let here = local.list()?;
    let shared = Shared::open(cluster).await?;
    for (digest, _) in &here {
        shared.share(&local, digest).await.with_context(|| format!("move the code {digest}"))?;
    }
    let there: std::collections::BTreeMap<_, _> = shared.list().await?.into_iter().collect();
    let found = here.iter().filter(|(digest, bytes)| there.get(digest) == Some(bytes)).count();
    let list: String = here.iter().map(|(digest, bytes)| format!("{digest} {bytes}\n")).collect();
    let row = Row {
        what: "code".to_owned(),
        here: here.len() as u64,
        cluster: found as u64,
        digest: Digest::of(list.as_bytes()).to_string(),
        same: found == here.len(),
    };
    Ok((row, here.iter().map(|(_, bytes)| bytes).sum()))
}
