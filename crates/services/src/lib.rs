//! Backend services that functions and their clients use: so far `objects`, which speaks S3.
//!
//! ```text
//!  aws, node ─▶ run/s3.sock ──── S3, signed ──▶ objects ─▶ files, records
//!  control ───▶ run/objects.sock ─ own ───────▶ objects
//!                                               outbox ─ relay ─▶ run/events.sock
//! ```
//!
//! Invariant: a service knows its tenants and its store, and nothing of functions; what happens in it is told to
//! others by an outbox that is written in the same transaction.

pub mod objects;
mod own;
mod relay;
pub mod server;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rouse_store::{Records, access_keys::Ring};
use rouse_types::Clock;
use tokio_util::sync::CancellationToken;

use objects::{Credentials, Objects, Place, S3Http, place};

/// What the process of objects is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The state folder.
    pub state: PathBuf,
    /// Where the bytes of objects lie. What a bucket is entered with stands in a file: see [`hand_over`].
    pub place: Place,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

/// Why the process of objects could not start.
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
    /// The records cannot be opened.
    #[error("cannot open the records of objects")]
    Store(#[from] rouse_store::Error),
    /// The objects cannot be opened.
    #[error("cannot open the objects")]
    Objects(#[from] objects::Error),
}

/// Writes down for the process of objects what a bucket is entered with, mode 0600: the arguments of processes can be
/// read by anyone, and their environment goes on to others. Gives the file.
///
/// # Errors
/// What the disk says.
pub fn hand_over(state: &Path, credentials: &Credentials) -> Result<PathBuf, Error> {
    let path = state.join("objects").join(place::CREDENTIALS_FILE);
    credentials.write(&path)?;
    Ok(path)
}

/// Checks that the bytes of objects can lie where they shall, before anything serves.
///
/// # Errors
/// Why they cannot, and what to do.
pub async fn check(config: &Config) -> Result<(), Error> {
    let (records, objects) = open(config)?;
    Ok(Objects::check(&objects, &records).await?)
}

fn open(config: &Config) -> Result<(Records, objects::Config), Error> {
    let folder = config.state.join("objects");
    let io = |action| move |source| Error::Io { action, source };
    std::fs::create_dir_all(&folder).map_err(io("make the folder of objects"))?;
    let records = Records::open(&folder.join("records.db"))?;
    let mut objects = objects::Config::new(&folder);
    if let Place::S3(_) = config.place {
        objects.credentials = Some(Credentials::read(&folder.join(place::CREDENTIALS_FILE))?);
    }
    objects.place = config.place.clone();
    objects.limits = Some(config.state.clone());
    Ok((records, objects))
}

/// Serves until `stop`, then lets requests under way end.
///
/// # Errors
/// What keeps it from starting; nothing after that.
pub async fn serve(config: Config, stop: CancellationToken) -> Result<(), Error> {
    let io = |action| move |source| Error::Io { action, source };
    let (records, objects) = open(&config)?;
    let objects = Objects::open(objects, records, config.clock).await?;
    let run = config.state.join("run");
    let s3 = server::bind(&run.join("s3.sock")).map_err(io("listen on the socket of S3"))?;
    let own = server::bind(&run.join("objects.sock")).map_err(io("listen on the socket of objects"))?;
    let keys = Ring::new(&config.state);
    let s3 = server::serve(S3Http::new(objects.clone(), keys), s3, stop.clone());
    let face = own::Own::open(objects.clone(), config.state.clone()).await;
    let own = server::serve(face, own, stop.clone());
    let events = run.join("events.sock");
    let relay = relay::run(objects.outbox(), &events, &stop);
    let served = async { tokio::join!(s3, own, relay) };
    tokio::select! {
        _ = served => {}
        () = objects.maintain() => {}
    }
    Ok(())
}
