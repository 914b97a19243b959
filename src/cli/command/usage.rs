//! `rouse usage`: what was used, and what it costs.

use rouse_api::{UsageBy, UsageQuery, UsageReport, UsageRow, UsageSums};
use rouse_types::{Clock as _, SystemClock, Timestamp};

use crate::cli::{
    args::{By, Global, UsageArgs},
    client, out,
    style::Style,
    table::Table,
    units,
};

pub(crate) async fn run(global: &Global, args: &UsageArgs) -> anyhow::Result<()> {
    let by = match args.by {
        By::Function => UsageBy::Function,
        By::App => UsageBy::App,
        By::Hour => UsageBy::Hour,
        By::Tenant => UsageBy::Tenant,
    };
    let since = SystemClock.now().0.saturating_sub(u64::try_from(args.since.as_micros()).unwrap_or(u64::MAX));
    let query = UsageQuery { by, since: Some(Timestamp(since)), until: None };
    let report = client(global)?.usage(&global.tenant, &query).await?;
    if global.json {
        return out::json(&report);
    }
    if report.rows.is_empty() {
        out::note("nothing was used in that time");
        return Ok(());
    }
    out::text(&render(&report, Style::stdout()))
}

fn render(report: &UsageReport, style: Style) -> String {
    let name = match report.by {
        UsageBy::Function => "FUNCTION",
        UsageBy::App => "APP",
        UsageBy::Hour => "HOUR",
        UsageBy::Tenant => "TENANT",
    };
    let mut table =
        Table::new(&[name, ">CALLS", ">ERRORS", ">COLD", ">BILLED", ">GB-S", ">CPU", ">IN", ">OUT", ">COST"]);
    let mut add = |name: String, sums: &UsageSums| {
        table.row([
            name,
            units::count(sums.invocations),
            units::count(sums.errors),
            units::count(sums.cold),
            units::millis(sums.billed_ms),
            units::gib_seconds(sums.mib_ms),
            units::micros(sums.cpu_us),
            units::bytes(sums.bytes_in),
            units::bytes(sums.bytes_out),
            units::money(sums.cost_nanos, &report.currency),
        ]);
    };
    for row in &report.rows {
        add(label(report.by, row), &row.sums);
    }
    add("total".to_owned(), &report.total);
    table.render(style)
}

fn label(by: UsageBy, row: &UsageRow) -> String {
    let text = match by {
        UsageBy::Function => row.function.as_ref().map(ToString::to_string),
        UsageBy::App => row.app.as_ref().map(ToString::to_string),
        UsageBy::Hour => row.hour.map(units::hour),
        UsageBy::Tenant => Some(row.tenant.to_string()),
    };
    text.unwrap_or_else(|| "-".to_owned())
}
