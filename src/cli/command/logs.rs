//! `rouse logs`: what functions printed.

use rouse_api::LogsQuery;
use rouse_types::{Clock as _, LogLine, SystemClock, log::Stream};

use crate::cli::{
    args::{Global, LogsArgs},
    client, out,
    style::Style,
    units,
};

pub(crate) async fn run(global: &Global, args: &LogsArgs) -> anyhow::Result<()> {
    let since = SystemClock.now().0.saturating_sub(u64::try_from(args.since.as_micros()).unwrap_or(u64::MAX));
    let query = LogsQuery {
        function: args.function.clone(),
        invocation: args.invocation,
        since: Some(rouse_types::Timestamp(since)),
        limit: None,
        follow: args.follow,
    };
    let mut lines = client(global)?.logs(&global.tenant, &query).await?;
    let style = Style::stdout();
    while let Some(line) = lines.next().await {
        let line = line?;
        if global.json {
            out::json_line(&line)?;
        } else {
            // One function's lines need not say whose they are.
            out::text(&(render(&line, style, args.function.is_none()) + "\n"))?;
        }
    }
    Ok(())
}

/// One line for a person.
pub(crate) fn render(line: &LogLine, style: Style, named: bool) -> String {
    let time = style.dim(&units::time_of_day(line.time));
    let id = line.invocation.map(|id| {
        // The end is the random part: it tells invocations of one moment apart.
        let id = id.to_string();
        style.dim(&id[id.len() - 8..])
    });
    let id = id.unwrap_or_else(|| style.dim("start   "));
    let name = if named { format!(" {}", style.cyan(line.function.as_str())) } else { String::new() };
    let text = style.foreign(&line.text);
    let text = match line.stream {
        Stream::Stdout => text,
        Stream::Stderr => style.yellow(&text),
        Stream::Platform => style.red(&text),
    };
    format!("{time} {id}{name} {text}")
}
