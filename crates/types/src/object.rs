//! What happens to objects, as the process that keeps them tells it to the process of events; and how buckets are named.

use serde::{Deserialize, Serialize};

use crate::{TenantId, Timestamp, trigger::ObjectChange};

/// Events of one request from the one process to the other: some 300 KiB of them.
pub const EVENTS_AT_ONCE_MAX: usize = 200;

/// What happened to an object, in the words of S3's notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// It was put.
    #[serde(rename = "created:Put")]
    Put,
    /// It was copied from another.
    #[serde(rename = "created:Copy")]
    Copy,
    /// Its multipart upload was completed.
    #[serde(rename = "created:CompleteMultipartUpload")]
    CompleteMultipartUpload,
    /// It was deleted.
    #[serde(rename = "removed:Delete")]
    Delete,
}

impl EventKind {
    /// As triggers name it.
    #[must_use]
    pub fn change(self) -> ObjectChange {
        match self {
            Self::Put | Self::Copy | Self::CompleteMultipartUpload => ObjectChange::Created,
            Self::Delete => ObjectChange::Removed,
        }
    }
}

/// One thing that happened to one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectEvent {
    /// Grows from event to event. Numbers may be left out; the first is 1.
    pub sequence: u64,
    /// Whose object it is.
    pub tenant: TenantId,
    /// Its bucket.
    pub bucket: String,
    /// Its key, as it is.
    pub key: String,
    /// What happened.
    pub kind: EventKind,
    /// Its size in bytes; of a deleted one, what it was.
    pub size: u64,
    /// Its entity tag, without quotes.
    pub etag: String,
    /// Its media type, where its client told one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The version that was written or deleted.
    pub version: String,
    /// When it happened.
    pub time: Timestamp,
    /// Who did it: an access key, or the name of a part of the platform.
    pub requester: String,
}

/// Whether a bucket can have this name: as S3 has it, 3 to 63 of `a-z`, `0-9`, `-` and `.`, with a letter or digit at the
/// ends; no address, and none that begins with `xn--`.
#[must_use]
pub fn is_bucket_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = |b: Option<&u8>| b.is_some_and(|b| plain(*b));
    (3..=63).contains(&name.len())
        && name.bytes().all(|b| plain(b) || matches!(b, b'-' | b'.'))
        && ends(name.as_bytes().first())
        && ends(name.as_bytes().last())
        && !name.contains("..")
        && !name.starts_with("xn--")
        && name.parse::<std::net::Ipv4Addr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_named_as_s3_names_them() {
        for name in ["photos", "a-1", "my.bucket", "1.2.3", "0ab"] {
            assert!(is_bucket_name(name), "{name}");
        }
        let long = "a".repeat(64);
        for name in ["", "ab", "Photos", "a_b", "-ab", "ab-", "a..b", ".ab", "1.2.3.4", "xn--a", "ä-b", &long]
        {
            assert!(!is_bucket_name(name), "{name}");
        }
    }
}
