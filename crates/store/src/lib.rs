//! What must outlive a process, in four shapes: records, queues, blobs, journals.
//!
//! Invariant: what was acknowledged is found again after `kill -9` at any moment. Nothing here knows what
//! the bytes mean, and nothing here is on the path of a synchronous call but [`journal::Writer::append`],
//! which makes no system call.

pub mod access_keys;
mod backend;
pub mod backup;
pub mod ballast;
pub mod blobs;
pub mod cluster;
pub mod contents;
mod embedded;
pub mod error;
pub mod file;
pub mod journal;
pub mod queues;
pub mod records;
pub mod secrets;
pub mod settled;

pub use ballast::Ballast;
pub use blobs::Blobs;
pub use cluster::Cluster;
pub use error::Error;
pub use queues::Queues;
pub use records::Records;

/// Whether an I/O error says that no space is left: on the disk, or in the owner's quota.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
