//! The writer's helper thread: makes the next segment ahead, and flushes the live one once an interval.

use std::{
    fs::File,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use super::{Error, segment::Segment};

/// Where segments are made, by the helper ahead of time or by the writer when the helper was too slow.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) dir: PathBuf,
    pub(super) writer: String,
    pub(super) segment_bytes: u64,
    pub(super) sequence_next: u64,
    ready: Option<Segment>,
}

impl Slot {
    pub(super) fn new(dir: PathBuf, writer: String, segment_bytes: u64, sequence_next: u64) -> Self {
        Self { dir, writer, segment_bytes, sequence_next, ready: None }
    }

    /// Makes the next segment if there is none.
    fn fill(&mut self) -> Result<(), Error> {
        if self.ready.is_none() {
            self.ready =
                Some(Segment::create(&self.dir, self.sequence_next, &self.writer, self.segment_bytes)?);
            self.sequence_next += 1;
        }
        Ok(())
    }

    /// The next segment, made now if it was not made ahead.
    pub(super) fn take(&mut self) -> Result<Segment, Error> {
        self.fill()?;
        self.ready.take().ok_or_else(|| Error::Full { path: self.dir.clone() })
    }

    /// The segment that was made ahead, if any.
    pub(super) fn take_ready(&mut self) -> Option<Segment> {
        self.ready.take()
    }
}

/// What writer and helper share.
#[derive(Debug)]
pub(super) struct Shared {
    slot: Mutex<Slot>,
    /// Where the live segment's next record goes, as the writer last said.
    pub(super) offset: AtomicUsize,
}

impl Shared {
    pub(super) fn new(slot: Slot) -> Self {
        Self { slot: Mutex::new(slot), offset: AtomicUsize::new(0) }
    }

    /// The slot. While the helper makes a segment it holds it, and waiting for it is what making one
    /// oneself would take. A panic leaves the slot whole, for it is changed by single assignments.
    pub(super) fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until the writer is gone. `rolled` brings the file of each segment that goes live.
pub(super) fn keep(shared: &Shared, mut live: Arc<File>, rolled: &Receiver<Arc<File>>, interval: Duration) {
    let mut flushed = 0;
    let mut warned = false;
    loop {
        // Once an interval while space is short, so that the journal goes on when there is some again.
        let filled = shared.slot().fill();
        match filled {
            Ok(()) => warned = false,
            Err(error) if !warned => {
                warned = true;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot make a journal's next segment"
                );
            }
            Err(_) => {}
        }
        match rolled.recv_timeout(interval) {
            Ok(next) => {
                let sealed = std::mem::replace(&mut live, next);
                flush(&sealed);
                flushed = 0;
            }
            Err(RecvTimeoutError::Timeout) => {
                let offset = shared.offset.load(Ordering::Relaxed);
                if offset != flushed {
                    flush(&live);
                    flushed = offset;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn flush(file: &File) {
    if let Err(error) = file.sync_data() {
        // The pages stay in the cache and the next flush tries again; a crash of the process loses nothing.
        tracing::error!(error = &error as &dyn std::error::Error, "cannot flush a journal's segment");
    }
}
