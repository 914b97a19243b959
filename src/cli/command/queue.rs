//! `rouse queue`: sends to queues, and looks into them.

use rouse_api::{ReceiveQuery, SendQuery};

use crate::cli::{
    args::{Global, QueueCommand},
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
                out::note("no queue has messages");
                return Ok(());
            }
            let mut table = Table::new(&["QUEUE", ">MESSAGES", ">SIZE", ">DEAD"]);
            for queue in queues {
                let (messages, dead) = (units::count(queue.messages), units::count(queue.dead));
                table.row([queue.name, messages, units::bytes(queue.bytes), dead]);
            }
            out::text(&table.render(Style::stdout()))
        }
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
            let how = ReceiveQuery { limit: Some(limit), delete: true };
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
        QueueCommand::Purge { queue } => {
            let count = client.purge_queue(tenant, &queue).await?;
            if global.json {
                return out::json(&count);
            }
            out::text(&format!("{} {}\n", count.count, if count.count == 1 { "message" } else { "messages" }))
        }
    }
}
