//! `rouse list`: the functions, and where they answer.

use rouse_types::{Clock as _, LIVE, SystemClock};

use crate::cli::{
    args::{Global, ListArgs},
    client, out,
    style::Style,
    table::Table,
    units,
};

pub(crate) async fn run(global: &Global, args: &ListArgs) -> anyhow::Result<()> {
    let mut functions = client(global)?.functions(&global.tenant).await?;
    functions.retain(|function| args.app.as_ref().is_none_or(|app| *app == function.app));
    if global.json {
        return out::json(&functions);
    }
    if functions.is_empty() {
        out::note("no functions are deployed; `rouse deploy` in an app's folder does it");
        return Ok(());
    }
    let now = SystemClock.now();
    let mut table = Table::new(&["APP", "FUNCTION", "RUNTIME", "LIVE", ">LATEST", "DEPLOYED", "URL"]);
    for function in functions {
        let live = function.aliases.get(LIVE).map_or_else(|| "-".to_owned(), super::alias::shares);
        table.row([
            function.app.to_string(),
            function.function.to_string(),
            function.runtime.to_string(),
            live,
            function.latest.to_string(),
            units::ago(now, function.created),
            function.url,
        ]);
    }
    out::text(&table.render(Style::stdout()))
}
