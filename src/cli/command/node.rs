//! `rouse node`: takes nodes of the cluster out of work, and puts them back.

use std::time::{Duration, Instant};

use anyhow::bail;
use rouse_api::{Client, ClusterMember, NodeChange};
use rouse_types::NodeState;

use super::cluster::state;
use crate::cli::{
    args::{Global, NodeCommand},
    client, out,
};

/// How long a node may take until it has noticed: it looks once a second.
const NOTICE_MAX: Duration = Duration::from_secs(15);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) async fn run(global: &Global, command: NodeCommand) -> anyhow::Result<()> {
    let client = client(global)?;
    let (name, wanted, end) = match command {
        NodeCommand::Cordon { name } => (name, NodeState::Cordoned, None),
        NodeCommand::Uncordon { name } => (name, NodeState::Active, None),
        NodeCommand::Drain { name, timeout } => (name, NodeState::Draining, Some(Instant::now() + timeout)),
    };
    client.put_node(&name, NodeChange { state: wanted }).await?;
    let goal = if end.is_some() { NodeState::Drained } else { wanted };
    let until = end.unwrap_or_else(|| Instant::now() + NOTICE_MAX);
    let member = wait(&client, &name, goal, until).await;
    if global.json {
        out::json(&member)?;
    }
    let Some(member) = member else {
        out::note(&format!("{name} is not there; it will be {} when it comes", wanted.as_str()));
        return Ok(());
    };
    match (member.state == goal, goal) {
        (true, NodeState::Drained) => out::note(&format!("{name} is drained: it can be stopped")),
        (true, _) => out::note(&format!("{name} is {}", goal.as_str())),
        (false, NodeState::Drained) => bail!(
            "{name} is {} after the time that was given\nhint: it takes no new work; wait longer with --timeout, or stop \
             it: calls have 30 seconds to end, and events are delivered again by other nodes",
            state(&member)
        ),
        (false, _) => bail!(
            "{name} is still {}\nhint: `rouse cluster status` shows whether it reaches the engine; it follows once it \
             does",
            state(&member)
        ),
    }
    Ok(())
}

/// The node once it is as it should be, or as it is in the end. None if it is no member.
async fn wait(client: &Client, name: &str, goal: NodeState, until: Instant) -> Option<ClusterMember> {
    loop {
        // The node that is asked may be away for a moment.
        let status = client.cluster_status().await.ok();
        let late = Instant::now() >= until;
        if let Some(status) = status {
            let member = status.members.into_iter().find(|member| member.node == name);
            match member {
                Some(member) if member.state == goal || late => return Some(member),
                None if status.engine => return None,
                _ => {}
            }
        }
        if late {
            return None;
        }
        tokio::time::sleep(LOOK).await;
    }
}
