//! What `rouse serve` tells the other processes of the cluster that this machine is a node of.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use rouse_store::{
    cluster::{Options, Settings, settings},
    settled,
};

use super::layout::State;
use crate::cli::args::JoinArgs;

/// Writes down which cluster it is, or that it is none.
pub(super) fn write(state: &State, args: &JoinArgs, listen: SocketAddr) -> anyhow::Result<()> {
    let JoinArgs { cluster, node, zone, cluster_monitors, cluster_replicas, stop_grace: _ } = args;
    let path = settings::path(&state.path);
    let (Some(servers), Some(node), Some(zone)) = (cluster, node, zone) else {
        if state.path.join("control/cluster.json").exists() {
            bail!(
                "{} is the state of a node of a cluster\nhint: start it with --cluster, --node and --zone, or name another folder with --state",
                state.path.display()
            );
        }
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        };
    };
    let alone = servers.split(',').count() == 1;
    let engine = Options {
        monitors: cluster_monitors.clone(),
        replicas: cluster_replicas.unwrap_or(if alone { 1 } else { 3 }),
        ..Options::new(servers.clone())
    };
    let settings = Settings { engine, node: node.clone(), zone: zone.clone(), address: listen.to_string() };
    settings.write(&state.path).context("write down the cluster")?;
    // A node that is new has nothing of what is deployed, and hears of what waits at once.
    if !state.path.join("control/records").exists() {
        settled::begin(&state.path).context("note that the node is new")?;
    }
    state.give(&path)
}
