//! Shows what the functions print while `rouse dev` runs.

use rouse_api::{Client, LogsQuery};
use rouse_types::{Clock as _, Refusal, SystemClock, TenantId, Timestamp};
use tokio::task::JoinSet;

use crate::cli::{command::logs, out, style::Style};

/// How often to begin again when the stream breaks off: control may have been started again.
const TRIES_MAX: u32 = 20;
/// How long to wait before.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// Follows the logs until it is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    _task: JoinSet<()>,
}

impl Follower {
    pub(super) fn start(client: Client, tenant: TenantId) -> Self {
        let mut task = JoinSet::new();
        task.spawn(async move {
            let why = follow(&client, &tenant).await;
            let style = Style::stderr();
            out::note(&format!("{} logs are not shown any more: {why}", style.yellow("warning:")));
        });
        Self { _task: task }
    }
}

/// Follows until it cannot, and tells why.
async fn follow(client: &Client, tenant: &TenantId) -> String {
    let style = Style::stderr();
    let mut since = SystemClock.now();
    let mut tries = 0;
    loop {
        let failure = follow_once(client, tenant, &mut since, &mut tries, style).await;
        tries += 1;
        if tries >= TRIES_MAX {
            return failure.map_or_else(|| "the stream ended".to_owned(), |refusal| refusal.to_string());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow_once(
    client: &Client,
    tenant: &TenantId,
    since: &mut Timestamp,
    tries: &mut u32,
    style: Style,
) -> Option<Refusal> {
    let query = LogsQuery { since: Some(*since), follow: true, ..LogsQuery::default() };
    let mut lines = match client.logs(tenant, &query).await {
        Ok(lines) => lines,
        Err(refusal) => return Some(refusal),
    };
    while let Some(line) = lines.next().await {
        match line {
            Ok(line) => {
                *tries = 0;
                // Just after it: a stream that begins again does not repeat it.
                *since = Timestamp(line.time.0 + 1);
                out::note(&logs::render(&line, style, true));
            }
            Err(refusal) => return Some(refusal),
        }
    }
    None
}
