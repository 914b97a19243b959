//! `rouse certificates`: what HTTPS at the functions' domains is answered with.

use crate::cli::{args::Global, client, out, style::Style, table::Table, units};

pub(crate) async fn run(global: &Global) -> anyhow::Result<()> {
    let certificates = client(global)?.certificates(&global.tenant).await?;
    if global.json {
        return out::json(&certificates);
    }
    if certificates.is_empty() {
        out::note("no function has a domain: `domains = [\"api.example.com\"]` in rouse.toml gives it one");
        return Ok(());
    }
    let none = || "-".to_owned();
    let mut table = Table::new(&["DOMAIN", "FUNCTION", "FROM", "UNTIL", "LAST ERROR", "NEXT ATTEMPT"]);
    for one in certificates {
        table.row([
            one.domain.to_string(),
            one.function.map_or_else(none, |function| function.to_string()),
            one.from.unwrap_or_else(none),
            one.until.map_or_else(none, units::time),
            one.error.unwrap_or_else(none),
            one.next.map_or_else(none, units::time),
        ]);
    }
    out::text(&table.render(Style::stdout()))
}
