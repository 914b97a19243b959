//! Shows what the functions print while `rouse dev` runs.

use rouse_api::{Client, LogsQuery};
use rouse_types::{Clock as _, SystemClock, TenantId};
use tokio::task::JoinSet;

use crate::cli::{command::logs, out, style::Style};

/// How often to begin again when the stream breaks off: control may have been started again.
const TRIES_MAX: u32 = 20;
/// How long to wait before.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// Follows the logs until it is dropped.
#[derive(Debug)]
pub(super) struct Follower(JoinSet<anyhow::Error>);

impl Follower {
    pub(super) fn start(client: Client, tenant: TenantId) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(client, tenant));
        Self(tasks)
    }

    /// Waits until the logs can be followed no more; without end once that was told.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        match self.0.join_next().await {
            Some(Ok(error)) => error,
            Some(Err(error)) => error.into(),
            None => std::future::pending().await,
        }
    }
}

async fn follow(client: Client, tenant: TenantId) -> anyhow::Error {
    let style = Style::stderr();
    let mut since = SystemClock.now();
    let mut tries = 0;
    loop {
        let query = LogsQuery { since: Some(since), follow: true, ..LogsQuery::default() };
        let failure = match client.logs(&tenant, &query).await {
            Err(refusal) => Some(refusal),
            Ok(mut lines) => loop {
                match lines.next().await {
                    Some(Ok(line)) => {
                        tries = 0;
                        since = rouse_types::Timestamp(line.time.0 + 1);
                        out::note(&logs::render(&line, style, true));
                    }
                    Some(Err(refusal)) => break Some(refusal),
                    None => break None,
                }
            },
        };
        tries += 1;
        if tries >= TRIES_MAX {
            return failure.map_or_else(|| anyhow::anyhow!("the stream ended"), Into::into);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
