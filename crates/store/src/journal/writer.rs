//! The one that appends. A process has one writer per journal.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rouse_types::Timestamp;

use super::{
    Error, Options, format,
    keeper::{Shared, Slot, keep},
    retention::{self, open_lock},
    segment,
    segment::Segment,
    segment_path, segments, survey,
    survey::Survey,
};

/// On a full disk every append would try to make a segment, and each try may search the whole disk.
const FULL_RETRY: Duration = Duration::from_millis(100);
/// Retention holds a writer's lock for the moment of a look; a writer that starts waits that long.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Appends records to a journal. See the module for what it promises.
#[derive(Debug)]
pub struct Writer {
    live: Option<Segment>,
    shared: Arc<Shared>,
    rolled: Option<mpsc::Sender<Arc<File>>>,
    keeper: Option<JoinHandle<()>>,
    full_since: Option<Instant>,
    dir: PathBuf,
    /// Held until the writer is gone.
    _lock: File,
}

impl Writer {
    /// Begins a new segment in `<dir>/<options.writer>/`. What a killed predecessor of the same name left
    /// live is sealed first; its records stay.
    ///
    /// # Errors
    /// [`Error::Busy`] if a living process writes under this name, [`Error::Full`] if there is no space
    /// for a segment.
    pub fn open(dir: &Path, options: Options) -> Result<Self, Error> {
        options.check()?;
        let dir = dir.join(&options.writer);
        std::fs::create_dir_all(&dir).map_err(Error::io("make the folder", &dir))?;
        let lock = lock(&dir)?;
        let sequence = recover(&dir, &lock)?;
        let mut slot = Slot::new(dir.clone(), options.writer.clone(), options.segment_bytes, sequence);
        let live = slot.take()?;
        let shared = Arc::new(Shared::new(slot));
        let (sender, receiver) = mpsc::channel();
        let keeper = std::thread::Builder::new()
            .name(format!("journal-{}", options.writer))
            .spawn({
                let (shared, file) = (Arc::clone(&shared), live.file());
                move || keep(&shared, file, &receiver, options.sync_interval)
            })
            .map_err(Error::io("start the helper thread for", &dir))?;
        Ok(Self {
            live: Some(live),
            shared,
            rolled: Some(sender),
            keeper: Some(keeper),
            full_since: None,
            dir,
            _lock: lock,
        })
    }

    /// Appends one record. When this returns `Ok`, the record outlives the process.
    ///
    /// Makes no system call, but for the one record in many thousands that begins a new segment.
    ///
    /// # Errors
    /// [`Error::Full`] if there is no space: nothing was appended, and a later append tries again.
    /// [`Error::TooLarge`] if the payload is larger than a segment.
    #[inline]
    pub fn append(&mut self, time: Timestamp, payload: &[u8]) -> Result<(), Error> {
        let bytes = format::record_bytes(payload.len());
        let live = match &mut self.live {
            Some(live) if live.fits(bytes) => live,
            _ => self.roll(payload.len())?,
        };
        live.append(time, payload)?;
        let offset = live.offset();
        self.shared.offset.store(offset, Ordering::Relaxed);
        Ok(())
    }

    #[cold]
    fn roll(&mut self, payload: usize) -> Result<&mut Segment, Error> {
        let bytes_max = self.live.as_ref().map_or(usize::MAX, Segment::payload_bytes_max);
        if payload > bytes_max {
            return Err(Error::TooLarge { bytes: payload, bytes_max });
        }
        let full = || Error::Full { path: self.dir.clone() };
        if self.full_since.is_some_and(|since| since.elapsed() < FULL_RETRY) {
            return Err(full());
        }
        let next = self.shared.slot().take().inspect_err(|error| {
            self.full_since = matches!(error, Error::Full { .. }).then(Instant::now);
        })?;
        self.full_since = None;
        let file = next.file();
        // The successor exists before the segment is sealed, so a reader always has a way on; and it is
        // sealed before the helper flushes it for the last time.
        if let Some(sealed) = self.live.replace(next) {
            sealed.seal();
        }
        if let Some(rolled) = &self.rolled {
            // The helper ends only after the sender, so there is someone to take it.
            drop(rolled.send(file));
        }
        self.live.as_mut().ok_or_else(full)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.rolled.take());
        if let Some(keeper) = self.keeper.take() {
            drop(keeper.join());
        }
        let unused = self.shared.slot().take_ready();
        for segment in self.live.take().into_iter().chain(unused) {
            if let Err(error) = segment.close() {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot close a journal's segment");
            }
        }
    }
}

fn lock(dir: &Path) -> Result<File, Error> {
    let (path, file) = open_lock(dir)?;
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begin.elapsed() < LOCK_WAIT => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { path: dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(Error::io("take the lock", &path)(source)),
        }
    }
}

/// Seals what a killed writer left live, removes what it left empty; gives the next sequence number.
fn recover(dir: &Path, lock: &File) -> Result<u64, Error> {
    let mut next = retention::sequence_floor(lock, dir)?;
    for sequence in segments(dir)? {
        next = sequence.saturating_add(1);
        let path = segment_path(dir, sequence);
        match survey::survey(&path)? {
            Survey::Sealed { .. } | Survey::Unreadable => {}
            Survey::Live { end, times: Some(times) } => segment::seal_abandoned(&path, end, times)?,
            Survey::Live { times: None, .. } => {
                std::fs::remove_file(&path).map_err(Error::io("remove the segment", &path))?;
            }
        }
    }
    Ok(next)
}
