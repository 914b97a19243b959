//! `rouse topic`: publishes events, and shows who wants them.

use rouse_types::InvocationId;

use crate::cli::{
    args::{Global, Publish, TopicCommand},
    client,
    command::invoke::payload,
    out,
    style::Style,
    table::Table,
};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

pub(crate) async fn run(global: &Global, command: TopicCommand) -> anyhow::Result<()> {
    let (client, tenant) = (client(global)?, &global.tenant);
    match command {
        TopicCommand::List => {
            let topics = client.topics(tenant).await?;
            if global.json {
                return out::json(&topics);
            }
            if topics.is_empty() {
                out::note("no function has a trigger on a topic");
                return Ok(());
            }
            let mut table = Table::new(&["TOPIC", "FUNCTION", "TRIGGER", "FILTER"]);
            for topic in topics {
                for wants in topic.subscriptions {
                    let filter = wants.filter.map(|filter| filter.to_string()).unwrap_or_default();
                    table.row([topic.name.clone(), wants.function.to_string(), wants.trigger, filter]);
                }
            }
            out::text(&table.render(Style::stdout()))
        }
        TopicCommand::Publish(publish) => {
            let data = payload(Some(&publish.data))?;
            let headers = headers(&publish, &data)?;
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let published = client.publish(tenant, &publish.topic, &headers, data).await?;
            if global.json {
                return out::json(&published);
            }
            if published.deliveries + published.duplicates == 0 {
                out::note("nobody wants it: `rouse topic list` shows who wants what");
            }
            let plural = if published.deliveries == 1 { "delivery" } else { "deliveries" };
            out::text(&format!("{} {plural}\n", published.deliveries))
        }
    }
}

/// The headers that make an event of the data, as CloudEvents has it in binary mode.
fn headers(publish: &Publish, data: &[u8]) -> anyhow::Result<Vec<(String, String)>> {
    if publish.cloud_event {
        let first = data.iter().find(|byte| !byte.is_ascii_whitespace());
        let ty = if first == Some(&b'[') { BATCH } else { STRUCTURED };
        return Ok(vec![("content-type".to_owned(), ty.to_owned())]);
    }
    let id = publish.id.clone().unwrap_or_else(|| InvocationId::new().to_string());
    let mut headers = vec![
        ("ce-specversion".to_owned(), "1.0".to_owned()),
        ("ce-id".to_owned(), id),
        ("ce-source".to_owned(), publish.source.clone()),
        ("ce-type".to_owned(), publish.ty.clone()),
        ("content-type".to_owned(), publish.content_type.clone()),
    ];
    headers.extend(publish.subject.clone().map(|subject| ("ce-subject".to_owned(), subject)));
    for attribute in &publish.attributes {
        let Some((name, value)) = attribute.split_once('=') else {
            anyhow::bail!("'{attribute}' is no attribute: write NAME=VALUE");
        };
        headers.push((format!("ce-{name}"), value.to_owned()));
    }
    // HTTP binding of CloudEvents §3.1.3.2: what a header cannot hold is percent-encoded.
    for (name, value) in &mut headers {
        if name.starts_with("ce-") {
            let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%');
            *value = value.bytes().fold(String::new(), |mut text, byte| {
                if plain(byte) {
                    text.push(char::from(byte));
                } else {
                    text.push_str(&format!("%{byte:02X}"));
                }
                text
            });
        }
    }
    Ok(headers)
}
