//! `rouse events`: what waits, what runs, what was given up; and what is to become of it.

use rouse_api::{EventFilter, EventInfo, EventState, EventStates, EventsQuery};
use rouse_types::{Clock as _, SystemClock, Timestamp};

use crate::cli::{
    args::{EventsArgs, EventsCommand, Global},
    client, out,
    style::Style,
    table::Table,
    units,
};

/// Events of one question.
const PAGE: u32 = 1_000;

pub(crate) async fn run(global: &Global, command: EventsCommand) -> anyhow::Result<()> {
    let (client, tenant) = (client(global)?, &global.tenant);
    let count = match command {
        EventsCommand::List(args) => return list(global, &args).await,
        EventsCommand::Show { id } => {
            let detail = client.event(tenant, id).await?;
            if global.json {
                return out::json(&detail);
            }
            show(std::slice::from_ref(&detail.event))?;
            if let Some(request) = &detail.request {
                out::text(&format!("\n{request}\n"))?;
            }
            return match &detail.body {
                Some(body) => out::text(&format!("\n{body}\n")),
                None => out::text("\n(a body that is no text)\n"),
            };
        }
        EventsCommand::Redrive(args) => client.redrive_events(tenant, &filter(&args)).await?,
        EventsCommand::Cancel { id } => client.cancel_event(tenant, id).await?,
        EventsCommand::Purge(args) => client.purge_events(tenant, &filter(&args)).await?,
    };
    if global.json {
        return out::json(&count);
    }
    out::text(&format!("{} {}\n", count.count, if count.count == 1 { "event" } else { "events" }))
}

fn states(args: &EventsArgs) -> Option<EventStates> {
    Some(match args.status.as_deref()? {
        "waiting" => EventStates::Waiting,
        "running" => EventStates::Running,
        "pending" => EventStates::Pending,
        _ => EventStates::Failed,
    })
}

fn before(args: &EventsArgs) -> Option<Timestamp> {
    let age = u64::try_from(args.older_than?.as_micros()).unwrap_or(u64::MAX);
    Some(Timestamp(SystemClock.now().0.saturating_sub(age)))
}

fn filter(args: &EventsArgs) -> EventFilter {
    let (function, reason) = (args.function.clone(), args.reason.clone());
    EventFilter { id: args.id, function, state: states(args), reason, before: before(args) }
}

async fn list(global: &Global, args: &EventsArgs) -> anyhow::Result<()> {
    let client = client(global)?;
    let mut asked = EventsQuery {
        function: args.function.clone(),
        state: states(args),
        reason: args.reason.clone(),
        before: before(args),
        after: None,
        limit: None,
    };
    let mut found: Vec<EventInfo> = Vec::new();
    loop {
        asked.limit = Some(u32::try_from(args.limit - found.len()).unwrap_or(PAGE).clamp(1, PAGE));
        let page = client.events(&global.tenant, &asked).await?;
        found.extend(page.events.into_iter().filter(|event| args.id.is_none_or(|id| id == event.id)));
        asked.after = page.next;
        if asked.after.is_none() || found.len() >= args.limit {
            break;
        }
    }
    let more = asked.after.is_some();
    if global.json {
        return out::json(&serde_json::json!({ "events": found, "more": more }));
    }
    if found.is_empty() {
        out::note("no such events: nothing waits, runs or was given up");
        return Ok(());
    }
    show(&found)?;
    if more {
        out::note("there may be more: --limit N shows them");
    }
    Ok(())
}

fn show(events: &[EventInfo]) -> anyhow::Result<()> {
    let now = SystemClock.now();
    let mut table =
        Table::new(&["ID", "FUNCTION", "STATE", "FROM", ">ATTEMPTS", "ACCEPTED", "DUE", "REASON"]);
    for event in events {
        let due = match event.state {
            EventState::Running => "-".to_owned(),
            _ if event.due > now => format!("in {}", units::micros(event.due.0 - now.0)),
            _ => units::ago(now, event.due),
        };
        table.row([
            event.id.to_string(),
            event.function.to_string(),
            event.state.as_str().to_owned(),
            event.source.clone(),
            units::count(event.attempts.into()),
            units::ago(now, event.accepted),
            due,
            event.reason.clone().unwrap_or_default(),
        ]);
    }
    out::text(&table.render(Style::stdout()))
}
