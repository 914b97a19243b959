//! Who this node is to the others: a certificate of the cluster's own authority, issued anew long before it ends.
//!
//! The authority's key is a record, sealed as secrets are: a node that does not hold the key of secrets opens nothing, and takes
//! no part in calls between nodes.

use std::{sync::Arc, time::Duration};

use rouse_store::secrets::{Keyring, Sealed};
use rouse_tls::node::{Authority, Identity};
use rouse_types::{Code, Refusal, TenantId};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::{
    control::Control,
    state::{self, At, Committed},
};

/// How long a certificate holds.
const LIFE: Duration = Duration::from_secs(24 * 3_600);
/// What is left of it when another is issued: nodes that cannot for two thirds of its life are still known.
const RENEW_AT: Duration = Duration::from_secs(16 * 3_600);
/// Clocks of nodes may differ by so much.
const SKEW: Duration = Duration::from_secs(300);
/// How often it is looked whether it is time; and after something went wrong.
const LOOK: Duration = Duration::from_secs(600);
const RETRY: Duration = Duration::from_secs(15);

/// Where the authority is kept.
const RECORD: (&str, &str) = ("cluster", "authority");
/// What its key is sealed for: no secret of a tenant has such a name.
const SEALED_FOR: (&str, &str) = ("platform", "the key of the cluster's authority");

/// The authority, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    cluster: String,
    certificate: String,
    key: Sealed,
}

fn sealed_for() -> Result<TenantId, Refusal> {
    TenantId::new(SEALED_FOR.0).map_err(|error| Refusal::new(Code::Internal, error.to_string()))
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, format!("{what}: {error}"))
}

/// Keeps this node's identity, until told to stop.
pub(crate) async fn keep(control: Arc<Control>, stop: CancellationToken) {
    let Some(shared) = &control.shared else { return };
    let mut said = None;
    loop {
        let pause = match control.renew_identity(shared).await {
            Ok(()) => {
                said = None;
                LOOK
            }
            Err(refusal) => {
                // Once, and not each quarter of a minute.
                if said.as_ref() != Some(&refusal.message) {
                    tracing::warn!(%refusal, "this node takes no part in calls between nodes");
                    said = Some(refusal.message);
                }
                RETRY
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

impl Control {
    async fn renew_identity(&self, shared: &Shared) -> Result<(), Refusal> {
        let (state, now) = (&self.config.state, self.config.clock.now());
        let own = Identity::read(state).map_err(|error| failed("read this node's certificate", &error))?;
        let cluster = shared.leases.cluster_id();
        let holds = own.is_some_and(|own| {
            own.cluster == cluster && own.node == shared.node() && own.until.since(now) > RENEW_AT
        });
        if holds {
            return Ok(());
        }
        let authority = self.authority(cluster).await?;
        let from = rouse_types::Timestamp(now.0.saturating_sub(SKEW.as_micros() as u64));
        let issued = authority.issue(shared.node(), from, now + LIFE);
        let issued = issued.map_err(|error| failed("issue this node's certificate", &error))?;
        issued.write(state).map_err(|error| failed("write this node's certificate", &error))?;
        tracing::info!(node = shared.node(), "this node has a new certificate for calls between nodes");
        Ok(())
    }

    /// The cluster's authority: made by whoever needs it first.
    async fn authority(&self, cluster: &str) -> Result<Authority, Refusal> {
        let keys =
            Keyring::open(&self.config.state).map_err(|error| failed("read the key of secrets", &error))?;
        self.records.catch_up().await.map_err(|error| state::refusal(&error))?;
        loop {
            // One of another cluster came with a backup that was restored: it is replaced.
            let found = state::get::<Kept>(&self.records, RECORD.0, RECORD.1).await?;
            if let Some(At { value, .. }) = found.as_ref().filter(|at| at.value.cluster == cluster) {
                let key = keys.unseal(&sealed_for()?, SEALED_FOR.1, &value.key).map_err(|_| {
                    let what = "the authority of the cluster was sealed by a key of secrets that this node does not have";
                    Refusal::new(Code::Internal, what)
                        .hint("copy secrets/keys of the node where it was made to this one, and start it again")
                })?;
                let opened = Authority::open(cluster, &value.certificate, &key);
                return opened.map_err(|error| failed("open the cluster's authority", &error));
            }
            let made = Authority::generate(cluster);
            let made = made.map_err(|error| failed("make the cluster's authority", &error))?;
            let sealed = keys.seal(&sealed_for()?, SEALED_FOR.1, &made.key());
            let key = sealed.map_err(|error| failed("seal the cluster's authority", &error))?;
            let kept = Kept { cluster: cluster.to_owned(), certificate: made.certificate().to_owned(), key };
            let write = state::put(RECORD.0, RECORD.1.to_owned(), &kept, state::unchanged(found.as_ref()))?;
            // Another node may have been first: then its authority holds.
            if state::commit(&self.records, vec![write]).await? == Committed::Done {
                return Ok(made);
            }
        }
    }

    /// Seals the authority's key by the newest of these, if an older one did.
    pub(crate) async fn seal_authority_anew(&self, keys: &Keyring) -> Result<(), Refusal> {
        let Some(at) = state::get::<Kept>(&self.records, RECORD.0, RECORD.1).await? else { return Ok(()) };
        if keys.is_newest(&at.value.key) {
            return Ok(());
        }
        let tenant = sealed_for()?;
        // A node that does not hold its key has said so, and takes no part: the key is another's to change.
        let Ok(key) = keys.unseal(&tenant, SEALED_FOR.1, &at.value.key) else { return Ok(()) };
        let key = keys
            .seal(&tenant, SEALED_FOR.1, &key)
            .map_err(|error| failed("seal the cluster's authority anew", &error))?;
        let expect = state::unchanged(Some(&at));
        let write = state::put(RECORD.0, RECORD.1.to_owned(), &Kept { key, ..at.value }, expect)?;
        match state::commit(&self.records, vec![write]).await? {
            Committed::Done => Ok(()),
            Committed::Conflict => Err(state::contended()),
        }
    }
}
