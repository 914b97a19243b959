//! `rouse queue`: makes queues, sends to them, and looks into them.

use std::time::Duration;

use rouse_api::{DeadLetters, QueueChange, QueueDetail, ReceiveQuery, SendQuery};

use crate::cli::{
    args::{Global, QueueCommand, QueueSettingsArgs},
    client,
    command::invoke::payload,
    out,
    style::Style,
    table::Table,
    units,
};

pub(crate) async fn run(global: &Global, command: QueueCommand) -> anyhow::Result<()> {
    let (client, tenant) = (client(global)?, &global.tenant);
    match command {
        QueueCommand::List => {
            let queues = client.queues(tenant).await?;
            if global.json {
                return out::json(&queues);
            }
            if queues.is_empty() {
                out::note("there is no queue");
                return Ok(());
            }
            let mut table = Table::new(&["QUEUE", ">MESSAGES", ">SIZE", ">DEAD"]);
            for queue in queues {
                let (messages, dead) = (units::count(queue.messages), units::count(queue.dead));
                table.row([queue.name, messages, units::bytes(queue.bytes), dead]);
            }
            out::text(&table.render(Style::stdout()))
        }
        QueueCommand::Create { queue, settings } => {
            let detail = client.create_queue(tenant, &queue, &change(settings)).await?;
            if !detail.made && !global.json {
                out::note("it was there already, and was left as it is: `rouse queue attributes` changes it");
            }
            show(global, &detail)
        }
        QueueCommand::Attributes { queue, settings } => {
            let change = change(settings);
            let detail = match change == QueueChange::default() {
                true => client.queue(tenant, &queue).await?,
                false => client.update_queue(tenant, &queue, &change).await?,
            };
            show(global, &detail)
        }
        QueueCommand::Delete { queue } => {
            let deleted = client.delete_queue(tenant, &queue).await?;
            if global.json {
                return out::json(&deleted);
            }
            out::text(&format!("deleted {queue}\n"))
        }
        QueueCommand::Redrive { queue } => counted(global, client.redrive_queue(tenant, &queue).await?),
        QueueCommand::Send { queue, body, delay, group, deduplication } => {
            let delay_ms = delay.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
            let how = SendQuery { delay_ms, group, deduplication };
            let sent = client.send_message(tenant, &queue, &how, payload(Some(&body))?).await?;
            if global.json {
                return out::json(&sent);
            }
            out::text(&format!("{}\n", sent.id))
        }
        QueueCommand::Receive { queue, limit } => {
            let how = ReceiveQuery { limit: Some(limit), delete: true, wait_ms: None };
            let received = client.receive_messages(tenant, &queue, &how).await?;
            if global.json {
                return out::json(&received);
            }
            for message in &received {
                out::text(&format!("{}\n", message.body))?;
            }
            if received.is_empty() {
                out::note("no message is there now");
            }
            Ok(())
        }
        QueueCommand::Purge { queue } => counted(global, client.purge_queue(tenant, &queue).await?),
    }
}

fn counted(global: &Global, count: rouse_api::EventCount) -> anyhow::Result<()> {
    if global.json {
        return out::json(&count);
    }
    out::text(&format!("{} {}\n", count.count, if count.count == 1 { "message" } else { "messages" }))
}

fn change(settings: QueueSettingsArgs) -> QueueChange {
    let ms = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    QueueChange {
        visibility_ms: ms(settings.visibility),
        delay_ms: ms(settings.delay),
        retention_ms: ms(settings.retention),
        wait_ms: ms(settings.wait),
        dead_letters: settings
            .dead_letters
            .map(|queue| DeadLetters { queue, receives_max: settings.receives }),
        no_dead_letters: settings.no_dead_letters,
        content_deduplication: settings.content_deduplication,
        ..QueueChange::default()
    }
}

fn show(global: &Global, detail: &QueueDetail) -> anyhow::Result<()> {
    if global.json {
        return out::json(detail);
    }
    let settings = &detail.settings;
    // Not `0ns`, which is what it would be called.
    let time = |ms: u64| if ms == 0 { "0s".to_owned() } else { format!("{:?}", Duration::from_millis(ms)) };
    let mut rows = vec![
        ("queue", detail.name.clone()),
        ("ready", units::count(detail.ready)),
        ("delayed", units::count(detail.delayed)),
        ("held", units::count(detail.held)),
        ("dead", units::count(detail.dead)),
        ("visibility", time(settings.visibility_ms)),
        ("delay", time(settings.delay_ms)),
        ("retention", settings.retention_ms.map_or_else(|| "unbounded".to_owned(), time)),
        ("wait", time(settings.wait_ms)),
    ];
    if let Some(to) = &settings.dead_letters {
        rows.push(("dead letters", format!("to {} after {} receives", to.queue, to.receives_max)));
    }
    let lines = rows.into_iter().map(|(name, value)| format!("{name:14}{value}\n"));
    out::text(&lines.collect::<String>())
}
