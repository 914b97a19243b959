//! `rouse audit`: the ledger as evidence, exported from a platform and checked without one.

use std::{fs::File, io::BufReader, path::Path};

use anyhow::Context as _;
use rouse_api::AuditQuery;
use rouse_metering::audit::{key::Public, verify::verify};
use rouse_types::{Clock as _, SystemClock, Timestamp};
use serde_json::json;

use crate::cli::{
    args::{AuditCommand, Global},
    client, out,
    report::hinted,
    units,
};

pub(crate) async fn run(global: &Global, command: &AuditCommand) -> anyhow::Result<()> {
    match command {
        AuditCommand::Export { since, until } => {
            let now = SystemClock.now().0;
            let ago = |age: &std::time::Duration| {
                Timestamp(now.saturating_sub(u64::try_from(age.as_micros()).unwrap_or(u64::MAX)))
            };
            let query = AuditQuery { since: Some(ago(since)), until: until.as_ref().map(ago) };
            export(global, &query).await
        }
        AuditCommand::Verify { file, key } => check(global, file, key.as_ref()),
        AuditCommand::Key => {
            let key = client(global)?.audit_key().await?;
            if global.json { out::json(&key) } else { out::text(&(key.key + "\n")) }
        }
    }
}

async fn export(global: &Global, query: &AuditQuery) -> anyhow::Result<()> {
    let mut lines = client(global)?.audit_export(&global.tenant, query).await?;
    let mut whole = false;
    while let Some(line) = lines.next().await {
        let line = line?;
        whole = line.get().starts_with("{\"end\":");
        out::text(&format!("{}\n", line.get()))?;
    }
    match whole {
        true => Ok(()),
        false => Err(hinted(
            "the export broke off",
            "records that are no longer kept cannot be exported: ask for less with --since; else look into the \
             platform's log",
        )),
    }
}

fn check(global: &Global, file: &Path, key: Option<&Public>) -> anyhow::Result<()> {
    let opened = File::open(file).with_context(|| format!("read {}", file.display()))?;
    let found = verify(BufReader::new(opened), key).map_err(|error| {
        hinted(
            format!("{} does not prove itself: {error}", file.display()),
            "nothing from that line on can be relied on",
        )
    })?;
    if global.json {
        return out::json(&json!({
            "tenant": found.begin.tenant, "since": found.begin.since, "until": found.begin.until,
            "records": found.records, "unsealed": found.unsealed, "seals": found.seals,
            "currency": found.begin.currency, "cost_nanos": u64::try_from(found.cost_nanos).ok(),
            "key": found.begin.key,
        }));
    }
    let cost = u64::try_from(found.cost_nanos).context("the costs are too large to be shown")?;
    out::text(&format!(
        "{} records of {}, {} of them not sealed yet, {} seals, {}: all as the ledger wrote them\nsigned by {}\n",
        units::count(found.records),
        found.begin.tenant,
        units::count(found.unsealed),
        units::count(found.seals),
        units::money(cost, &found.begin.currency),
        found.begin.key,
    ))?;
    if key.is_none() {
        out::note("compare the key with what `rouse audit key` prints, or name it with --key");
    }
    Ok(())
}
