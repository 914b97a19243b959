//! The node's memory: what is taken of it, who gives some up, and who has waited longest for it.

use std::time::Duration;

use rouse_scheduler::Candidate;
use rouse_types::{
    InstanceState,
    function::VersionKey,
    node::{Load, WARM_MAX},
};
use tokio::time::Instant;

use super::{Pool, memory_bytes};
use crate::instance::Id;

impl Pool {
    /// Whether there is memory for one more instance now. If not, it has been seen to, if it can be.
    pub(super) fn make_room(&mut self, bytes: u64) -> bool {
        let free = self.budget_bytes.saturating_sub(self.reserved_bytes);
        if bytes <= free {
            return true;
        }
        let soon = free + self.ending_bytes;
        if bytes > soon {
            let mut idle: Vec<_> = self
                .instances
                .iter()
                .filter(|(_, instance)| {
                    instance.jobs.is_some()
                        && !self.is_kept_warm(&instance.key)
                        && matches!(instance.state, InstanceState::Idle | InstanceState::Frozen)
                })
                .collect();
            // Of equals, the one that was used least recently goes.
            idle.sort_by_key(|&(&id, instance)| (instance.idle_since, id));
            let candidates = idle.into_iter().map(|(&id, instance)| Candidate {
                id,
                priority: instance.priority,
                memory_bytes: instance.memory_bytes,
            });
            let gone = self.evictions.evict(candidates.collect(), bytes - soon);
            self.around.metrics.evicted(gone.len());
            for id in gone {
                self.end(id);
            }
        }
        false
    }

    /// What other nodes are told: whether a call would find room here.
    pub(crate) fn load_told(&self) -> Load {
        let idle = self.instances.values().filter(|instance| {
            instance.jobs.is_some()
                && !self.is_kept_warm(&instance.key)
                && matches!(instance.state, InstanceState::Idle | InstanceState::Frozen)
        });
        let idle: u64 = idle.map(|instance| instance.memory_bytes).sum();
        let free = self.budget_bytes.saturating_sub(self.reserved_bytes);
        // Who waits for memory has a claim on what there is.
        let room = if self.starved.is_empty() { free + self.ending_bytes + idle } else { 0 };
        let warm = self.groups.iter().filter(|(_, group)| {
            let load = group.load();
            load.free > load.waiting
        });
        Load {
            room_mib: room.min(self.budget_bytes) >> 20,
            budget_mib: self.budget_bytes >> 20,
            busy_percent: 0,
            warm: warm.map(|(key, _)| key.clone()).take(WARM_MAX).collect(),
        }
    }

    /// Whether the version that has starved longest has waited longer than this one's oldest call, and the memory
    /// of this instance would be enough for it: otherwise both would lose.
    pub(super) fn gives_way(
        &self,
        id: Id,
        key: &VersionKey,
        own_oldest: Option<Duration>,
        now: Instant,
    ) -> bool {
        let (Some(instance), Some(_)) = (self.instances.get(&id), own_oldest) else { return false };
        let others = self.starved.iter().filter(|other| *other != key);
        let oldest = others.filter_map(|other| Some((self.oldest(other)?, other))).min();
        let Some((arrived, other)) = oldest else { return false };
        let needed = self.known.get(other).map_or(u64::MAX, |known| memory_bytes(&known.version));
        let free = self.budget_bytes.saturating_sub(self.reserved_bytes);
        // Memory that is being set free already is enough for now.
        self.ending_bytes + self.draining_bytes == 0
            && needed <= free + instance.memory_bytes
            && rouse_scheduler::admit::gives_way(own_oldest, now.saturating_duration_since(arrived))
    }

    /// Memory may have become free, or can be taken from an instance that has become idle: those who wait for it
    /// try again, the one who has waited longest first.
    pub(super) fn feed_starved(&mut self) {
        let mut starved = Vec::from(std::mem::take(&mut self.starved));
        starved.sort_by_key(|key| self.oldest(key));
        let mut starved = starved.into_iter();
        for key in starved.by_ref() {
            self.scale(&key);
            let free = self.budget_bytes.saturating_sub(self.reserved_bytes);
            if free < u64::from(rouse_types::limits::MEMORY_MIB_MIN) << 20 {
                break;
            }
        }
        // Nothing is left for these.
        self.starved.extend(starved);
    }

    /// When the oldest of a version's waiting calls arrived.
    pub(super) fn oldest(&self, key: &VersionKey) -> Option<Instant> {
        Some(self.groups.get(key)?.waiting.front()?.arrived)
    }
}
