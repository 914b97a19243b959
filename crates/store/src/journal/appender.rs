//! A journal's writer as those who serve calls use it: shared, and never a reason for a call to fail.

use std::{
    error::Error as StdError,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rouse_types::Timestamp;

use super::{Error, Options, Writer};

/// Of the records that cannot be written, one in so many is told: a full disk must not fill the log too.
const TOLD: u64 = 1_000;

/// Appends from several tasks at once. What cannot be written is counted.
#[derive(Debug)]
pub struct Appender {
    writer: Mutex<Writer>,
    name: String,
    lost: AtomicU64,
}

impl Appender {
    /// Opens the journal in a folder; see [`Writer::open`].
    ///
    /// # Errors
    /// As [`Writer::open`].
    pub fn open(dir: &Path, options: Options) -> Result<Self, Error> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { writer: Mutex::new(Writer::open(dir, options)?), name, lost: AtomicU64::new(0) })
    }

    /// Appends one record, or counts it as lost.
    pub fn append(&self, time: Timestamp, payload: &[u8]) {
        let appended = self.writer.lock().unwrap_or_else(PoisonError::into_inner).append(time, payload);
        if let Err(error) = appended {
            self.lose(&error);
        }
    }

    /// Counts a record that cannot be appended for this reason.
    pub fn lose(&self, error: &dyn StdError) {
        if self.lost.fetch_add(1, Ordering::Relaxed).is_multiple_of(TOLD) {
            tracing::error!(%error, journal = self.name, "a record could not be written");
        }
    }

    /// Records that could not be written since the start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
