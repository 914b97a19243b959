//! What is journalled, as bytes: one byte that says the format, then the fields as postcard writes them. Journals
//! outlive the release that wrote them; a reader of another format says so instead of reading nonsense.

use serde::{Serialize, de::DeserializeOwned};

use crate::{LogLine, Usage};

/// The format of this release. Another order or number of fields of [`Usage`] or [`LogLine`] is another format.
const FORMAT: u8 = 1;

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// They are of a format that this release does not know.
    #[error("the record is of format {0}, and this release reads format {FORMAT}")]
    Format(u8),
    /// They are cut off, or something else.
    #[error("the record is damaged")]
    Damaged,
    /// The buffer is too small for it.
    #[error("the record is larger than its buffer")]
    TooLarge,
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    match bytes.split_first() {
        Some((&FORMAT, fields)) => match postcard::take_from_bytes(fields) {
            Ok((record, [])) => Ok(record),
            _ => Err(RecordError::Damaged),
        },
        Some((&other, _)) => Err(RecordError::Format(other)),
        None => Err(RecordError::Damaged),
    }
}

fn write<'b>(record: &impl Serialize, buffer: &'b mut [u8]) -> Result<&'b [u8], RecordError> {
    let (format, fields) = buffer.split_first_mut().ok_or(RecordError::TooLarge)?;
    *format = FORMAT;
    let length = postcard::to_slice(record, fields).map_err(|_| RecordError::TooLarge)?.len();
    Ok(&buffer[..=length])
}

impl Usage {
    /// Room for any record as bytes: four names of at most 63 bytes, a trace of 25, and a dozen numbers of at most
    /// 10 bytes each.
    pub const BYTES_MAX: usize = 512;

    /// The record as it is journalled.
    ///
    /// # Errors
    /// [`RecordError::TooLarge`] when the buffer is smaller than [`Usage::BYTES_MAX`].
    pub fn write<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], RecordError> {
        write(self, buffer)
    }

    /// Reads what [`Usage::write`] wrote.
    ///
    /// # Errors
    /// The bytes are something else.
    pub fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        read(bytes)
    }
}

impl LogLine {
    /// The line as it is journalled.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Plain fields: it cannot fail.
        postcard::to_extend(self, vec![FORMAT]).unwrap_or_default()
    }

    /// Reads what [`LogLine::to_bytes`] wrote.
    ///
    /// # Errors
    /// The bytes are something else.
    pub fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        read(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, InvocationId, Outcome, Timestamp, Timing, TraceContext, log::Stream};

    fn largest() -> Usage {
        let name = "x".repeat(63);
        Usage {
            id: InvocationId::from_bytes([0xff; 16]),
            tenant: name.parse().expect("a name"),
            app: name.parse().expect("a name"),
            function: name.parse().expect("a name"),
            version: u64::MAX,
            started: Timestamp(u64::MAX),
            timing: Timing { queue_us: u64::MAX, start_us: u64::MAX, init_us: u64::MAX, run_us: u64::MAX },
            billed_ms: u64::MAX,
            memory_mib: u32::MAX,
            cpu_us: u64::MAX,
            cold: true,
            bytes_in: u64::MAX,
            bytes_out: u64::MAX,
            outcome: Outcome::PlatformError,
            caller: Some(TraceContext { trace_id: u128::MAX, span_id: u64::MAX, flags: u8::MAX }),
        }
    }

    #[test]
    fn the_largest_record_fits_its_buffer_and_reads_back() {
        let usage = largest();
        let mut buffer = [0; Usage::BYTES_MAX];
        let bytes = usage.write(&mut buffer).expect("it fits");
        assert_eq!(Usage::read(bytes), Ok(usage));
    }

    #[test]
    fn what_is_cut_off_or_longer_or_of_another_format_is_told_apart() {
        let mut buffer = [0; Usage::BYTES_MAX];
        let bytes = largest().write(&mut buffer).expect("it fits").to_vec();
        assert_eq!(Usage::read(&bytes[..bytes.len() - 1]), Err(RecordError::Damaged));
        assert_eq!(Usage::read(&[&bytes[..], &[0]].concat()), Err(RecordError::Damaged));
        assert_eq!(Usage::read(&[&[9], &bytes[1..]].concat()), Err(RecordError::Format(9)));
        assert_eq!(Usage::read(&[]), Err(RecordError::Damaged));
        assert_eq!(largest().write(&mut [0; 8]), Err(RecordError::TooLarge));
    }

    #[test]
    fn a_line_reads_back() {
        let line = LogLine {
            time: Timestamp(7),
            tenant: "acme".parse().expect("a name"),
            function: "f".parse().expect("a name"),
            version: 2,
            invocation: None,
            stream: Stream::Platform,
            text: Digest::of(b"").to_string(),
        };
        assert_eq!(LogLine::read(&line.to_bytes()), Ok(line));
    }
}
