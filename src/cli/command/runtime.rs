//! `rouse runtime`: the support that interpreters need to speak their contract.

use anyhow::Context as _;
use rouse_types::Runtime;

use crate::cli::{
    args::{Global, RuntimeCommand},
    client, out,
    report::hinted,
    runtimes, state,
    style::Style,
    table::Table,
};

pub(crate) async fn run(global: &Global, command: RuntimeCommand) -> anyhow::Result<()> {
    match command {
        RuntimeCommand::Install { runtime } => {
            let runtime: Runtime = runtime.parse().context("install a runtime")?;
            let Runtime::Python { minor } = runtime else {
                return Err(hinted(
                    format!("{runtime} needs nothing installed"),
                    "only python3.N does; for nodejsN, install Node.js itself",
                ));
            };
            let folder = runtimes::install_python(&state::folder(global), minor).await?;
            if global.json {
                return out::json(&serde_json::json!({ "runtime": runtime, "folder": folder }));
            }
            out::text(&format!("{runtime} is ready in {}\n", folder.display()))
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
