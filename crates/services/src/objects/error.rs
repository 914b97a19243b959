//! Why an operation on objects failed.

use std::{io, path::PathBuf};

/// Why an operation failed. Nothing was changed then, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tenant has no such bucket.
    #[error("the bucket '{0}' does not exist")]
    NoSuchBucket(String),
    /// The bucket has no such object.
    #[error("there is no object '{0}'")]
    NoSuchKey(String),
    /// The upload was completed or aborted, or never begun.
    #[error("there is no such multipart upload of '{0}': it was completed or aborted, or never begun")]
    NoSuchUpload(String),
    /// The tenant has a bucket of this name.
    #[error("the bucket '{0}' is there already and is yours")]
    BucketExists(String),
    /// Only an empty bucket can be deleted.
    #[error("the bucket '{0}' is not empty: delete its objects and abort its uploads first")]
    BucketNotEmpty(String),
    /// The tenant has as many buckets as one may have.
    #[error("a tenant may have {0} buckets: delete one first")]
    TooManyBuckets(usize),
    /// No bucket can have this name.
    #[error(
        "'{0}' is no bucket's name: use 3 to 63 of a-z, 0-9, '-' and '.', with a letter or digit at the ends"
    )]
    InvalidBucketName(String),
    /// The key has so many bytes.
    #[error("the key has {0} bytes; at most {max} are allowed", max = super::name::KEY_BYTES_MAX)]
    KeyTooLong(usize),
    /// Something that was asked for makes no sense. The text says what.
    #[error("{0}")]
    Invalid(String),
    /// A tag is not as it must be.
    #[error("{0}")]
    InvalidTag(String),
    /// The user's metadata is too large.
    #[error("the metadata has {bytes} bytes; at most {max} are allowed")]
    MetadataTooLarge {
        /// What was given.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// A condition of the request does not hold: its name.
    #[error("the condition {0} does not hold")]
    PreconditionFailed(&'static str),
    /// The object is as the client has it.
    #[error("the object is as you have it")]
    NotModified {
        /// Its entity tag.
        etag: String,
        /// When it was put.
        modified: rouse_types::Timestamp,
    },
    /// The range lies outside of the object.
    #[error("the range is not within the {size} bytes of the object")]
    InvalidRange {
        /// The object's size.
        size: u64,
    },
    /// The bytes are not what was announced.
    #[error("the content is not what {what} says: it is {found}, not {expected}")]
    BadDigest {
        /// The header that announced it.
        what: String,
        /// What was announced.
        expected: String,
        /// What came.
        found: String,
    },
    /// The bytes are not those that were signed.
    #[error("the body is not the one that was signed")]
    BodySignature,
    /// Less came than was announced, or the client broke off.
    #[error("the body ended early: {0}")]
    IncompleteBody(String),
    /// The client did not send its body in time.
    #[error("nothing came of the body for {0} seconds")]
    BodyTimeout(u64),
    /// More than an object or part may have.
    #[error("the body is larger than the {max} bytes that are allowed: use a multipart upload")]
    TooLarge {
        /// What is allowed, in bytes.
        max: u64,
    },
    /// A part other than the last is too small.
    #[error("part {number} has {size} bytes; all but the last need at least {min}")]
    PartTooSmall {
        /// Its number.
        number: u32,
        /// Its size.
        size: u64,
        /// What is needed.
        min: u64,
    },
    /// A part that was never uploaded, or is another than the client thinks.
    #[error("part {0} was not uploaded, or its entity tag or checksum is another")]
    InvalidPart(u32),
    /// Parts are not in ascending order.
    #[error("the parts must be in ascending order, each once")]
    InvalidPartOrder,
    /// Too many events wait.
    #[error("{0} events wait to be delivered, which is as many as may: try again when some are")]
    OutboxFull(u64),
    /// The tenant's objects would have more bytes than they may.
    #[error("the tenant's objects have {used} bytes, and may have {limit}: this one does not fit")]
    QuotaExceeded {
        /// What there is.
        used: u64,
        /// What is allowed.
        limit: u64,
    },
    /// No space is left, or less than the reserve.
    #[error("no space is left for {0}")]
    Full(String),
    /// The bytes of an object are not where they were put.
    #[error("the bytes of the object are missing: {0}")]
    Missing(String),
    /// The store that has the bytes does not answer as it should.
    #[error("the store of objects' bytes does not answer as it should: cannot {action}")]
    Away {
        /// What was tried.
        action: &'static str,
        /// What came of it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Too many writes at once.
    #[error("too many objects are being written: try again")]
    Busy,
    /// The bytes cannot lie where they shall. The text says why, and what to do.
    #[error("{0}")]
    Place(String),
    /// The store said no.
    #[error("the store failed")]
    Store(#[source] rouse_store::Error),
    /// A record cannot be read.
    #[error("the record {0} cannot be read")]
    Record(String, #[source] serde_json::Error),
    /// The operating system said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The service is being stopped. Whether the change took place is unknown.
    #[error("the service is being stopped")]
    Stopping,
}

impl Error {
    /// For `map_err`: keeps "full" apart from all else.
    pub(super) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full(path.display().to_string())
            }
            _ => Self::Io { action, path: path.to_owned(), source },
        }
    }
}

impl From<rouse_store::Error> for Error {
    fn from(error: rouse_store::Error) -> Self {
        match error {
            rouse_store::Error::Full(what) => Self::Full(what),
            rouse_store::Error::Closed => Self::Stopping,
            other => Self::Store(other),
        }
    }
}
