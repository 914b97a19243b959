//! `rouse migrate`: what is on this machine becomes the first state of a cluster.

use anyhow::Context as _;
use rouse_store::cluster::Options;

use crate::{
    backup,
    cli::{
        args::{Global, MigrateArgs},
        out, state,
        style::Style,
        table::Table,
        units,
    },
};

pub(crate) async fn run(global: &Global, args: MigrateArgs) -> anyhow::Result<()> {
    let state = state::folder(global);
    let alone = args.to.split(',').count() == 1;
    let options = Options {
        monitors: args.cluster_monitors,
        replicas: args.cluster_replicas.unwrap_or(if alone { 1 } else { 3 }),
        ..Options::new(args.to)
    };
    let moved =
        Box::pin(backup::migrate(&state, &options)).await.context("move the state into the cluster")?;
    if global.json {
        return out::json(&moved);
    }
    let mut table = Table::new(&["WHAT", ">HERE", ">CLUSTER", "DIGEST", "SAME"]);
    for row in &moved.rows {
        let digest = row.digest.strip_prefix("sha256:").unwrap_or(&row.digest);
        table.row([
            row.what.clone(),
            row.here.to_string(),
            row.cluster.to_string(),
            digest.chars().take(16).collect(),
            if row.same { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    out::text(&table.render(Style::stdout()))?;
    let before = if moved.before { "It was moved before. " } else { "" };
    out::note(&format!(
        "{before}All of it is the same on both sides, code ({}) too. {} is as it was; do not start a platform on it alone any more: \
         the cluster does not learn what it does",
        units::bytes(moved.code_bytes),
        state.display()
    ));
    Ok(())
}
