//! Where there are several machines: what another node accepted is delivered here, too, if it is taken here first.

use std::{sync::Arc, time::Duration};

use crate::{dispatch::Events, queue};

/// After a change, others are let come: one look serves them all.
const GATHER: Duration = Duration::from_millis(20);

/// Wakes consumers for what came from anywhere, until all is to stop.
pub(crate) async fn follow(events: Arc<Events>) {
    let mut changes = events.queues.changes();
    loop {
        for prefix in [queue::FUNCTIONS, queue::NAMED] {
            if let Err(error) = events.resume(prefix).await {
                tracing::error!(error = &error as &dyn std::error::Error, "queues cannot be looked through");
            }
        }
        let changed = async {
            let changed = changes.changed().await.is_ok();
            tokio::time::sleep(GATHER).await;
            changed
        };
        if events.stop.run_until_cancelled(changed).await != Some(true) {
            return;
        }
    }
}
