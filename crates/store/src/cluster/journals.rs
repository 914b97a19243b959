//! Journals of a cluster: each node writes its own, as on one machine, and hands it over to a stream.
//!
//! ```text
//!   writers ──▶ segments on this node ──Handover──▶ stream ──Collect──▶ whoever keeps them
//! ```
//!
//! Writing stays a copy into memory, so that a call waits for nobody. A batch that is handed over says up to where it
//! goes, and is written only behind the one before, so each record is in the stream once, whoever dies when. What a
//! node had not handed over when its disk is lost, is lost: what was written since the last [`Handover::next`].

use std::{collections::BTreeMap, path::Path, sync::Arc};

use async_nats::HeaderMap;
use bytes::Bytes;
use rouse_types::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Cluster,
    engine::random,
    stream::{Entry, Follow, Published, Spec, Stream},
};
use crate::{
    Error,
    journal::{Corruption, Cursor, Position, Reader, Record},
};

/// Records of one batch.
const BATCH_MAX: usize = 1_000;
/// A piece of a batch: well below what servers take in one message unless told otherwise (1 MiB).
const PIECE_BYTES: usize = 512 << 10;
/// What the collector may lag behind, before handing over waits on the nodes' own disks.
const STREAM_BYTES_MAX: i64 = 1 << 30;
/// Pieces of one batch: a reader gives at most 16 MiB at a time, or one record of a segment's size.
const PIECES_MAX: u32 = 4_096;

/// What stands in a message.
#[derive(Debug, Serialize, Deserialize)]
struct Piece {
    /// Tells batches apart.
    batch: [u8; 16],
    number: u32,
    pieces: u32,
    /// Up to where the node had handed over before this batch, and with it.
    before: Cursor,
    after: Cursor,
    bytes: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    writer: String,
    position: Position,
    time: Timestamp,
    payload: Vec<u8>,
}

fn stream_spec(journal: &str) -> Result<Spec, Error> {
    check(journal)?;
    Ok(Spec {
        name: format!("ROUSE_JOURNAL_{journal}"),
        subjects: vec![format!("rouse.journal.{journal}.*")],
        bytes_max: Some(STREAM_BYTES_MAX),
        last_only: false,
        may_expire: false,
    })
}

fn check(name: &str) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=63).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "'{name}' is not the name of a journal or a node: use 1 to 63 of a-z, 0-9 and '-'"
    )))
}

/// Hands a node's journal over. One per node and journal; of two, one is refused and begins anew.
#[derive(Debug)]
pub struct Handover {
    stream: Stream,
    subject: String,
    reader: Reader,
    dir: std::path::PathBuf,
    /// The node's last message.
    last: u64,
}

/// What one step handed over.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// How many records.
    pub records: usize,
    /// What could not be read.
    pub corruptions: Vec<Corruption>,
    /// Whether that was all.
    pub caught_up: bool,
}

impl Handover {
    /// Goes on where this node's journal in this folder was handed over to.
    ///
    /// # Errors
    /// [`Error::Away`], [`Error::Engine`].
    pub async fn open(cluster: &Cluster, journal: &str, node: &str, dir: &Path) -> Result<Self, Error> {
        let stream = Stream::open(cluster, &stream_spec(journal)?).await?;
        check(node)?;
        let subject = format!("rouse.journal.{journal}.{node}");
        let (last, cursor) = place(&stream, &subject).await?;
        Ok(Self { stream, subject, reader: Reader::open(dir, cursor), dir: dir.to_owned(), last })
    }

    /// Up to where it was handed over: what is before may be removed from this node's disk.
    #[must_use]
    pub fn cursor(&self) -> &Cursor {
        self.reader.cursor()
    }

    /// Hands over some of what there is. When this returns, it is on a quorum.
    ///
    /// # Errors
    /// [`Error::Full`] if the collector lags too far behind, [`Error::Away`], [`Error::Unknown`]: what was not handed
    /// over is, with the next step.
    pub async fn next(&mut self) -> Result<Handed, Error> {
        let before = self.reader.cursor().clone();
        let batch =
            self.reader.read(BATCH_MAX).map_err(|error| Error::Log(format!("the journal: {error}")))?;
        let handed = Handed {
            records: batch.records.len(),
            corruptions: batch.corruptions,
            caught_up: batch.caught_up,
        };
        if batch.records.is_empty() {
            return Ok(handed);
        }
        match self.publish(before, batch.records).await {
            Ok(true) => Ok(handed),
            failed => {
                // It may be in the stream, or partly: what is there says where to go on.
                let (last, cursor) = place(&self.stream, &self.subject).await?;
                let there = cursor == *self.reader.cursor();
                self.last = last;
                self.reader = Reader::open(&self.dir, cursor);
                failed.map(|_| if there { handed } else { Handed::default() })
            }
        }
    }

    /// Tells whether nobody else wrote for this node meanwhile.
    async fn publish(&mut self, before: Cursor, records: Vec<Record>) -> Result<bool, Error> {
        let line = |record: Record| Line {
            writer: record.writer.to_string(),
            position: record.position,
            time: record.time,
            payload: record.payload,
        };
        let lines: Vec<Line> = records.into_iter().map(line).collect();
        let write = |error: postcard::Error| Error::Log(format!("records cannot be written: {error}"));
        let bytes = postcard::to_allocvec(&lines).map_err(write)?;
        let (batch, after) = (random()?.1, self.reader.cursor().clone());
        let pieces = u32::try_from(bytes.len().div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX);
        for (number, part) in (0..).zip(bytes.chunks(PIECE_BYTES)) {
            let piece = Piece {
                batch,
                number,
                pieces,
                before: before.clone(),
                after: after.clone(),
                bytes: part.to_vec(),
            };
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Expected-Last-Subject-Sequence", self.last.to_string());
            let payload = postcard::to_allocvec(&piece).map_err(write)?;
            match self.stream.publish(&self.subject, headers, payload.into()).await? {
                Published::At(last) => self.last = last,
                Published::Refused => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// A node's last message, and up to where it has handed over.
async fn place(stream: &Stream, subject: &str) -> Result<(u64, Cursor), Error> {
    let Some(entry) = stream.last(subject).await? else { return Ok((0, Cursor::default())) };
    let piece = read(&entry.payload)?;
    let whole = piece.number + 1 == piece.pieces;
    Ok((entry.sequence, if whole { piece.after } else { piece.before }))
}

fn read(payload: &Bytes) -> Result<Piece, Error> {
    let piece: Piece = postcard::from_bytes(payload).map_err(|error| {
        Error::Log(format!("a batch of a journal cannot be read: {error}; use a later release"))
    })?;
    if piece.number >= piece.pieces || piece.pieces > PIECES_MAX {
        return Err(Error::Log("a batch of a journal has more pieces than any".to_owned()));
    }
    Ok(piece)
}

/// Records of one node, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// Its place in the stream, to be kept with whatever was made of the records.
    pub sequence: u64,
    /// The node.
    pub node: String,
    /// What it handed over. Writers' names are its own.
    pub records: Vec<Record>,
}

/// Collects what all nodes hand over, each record once.
#[derive(Debug)]
pub struct Collect {
    stream: Stream,
    follow: Option<Follow>,
    /// Up to where whole batches were given.
    given: u64,
    next: u64,
    /// By subject: the batch that is under way.
    pieces: BTreeMap<String, (u64, [u8; 16], Vec<u8>, u32)>,
}

impl Collect {
    /// Goes on after the batch at `sequence`; zero is the begin.
    ///
    /// # Errors
    /// [`Error::Away`], [`Error::Engine`].
    pub async fn open(cluster: &Cluster, journal: &str, sequence: u64) -> Result<Self, Error> {
        let stream = Stream::open(cluster, &stream_spec(journal)?).await?;
        Ok(Self { stream, follow: None, given: sequence, next: 0, pieces: BTreeMap::new() })
    }

    /// The next batch; none if nothing happens for some seconds. Batches of several nodes may overlap, so after the
    /// place of one, pieces of another may stand before it: `open` finds them again.
    ///
    /// # Errors
    /// [`Error::Away`]: it may be called again.
    pub async fn next(&mut self) -> Result<Option<Collected>, Error> {
        loop {
            let mut follow = match self.follow.take() {
                Some(follow) => follow,
                None => {
                    let state = self.stream.state().await?;
                    // From the first that is kept: pieces of batches that were not whole at `given` may be before it.
                    let from = if self.next == 0 { state.first } else { self.next.max(state.first) };
                    self.next = from;
                    self.stream.follow(from).await?
                }
            };
            let Some(entry) = follow.next().await? else {
                self.follow = Some(follow);
                return Ok(None);
            };
            self.follow = Some(follow);
            self.next = entry.sequence + 1;
            if let Some(collected) = self.take(entry)? {
                return Ok(Some(collected));
            }
        }
    }

    fn take(&mut self, entry: Entry) -> Result<Option<Collected>, Error> {
        let piece = read(&entry.payload)?;
        let (mut begun, batch, mut bytes, wanted) =
            self.pieces.remove(&entry.subject).unwrap_or((entry.sequence, piece.batch, Vec::new(), 0));
        // Pieces of a batch that was never finished are left behind by the next batch.
        let wanted = if batch == piece.batch { wanted } else { 0 };
        if piece.number != wanted {
            return Ok(None);
        }
        if wanted == 0 {
            begun = entry.sequence;
            bytes.clear();
        }
        bytes.extend(&piece.bytes);
        if piece.number + 1 < piece.pieces {
            self.pieces.insert(entry.subject, (begun, piece.batch, bytes, wanted + 1));
            return Ok(None);
        }
        if entry.sequence <= self.given {
            return Ok(None);
        }
        let lines: Vec<Line> = postcard::from_bytes(&bytes)
            .map_err(|error| Error::Log(format!("a batch of a journal cannot be read: {error}")))?;
        let record = |line: Line| Record {
            writer: Arc::from(line.writer),
            position: line.position,
            time: line.time,
            payload: line.payload,
        };
        let node = entry.subject.rsplit('.').next().unwrap_or_default().to_owned();
        self.given = entry.sequence;
        Ok(Some(Collected {
            sequence: entry.sequence,
            node,
            records: lines.into_iter().map(record).collect(),
        }))
    }

    /// How much the engine holds of the journal, in bytes.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn bytes(&self) -> Result<u64, Error> {
        Ok(self.stream.state().await?.bytes)
    }

    /// Drops what was collected up to a place, but for the last message of each node, by which it knows where to go on.
    ///
    /// # Errors
    /// [`Error::Away`].
    pub async fn forget(&self, sequence: u64) -> Result<u64, Error> {
        let mut forgotten = 0;
        for subject in self.stream.subjects().await? {
            let Some(last) = self.stream.last(&subject).await? else { continue };
            // Pieces of a batch that is under way are needed, too.
            let begun = self.pieces.get(&subject).map_or(u64::MAX, |(at, ..)| *at);
            let before = (sequence + 1).min(last.sequence).min(begun);
            forgotten += self.stream.purge(&json!({ "filter": subject, "seq": before })).await?;
        }
        Ok(forgotten)
    }
}
