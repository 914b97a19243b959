//! A look at a segment's file, for recovery and retention.

use std::{fs::File, path::Path};

use rouse_types::Timestamp;

use super::{
    Error, format,
    source::{Next, Source, read_header},
};

/// What a segment's file holds.
pub(super) enum Survey {
    Sealed {
        times: (Timestamp, Timestamp),
    },
    /// With the times of its records, if there are any.
    Live {
        end: u64,
        times: Option<(Timestamp, Timestamp)>,
    },
    /// Not a segment that this release can read.
    Unreadable,
}

/// Looks at a header only.
pub(super) fn survey_header(path: &Path) -> Result<Survey, Error> {
    let file = File::open(path).map_err(Error::io("open the segment", path))?;
    Ok(match read_header(&file, path)? {
        Err(_) => Survey::Unreadable,
        Ok(format::Header { end: Some(_), times, .. }) => Survey::Sealed { times },
        Ok(_) => Survey::Live { end: 0, times: None },
    })
}

/// Looks through a whole segment for its end.
pub(super) fn survey(path: &Path) -> Result<Survey, Error> {
    let found = survey_header(path)?;
    if !matches!(found, Survey::Live { .. }) {
        return Ok(found);
    }
    let file = File::open(path).map_err(Error::io("open the segment", path))?;
    let (end, times) = live(&file, path)?;
    Ok(Survey::Live { end, times })
}

/// Where the records of a segment end that was not sealed a moment ago, and their times if there are any.
pub(super) fn live(file: &File, path: &Path) -> Result<(u64, Option<(Timestamp, Timestamp)>), Error> {
    let mut source = Source::new(file, path, format::HEADER_BYTES as u64);
    let mut times: Option<(Timestamp, Timestamp)> = None;
    loop {
        match source.next()? {
            Next::Record { time, .. } => {
                let (least, greatest) = times.unwrap_or((time, time));
                times = Some((least.min(time), greatest.max(time)));
            }
            Next::Nothing => return Ok((source.offset, times)),
            // What a power loss tore stays inside, so that readers see it and tell of it.
            Next::Corrupt => return Ok((source.file_bytes, Some((Timestamp(0), Timestamp(u64::MAX))))),
        }
    }
}
