//! `rouse runtime`: the support that interpreters need to speak their contract.

use crate::cli::{
    args::{Global, RuntimeCommand},
    client, out,
    runtimes::Support,
    state,
    style::Style,
    table::Table,
};

pub(crate) async fn run(global: &Global, command: RuntimeCommand) -> anyhow::Result<()> {
    match command {
        RuntimeCommand::Install { runtime } => {
            let support = Support::parse(&runtime)?;
            let folder = support.install(&state::folder(global)).await?;
            if global.json {
                return out::json(&serde_json::json!({ "runtime": support.to_string(), "folder": folder }));
            }
            out::text(&format!("{support} is ready in {}\n", folder.display()))
        }
        RuntimeCommand::List => {
            let info = client(global)?.info().await?;
            if global.json {
                return out::json(&info.runtimes);
            }
            let mut table = Table::new(&["RUNTIME", "AVAILABLE", "DETAIL"]);
            for runtime in info.runtimes {
                let available = if runtime.available { "yes" } else { "no" };
                table.row([
                    runtime.runtime.to_string(),
                    available.to_owned(),
                    runtime.detail.unwrap_or_default(),
                ]);
            }
            out::text(&table.render(Style::stdout()))
        }
    }
}
