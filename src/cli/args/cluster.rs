//! The arguments about clusters.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Subcommand};

/// What `rouse cluster` does.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the nodes that are there.
    Status,
}

/// What `rouse node` does.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum NodeCommand {
    /// Have a node take no new work of its own accord. It stays so when it is started again.
    Cordon {
        /// The node.
        name: String,
    },
    /// Have a node take work again.
    Uncordon {
        /// The node.
        name: String,
    },
    /// Cordon a node, and wait until it has finished what it had: then it can be stopped.
    Drain {
        /// The node.
        name: String,
        /// How long to wait.
        #[arg(long, default_value = "5m", value_name = "TIME", value_parser = rouse_types::size::parse_duration)]
        timeout: Duration,
    },
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
    /// Where other nodes send calls to this one [default: a free port of --listen's address].
    #[arg(long, value_name = "ADDR", requires = "cluster")]
    pub(crate) mesh: Option<SocketAddr>,
    /// When it is told to stop, for how long it still takes calls while /readyz says no, so that load balancers notice.
    #[arg(long, default_value = "3s", value_name = "TIME", value_parser = rouse_types::size::parse_duration)]
    pub(crate) stop_grace: Duration,
}

/// What `rouse migrate` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
The platform on the state folder (--state) is stopped; the folder is read, and stays as it was. Moved are: what is deployed with its \
code, tenants, keys and audit log; events, queues and dead letters; usage, with the ledger and the key that seals it. Each node has its \
own of all else: objects, what AWS' clients made, images, logs, secrets/keys. A run that was cut off is repeated; until one came to its end, \
no node can join.")]
pub(crate) struct MigrateArgs {
    /// The cluster's engine, which has no state yet: NATS' servers, with commas.
    #[arg(long, env = "ROUSE_CLUSTER", hide_env_values = true, value_name = "nats://HOST:PORT")]
    pub(crate) to: String,
    /// The servers' monitors, with commas: they prove that each keeps what it acknowledges.
    #[arg(long, value_name = "http://HOST:PORT", value_delimiter = ',')]
    pub(crate) cluster_monitors: Vec<String>,
    /// On how many servers everything is kept: 1, 3 or 5 [default: 3, or 1 if one server is named].
    #[arg(long, value_name = "N")]
    pub(crate) cluster_replicas: Option<u8>,
}
