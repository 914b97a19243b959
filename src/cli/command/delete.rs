//! `rouse delete`: takes an app off the air.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};

use crate::cli::{
    args::{DeleteArgs, Global},
    client, out,
    report::hinted,
    style::Style,
};

pub(crate) async fn run(global: &Global, args: &DeleteArgs) -> anyhow::Result<()> {
    let client = client(global)?;
    // Shows what would go; and an app that is not there is told before anybody is asked.
    let app = client.app(&global.tenant, &args.app).await?;
    if !args.yes {
        let names: Vec<_> = app.functions.iter().map(|function| function.function.as_str()).collect();
        confirm(&format!("Delete {} and its functions {}?", args.app, names.join(", ")))?;
    }
    let answer = client.delete_app(&global.tenant, &args.app).await?;
    if global.json {
        return out::json(&answer);
    }
    for warning in &answer.warnings {
        out::note(&format!("{} {warning}", Style::stderr().yellow("warning:")));
    }
    let names: Vec<_> = answer.functions.iter().map(ToString::to_string).collect();
    out::text(&format!("{} is deleted; no longer answering: {}\n", args.app, names.join(", ")))
}

fn confirm(question: &str) -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        bail!(hinted("nobody is there to be asked", "say --yes to delete without being asked"));
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{question} [y/N] ").context("ask")?;
    stderr.flush().context("ask")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("read the answer")?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was deleted");
    }
    Ok(())
}
