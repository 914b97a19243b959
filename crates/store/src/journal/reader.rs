//! Reads the records of all writers of a journal from a cursor on, and follows the live ones.
//!
//! ```text
//!          ┌── records, until the first uncommitted ──▶ live: waits here, the next read goes on
//!   segment┤
//!          ├── its end ──▶ sealed: on to the next
//!          └── a failed checksum ──▶ reported, on to the next
//! ```

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use rouse_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Error, format, segment_path, segments,
    source::{Next, Source, read_header},
    writers,
};

/// Payload bytes of one batch: bounds the memory of a reader that lags.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// A place in one writer's segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The segment's sequence number.
    pub segment: u64,
    /// The offset in its file, in bytes.
    pub offset: u64,
}

/// How far a reader has read each writer. The default is the begin of everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub BTreeMap<String, Position>);

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who wrote it.
    pub writer: Arc<str>,
    /// Where it stands.
    pub position: Position,
    /// The time that its writer gave it.
    pub time: Timestamp,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// A place that cannot be read. Whatever followed it in its segment was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// The segment's file.
    pub path: PathBuf,
    /// The offset in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub reason: &'static str,
}

/// What one read came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Records, in the order of each writer; writers one after the other.
    pub records: Vec<Record>,
    /// What could not be read.
    pub corruptions: Vec<Corruption>,
    /// Whether all that was committed when the read began has been read.
    pub caught_up: bool,
}

/// Reads a journal from a cursor on.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    cursor: Cursor,
    /// None: all times.
    times: Option<Range<Timestamp>>,
    /// Which writer is read first, so that a busy one does not fill every batch.
    turn: usize,
}

impl Reader {
    /// A reader of all writers below `dir`. It need not exist yet.
    #[must_use]
    pub fn open(dir: &Path, from: Cursor) -> Self {
        Self { dir: dir.to_owned(), cursor: from, times: None, turn: 0 }
    }

    /// Only records of these times. Sealed segments that hold none are passed over unread.
    #[must_use]
    pub fn between(mut self, times: Range<Timestamp>) -> Self {
        self.times = Some(times);
        self
    }

    /// Where the next read begins: to be kept with whatever was made of the records.
    #[must_use]
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Reads up to `records_max` records, and remembers how far it came. Call it again for more, at once
    /// if the batch has not caught up, else after a while.
    ///
    /// # Errors
    /// Only what the operating system says; what is corrupt is part of the batch.
    pub fn read(&mut self, records_max: usize) -> Result<Batch, Error> {
        let mut reading = Reading { batch: Batch::default(), bytes_left: BATCH_BYTES_MAX, records_max };
        reading.batch.caught_up = true;
        let mut writers = writers(&self.dir)?;
        let turn = self.turn % writers.len().max(1);
        writers.rotate_left(turn);
        self.turn = turn + 1;
        for writer in writers {
            let position = self.cursor.0.entry(writer.clone()).or_default();
            let times = self.times.as_ref();
            let done = reading.writer(&self.dir.join(&writer), &Arc::from(writer), position, times)?;
            reading.batch.caught_up &= done;
        }
        Ok(reading.batch)
    }
}

struct Reading {
    batch: Batch,
    bytes_left: usize,
    records_max: usize,
}

/// Where in a segment reading stopped, and why.
enum Stop {
    /// Nothing more is committed: the segment is live.
    Live,
    /// The segment is done with, read or skipped.
    Done,
    /// The batch is full.
    Enough,
}

impl Reading {
    fn full(&self) -> bool {
        self.batch.records.len() >= self.records_max || self.bytes_left == 0
    }

    /// Reads on in one writer's folder; whether that caught up.
    fn writer(
        &mut self,
        dir: &Path,
        writer: &Arc<str>,
        position: &mut Position,
        times: Option<&Range<Timestamp>>,
    ) -> Result<bool, Error> {
        for sequence in segments(dir)? {
            if sequence < position.segment {
                continue;
            }
            if sequence > position.segment {
                *position = Position { segment: sequence, offset: 0 };
            }
            let path = segment_path(dir, sequence);
            let file = match File::open(&path) {
                // Retention was faster; there is nothing to read any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(Error::io("open the segment", &path))?,
            };
            match self.segment(&file, &path, writer, position, times)? {
                Stop::Live => return Ok(true),
                Stop::Enough => return Ok(false),
                Stop::Done => *position = Position { segment: sequence + 1, offset: 0 },
            }
        }
        Ok(true)
    }

    fn corrupt(&mut self, path: &Path, offset: u64, reason: &'static str) -> Stop {
        tracing::warn!(path = %path.display(), offset, reason, "a journal's segment is corrupt");
        self.batch.corruptions.push(Corruption { path: path.to_owned(), offset, reason });
        Stop::Done
    }

    fn segment(
        &mut self,
        file: &File,
        path: &Path,
        writer: &Arc<str>,
        position: &mut Position,
        times: Option<&Range<Timestamp>>,
    ) -> Result<Stop, Error> {
        let header = match read_header(file, path)? {
            Ok(header) if header.sequence == position.segment => header,
            Ok(_) => return Ok(self.corrupt(path, 0, "the segment's name is not that of its header")),
            Err(reason) => return Ok(self.corrupt(path, 0, reason)),
        };
        let apart = |times: &Range<Timestamp>| header.times.1 < times.start || header.times.0 >= times.end;
        if header.end.is_some() && times.is_some_and(apart) {
            return Ok(Stop::Done);
        }
        position.offset = position.offset.max(format::HEADER_BYTES as u64);
        let mut source = Source::new(file, path, position.offset);
        loop {
            if header.end.is_some_and(|end| source.offset >= end) {
                return Ok(Stop::Done);
            }
            if self.full() {
                return Ok(Stop::Enough);
            }
            let here = Position { offset: source.offset, ..*position };
            match source.next()? {
                Next::Record { time, payload } => {
                    if times.is_none_or(|times| times.contains(&time)) {
                        self.bytes_left = self.bytes_left.saturating_sub(payload.len());
                        let (writer, payload) = (Arc::clone(writer), payload.to_vec());
                        self.batch.records.push(Record { writer, position: here, time, payload });
                    }
                    position.offset = source.offset;
                }
                Next::Nothing if header.end.is_none() => return Ok(Stop::Live),
                Next::Nothing => {
                    let reason = "records are missing before the segment's end";
                    return Ok(self.corrupt(path, here.offset, reason));
                }
                Next::Corrupt => return Ok(self.corrupt(path, here.offset, "a record's checksum is wrong")),
            }
        }
    }
}
