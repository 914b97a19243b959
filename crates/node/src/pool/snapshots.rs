//! What may be called: the newest snapshot of each app, and for a while what it no longer names.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rouse_types::{AppSnapshot, Contract, function::VersionKey};
use tokio::time::Instant;

use super::{App, Known, Pool, Timer};

/// How long a version that is live no more is still run for gateways that have not heard of it.
pub(super) const RETIRE: Duration = Duration::from_secs(60);

impl Pool {
    /// Puts a snapshot in force: new versions can be called, those it does not name end when they are idle.
    pub(crate) fn apply(&mut self, snapshot: AppSnapshot) {
        let id = (snapshot.tenant, snapshot.app);
        let before = self.apps.remove(&id).unwrap_or_default();
        if before.revision > snapshot.revision {
            self.apps.insert(id, before);
            return;
        }
        let versions = snapshot.functions.iter().flat_map(|route| route.versions.values());
        let live: BTreeMap<_, _> = versions
            .filter(|version| version.contract != Contract::Component)
            .map(|version| (version.key(), version))
            .collect();
        for (key, version) in &live {
            if let Some(known) = self.known.get_mut(key) {
                known.live = true;
                known.scaling = version.scaling.clone();
                continue;
            }
            self.versions.send_modify(|versions| drop(versions.insert(key.clone(), Arc::clone(version))));
            // It goes on with what is known of the version before it.
            let mut older = self.known.range(..key).rev();
            let same = older
                .next()
                .filter(|(other, _)| (&other.tenant, &other.function) == (&key.tenant, &key.function));
            let history = same.map(|(_, known)| known.history.clone()).unwrap_or_default();
            self.known.insert(
                key.clone(),
                Known {
                    version: Arc::clone(version),
                    scaling: version.scaling.clone(),
                    live: true,
                    history,
                    broken: None,
                },
            );
        }
        let gone: Vec<_> = before.live.into_iter().filter(|key| !live.contains_key(key)).collect();
        for key in &gone {
            if let Some(known) = self.known.get_mut(key) {
                known.live = false;
                let same =
                    |other: &&VersionKey| (&other.tenant, &other.function) == (&key.tenant, &key.function);
                let after = live.iter().filter(|(other, _)| same(other)).map(|(_, version)| &version.scaling);
                let limit = after.map(|scaling| scaling.concurrency_max).max().unwrap_or(0);
                known.scaling.concurrency_max = known.scaling.concurrency_max.max(limit);
            }
        }
        let live: Vec<_> = live.into_keys().collect();
        if !snapshot.functions.is_empty() {
            self.apps.insert(id, App { revision: snapshot.revision, live: live.clone() });
        }
        for key in gone {
            self.timers.set(Instant::now() + RETIRE, Timer::Retire(key.clone()));
            self.end_idle(&key);
        }
        for key in live {
            self.keep_warm(&key);
        }
    }
}
