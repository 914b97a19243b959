//! Reads the records of one segment's file, which may still be written to.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _, path::Path};

use rouse_types::Timestamp;

use super::{Error, format, format::Parsed};

/// Bytes read at a time: few calls, and little memory for many writers.
const CHUNK_BYTES: usize = 256 << 10;

/// Reads a file's header; the inner error says what is wrong with it.
pub(super) fn read_header(file: &File, path: &Path) -> Result<Result<format::Header, &'static str>, Error> {
    let mut bytes = [0; format::HEADER_BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Err("the segment has no header")),
        other => other.map(|()| format::decode_header(&bytes)).map_err(Error::io("read the segment", path)),
    }
}

/// What comes next in a file.
pub(super) enum Next<'a> {
    Record { time: Timestamp, payload: &'a [u8] },
    Nothing,
    Corrupt,
}

/// The records of one file, read a chunk at a time.
pub(super) struct Source<'f> {
    file: &'f File,
    path: &'f Path,
    /// Of the next record, in the file.
    pub(super) offset: u64,
    buffer: Vec<u8>,
    /// The part of the buffer that was not parsed yet.
    unread: Range<usize>,
    /// As last seen.
    pub(super) file_bytes: u64,
}

impl<'f> Source<'f> {
    pub(super) fn new(file: &'f File, path: &'f Path, offset: u64) -> Self {
        Self { file, path, offset, buffer: Vec::new(), unread: 0..0, file_bytes: 0 }
    }

    /// Reads at least `bytes` from the record's begin on, or what the file has.
    fn fill(&mut self, bytes: usize) -> Result<(), Error> {
        self.file_bytes = self.file.metadata().map_err(Error::io("read the segment", self.path))?.len();
        let left = usize::try_from(self.file_bytes.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        self.buffer.resize(bytes.max(CHUNK_BYTES).min(left), 0);
        let mut have = 0;
        while have < self.buffer.len() {
            let at = self.offset + have as u64;
            match self.file.read_at(&mut self.buffer[have..], at) {
                Ok(0) => break,
                Ok(read) => have += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read the segment", self.path)(error)),
            }
        }
        self.unread = 0..have;
        Ok(())
    }

    /// The record at the offset, which moves behind it.
    pub(super) fn next(&mut self) -> Result<Next<'_>, Error> {
        // At most three looks: at what was read before; at a fresh chunk; and at the record read by itself,
        // either because it is larger than a chunk, or because the chunk caught it amid its commit: its
        // word was seen before the payload is read, so then it is whole.
        let mut refills = 0;
        let bytes = loop {
            let unread = &self.buffer[self.unread.clone()];
            let wanted = match format::decode_record(unread) {
                Parsed::Record { bytes, .. } => break bytes,
                Parsed::Nothing if refills > 0 => return Ok(Next::Nothing),
                // The file ends here, and not even a record's head would fit.
                Parsed::Short(_) if refills > 0 && unread.len() < format::RECORD_HEAD_BYTES => {
                    return Ok(Next::Nothing);
                }
                Parsed::Short(_) | Parsed::Corrupt if refills == 2 => return Ok(Next::Corrupt),
                Parsed::Short(bytes) => bytes,
                Parsed::Nothing | Parsed::Corrupt => CHUNK_BYTES,
            };
            self.fill(wanted)?;
            refills += 1;
        };
        let start = self.unread.start;
        self.unread.start = (start + bytes).min(self.unread.end);
        self.offset += bytes as u64;
        match format::decode_record(&self.buffer[start..]) {
            Parsed::Record { time, payload, .. } => Ok(Next::Record { time, payload }),
            _ => Ok(Next::Corrupt),
        }
    }
}
