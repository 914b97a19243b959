//! `rouse audit`: the ledger and the audit log as evidence, exported from a platform and checked without one.

use std::{
    fs::File,
    io::{BufReader, Read as _},
    path::Path,
};

use anyhow::Context as _;
use rouse_api::AuditQuery;
use rouse_metering::audit::{
    key::Public,
    log::{self, Action, Outcome},
    verify::verify,
};
use rouse_types::{Clock as _, SystemClock, Timestamp};
use serde_json::json;

use crate::cli::{
    args::{AuditCommand, Global},
    client, out,
    report::hinted,
    style::Style,
    table::Table,
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
        AuditCommand::Log { platform } => log(global, *platform).await,
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

async fn log(global: &Global, platform: bool) -> anyhow::Result<()> {
    let mut lines = client(global)?.audit_log((!platform).then_some(&global.tenant)).await?;
    let mut table = Table::new(&["TIME", "WHO", "FROM", "WHAT", "OF", "OUTCOME"]);
    let mut whole = false;
    while let Some(line) = lines.next().await {
        let line = line?;
        whole = line.get().starts_with("{\"end\":");
        if global.json {
            out::text(&format!("{}\n", line.get()))?;
            continue;
        }
        if let log::Line::Action(entry) = serde_json::from_str(line.get()).context("read the audit log")? {
            let Action { time, who, from, operation, of, outcome, .. } = entry.action;
            let of = of.into_iter().filter(|(name, _)| platform || name != "tenant");
            let of: Vec<String> = of.map(|(name, value)| format!("{name} {value}")).collect();
            let outcome = match outcome {
                Outcome::Done => "done",
                Outcome::Refused => "refused",
                Outcome::Failed => "failed",
                Outcome::Unknown => "unknown",
            };
            table.row([units::time(time), who, from, operation, of.join(", "), outcome.to_owned()]);
        }
    }
    if !whole {
        return Err(hinted("the audit log broke off", "look into the platform's log, and try again"));
    }
    if global.json { Ok(()) } else { out::text(&table.render(Style::stdout())) }
}

/// Whether an export is one of the audit log: its first line says so.
fn is_log(file: &Path) -> bool {
    let mut begin = [0; 7];
    File::open(file).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && &begin == b"{\"log\":"
}

fn check_log(global: &Global, file: &Path, key: Option<&Public>) -> anyhow::Result<()> {
    let opened = File::open(file).with_context(|| format!("read {}", file.display()))?;
    let found = log::verify(BufReader::new(opened), key).map_err(|error| not_proven(file, &error))?;
    if global.json {
        return out::json(&json!({
            "tenant": found.log.tenant, "actions": found.actions, "key": found.log.key,
        }));
    }
    out::text(&format!(
        "{} actions of {}: all as the platform wrote them\nsigned by {}\n",
        units::count(found.actions),
        found.log.tenant.as_ref().map_or("the platform", |tenant| tenant.as_str()),
        found.log.key,
    ))?;
    compare_key(key);
    Ok(())
}

fn not_proven(file: &Path, error: &dyn std::fmt::Display) -> anyhow::Error {
    hinted(
        format!("{} does not prove itself: {error}", file.display()),
        "nothing from that line on can be relied on",
    )
}

fn compare_key(key: Option<&Public>) {
    if key.is_none() {
        out::note("compare the key with what `rouse audit key` prints, or name it with --key");
    }
}

fn check(global: &Global, file: &Path, key: Option<&Public>) -> anyhow::Result<()> {
    if is_log(file) {
        return check_log(global, file, key);
    }
    let opened = File::open(file).with_context(|| format!("read {}", file.display()))?;
    let found = verify(BufReader::new(opened), key).map_err(|error| not_proven(file, &error))?;
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
    compare_key(key);
    Ok(())
}
