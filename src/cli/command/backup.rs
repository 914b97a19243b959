//! `rouse backup` and `rouse restore`: the state of this machine's platform, as one file or in a bucket.

use anyhow::Context as _;
use rouse_services::objects::S3Place;
use rouse_store::backup::Summary;

use crate::{
    backup::{self, Place},
    cli::{
        args::{BackupArgs, Global, RestoreArgs, StoreArgs},
        hinted, out, state,
        style::Style,
        table::Table,
        units,
    },
    roles,
};

pub(crate) async fn backup(global: &Global, args: BackupArgs) -> anyhow::Result<()> {
    let state = state::folder(global);
    let place = place(&args.to, &args.store)?;
    let secret_keys = args.with_secret_keys;
    let node = backup::Node::of(&state).await.context("back up a node of a cluster")?;
    let making = place.keep(move |out, scratch| {
        let (_, made) = backup::make(&state, node.as_ref(), out, scratch, secret_keys)?;
        Ok(made)
    });
    let made = making.await.context("back up")?;
    if global.json {
        return out::json(&made);
    }
    show(&made.summary)?;
    if let Some(node) = &made.summary.head.node {
        out::note(&format!(
            "of the cluster it holds what all nodes share; objects, logs and what AWS' clients made are those of {node} alone"
        ));
    }
    if !made.secret_keys {
        out::note(
            "secrets/keys is not in it: secrets are sealed, and whoever restores needs your copy of that file",
        );
    }
    if let Some(bucket) = &made.objects_in {
        out::note(&format!("the bytes of objects are not in it: they lie in {bucket}"));
    }
    if made.gone > 0 {
        out::note(&format!("{} files went away meanwhile; nothing in the backup needs them", made.gone));
    }
    if !made.unknown.is_empty() {
        out::note(&format!("left out, for this release does not know it: {}", made.unknown.join(", ")));
    }
    Ok(())
}

pub(crate) async fn restore(global: &Global, args: RestoreArgs) -> anyhow::Result<()> {
    let place = place(&args.from, &args.store)?;
    if args.check {
        let summary = place.give(|input| backup::check(input)).await.context("check the backup")?;
        return if global.json { out::json(&summary) } else { show(&summary) };
    }
    let state = state::folder(global);
    let target = state.clone();
    let summary = place.give(move |input| backup::restore(input, &target)).await.context("restore")?;
    if global.json {
        return out::json(&summary);
    }
    show(&summary)?;
    if !state.join("secrets/keys").exists() {
        out::note(&format!(
            "if functions use secrets, put your copy of their keys at {} before you start the platform",
            state.join("secrets/keys").display()
        ));
    }
    out::note(&format!("start it with `rouse serve --state {}`", state.display()));
    Ok(())
}

fn show(summary: &Summary) -> anyhow::Result<()> {
    let mut table = Table::new(&["WHAT", ">ENTRIES", ">BYTES"]);
    let total = ("all".to_owned(), summary.total);
    for (name, total) in summary.folders.clone().into_iter().chain([total]) {
        table.row([name, total.entries.to_string(), units::bytes(total.bytes)]);
    }
    out::text(&table.render(Style::stdout()))
}

fn place(text: &str, args: &StoreArgs) -> anyhow::Result<Place> {
    let StoreArgs { s3_endpoint, s3_region, s3_credentials } = args;
    if !text.starts_with("s3://") {
        if s3_endpoint.is_some() || s3_region.is_some() || s3_credentials.is_some() {
            return Err(hinted(
                format!("'{text}' is a file, and takes no --s3-… argument"),
                "write s3://BUCKET/PREFIX",
            ));
        }
        return Ok(Place::File(text.into()));
    }
    let place = S3Place::parse(text, s3_endpoint.as_deref(), s3_region.as_deref());
    let place = place.map_err(|error| {
        let said = error.to_string();
        let what = said.lines().next().unwrap_or_default().to_owned();
        hinted(what, "write s3://BUCKET/PREFIX, and the store's address with --s3-endpoint https://HOST:PORT")
    })?;
    let credentials = roles::credentials(s3_credentials.as_deref(), "--s3-credentials")?;
    Ok(Place::Bucket(place, credentials))
}
