//! What control does on its own: puts snapshots right, forgets versions that nothing names, deletes their
//! code and images, keeps journals within bounds, reads usage. Each may run at any time and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use rouse_store::journal;
use rouse_types::{Digest, Refusal};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster,
    control::Control,
    logs, snapshot,
    state::{self, App, At, Deployment, Function, VersionHead},
    usage::INGEST_INTERVAL,
};

/// How often versions, code and journals are looked through.
const COLLECT_INTERVAL: Duration = Duration::from_secs(600);
/// How soon after a failure snapshots are put right again.
const RECONCILE_RETRY: Duration = Duration::from_secs(5);

/// Puts snapshots right at the start, and whenever one could not be written.
pub(crate) async fn reconcile(control: Arc<Control>, stop: CancellationToken) {
    loop {
        let result = snapshot::reconcile(&control).await;
        let done = match result {
            Ok((changed, right)) => {
                for (tenant, app) in changed {
                    tracing::info!(%tenant, %app, "put the snapshot of an app right");
                    control.peers.notify(&tenant, &app).await;
                }
                // What waited for that may be delivered: see `rouse_store::settled`.
                if right && let Err(error) = rouse_store::settled::settle(&control.config.state) {
                    tracing::error!(%error, "that all is in its place cannot be written down");
                    control.reconcile.notify_one();
                }
                true
            }
            Err(refusal) => {
                tracing::error!(%refusal, "snapshots cannot be put right");
                false
            }
        };
        tokio::select! {
            () = control.reconcile.notified(), if done => {}
            () = tokio::time::sleep(RECONCILE_RETRY), if !done => {}
            () = stop.cancelled() => return,
        }
        // Whoever asked met a failure a moment ago: a full disk is not better at once.
        tokio::select! {
            () = tokio::time::sleep(RECONCILE_RETRY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Reads usage as it is written.
pub(crate) async fn ingest(control: Arc<Control>, stop: CancellationToken) {
    let mut every = tokio::time::interval(INGEST_INTERVAL);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stop.cancelled() => {
                // A node that leaves for good leaves nothing of the bill behind.
                if control.shared.is_some() {
                    let _ = control.usage.ingest().await;
                }
                return;
            }
        }
        // It is logged there; the next turn tries again.
        if control.usage.ingest().await == Ok(true) {
            // Only what was read can be sealed: a ledger that lags would call everything late.
            let _ = control.usage.seal(control.config.clock.now()).await;
        }
    }
}

/// Forgets and deletes.
pub(crate) async fn collect(control: Arc<Control>, stop: CancellationToken) {
    loop {
        if let Err(refusal) = control.collect().await {
            tracing::error!(%refusal, "old versions cannot be collected");
        }
        control.retain().await;
        tokio::select! {
            () = tokio::time::sleep(COLLECT_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

impl Control {
    /// Forgets versions that no alias and no kept deployment names, and deletes code that no kept version
    /// has had for the grace period.
    pub(crate) async fn collect(&self) -> Result<(), Refusal> {
        // A backup that is being made may name them.
        if rouse_store::backup::held(&self.config.state) {
            return Ok(());
        }
        // Functions first: whatever is deployed after that changes their records, and is a conflict below.
        let functions = state::scan::<Function>(&self.records, state::FUNCTIONS, "").await?;
        let apps = state::scan::<App>(&self.records, state::APPS, "").await?;
        let deployments = state::scan::<Deployment>(&self.records, state::DEPLOYMENTS, "").await?;
        let known: BTreeSet<&str> = apps.iter().map(|at| at.key.as_str()).collect();
        // (tenant/function, number)
        let mut named: BTreeSet<(String, u64)> = BTreeSet::new();
        for At { key, value, .. } in &deployments {
            let Some((app, _)) = key.rsplit_once('/').filter(|(app, _)| known.contains(app)) else {
                continue;
            };
            let tenant = app.split('/').next().unwrap_or_default();
            named.extend(
                value.functions.iter().map(|each| (format!("{tenant}/{}", each.function), each.version)),
            );
        }
        let mut wanted: BTreeSet<Digest> = BTreeSet::new();
        for mut at in functions {
            let Function { app, latest, aliases, .. } = &at.value;
            let mut keep: BTreeSet<u64> =
                aliases.values().flat_map(|alias| &alias.versions).map(|share| share.version).collect();
            keep.extend(app.as_ref().map(|_| *latest));
            let versions = std::mem::take(&mut at.value.versions);
            let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = versions
                .into_iter()
                .partition(|(number, _)| keep.contains(number) || named.contains(&(at.key.clone(), *number)));
            at.value.versions = kept;
            if !gone.is_empty() {
                let mut writes: Vec<_> = gone
                    .keys()
                    .take(rouse_store::records::WRITES_MAX - 1)
                    .map(|&number| {
                        let expect = rouse_store::records::Expect::Any;
                        state::delete(state::VERSIONS, state::numbered(&at.key, number), expect)
                    })
                    .collect();
                let expect = state::unchanged(Some(&at));
                writes.push(state::put(state::FUNCTIONS, at.key.clone(), &at.value, expect)?);
                // Someone who was faster may have taken a version up again: the next turn sees.
                if state::commit(&self.records, writes).await? == state::Committed::Conflict {
                    wanted.extend(gone.values().flat_map(VersionHead::blobs));
                }
            }
            wanted.extend(at.value.versions.values().flat_map(VersionHead::blobs));
        }
        self.delete_unwanted(&wanted).await
    }

    /// Deletes blobs, unpacked code and compiled forms of digests that were unwanted for long. An upload
    /// waits for its deployment that long, too, and an instance of an old version has ended by then.
    async fn delete_unwanted(&self, wanted: &BTreeSet<Digest>) -> Result<(), Refusal> {
        let failed = |error: rouse_store::Error| state::refusal(&error);
        let blobs = self.blobs.list().map_err(failed)?;
        let images = self.images.recorded().map_err(|error| state::io_refusal("list images", &error))?;
        let known: BTreeSet<Digest> = blobs.iter().map(|(digest, _)| *digest).chain(images).collect();
        let due: BTreeSet<Digest> = {
            let mut unwanted = self.unwanted.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let before = std::mem::take(&mut *unwanted);
            for digest in known.difference(wanted) {
                unwanted.insert(*digest, before.get(digest).copied().unwrap_or(now));
            }
            let grace = self.config.code_grace;
            unwanted
                .iter()
                .filter(|(_, since)| now.duration_since(**since) >= grace)
                .map(|(digest, _)| *digest)
                .collect()
        };
        for digest in due {
            // Whoever deploys it right now holds the lock, and takes it off the list.
            let _lock = self.locks.hold(format!("code {digest}")).await;
            let still =
                self.unwanted.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest).is_some();
            if !still {
                continue;
            }
            self.forget_uploads(&digest).await?;
            let (store, blobs) = (self.code.clone(), self.blobs.clone());
            let deleted = tokio::task::spawn_blocking(move || {
                // The blob last: while it is there, the next turn finds what a crash left of the others.
                store.sweep(|found| *found == digest)?;
                blobs.delete(&digest).map_err(std::io::Error::other)
            });
            match deleted.await {
                Ok(Ok(_)) => tracing::info!(%digest, "deleted code that nothing names"),
                Ok(Err(error)) => {
                    tracing::warn!(%digest, %error, "code that nothing names cannot be deleted")
                }
                Err(error) => tracing::error!(%digest, %error, "code that nothing names cannot be deleted"),
            }
        }
        let collected = self.images.collect(self.config.code_grace).await;
        collected.map_err(|error| state::io_refusal("delete layers that no image names", &error))
    }

    /// Keeps the journals within their bounds. Usage is deleted only once the ledger has read it.
    async fn retain(&self) {
        if rouse_store::backup::held(&self.config.state) {
            return;
        }
        let (now, kept) = (self.config.clock.now(), self.config.retention);
        let Ok(read) = self.usage.cursor().await else { return };
        // Logged there.
        let _ = self.usage.forget(kept.usage, now).await;
        let (usage, log) = (self.usage.clone(), logs::journal(&self.config.state));
        let of_others = cluster::logs::of_others(&self.config.state);
        let done = tokio::task::spawn_blocking(move || {
            for (journal, result) in [
                ("usage", usage.retain(&kept.usage, &read, now)),
                ("log", journal::retain(&log, &kept.log, None, now)),
                ("log-of-others", journal::retain(&of_others, &kept.log, None, now)),
            ] {
                if let Err(error) = result {
                    tracing::error!(journal, %error, "a journal cannot be kept within its bounds");
                }
            }
        });
        if let Err(error) = done.await {
            tracing::error!(%error, "journals cannot be kept within their bounds");
        }
    }
}
