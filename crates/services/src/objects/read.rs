//! Reading objects: their records, and their bytes as a stream.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    ops::Range,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, future::BoxFuture};
use tokio::runtime::Handle;

use super::{
    Caller, Condition, Error, Object, Objects,
    files::{Chunk, FileId, Files},
    record::{Content, Piece},
};

/// An object may be replaced between its record and its file being read; in a row, so often that is no chance.
pub(super) const TRIES: usize = 16;

/// An object with some of its bytes.
#[derive(Debug)]
pub struct Read {
    /// The object.
    pub object: Object,
    /// Which of its bytes follow.
    pub range: Range<u64>,
    /// They.
    pub body: Reader,
}

impl Objects {
    /// An object's record.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::NoSuchKey`].
    pub async fn head(&self, caller: &Caller, bucket: &str, key: &str) -> Result<Object, Error> {
        self.0.object(caller, bucket, key).await
    }

    /// An object and a stream of its bytes: of those in the range that `select` takes of its size. What is read stays
    /// as it was, even if the object is replaced or deleted meanwhile.
    ///
    /// # Errors
    /// [`Error::NoSuchBucket`], [`Error::NoSuchKey`], what the condition says, what `select` says.
    pub async fn get(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        condition: &Condition,
        select: impl Fn(u64) -> Result<Range<u64>, Error>,
    ) -> Result<Read, Error> {
        let mut missed = None;
        for _ in 0..TRIES {
            let object = self.0.object(caller, bucket, key).await?;
            condition.check_read(&object)?;
            let range = select(object.size)?;
            match self.stream(&object, range.clone()).await {
                Ok(Some(body)) => {
                    // Its pin holds what is removed from now on: what was removed before shows in the record.
                    let pinned = matches!(object.content, Content::File(_)) && body._pin.is_some();
                    if !pinned || self.0.object(caller, bucket, key).await?.version == object.version {
                        return Ok(Read { object, range, body });
                    }
                }
                Ok(None) => {}
                // It was replaced or deleted meanwhile; else they are missing indeed.
                Err(Error::Missing(_)) if missed != Some(object.version) => missed = Some(object.version),
                Err(error) => return Err(error),
            }
        }
        Err(Error::NoSuchKey(key.to_owned()))
    }

    /// A stream of an object's bytes, the first of which are read; nothing if the object is another by now.
    async fn stream(&self, object: &Object, range: Range<u64>) -> Result<Option<Reader>, Error> {
        let (files, pins) = (&self.0.files, &self.0.pins);
        let (pieces, pin) = match object.content {
            // A local file that is open can be read when it was removed.
            Content::File(file) => {
                let pin = (!files.open_outlives_removal()).then(|| pins.pin(file, files));
                (vec![(file, object.size)], pin)
            }
            Content::Parts { manifest, .. } => {
                // First hold on to the files, then see whether they were still there.
                let pin = pins.pin(manifest, files);
                let Some(pieces) = self.0.pieces(manifest).await? else { return Ok(None) };
                (pieces, Some(pin))
            }
        };
        let mut reader = Reader {
            files: files.clone(),
            pieces: within(pieces, &range),
            open: None,
            ready: None,
            remaining: range.end.saturating_sub(range.start),
            reading: None,
            _pin: pin,
        };
        // That they are there is known before the answer begins.
        if let Some((file, range)) = reader.pieces.front() {
            let chunk = files.read(*file, None, range.clone()).await?;
            reader.took(chunk);
        }
        Ok(Some(reader))
    }
}

/// The pieces that a range touches, each with the part of it that lies in the range.
fn within(pieces: Vec<Piece>, range: &Range<u64>) -> VecDeque<(FileId, Range<u64>)> {
    let mut start = 0;
    let mut found = VecDeque::new();
    for (file, size) in pieces {
        let (from, to) = (range.start.max(start), range.end.min(start + size));
        if from < to {
            found.push_back((file, from - start..to - start));
        }
        start += size;
    }
    found
}

/// Gives bytes, and the file that they are from. Polled by one at a time; the lock makes it `Sync`, as bodies must be.
type Reading = Mutex<BoxFuture<'static, Result<Chunk, Error>>>;

/// A stream of an object's bytes.
pub struct Reader {
    files: Files,
    /// What is still to be read.
    pieces: VecDeque<(FileId, Range<u64>)>,
    /// The file of the first piece.
    open: Option<Arc<File>>,
    /// Bytes that were read and not yet given.
    ready: Option<Bytes>,
    /// How many were not yet given.
    remaining: u64,
    reading: Option<Reading>,
    _pin: Option<Pinned>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pieces, remaining, .. } = self;
        f.debug_struct("Reader").field("pieces", pieces).field("remaining", remaining).finish_non_exhaustive()
    }
}

impl Reader {
    /// How many bytes are still to come.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    fn took(&mut self, (bytes, file): Chunk) {
        if let Some((_, range)) = self.pieces.front_mut() {
            range.start += bytes.len() as u64;
            if range.is_empty() {
                self.pieces.pop_front();
            } else {
                self.open = file;
            }
        }
        self.ready = Some(bytes);
    }
}

impl Stream for Reader {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.ready.is_none() {
            let reading = match &mut this.reading {
                Some(reading) => reading,
                None => {
                    let Some((id, range)) = this.pieces.front().cloned() else { return Poll::Ready(None) };
                    let (files, open) = (this.files.clone(), this.open.take());
                    this.reading.insert(Mutex::new(async move { files.read(id, open, range).await }.boxed()))
                }
            };
            let reading = reading.get_mut().unwrap_or_else(PoisonError::into_inner);
            let result = ready!(reading.as_mut().poll(context));
            this.reading = None;
            match result {
                Ok(chunk) => this.took(chunk),
                Err(error) => {
                    this.pieces.clear();
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        let bytes = this.ready.take();
        this.remaining -= bytes.as_ref().map_or(0, Bytes::len) as u64;
        Poll::Ready(bytes.map(Ok))
    }
}

/// What is being read and cannot be held open, by its manifest or its one file: it is not removed before the last
/// reader goes.
#[derive(Debug, Clone, Default)]
pub(super) struct Pins(Arc<Mutex<HashMap<FileId, Readers>>>);

#[derive(Debug, Default)]
struct Readers {
    count: usize,
    remove: Vec<FileId>,
}

/// Keeps files, until dropped.
#[derive(Debug)]
pub(super) struct Pinned {
    pins: Pins,
    manifest: FileId,
    files: Files,
}

impl Pins {
    pub(super) fn pin(&self, manifest: FileId, files: &Files) -> Pinned {
        self.lock().entry(manifest).or_default().count += 1;
        Pinned { pins: self.clone(), manifest, files: files.clone() }
    }

    /// Lets the last reader remove these files; false if there is none.
    pub(super) fn later(&self, manifest: FileId, files: &[FileId]) -> bool {
        let mut pins = self.lock();
        let readers = pins.get_mut(&manifest);
        readers.is_some_and(|readers| {
            readers.remove = files.to_vec();
            true
        })
    }

    /// Files that nothing names any more and someone still reads.
    pub(super) fn kept(&self) -> Vec<FileId> {
        self.lock().values().flat_map(|readers| readers.remove.iter().copied()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FileId, Readers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let remove = {
            let mut pins = self.pins.lock();
            let Some(readers) = pins.get_mut(&self.manifest) else { return };
            readers.count -= 1;
            if readers.count > 0 {
                return;
            }
            pins.remove(&self.manifest).map(|readers| readers.remove).unwrap_or_default()
        };
        // Without a runtime the process is ending, and the sweep removes them.
        if let (false, Ok(runtime)) = (remove.is_empty(), Handle::try_current()) {
            let files = self.files.clone();
            runtime.spawn(async move { files.remove(remove).await });
        }
    }
}

#[cfg(test)]
mod tests {
    use rouse_types::{ManualClock, Timestamp};

    use super::*;

    #[test]
    fn a_range_takes_its_part_of_each_piece() {
        let clock = ManualClock::at(Timestamp::from_millis(1));
        let pieces: Vec<Piece> = [5, 3, 4].map(|size| (FileId::new(&clock), size)).to_vec();
        let taken = |range: Range<u64>| {
            within(pieces.clone(), &range).into_iter().map(|(_, part)| part).collect::<Vec<_>>()
        };
        assert_eq!(taken(0..12), [0..5, 0..3, 0..4]);
        assert_eq!(taken(4..9), [4..5, 0..3, 0..1]);
        assert_eq!(taken(5..9), [0..3, 0..1]);
        assert!(taken(3..3).is_empty());
    }
}
