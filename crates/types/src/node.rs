//! The nodes of a cluster: what one takes on, and what it has under way.
//!
//! ```text
//!  active ⇄ cordoned ⇄ draining ─(nothing under way)─▶ drained      as the operator asks
//!    └───────────────────────────────────────────────▶ stopping     by SIGTERM
//! ```

use serde::{Deserialize, Serialize};

use crate::{Isolation, function::VersionKey};

/// What a node of a cluster takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// All that comes.
    #[default]
    Active,
    /// No new work of its own accord; it answers what still reaches it.
    Cordoned,
    /// The same, and what it had begun is being finished.
    Draining,
    /// Nothing is under way: it can be stopped.
    Drained,
    /// It is ending.
    Stopping,
}

impl NodeState {
    /// The same words as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Stopping => "stopping",
        }
    }

    /// Whether the node takes work of its own accord, and callers should come to it.
    #[must_use]
    pub fn takes_work(self) -> bool {
        self == Self::Active
    }

    /// What a node is that was asked to be `wanted`, and has this under way, if that is known.
    #[must_use]
    pub fn of(wanted: Self, stopping: bool, work: Option<Work>) -> Self {
        match wanted {
            _ if stopping => Self::Stopping,
            Self::Draining | Self::Drained if work == Some(Work::default()) => Self::Drained,
            Self::Draining | Self::Drained => Self::Draining,
            other => other,
        }
    }
}

/// What is under way on a node, or in one of its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Calls that run or wait for their turn.
    pub calls: u32,
    /// Queues that events are being delivered from, and deliveries under way.
    pub events: u32,
}

impl Work {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            events: self.events.saturating_add(other.events),
        }
    }
}

/// Versions with an instance that waits, of which a node tells at most: what it tells is sent once a second.
pub const WARM_MAX: usize = 200;

/// What a node could take, as it told last. Nothing is decided by it that would be wrong if it were no longer so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Memory of the largest instance that could be started now, in MiB.
    pub room_mib: u64,
    /// The same if it had nothing else, in MiB.
    pub budget_mib: u64,
    /// How busy its cores are: 100 for all of them, more when some work waits.
    pub busy_percent: u32,
    /// Versions with an instance that waits for work.
    pub warm: Vec<VersionKey>,
}

/// A node, as others need to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    /// Its name.
    pub node: String,
    /// Where it stands.
    pub zone: String,
    /// Where it takes calls of other nodes, `host:port`; none if it takes none.
    pub address: Option<String>,
    /// See [`NodeState::takes_work`].
    pub takes_work: bool,
    /// How it can confine code.
    pub isolations: Vec<Isolation>,
    /// Its cores.
    pub cores: u32,
    /// What it could take.
    pub load: Load,
}

/// What a node's processes know of it, and of those that it can hand calls to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbours {
    /// The node itself.
    pub own: Neighbour,
    /// The others that take calls of this one.
    pub others: Vec<Neighbour>,
}

/// Carries the nodes to try, with commas, from a gateway to the process that hands calls over.
pub const NODES_HEADER: &str = "x-rouse-nodes";
/// Says that a call was handed over: it is run where it is now, and never handed over again.
pub const FORWARDED_HEADER: &str = "x-rouse-forwarded";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_drained_once_nothing_is_under_way_and_not_before() {
        let (none, some) = (Some(Work::default()), Some(Work { calls: 0, events: 1 }));
        assert_eq!(NodeState::of(NodeState::Draining, false, some), NodeState::Draining);
        assert_eq!(NodeState::of(NodeState::Draining, false, none), NodeState::Drained);
        assert_eq!(NodeState::of(NodeState::Draining, false, None), NodeState::Draining);
        // Someone called it all the same.
        assert_eq!(NodeState::of(NodeState::Drained, false, some), NodeState::Draining);
        assert_eq!(NodeState::of(NodeState::Cordoned, false, none), NodeState::Cordoned);
        assert_eq!(NodeState::of(NodeState::Active, false, some), NodeState::Active);
        assert_eq!(NodeState::of(NodeState::Active, true, none), NodeState::Stopping);
        assert!(NodeState::Active.takes_work() && !NodeState::Cordoned.takes_work());
    }
}
