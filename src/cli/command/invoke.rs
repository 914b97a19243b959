//! `rouse invoke`: calls a function once. The answer goes to standard output; logs, time and cost to standard
//! error.

use std::{io::Read as _, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use rouse_api::{Client, LogsQuery, client::InvokeAnswer};
use rouse_types::{
    LogLine, Outcome,
    event::{IDEMPOTENCY_HEADER, ORDERING_HEADER},
};
use serde_json::{Value, json};

use crate::cli::{
    args::{Global, InvokeArgs},
    client,
    command::logs,
    out,
    report::{self, hinted},
    style::Style,
    units,
};

/// A payload that is larger no function takes.
const PAYLOAD_BYTES_MAX: u64 = 256 << 20;
/// Log lines reach the journal a little after the answer: how often, and how long apart, to look.
const LOG_TRIES: u32 = 5;
const LOG_PAUSE: Duration = Duration::from_millis(40);

pub(crate) async fn run(global: &Global, args: &InvokeArgs) -> anyhow::Result<ExitCode> {
    let payload = payload(args.payload.as_deref())?;
    let client = client(global)?;
    if args.later {
        return later(global, args, &client, payload).await;
    }
    let answer = client
        .invoke(&global.tenant, &args.function, args.alias.as_deref(), &args.content_type, payload)
        .await?;
    let logs = logs_of(&client, global, &answer).await;
    if global.json {
        out::json(&document(&answer, &logs))?;
    } else {
        show(&answer, &logs)?;
    }
    Ok(if answer.outcome == Outcome::Ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Has the function run later: tells the event's id.
async fn later(
    global: &Global,
    args: &InvokeArgs,
    client: &Client,
    payload: Bytes,
) -> anyhow::Result<ExitCode> {
    let keys = [(IDEMPOTENCY_HEADER, &args.idempotency_key), (ORDERING_HEADER, &args.ordering_key)];
    let keys: Vec<_> = keys.iter().filter_map(|(name, key)| Some((*name, key.as_deref()?))).collect();
    let alias = args.alias.as_deref();
    let accepted = client
        .invoke_later(&global.tenant, &args.function, alias, &args.content_type, &keys, payload)
        .await?;
    if global.json {
        out::json(&accepted)?;
    } else {
        out::text(&format!("{}\n", accepted.id))?;
        out::note(if accepted.duplicate {
            "accepted before, with the same key"
        } else {
            "accepted; `rouse events list` shows it until it has ended well"
        });
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn payload(argument: Option<&str>) -> anyhow::Result<Bytes> {
    let limited = |reader: &mut dyn std::io::Read| -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        reader.take(PAYLOAD_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = match argument {
        None => b"{}".to_vec(),
        Some("-") => limited(&mut std::io::stdin().lock()).context("read the payload from standard input")?,
        Some(text) => match text.strip_prefix('@') {
            Some(path) => {
                let mut file = std::fs::File::open(path).map_err(|error| {
                    hinted(
                        format!("cannot read the payload from {path}: {error}"),
                        "'@' names a file; for a text that begins with '@', pipe it to `rouse invoke … -`",
                    )
                })?;
                limited(&mut file).with_context(|| format!("read {path}"))?
            }
            None => text.as_bytes().to_vec(),
        },
    };
    if bytes.len() as u64 > PAYLOAD_BYTES_MAX {
        bail!("the payload has more than {} MiB", PAYLOAD_BYTES_MAX >> 20);
    }
    Ok(bytes.into())
}

/// What the invocation printed. That it cannot be read does not change what came of it.
async fn logs_of(client: &Client, global: &Global, answer: &InvokeAnswer) -> Vec<LogLine> {
    let Some(id) = answer.invocation else { return Vec::new() };
    let query = LogsQuery { invocation: Some(id), ..LogsQuery::default() };
    let mut lines: Vec<LogLine> = Vec::new();
    for _ in 0..LOG_TRIES {
        let before = lines.len();
        let Ok(mut found) = client.logs(&global.tenant, &query).await else { return lines };
        lines.clear();
        while let Some(Ok(line)) = found.next().await {
            lines.push(line);
        }
        // Some are there, and no more came since: that is all.
        if before > 0 && lines.len() == before {
            break;
        }
        tokio::time::sleep(LOG_PAUSE).await;
    }
    lines
}

/// `queue;dur=0.1, run;dur=2.5` as pairs (Server Timing, §2): names and microseconds.
fn parts(server_timing: &str) -> Vec<(String, u64)> {
    let part = |text: &str| {
        let mut words = text.split(';').map(str::trim);
        let name = words.next()?.to_owned();
        let ms: f64 = words.find_map(|word| word.strip_prefix("dur="))?.parse().ok()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates")]
        Some((name, (ms * 1_000.0).round() as u64))
    };
    server_timing.split(',').filter_map(part).collect()
}

fn document(answer: &InvokeAnswer, logs: &[LogLine]) -> Value {
    let timing: serde_json::Map<String, Value> = answer
        .server_timing
        .as_deref()
        .map(parts)
        .unwrap_or_default()
        .into_iter()
        .map(|(name, us)| (format!("{name}_us"), us.into()))
        .collect();
    // An answer that is JSON stands as such; what is neither JSON nor text could not stand at all.
    let body = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&answer.body).into_owned()));
    json!({
        "status": answer.status,
        "outcome": answer.outcome,
        "invocation": answer.invocation,
        "billed_ms": answer.billed_ms,
        "cost_nanos": answer.cost_nanos,
        "timing": timing,
        "error": answer.refusal,
        "logs": logs,
        "body": if answer.refusal.is_some() { Value::Null } else { body },
    })
}

fn show(answer: &InvokeAnswer, logs: &[LogLine]) -> anyhow::Result<()> {
    let style = Style::stderr();
    if answer.refusal.is_none() {
        out::raw(&answer.body)?;
        if Style::stdout().is_terminal() && !answer.body.ends_with(b"\n") {
            out::text("\n")?;
        }
    }
    for line in logs {
        out::note(&logs::render(line, style, false));
    }
    if let Some(refusal) = &answer.refusal
        && let Some(text) = report::render(&refusal.clone().into(), style)
    {
        out::note(text.trim_end());
    }
    let parts = answer.server_timing.as_deref().map(parts).unwrap_or_default();
    let (totals, parts): (Vec<_>, Vec<_>) = parts.into_iter().partition(|(name, _)| name == "total");
    let total = totals.first().map_or_else(|| parts.iter().map(|(_, us)| us).sum(), |(_, us)| *us);
    let mut facts = vec![style.bold(answer.outcome.as_str())];
    if !parts.is_empty() {
        let parts: Vec<_> = parts.iter().map(|(name, us)| format!("{name} {}", units::micros(*us))).collect();
        facts.push(format!("{} ({})", units::micros(total), parts.join(" + ")));
    }
    facts.extend(answer.billed_ms.map(|ms| format!("billed {ms} ms")));
    // The price sheet's default currency; `rouse usage` tells the platform's own.
    facts.extend(answer.cost_nanos.map(|nanos| units::money(nanos, "USD")));
    facts.extend(answer.invocation.map(|id| style.dim(&id.to_string())));
    out::note(&facts.join(" · "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_timing_is_split_into_its_parts() {
        let found = parts("queue;dur=0.125, start;desc=\"x\";dur=3, junk, run;dur=x, run;dur=12.5");
        let expected = [("queue", 125), ("start", 3_000), ("run", 12_500)];
        assert_eq!(found, expected.map(|(name, us)| (name.to_owned(), us)));
    }

    #[test]
    fn a_payload_is_text_or_a_file_and_empty_json_by_default() {
        assert_eq!(payload(None).expect("a payload"), "{}");
        assert_eq!(payload(Some("x")).expect("a payload"), "x");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "y").expect("write");
        assert_eq!(payload(Some(&format!("@{}", file.path().display()))).expect("a payload"), "y");
        assert!(payload(Some("@/nowhere")).expect_err("no file").to_string().contains("/nowhere"));
    }
}
