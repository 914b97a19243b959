//! One segment that is written: a file, wholly allocated, and its mapping.
//!
//! Why no write to the mapping can raise `SIGBUS`: the file is as long as the mapping, is never shortened
//! while records may still be written to it, and each of its blocks was allocated by `fallocate` (or, where
//! a file system has none, by writing zeros) before it was mapped.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use rouse_types::Timestamp;
use rustix::fs::FallocateFlags;
use vm_memory::{
    Bytes as _, FileOffset, VolatileMemory as _,
    mmap::{MmapRegion, MmapRegionError},
};

use super::{Error, format, segment_path};

/// A segment under way. Its owner is the only one that writes it.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: Arc<File>,
    map: MmapRegion<()>,
    /// Where the next record goes.
    offset: usize,
    times: Option<(Timestamp, Timestamp)>,
}

impl Segment {
    /// Makes the file, allocates and maps it. The file gets its name last, so that a reader never meets a
    /// segment without a header.
    pub(super) fn create(dir: &Path, sequence: u64, writer: &str, bytes: u64) -> Result<Self, Error> {
        let unfinished = dir.join("segment.new");
        let made = Self::make(&unfinished, sequence, writer, bytes).and_then(|(file, map)| {
            let path = segment_path(dir, sequence);
            std::fs::rename(&unfinished, &path).map_err(Error::io("name the segment", &path))?;
            let folder = File::open(dir).map_err(Error::io("open the folder", dir))?;
            folder.sync_all().map_err(Error::io("flush the folder", dir))?;
            Ok(Self { path, file: Arc::new(file), map, offset: format::HEADER_BYTES, times: None })
        });
        made.inspect_err(|_| drop(std::fs::remove_file(&unfinished)))
    }

    fn make(path: &Path, sequence: u64, writer: &str, bytes: u64) -> Result<(File, MmapRegion<()>), Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(Error::io("make the segment", path))?;
        allocate(&file, bytes).map_err(Error::io("allocate the segment", path))?;
        file.write_all_at(&format::encode_header(sequence, writer), 0)
            .map_err(Error::io("write the segment's header", path))?;
        let mapped = file.try_clone().map_err(Error::io("share the segment", path))?;
        let size = usize::try_from(bytes).map_err(|_| Error::SegmentBytes(bytes))?;
        let map = MmapRegion::from_file(FileOffset::new(mapped, 0), size).map_err(|error| {
            let source = match error {
                MmapRegionError::Mmap(source) => source,
                other => io::Error::other(other),
            };
            Error::Io { action: "map the segment", path: path.to_owned(), source }
        })?;
        Ok((file, map))
    }

    /// The file, for whoever flushes it.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// The largest payload that a new segment of this size takes.
    pub(super) fn payload_bytes_max(&self) -> usize {
        self.map.size() - format::HEADER_BYTES - format::RECORD_HEAD_BYTES
    }

    /// Whether a record of `bytes` in all still fits.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        self.map.size() - self.offset >= bytes
    }

    /// Where the next record goes.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// Copies a record in, then commits it. The caller made sure that it fits.
    #[inline]
    pub(super) fn append(&mut self, time: Timestamp, payload: &[u8]) -> Result<(), Error> {
        let bytes = format::record_bytes(payload.len());
        let word = format::commit_word(time, payload);
        let written = self.map.get_slice(self.offset, bytes).map_err(|_| ()).and_then(|record| {
            record.store(time.0.to_le(), 8, Ordering::Relaxed).map_err(|_| ())?;
            record.write_slice(payload, format::RECORD_HEAD_BYTES).map_err(|_| ())?;
            // The release orders the copy before the commit for every other process.
            record.store(word.to_le(), 0, Ordering::Release).map_err(|_| ())
        });
        written
            .map_err(|()| Error::TooLarge { bytes: payload.len(), bytes_max: self.payload_bytes_max() })?;
        let (least, greatest) = match self.times {
            Some((least, greatest)) => (least.min(time), greatest.max(time)),
            None => {
                self.put(format::FIRST_AT, time.0);
                (time, time)
            }
        };
        self.times = Some((least, greatest));
        self.offset += bytes;
        Ok(())
    }

    fn put(&self, at: usize, value: u64) {
        // The header is always inside the mapping.
        if let Ok(header) = self.map.get_slice(0, format::HEADER_BYTES) {
            drop(header.store(value.to_le(), at, Ordering::Release));
        }
    }

    /// Tells readers that nothing more comes.
    pub(super) fn seal(&self) {
        let (least, greatest) = self.times.unwrap_or_default();
        self.put(format::LEAST_AT, least.0);
        self.put(format::GREATEST_AT, greatest.0);
        self.put(format::END_AT, self.offset as u64);
    }

    /// Ends a segment before it is full: gives back its unused blocks, or the file if it has no records.
    pub(super) fn close(self) -> Result<(), Error> {
        if self.times.is_none() {
            return std::fs::remove_file(&self.path).map_err(Error::io("remove the segment", &self.path));
        }
        self.seal();
        let Self { path, file, map, offset, .. } = self;
        // Unmapped first: nobody can write behind the new end any more.
        drop(map);
        file.set_len(offset as u64).map_err(Error::io("shorten the segment", &path))?;
        file.sync_data().map_err(Error::io("flush the segment", &path))
    }
}

/// Seals a segment that a killed writer left live: its records end where the first uncommitted one is.
pub(super) fn seal_abandoned(path: &Path, end: u64, times: (Timestamp, Timestamp)) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).open(path).map_err(Error::io("open the segment", path))?;
    let put = |at: usize, value: u64| {
        file.write_all_at(&value.to_le_bytes(), at as u64).map_err(Error::io("seal the segment", path))
    };
    put(format::LEAST_AT, times.0.0)?;
    put(format::GREATEST_AT, times.1.0)?;
    put(format::END_AT, end)?;
    file.set_len(end).map_err(Error::io("shorten the segment", path))?;
    file.sync_data().map_err(Error::io("flush the segment", path))
}

/// Gives the file `bytes` real blocks. A file system without `fallocate` gets zeros written.
pub(crate) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            const ZEROS: &[u8] = &[0; 64 << 10];
            let mut at = 0;
            while at < bytes {
                let chunk = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(ZEROS.len());
                file.write_all_at(&ZEROS[..chunk], at)?;
                at += chunk as u64;
            }
            // Delayed allocation could still fail later; only what is on the disk has its blocks.
            file.sync_all()
        }
        Err(errno) => Err(errno.into()),
    }
}
