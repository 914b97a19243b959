//! Reading objects: their records, and their bytes as a stream.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;
use tokio::{
    runtime::Handle,
    task::{JoinHandle, spawn_blocking},
};

use super::{
    Caller, Condition, Error, Object, Objects,
    files::{FileId, Files},
    record::{Content, Piece},
};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 << 10;
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
        for _ in 0..TRIES {
            let object = self.0.object(caller, bucket, key).await?;
            condition.check_read(&object)?;
            let range = select(object.size)?;
            if let Some(body) = self.stream(&object, range.clone()).await? {
                return Ok(Read { object, range, body });
            }
        }
        Err(Error::NoSuchKey(key.to_owned()))
    }

    /// A stream of an object's bytes; nothing if the object is another by now.
    pub(super) async fn stream(&self, object: &Object, range: Range<u64>) -> Result<Option<Reader>, Error> {
        let (pieces, pin) = match object.content {
            Content::File(file) => (vec![(file, object.size)], None),
            Content::Parts { manifest, .. } => {
                // First hold on to the files, then see whether they were still there.
                let pin = self.0.pins.pin(manifest, &self.0.files);
                let Some(pieces) = self.0.pieces(manifest).await? else { return Ok(None) };
                (pieces, Some(pin))
            }
        };
        let mut reader = Reader {
            files: self.0.files.clone(),
            pieces: within(pieces, &range),
            open: None,
            remaining: range.end.saturating_sub(range.start),
            reading: None,
            _pin: pin,
        };
        // A file that is open can be read when it was removed.
        if let (None, Some(&(file, _))) = (&reader._pin, reader.pieces.front()) {
            let files = self.0.files.clone();
            let opened = spawn_blocking(move || files.read(file)).await.unwrap_or(Err(Error::Stopping));
            match opened {
                Ok(file) => reader.open = Some(Arc::new(file)),
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
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

/// Gives bytes, and the file that they are from.
type Reading = JoinHandle<Result<(Bytes, Arc<File>), Error>>;

/// A stream of an object's bytes.
#[derive(Debug)]
pub struct Reader {
    files: Files,
    pieces: VecDeque<(FileId, Range<u64>)>,
    /// The file of the first piece.
    open: Option<Arc<File>>,
    remaining: u64,
    reading: Option<Reading>,
    _pin: Option<Pinned>,
}

impl Reader {
    /// How many bytes are still to come.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }
}

impl Stream for Reader {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let reading = match &mut this.reading {
            Some(reading) => reading,
            None => {
                let Some((id, range)) = this.pieces.front() else { return Poll::Ready(None) };
                let (files, open, id) = (this.files.clone(), this.open.take(), *id);
                let (at, left) = (range.start, range.end - range.start);
                let size = CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES));
                this.reading.insert(spawn_blocking(move || {
                    let file = match open {
                        Some(file) => file,
                        None => Arc::new(files.read(id)?),
                    };
                    let mut bytes = vec![0; size];
                    let fail = |source| {
                        let path = id.to_string().into();
                        Error::Io { action: "read the file", path, source }
                    };
                    file.read_exact_at(&mut bytes, at).map_err(fail)?;
                    Ok((bytes.into(), file))
                }))
            }
        };
        let result = ready!(Pin::new(reading).poll(context)).unwrap_or(Err(Error::Stopping));
        this.reading = None;
        match result {
            Ok((bytes, file)) => {
                this.remaining -= bytes.len() as u64;
                if let Some((_, range)) = this.pieces.front_mut() {
                    range.start += bytes.len() as u64;
                    if range.is_empty() {
                        this.pieces.pop_front();
                    } else {
                        this.open = Some(file);
                    }
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            Err(error) => {
                this.pieces.clear();
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

/// Which manifests' files are being read: too many to be held open, they are not removed before the last reader goes.
#[derive(Debug, Clone, Default)]
pub(super) struct Pins(Arc<Mutex<HashMap<FileId, Readers>>>);

#[derive(Debug, Default)]
struct Readers {
    count: usize,
    remove: Vec<FileId>,
}

/// Keeps a manifest's files, until dropped.
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
            runtime.spawn_blocking(move || files.remove(&remove));
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
