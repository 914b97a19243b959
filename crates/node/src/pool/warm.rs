//! Instances that are there whether anyone calls or not: as many as [`rouse_types::Scaling::instances_min`] says.

use rouse_types::function::VersionKey;
use tokio::time::Instant;

use super::Pool;

impl Pool {
    /// Starts what a version lacks, as far as there is room; what finds none is tried again when there is.
    pub(super) fn keep_warm(&mut self, key: &VersionKey) {
        for _ in 0..self.lacking(key) {
            if !self.start(key) {
                return;
            }
        }
    }

    /// How many instances a version has too few.
    pub(super) fn lacking(&self, key: &VersionKey) -> u32 {
        let Some(known) = self.known.get(key).filter(|known| known.live && !self.closing) else { return 0 };
        if known.refusal(Instant::now()).is_some() {
            return 0;
        }
        let there = self.groups.get(key).map_or(0, |group| group.serving + group.starting);
        known.scaling.instances_min.saturating_sub(there)
    }

    /// Whether a version has no more instances than it is to have.
    pub(super) fn is_kept_warm(&self, key: &VersionKey) -> bool {
        let Some(known) = self.known.get(key).filter(|known| known.live && !self.closing) else {
            return false;
        };
        let there = self.groups.get(key).map_or(0, |group| group.serving);
        there <= known.scaling.instances_min
    }
}
