//! Events: what was accepted is kept here until its function has handled it, or it is among the dead letters.
//!
//! ```text
//!  gateway ─▶ server ─▶ accept ─▶ queue (on the disk) ─▶ 202
//!                                   │ poke
//!                                   ▼
//!             dispatch ─▶ consumer, one for each queue that has messages
//!                           └─▶ deliver ─▶ gateways ─▶ the function
//!                                 └─▶ decide (pure) ─▶ done · again later · dead letter ─▶ targets
//! ```
//!
//! Beside it, `schedules` sends events to the same queues when their time has come, and `database` when rows change.
//!
//! Invariant: an event is answered for only once it is on the disk, and leaves it only as handled, cancelled, or a
//! dead letter. A queue without messages has no task and no timer.

mod accept;
mod batch;
mod consumer;
mod database;
mod decide;
mod deliver;
mod dispatch;
mod gateways;
mod internal;
mod manage;
mod mappings;
mod messages;
mod metrics;
mod moves;
mod objects;
mod once;
mod others;
mod outgoing;
mod queue;
mod receipts;
mod receive;
mod record;
mod schedules;
mod server;
mod settings;
mod shape;
mod table;
mod topics;
mod triggers;

use std::{path::PathBuf, sync::Arc, time::Duration};

use rouse_store::{Cluster, Queues, Records, cluster, queues::DEDUPLICATION_WINDOW_DEFAULT, settled};
use rouse_types::{Clock, NodeState};
use tokio_util::sync::CancellationToken;

use crate::{dispatch::Events, mappings::Mappings, receipts::Receipts};

/// What the process of events is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The state folder.
    pub state: PathBuf,
    /// How many gateways there are.
    pub gateways: usize,
    /// How long deliveries under way may go on after the order to stop.
    pub drain: Duration,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

/// Why the process of events could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system said no.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What it said.
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] tokio_rustls::rustls::Error),
    /// The queues cannot be opened.
    #[error("cannot open the queues")]
    Store(#[from] rouse_store::Error),
}

impl Error {
    fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// Serves until `stop`, then lets deliveries under way end. What does not is delivered again at the next start.
///
/// # Errors
/// What keeps it from starting; nothing after that.
pub async fn serve(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let folder = config.state.join("events");
    let path = folder.join("queues.db");
    let (window, clock) = (DEDUPLICATION_WINDOW_DEFAULT, Arc::clone(&config.clock));
    let shared = cluster::Settings::read(&config.state)?;
    let (records, queues, reclaimed) = match &shared {
        None => {
            let queues = Queues::open(&path, clock, window)?;
            // Whoever had leased what is leased is dead: this process alone delivers.
            let reclaimed = queues.reclaim(queue::FUNCTIONS).await?;
            (Records::open(&folder.join("records.db"))?, queues, reclaimed)
        }
        // Others deliver, too. What a node held that died is given out again when its lease runs out.
        Some(settings) => {
            let cluster = Cluster::join(&settings.engine).await?;
            let records = Records::join(&cluster, "events", &folder.join("records")).await?;
            (records, Queues::join(&cluster, "queues", &folder.join("queues"), clock, window).await?, 0)
        }
    };
    if reclaimed > 0 {
        tracing::info!(reclaimed, "events whose delivery was cut off are delivered again");
    }
    // The socket is there before the snapshots are read, so no change can fall between the two.
    let socket = server::bind(&config.state).map_err(Error::io("listen on the socket of events"))?;
    let receipts =
        Receipts::open(&folder.join("receipts.key")).map_err(Error::io("read the key of receipts"))?;
    let mappings = Mappings::open(records.clone()).await?;
    let once_kept = once::Kept::open(records.clone()).await?;
    let standing = match &shared {
        None => NodeState::Active,
        Some(_) => cluster::standing::read(&config.state)?,
    };
    let events = Events::new(config, queues, receipts, mappings, once_kept, stop, standing.takes_work())?;
    events.table.load_all();
    events.sweep_keys();
    events.make_queues().await;
    let in_cluster = shared.is_some();
    if settled::is(&events.config.state) {
        deliver_what_waits(&events, in_cluster).await?;
    } else {
        let events = Arc::clone(&events);
        events.tasks.clone().spawn(async move {
            let settled = events.stop.run_until_cancelled(settled::wait(&events.config.state)).await;
            if settled.is_some()
                && let Err(error) = deliver_what_waits(&events, in_cluster).await
            {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "what waits is not delivered before the next start"
                );
            }
        });
    }
    events.tasks.spawn(schedules::run(Arc::clone(&events), records.clone()));
    events.tasks.spawn(Box::pin(database::run(Arc::clone(&events), records)));
    server::serve(&events, socket).await;
    events.drain().await;
    Ok(())
}

/// Takes up what waited before this process began, and in a cluster what others accept.
async fn deliver_what_waits(events: &Arc<Events>, in_cluster: bool) -> Result<(), Error> {
    events.resume(queue::FUNCTIONS).await?;
    events.resume(queue::NAMED).await?;
    if in_cluster {
        events.tasks.spawn(others::follow(Arc::clone(events)));
    }
    Ok(())
}
