//! The service of objects: buckets and keys of tenants, spoken to by S3 or in process.
//!
//! ```text
//!  S3 over HTTP ── s3 ──┐
//!                       ├─▶ Objects ─▶ files   the bytes, on local disk or in a bucket, each file written once
//!  in process ──────────┘        └───▶ Records one transaction: what the object is, and the event of it
//! ```
//!
//! A put writes its bytes to a file first, then commits. So a crash leaves at most a file that nobody names, which
//! a sweep removes. Names are the tenant's own: a bucket of another tenant does not exist. One process owns the
//! folder and its records.

mod bucket;
mod commit;
mod depot;
mod digest;
mod error;
mod files;
mod http;
mod list;
mod locks;
mod multipart;
pub mod name;
mod outbox;
pub mod place;
mod read;
mod record;
mod room;
mod s3;
mod sweep;
mod write;

use std::{path::PathBuf, sync::Arc, time::Duration};

use rouse_store::Records;
use rouse_types::{Clock, TenantId};
use tokio_util::task::TaskTracker;

pub use bucket::Bucket;
pub use depot::Depot;
pub use digest::{Algorithm, Checksum, ChecksumKind, Expected};
pub use error::Error;
pub use http::S3Http;
pub use list::{Entry, Listing, Query};
pub use multipart::{CompletedPart, Completion, Part, Upload, UploadQuery, Uploads};
pub use outbox::Outbox;
pub use place::{Credentials, Place, S3Place};
pub use read::{Read, Reader};
pub use record::{Attributes, ContentHeaders, Object};
pub use sweep::Swept;
pub use write::{Condition, Copy, Put};

use files::Files;
use locks::Locks;
pub use rouse_types::object::{EventKind, ObjectEvent};

/// How the service is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder of the bytes, or of what is noted about them, made if it is not there. Not shared with another process.
    pub dir: PathBuf,
    /// Where the bytes lie.
    pub place: Place,
    /// What a bucket is entered with, if they lie in one.
    pub credentials: Option<Credentials>,
    /// Space that puts leave free on a local disk, in bytes: deletions and whatever else is on the disk must be able to go on.
    pub reserve_bytes: u64,
    /// Events that may wait in the outbox; when so many do, what would add one is refused.
    pub outbox_max: u64,
    /// Multipart uploads that are older than this are aborted.
    pub upload_age_max: Duration,
    /// The state folder with what tenants may use, if it is limited.
    pub limits: Option<PathBuf>,
}

impl Config {
    /// The defaults over this folder: 1 GiB in reserve, a million events, uploads of a week.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            place: Place::Local,
            credentials: None,
            reserve_bytes: 1 << 30,
            outbox_max: 1_000_000,
            upload_age_max: Duration::from_secs(7 * 24 * 3_600),
            limits: None,
        }
    }
}

/// Who asks: decides which buckets exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The owner of the buckets.
    pub tenant: TenantId,
    /// What events say about who did it: the access key, or a name of the process' own.
    pub requester: String,
}

/// The service, in process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Objects(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    clock: Arc<dyn Clock>,
    records: Records,
    files: Files,
    pins: read::Pins,
    outbox: Outbox,
    /// Writes of one key, or of one upload, come one after the other.
    keys: Locks,
    uploads: Locks,
    /// Held for reading by whatever puts something into a bucket, for writing by what deletes buckets.
    buckets: tokio::sync::RwLock<()>,
    room: room::Room,
    /// Commits go on when the caller that asked for them is gone: what becomes of their files depends on how they end.
    tasks: TaskTracker,
}

impl Objects {
    /// Opens the service over these records. What a killed process left half-written is removed.
    ///
    /// # Errors
    /// What the disk or the records say.
    pub async fn open(config: Config, records: Records, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let files = place::settle(&config, &records).await?;
        let outbox = Outbox::open(records.clone(), config.outbox_max).await?;
        Ok(Self(Arc::new(Inner {
            room: room::Room::new(config.limits.clone()),
            config,
            clock,
            records,
            files,
            pins: read::Pins::default(),
            outbox,
            keys: Locks::new(),
            uploads: Locks::new(),
            buckets: tokio::sync::RwLock::new(()),
            tasks: TaskTracker::new(),
        })))
    }

    /// Checks that the bytes can lie where they shall: a bucket is written to, read, listed and deleted from.
    ///
    /// # Errors
    /// [`Error::Place`], which says what to do; what the disk or the records say.
    pub async fn check(config: &Config, records: &Records) -> Result<(), Error> {
        place::check(config, records).await
    }

    /// What happened to objects and was not yet taken note of.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }
}
