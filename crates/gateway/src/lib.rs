//! The way in: HTTP requests become invocations, and their outcomes become answers.
//!
//! One gateway is one process with one thread. The request path stands in `handle`; the rest of the crate
//! is its steps:
//!
//! ```text
//!  accept ─▶ route ─▶ pick a version ─▶ permit ─┬─▶ run (a component, in place) ─┬─▶ answer ─▶ meter
//!  server    route    table              admit  └─▶ forward (to the node) ───────┘
//! ```
//!
//! Invariant: nothing here writes to the store or waits for control. Without control a gateway goes on with
//! the last snapshots it read.

mod admit;
mod answer;
mod asynchronous;
mod body;
mod callers;
mod components;
mod counters;
mod forward;
mod handle;
mod internal;
mod journals;
mod mesh;
mod metrics;
mod once;
pub mod route;
mod run;
mod secure;
mod server;
mod stream;
mod table;
mod upgrade;
mod webhook;

use std::{net::TcpListener, path::PathBuf, sync::Arc, time::Duration};

use rouse_types::Clock;
use tokio_util::sync::CancellationToken;

pub use counters::{Counters, GATEWAYS_MAX, SLOTS_MAX};

/// What a gateway needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The state folder.
    pub state: PathBuf,
    /// Which of the gateways this is, from 0.
    pub index: usize,
    /// How many there are.
    pub gateways: usize,
    /// Functions answer at `<function>.<tenant>.<domain>`.
    pub domain: String,
    /// Component instances that may live at once.
    pub pool: rouse_wasm::Pool,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What calls cost: told on their answers.
    pub pricing: rouse_types::Pricing,
    /// Off only to measure what metering costs.
    pub metering: bool,
}

/// How long open calls may go on after the order to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine refused its settings.
    #[error("the WebAssembly engine did not start: {0}")]
    Engine(String),
    /// A file or socket could not be used.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The shared counters could not be mapped.
    #[error(transparent)]
    Counters(#[from] counters::Error),
    /// The shared quotas could not be mapped.
    #[error(transparent)]
    Quotas(#[from] rouse_quota::Error),
    /// TLS could not be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
    /// A journal could not be opened.
    #[error(transparent)]
    Journal(#[from] rouse_store::journal::Error),
}

impl Error {
    fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

/// Serves until `stop` is cancelled, then lets open calls end, within bounds. With a listener for HTTPS, plain HTTP is answered by
/// redirects to it.
///
/// # Errors
/// What keeps it from starting; nothing after that.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    https: Option<TcpListener>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let https = https.map(|listener| secure::Https::new(&config.state, listener)).transpose()?;
    let gateway = handle::Gateway::new(config, stop.clone())?;
    // The socket is there before the snapshots are read, so no change can fall between the two.
    let internal = internal::bind(&gateway.config)?;
    gateway.table.load_all();
    gateway.callers.load_all();
    server::serve(gateway, listener, https, internal, DRAIN_TIMEOUT).await
}
