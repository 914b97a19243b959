//! Control: takes deployments and says what is live; answers for apps, versions, logs and usage.
//!
//! ```text
//!   API ─▶ handle ─▶ check ─▶ code: unpack, compile ─▶ plan ─▶ commit ─▶ snapshot ─▶ notify
//!                                                       (pure)  (store)   (file)      (gateways, node)
//! ```
//!
//! Invariant: never on the path of a call. Gateways and nodes go on with the last snapshot while this process
//! is away, and whatever it was doing when it died is put right at its next start.

mod acme;
mod api_keys;
pub mod archive;
mod audit;
mod body;
mod budget;
mod change;
mod check;
mod cluster;
mod code;
mod collect;
mod control;
mod deploy;
mod events;
mod gate;
mod handle;
mod image;
mod invoke;
mod issuers;
mod keys;
mod ledger_key;
mod locks;
mod logs;
mod members;
mod metrics;
mod objects;
mod otlp;
mod peers;
mod plan;
mod providers;
mod quota;
mod secrets;
mod server;
mod sign_in;
mod slots;
mod snapshot;
mod state;
mod tenants;
mod token;
mod trust;
mod uploads;
mod usage;
mod view;
mod who;

use std::{
    ffi::OsString,
    fmt,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rouse_api::IsolationInfo;
use rouse_metering::PriceSheet;
use rouse_store::journal;
use rouse_tls::Door;
use rouse_types::{Clock, HttpSettings, Refusal, Runtime};
use tokio_util::sync::CancellationToken;

pub use acme::{DIRECTORY_DEFAULT, Settings as Acme};
pub use otlp::Otlp;

/// Whether a runtime can be used here, given the state folder; else why not and what to do.
pub type RuntimeCheck = fn(&Runtime, &Path) -> Result<(), Refusal>;

/// Says whether the code in a folder can be started as a server on this machine: with its runtime, settings and
/// handler, and the platform's state folder.
pub type ServerCheck = fn(&Runtime, &HttpSettings, Option<&str>, &Path, &Path) -> Result<(), Refusal>;

/// What control is told at its start.
pub struct Config {
    /// The state folder.
    pub state: PathBuf,
    /// Where the API is served, besides `<state>/run/control.sock`.
    pub listener: TcpListener,
    /// Whether it is served by HTTPS, with the certificates of the state folder; plain HTTP is for this machine then.
    pub https: bool,
    /// Where functions answer, such as `http://127.0.0.1:8080`.
    pub public_url: String,
    /// The domain of functions' host names.
    pub domain: String,
    /// This release.
    pub version: String,
    /// Compiles a component: run with the paths of the component and of what to make. Ends with 0, or prints
    /// a [`Refusal`] as JSON.
    pub compile_command: Vec<OsString>,
    /// Names the engine that runs what was compiled: its version and settings. Part of a file's name.
    pub engine_tag: String,
    /// The runtimes that are shown as available or not.
    pub runtimes: Vec<Runtime>,
    /// Whether one of them can be used.
    pub runtime_check: RuntimeCheck,
    /// Whether a server's code can be started here, once it is in its place.
    pub server_check: ServerCheck,
    /// How code is confined here.
    pub isolations: Vec<IsolationInfo>,
    /// Whether code in containers can have a network of its own here, as `egress = "*"` asks for; or why not, and the
    /// next step.
    pub full_network: Result<(), String>,
    /// What things cost from now on.
    pub prices: PriceSheet,
    /// What is kept of the journals.
    pub retention: Retention,
    /// Where traces are sent to; nowhere when there is none.
    pub otlp: Option<Otlp>,
    /// Which authority certificates are got from; from none when there is none.
    pub acme: Option<Acme>,
    /// How long code that nothing names is kept.
    pub code_grace: Duration,
    /// Registries that are asked without TLS, as `host:port`, besides those of this machine.
    pub insecure_registries: Vec<String>,
    /// Cancelled when the node is about to be stopped: others of its cluster are to take over.
    pub closing: CancellationToken,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("state", &self.state)
            .field("listener", &self.listener)
            .field("public_url", &self.public_url)
            .finish_non_exhaustive()
    }
}

/// How much of the journals is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Of usage, besides what the ledger has not read yet.
    pub usage: journal::Policy,
    /// Of what functions print.
    pub log: journal::Policy,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3_600);
        Self {
            // The ledger keeps the sums for good; the records serve whoever doubts them.
            usage: journal::Policy { bytes_max: 4 << 30, age_max: DAY * 400 },
            log: journal::Policy { bytes_max: 2 << 30, age_max: DAY * 14 },
        }
    }
}

/// The default of [`Config::code_grace`]: an upload has been deployed, and an instance of an old version has
/// ended, by then.
pub const CODE_GRACE_DEFAULT: Duration = Duration::from_secs(2 * 3_600);

/// Why control could not start.
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
    /// The store cannot be opened.
    #[error("cannot open the store")]
    Store(#[from] rouse_store::Error),
    /// The store cannot be read.
    #[error("cannot read the store")]
    State(#[source] Refusal),
    /// The shared quotas cannot be mapped.
    #[error(transparent)]
    Quotas(#[from] rouse_quota::Error),
    /// The ledger cannot be opened.
    #[error("cannot open the ledger")]
    Ledger(#[from] rouse_metering::ledger::Error),
}

impl Error {
    fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// Runs control until it is told to stop.
///
/// # Errors
/// It could not start. What goes wrong later is answered to whoever asked, and logged.
pub async fn serve(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let listener = config.listener.try_clone().map_err(Error::io("take the API's listener"))?;
    listener.set_nonblocking(true).map_err(Error::io("take the API's listener"))?;
    let tcp = tokio::net::TcpListener::from_std(listener).map_err(Error::io("take the API's listener"))?;
    let door = if config.https {
        Door::secure(&config.state, &["h2", "http/1.1"]).map_err(Error::io("set up TLS"))?
    } else {
        Door::plain()
    };
    let control = Box::pin(control::Control::open(config)).await?;
    let unix = server::bind(&control.config.state).map_err(Error::io("make the API's unix socket"))?;
    keys::write(&control.records, &control.config.state).await.map_err(Error::State)?;
    api_keys::write(&control.records, &control.config.state, None).await.map_err(Error::State)?;
    control.write_secrets().await.map_err(Error::State)?;
    control.recover_actions().await.map_err(Error::State)?;
    let tasks = control.tasks.clone();
    // Should a crash have come between the store and the file. Who could not be told is told with the next change.
    if let Err(refusal) = control.publish_quotas().await {
        tracing::error!(%refusal, "what limits tenants may not be in force everywhere");
    }
    tasks.spawn(budget::keep(Arc::clone(&control), stop.clone()));
    tasks.spawn(collect::reconcile(Arc::clone(&control), stop.clone()));
    tasks.spawn(cluster::live(Arc::clone(&control), stop.clone()));
    tasks.spawn(cluster::identity::keep(Arc::clone(&control), stop.clone()));
    tasks.spawn(cluster::follow(Arc::clone(&control), stop.clone()));
    tasks.spawn(cluster::logs::hand_over(Arc::clone(&control), stop.clone()));
    tasks.spawn(cluster::logs::collect(Arc::clone(&control), stop.clone()));
    tasks.spawn(collect::ingest(Arc::clone(&control), stop.clone()));
    tasks.spawn(collect::collect(Arc::clone(&control), stop.clone()));
    if let Some(acme) = control.config.acme.clone() {
        tasks.spawn(acme::keep(Arc::clone(&control), acme, stop.clone()));
    }
    if let Some(otlp) = control.config.otlp.clone() {
        tasks.spawn(otlp::follow(Arc::clone(&control), otlp, stop.clone()));
    }
    server::serve(Arc::clone(&control), (tcp, door), unix, stop).await;
    control.leave().await;
    // A deployment that is under way is ended: it is either live or told to have failed.
    tasks.close();
    if tokio::time::timeout(END_TIMEOUT, tasks.wait()).await.is_err() {
        tracing::warn!("deployments were cut off at the end; the next start puts right what they left");
    }
    Ok(())
}

/// How long a deployment may go on after the end was asked for: the supervisor's patience.
const END_TIMEOUT: Duration = Duration::from_secs(10);
