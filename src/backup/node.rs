//! What a backup on a node of a cluster holds of what all nodes share: the tables, as those of one machine, and the code.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rouse_metering::ledger::shared;
use rouse_store::{
    Blobs, Cluster,
    backup::database,
    cluster::{Settings, blobs::Blobs as Shared, seed},
};
use tokio::runtime::Handle;

/// How long a node may take until it has what its cluster's logs hold.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Each store of a cluster with the folder of a node's tables, and the file that they are on one machine.
pub(super) const STORES: [(&str, &str, &str); 4] = [
    ("events", "events/records", "events/records.db"),
    ("queues", "events/queues", "events/queues.db"),
    ("control", "control/records", "control/rouse.db"),
    (shared::NAME, "control/ledger", "control/ledger.db"),
];

/// The node whose state folder it is.
#[derive(Debug)]
pub(crate) struct Node {
    pub(super) name: String,
    cluster: Cluster,
    runtime: Handle,
}

impl Node {
    /// Joins the cluster that a state folder is of; none on a machine that is alone.
    pub(crate) async fn of(state: &Path) -> anyhow::Result<Option<Self>> {
        if !state.join("control/cluster.json").exists() {
            return Ok(None);
        }
        let Some(settings) = Settings::read(state)? else {
            bail!(
                "{} is of a node that was never started: nothing says where its cluster is",
                state.display()
            );
        };
        let cluster = Cluster::join(&settings.engine).await.context("reach the cluster's engine")?;
        Ok(Some(Self { name: settings.node, cluster, runtime: Handle::current() }))
    }

    /// Copies the tables that a database of one machine is made of, if it is one of those that nodes share, with all that was
    /// acknowledged anywhere before. Gives the ledger's key with the ledger. Blocks.
    pub(super) fn copy(&self, state: &Path, database_of: &str, to: &Path) -> anyhow::Result<Option<Copied>> {
        let Some((store, folder, name)) = STORES.into_iter().find(|(_, _, name)| *name == database_of) else {
            return Ok(None);
        };
        let written = self.runtime.block_on(seed::written(&self.cluster, store))?;
        let begin = Instant::now();
        loop {
            let from = newest(&state.join(folder))?;
            if seed::applied(&from)? >= written {
                database(&from, to)?;
                break;
            }
            if begin.elapsed() > CATCH_UP_MAX {
                bail!(
                    "the node {} does not come to what the cluster's log of {store} holds\n\
                     hint: start it, or run this on a node that runs",
                    self.name
                );
            }
            thread::sleep(LOOK);
        }
        seed::alone(to)?;
        let key = if store == shared::NAME { Some(shared::unshare(to, &self.name)?) } else { None };
        Ok(Some(Copied { name, key }))
    }

    /// Gives `add` each blob of the cluster that this node does not have, as a file. Blocks.
    pub(super) fn blobs(
        &self,
        state: &Path,
        scratch: &Path,
        mut add: impl FnMut(&Path, &Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (own, fetched) = (Blobs::view(&state.join("blobs")), Blobs::open(&scratch.join("blobs"), 0)?);
        let (all, copies) = self.runtime.block_on(async {
            let copies = seed::copies(&self.cluster, &STORES.map(|(store, ..)| store)).await?;
            Ok::<_, rouse_store::Error>((Shared::open(&self.cluster).await?, copies))
        })?;
        for (digest, _) in self.runtime.block_on(all.list())? {
            if own.path(&digest).is_some() || copies.contains(&digest) {
                continue;
            }
            // One that is deleted meanwhile was named by nothing.
            if self.runtime.block_on(all.fetch(&fetched, &digest))?
                && let Some(path) = fetched.path(&digest)
            {
                add(&Path::new("blobs").join(digest.hex()), &path)?;
                fetched.delete(&digest)?;
            }
        }
        Ok(())
    }
}

/// A database that was made of a node's tables.
#[derive(Debug)]
pub(super) struct Copied {
    /// Its name on one machine.
    pub(super) name: &'static str,
    /// The ledger's key, with the ledger.
    pub(super) key: Option<Vec<u8>>,
}

/// The file of a node's tables: the last, where one takes another's place.
fn newest(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.context("list the folder of tables")?.path();
        found.extend(Some(path).filter(|path| path.extension().is_some_and(|end| end == "db")).filter(
            |path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tables-")),
        ));
    }
    found.sort_unstable();
    found.pop().with_context(|| format!("{} has no tables", folder.display()))
}
