//! `rouse cluster`: the cluster that the platform is a node of.

use rouse_api::ClusterMember;
use rouse_types::Work;

use crate::cli::{
    args::{ClusterCommand, Global},
    client, out,
    style::Style,
    table::Table,
    units,
};

pub(crate) async fn run(global: &Global, command: ClusterCommand) -> anyhow::Result<()> {
    let ClusterCommand::Status = command;
    let status = client(global)?.cluster_status().await?;
    if global.json {
        return out::json(&status);
    }
    let mut table =
        Table::new(&["NODE", "ZONE", "ADDRESS", "VERSION", ">CORES", ">MEMORY", "SANDBOXES", "STATE"]);
    for member in status.members {
        let standing = state(&member);
        let own = if member.node == status.node { " (this one)" } else { "" };
        table.row([
            format!("{}{own}", member.node),
            member.zone,
            member.address,
            member.version,
            member.cores.to_string(),
            units::bytes(member.memory_bytes),
            member.sandboxes.join(", "),
            standing,
        ]);
    }
    out::text(&table.render(Style::stdout()))?;
    if !status.engine {
        let seen = status.seen_ms_ago.map_or_else(
            || "it has not seen the members yet".to_owned(),
            |ms| format!("the members are those of {} s ago", ms / 1_000),
        );
        out::note(&format!("{} does not reach the cluster's engine: {seen}", status.node));
    }
    Ok(())
}

/// What a node takes on, and what it still has under way.
pub(super) fn state(member: &ClusterMember) -> String {
    let (state, Work { calls, events }) = (member.state.as_str(), member.work);
    match member.work == Work::default() {
        true => state.to_owned(),
        false => format!("{state} ({calls} calls, {events} deliveries of events)"),
    }
}
