//! `rouse versions`: the versions of a function that are kept.

use rouse_types::{Clock as _, SystemClock};

use crate::cli::{
    args::{FunctionArgs, Global},
    client, out,
    style::Style,
    table::Table,
    units,
};

pub(crate) async fn run(global: &Global, args: &FunctionArgs) -> anyhow::Result<()> {
    let versions = client(global)?.versions(&global.tenant, &args.function).await?;
    if global.json {
        return out::json(&versions);
    }
    let now = SystemClock.now();
    let mut table = Table::new(&[">VERSION", "MADE", "RUNTIME", ">MEMORY", ">TIMEOUT", "CODE", "ALIASES"]);
    for info in versions {
        let version = info.version;
        let aliases: Vec<_> = info.aliases.iter().map(ToString::to_string).collect();
        table.row([
            version.number.to_string(),
            units::ago(now, info.created),
            version.runtime.to_string(),
            format!("{} MiB", version.limits.memory_mib),
            units::millis(version.limits.timeout_ms),
            version.code.hex().chars().take(12).collect(),
            aliases.join(", "),
        ]);
    }
    out::text(&table.render(Style::stdout()))
}
