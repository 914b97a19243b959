//! The arguments about clusters.

use clap::{Args, Subcommand};

/// What `rouse cluster` does.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the nodes that are there.
    Status,
}

/// The cluster that `rouse serve` joins.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct JoinArgs {
    /// Join the cluster of this engine: NATS' servers, with commas.
    #[arg(long, env = "ROUSE_CLUSTER", hide_env_values = true, value_name = "nats://HOST:PORT", requires_all = ["node", "zone"])]
    pub(crate) cluster: Option<String>,
    /// This node's name, which no other has.
    #[arg(long, value_name = "NAME", requires = "cluster")]
    pub(crate) node: Option<String>,
    /// Where this node stands: nodes of one zone fail together.
    #[arg(long, value_name = "NAME", requires = "cluster")]
    pub(crate) zone: Option<String>,
    /// The servers' monitors, with commas: they prove that each keeps what it acknowledges.
    #[arg(long, value_name = "http://HOST:PORT", value_delimiter = ',', requires = "cluster")]
    pub(crate) cluster_monitors: Vec<String>,
    /// On how many servers everything is kept: 1, 3 or 5 [default: 3, or 1 if one server is named].
    #[arg(long, value_name = "N", requires = "cluster")]
    pub(crate) cluster_replicas: Option<u8>,
}
