//! Messages about the cluster that a platform is a node of.

use rouse_types::{NodeState, Work};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the node that was asked knows of its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterStatus {
    /// The node that was asked.
    pub node: String,
    /// Whether it reaches the engine at the moment.
    pub engine: bool,
    /// How long ago it saw the members, in milliseconds; none if it has not yet.
    pub seen_ms_ago: Option<u64>,
    /// The members that it saw, by name.
    pub members: Vec<ClusterMember>,
}

/// A node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterMember {
    /// Its name.
    pub node: String,
    /// Where it stands: nodes of one zone fail together.
    pub zone: String,
    /// Where its functions answer: `host:port`.
    pub address: String,
    /// Its release of Rouse.
    pub version: String,
    /// Its cores.
    pub cores: u32,
    /// Its memory, in bytes.
    pub memory_bytes: u64,
    /// How it can confine code.
    pub sandboxes: Vec<String>,
    /// What it takes on.
    pub state: NodeState,
    /// What it has under way; it looks while it is being drained.
    pub work: Work,
}

/// What an operator asks of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeChange {
    /// `active`, `cordoned` or `draining`; what it is then, the node says itself.
    pub state: NodeState,
}
