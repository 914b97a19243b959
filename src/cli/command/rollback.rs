//! `rouse rollback`: puts an earlier deployment of an app live again.

use std::path::Path;

use crate::cli::{
    app::App,
    args::{Global, RollbackArgs},
    client, out,
    style::Style,
};

pub(crate) async fn run(global: &Global, args: &RollbackArgs) -> anyhow::Result<()> {
    let app = match &args.app {
        Some(app) => app.clone(),
        None => App::load(Path::new("."))?.manifest.app.name,
    };
    let answer = client(global)?.rollback(&global.tenant, &app, args.to).await?;
    if global.json {
        return out::json(&answer);
    }
    for warning in &answer.warnings {
        out::note(&format!("{} {warning}", Style::stderr().yellow("warning:")));
    }
    let functions = answer.deployment.functions.iter();
    let functions: Vec<_> =
        functions.map(|function| format!("{}@{}", function.function, function.version)).collect();
    let head = format!("{app} is back at deployment {}", answer.deployment.number);
    out::text(&format!("{}: {}\n", Style::stdout().green(&head), functions.join(", ")))
}
