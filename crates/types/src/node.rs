//! The nodes of a cluster: what one takes on, and what it has under way.
//!
//! ```text
//!  active ⇄ cordoned ⇄ draining ─(nothing under way)─▶ drained      as the operator asks
//!    └───────────────────────────────────────────────▶ stopping     by SIGTERM
//! ```

use serde::{Deserialize, Serialize};

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
