//! What `rouse serve` tells the other processes of the cluster that this machine is a node of.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, bail};
use rouse_store::{
    cluster::{Options, Settings, settings},
    settled,
};

use super::layout::State;
use crate::cli::args::JoinArgs;

/// The socket that takes other nodes' calls; none where they could not find it.
pub(super) fn listener(args: &JoinArgs, listen: SocketAddr) -> anyhow::Result<Option<TcpListener>> {
    if args.cluster.is_none() {
        return Ok(None);
    }
    let address = args.mesh.unwrap_or(SocketAddr::new(listen.ip(), 0));
    if address.ip().is_unspecified() {
        tracing::warn!(
            "this node runs all of its calls itself: name an address where other nodes reach it by --mesh, such as \
             --mesh 10.0.0.11:8082"
        );
        return Ok(None);
    }
    let bound = TcpListener::bind(address);
    bound
        .map(Some)
        .with_context(|| format!("listen on {address} for other nodes; name another address by --mesh"))
}

/// Writes down which cluster it is, or that it is none.
pub(super) fn write(
    state: &State,
    args: &JoinArgs,
    listen: SocketAddr,
    mesh: Option<&TcpListener>,
) -> anyhow::Result<()> {
    let JoinArgs { cluster, node, zone, cluster_monitors, cluster_replicas, .. } = args;
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
    let mesh =
        mesh.map(|mesh| mesh.local_addr().context("ask for the address for other nodes")).transpose()?;
    let settings = Settings {
        engine,
        node: node.clone(),
        zone: zone.clone(),
        address: listen.to_string(),
        mesh: mesh.map(|mesh| mesh.to_string()),
    };
    settings.write(&state.path).context("write down the cluster")?;
    // A node that is new has nothing of what is deployed, and hears of what waits at once.
    if !state.path.join("control/records").exists() {
        settled::begin(&state.path).context("note that the node is new")?;
    }
    state.give(&path)
}
