//! `rouse triggers`: what rouses functions besides calls, and how it fares.

use rouse_api::TriggerState;
use rouse_types::{Clock as _, SystemClock};

use crate::cli::{args::Global, client, out, style::Style, table::Table, units};

pub(crate) async fn run(global: &Global) -> anyhow::Result<()> {
    let triggers = client(global)?.triggers(&global.tenant).await?;
    if global.json {
        return out::json(&triggers);
    }
    if triggers.is_empty() {
        out::note("no trigger is in force");
        return Ok(());
    }
    let now = SystemClock.now();
    let mut table = Table::new(&["FUNCTION", "TRIGGER", "KIND", "STATE", "SINCE", "POSITION"]);
    for trigger in &triggers {
        let state = match trigger.state {
            TriggerState::Active => "active",
            TriggerState::Starting => "starting",
            TriggerState::Failing => "failing",
            TriggerState::Removing => "removing",
        };
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row([
            trigger.function.to_string(),
            trigger.trigger.clone(),
            trigger.kind.clone(),
            state.to_owned(),
            or_none(trigger.since.map(|since| units::ago(now, since))),
            or_none(trigger.position.clone()),
        ]);
    }
    out::text(&table.render(Style::stdout()))?;
    for trigger in triggers {
        if let Some(problem) = trigger.problem {
            out::text(&format!("\n{}/{}: {problem}\n", trigger.function, trigger.trigger))?;
            if let Some(hint) = trigger.hint {
                out::text(&format!("  hint: {hint}\n"))?;
            }
        }
    }
    Ok(())
}
