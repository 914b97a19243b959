//! Deletes the oldest sealed segments, by size and age, and never what was not read yet.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use rouse_types::Timestamp;

use super::{Cursor, Error, SEQUENCE_MAX, segment_path, segments, survey, survey::Survey, writers};

/// How much of a journal is kept. A journal may exceed it by the segments that are live or unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The size of all segments together, in bytes.
    pub bytes_max: u64,
    /// The age of a segment's youngest record.
    pub age_max: Duration,
}

/// What retention deleted, and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Segments deleted.
    pub segments: u64,
    /// Their size, in bytes.
    pub bytes: u64,
    /// The size of what is left, in bytes.
    pub bytes_left: u64,
}

struct Sealed {
    path: PathBuf,
    bytes: u64,
    greatest: Timestamp,
}

/// Deletes sealed segments, the oldest first, as long as the journal is larger than the policy allows or
/// they are older. `unread`, if given, is the cursor of a reader that must see every record: what lies at
/// or behind it is kept.
///
/// # Errors
/// What the operating system says. What was deleted until then stays deleted; calling again goes on.
pub fn retain(
    dir: &Path,
    policy: &Policy,
    unread: Option<&Cursor>,
    now: Timestamp,
) -> Result<Removed, Error> {
    let mut sealed = Vec::new();
    let mut total = 0;
    // Kept until the end: a writer that starts must not seal what is being deleted.
    let mut locks = Vec::new();
    for writer in writers(dir)? {
        let dir = dir.join(&writer);
        let read_until = match unread {
            Some(Cursor(positions)) => positions.get(&writer).map_or(0, |position| position.segment),
            None => u64::MAX,
        };
        let all = segments(&dir)?;
        let abandoned = abandoned(&dir, all.last().copied())?;
        for &sequence in &all {
            let path = segment_path(&dir, sequence);
            let metadata = path.metadata().map_err(Error::io("look at the segment", &path))?;
            total += metadata.len();
            let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            let modified = Timestamp::default() + modified.unwrap_or_default();
            let greatest = match survey::survey_header(&path)? {
                // Sealed without all its records readable: its times are unknown.
                Survey::Sealed { times } if times.1 == Timestamp(u64::MAX) => modified,
                Survey::Sealed { times } => times.1,
                Survey::Live { .. } if abandoned.is_some() => modified,
                Survey::Live { .. } => continue,
                Survey::Unreadable => modified,
            };
            if sequence < read_until {
                sealed.push(Sealed { path, bytes: metadata.len(), greatest });
            }
        }
        locks.extend(abandoned);
    }
    sealed.sort_by_key(|segment| segment.greatest);
    let mut removed = Removed { bytes_left: total, ..Removed::default() };
    for segment in sealed {
        let aged = now.since(segment.greatest) > policy.age_max;
        if removed.bytes_left <= policy.bytes_max && !aged {
            continue;
        }
        std::fs::remove_file(&segment.path).map_err(Error::io("delete the segment", &segment.path))?;
        removed.segments += 1;
        removed.bytes += segment.bytes;
        removed.bytes_left -= segment.bytes;
    }
    Ok(removed)
}

/// The lock of a writer that does not live, with the number written down from which its successor counts
/// on: else it would begin at 1 again, behind the cursors of its readers.
fn abandoned(dir: &Path, last: Option<u64>) -> Result<Option<File>, Error> {
    let (path, lock) = open_lock(dir)?;
    if lock.try_lock().is_err() {
        return Ok(None);
    }
    let floor = sequence_floor(&lock, dir)?.max(last.map_or(1, |last| last.saturating_add(1)));
    lock.write_all_at(&floor.to_le_bytes(), 0).map_err(Error::io("write the lock", &path))?;
    lock.sync_data().map_err(Error::io("flush the lock", &path))?;
    Ok(Some(lock))
}

/// Opens a writer's lock, without taking it.
pub(super) fn open_lock(dir: &Path) -> Result<(PathBuf, File), Error> {
    let path = dir.join("lock");
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = opened.map_err(Error::io("open the lock", &path))?;
    Ok((path, file))
}

/// The least sequence number that a writer may begin with.
pub(super) fn sequence_floor(lock: &File, dir: &Path) -> Result<u64, Error> {
    let mut bytes = [0; 8];
    match lock.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(1),
        other => other
            .map(|()| u64::from_le_bytes(bytes).clamp(1, SEQUENCE_MAX))
            .map_err(Error::io("read the lock in", dir)),
    }
}
