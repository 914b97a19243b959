//! Between S3's words and ours.

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use futures_util::{Stream, StreamExt as _};
use http::HeaderMap;
use rouse_types::Timestamp;
use s3s::{
    S3Error, S3ErrorCode, S3Result, TrailingHeaders, dto,
    dto::{CopySource, ETag, ETagCondition, StreamingBlob, TimestampFormat},
    s3_error,
};

use crate::objects::{Algorithm, Condition, Error, Expected};

pub(super) fn time(time: Timestamp) -> dto::Timestamp {
    dto::Timestamp::from(UNIX_EPOCH + Duration::from_micros(time.0))
}

/// To the second, which is what headers say.
pub(super) fn from_time(time: &dto::Timestamp) -> Option<Timestamp> {
    let mut text = Vec::new();
    time.format(TimestampFormat::EpochSeconds, &mut text).ok()?;
    let seconds: u64 = String::from_utf8(text).ok()?.split('.').next()?.parse().ok()?;
    Some(Timestamp::from_millis(seconds.saturating_mul(1_000)))
}

pub(super) fn etag(etag: &str) -> ETag {
    ETag::Strong(etag.to_owned())
}

pub(super) fn size(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn from_condition(condition: &ETagCondition) -> String {
    match condition {
        ETagCondition::Any => "*".to_owned(),
        ETagCondition::ETag(etag) => etag.value().to_owned(),
    }
}

pub(super) fn condition(
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
    if_modified_since: Option<&dto::Timestamp>,
    if_unmodified_since: Option<&dto::Timestamp>,
) -> Condition {
    Condition {
        if_match: if_match.map(from_condition),
        if_none_match: if_none_match.map(from_condition),
        if_modified_since: if_modified_since.and_then(from_time),
        if_unmodified_since: if_unmodified_since.and_then(from_time),
    }
}

/// `Content-Encoding` without the framing that was only on the way.
pub(super) fn encoding(encoding: Option<String>) -> Option<String> {
    let encoding = encoding?;
    let kept: Vec<&str> =
        encoding.split(',').map(str::trim).filter(|one| !one.is_empty() && *one != "aws-chunked").collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// Tags as a header has them: `a=1&b=2`.
pub(super) fn tags(header: &str) -> S3Result<BTreeMap<String, String>> {
    unique(
        form_urlencoded::parse(header.as_bytes()).map(|(key, value)| (key.into_owned(), value.into_owned())),
    )
}

/// Tags as a document has them.
pub(super) fn tag_set(tags: Vec<dto::Tag>) -> S3Result<BTreeMap<String, String>> {
    unique(tags.into_iter().map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default())))
}

fn unique(tags: impl Iterator<Item = (String, String)>) -> S3Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for (key, value) in tags {
        if found.contains_key(&key) {
            return Err(s3_error!(InvalidTag, "a tag's key stands twice"));
        }
        found.insert(key, value);
    }
    Ok(found)
}

/// A body with errors of ours.
pub(super) fn body(
    blob: Option<StreamingBlob>,
) -> impl Stream<Item = Result<bytes::Bytes, Error>> + Send + Unpin {
    let blob = futures_util::stream::iter(blob).flatten();
    blob.map(|bytes| {
        bytes.map_err(|error| {
            let text = error.to_string();
            // Their types are private, their names are not.
            if text.contains("Sha256Mismatch") || text.contains("SignatureMismatch") {
                return Error::BodySignature;
            }
            Error::IncompleteBody(text.chars().take(200).collect())
        })
    })
}

/// What is announced about a body: its length without framing, digests, and the algorithm of a checksum that may come
/// behind it.
pub(super) fn expected(
    headers: &HeaderMap,
    bytes: Option<i64>,
    md5: Option<String>,
    checksums: [Option<&String>; 5],
    algorithm: Option<&dto::ChecksumAlgorithm>,
) -> S3Result<Expected> {
    let bytes = bytes.map(u64::try_from).transpose();
    let bytes = bytes.map_err(|_| s3_error!(InvalidArgument, "the length of the body is negative"))?;
    let mut expected = Expected { bytes, md5, algorithm: None, checksum: None };
    if let Some((algorithm, value)) =
        Algorithm::ALL.into_iter().zip(checksums).find_map(|(algorithm, value)| Some((algorithm, value?)))
    {
        expected.algorithm = Some(algorithm);
        expected.checksum = Some(value.clone());
    } else if let Some(algorithm) = trailer(headers) {
        expected.algorithm = Some(algorithm);
    } else if let Some(algorithm) = algorithm {
        expected.algorithm = Some(self::algorithm(algorithm)?);
    }
    Ok(expected)
}

/// The checksum that is announced to come behind the body.
fn trailer(headers: &HeaderMap) -> Option<Algorithm> {
    let trailer = headers.get("x-amz-trailer")?.to_str().ok()?.trim().to_ascii_lowercase();
    let name = trailer.strip_prefix("x-amz-checksum-")?;
    Algorithm::ALL.into_iter().find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name))
}

/// What adds the checksum that came behind the body to what is expected. One that was announced and did not come agrees
/// with nothing.
pub(super) fn late(
    headers: &HeaderMap,
    trailers: Option<TrailingHeaders>,
) -> impl FnOnce(&mut Expected) + Send + use<> {
    let announced = trailer(headers);
    move |expected: &mut Expected| {
        let Some(algorithm) = announced.filter(|_| expected.checksum.is_none()) else { return };
        let name = format!("x-amz-checksum-{}", algorithm.as_str().to_ascii_lowercase());
        let value = trailers.and_then(|trailers| {
            trailers
                .read(|headers| headers.get(&name).and_then(|value| value.to_str().ok()).map(str::to_owned))
        });
        expected.checksum = Some(value.flatten().unwrap_or_default());
    }
}

pub(super) fn algorithm(algorithm: &dto::ChecksumAlgorithm) -> S3Result<Algorithm> {
    let found =
        Algorithm::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(algorithm.as_str()));
    found.ok_or_else(|| {
        s3_error!(
            InvalidRequest,
            "the checksum algorithm is not known: use CRC32, CRC32C, CRC64NVME, SHA1 or SHA256"
        )
    })
}

pub(super) fn source(source: CopySource) -> S3Result<(String, String)> {
    match source {
        CopySource::Bucket { bucket, key, version_id }
            if version_id.as_deref().is_none_or(|id| id == "null") =>
        {
            Ok((bucket.into(), key.into()))
        }
        CopySource::Bucket { .. } => {
            Err(s3_error!(NoSuchVersion, "versions are not kept: leave out versionId"))
        }
        _ => Err(s3_error!(NotImplemented, "access points are not implemented: name the bucket")),
    }
}

/// Percent-encoded, as listings are asked to be by `encoding-type=url`.
pub(super) fn url(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// How many entries a page may have.
pub(super) fn limit(asked: Option<i32>, name: &str) -> S3Result<usize> {
    let negative =
        |_| S3Error::with_message(S3ErrorCode::InvalidArgument, format!("{name} must not be negative"));
    usize::try_from(asked.unwrap_or(1_000)).map(|limit| limit.min(1_000)).map_err(negative)
}

/// Fills in the one of five fields that an algorithm has.
macro_rules! set_checksum {
    ($output:expr, $checksum:expr) => {
        if let Some(checksum) = $checksum {
            let value = Some(checksum.value.clone());
            match checksum.algorithm {
                $crate::objects::Algorithm::Crc32 => $output.checksum_crc32 = value,
                $crate::objects::Algorithm::Crc32c => $output.checksum_crc32c = value,
                $crate::objects::Algorithm::Crc64nvme => $output.checksum_crc64nvme = value,
                $crate::objects::Algorithm::Sha1 => $output.checksum_sha1 = value,
                $crate::objects::Algorithm::Sha256 => $output.checksum_sha256 = value,
            }
        }
    };
}
pub(super) use set_checksum;

/// The five fields in the order of [`Algorithm::ALL`].
macro_rules! checksums {
    ($input:expr) => {
        [
            $input.checksum_crc32.as_ref(),
            $input.checksum_crc32c.as_ref(),
            $input.checksum_crc64nvme.as_ref(),
            $input.checksum_sha1.as_ref(),
            $input.checksum_sha256.as_ref(),
        ]
    };
}
pub(super) use checksums;

pub(super) fn kind(kind: crate::objects::ChecksumKind) -> dto::ChecksumType {
    let text = match kind {
        crate::objects::ChecksumKind::Full => dto::ChecksumType::FULL_OBJECT,
        crate::objects::ChecksumKind::Composite => dto::ChecksumType::COMPOSITE,
    };
    dto::ChecksumType::from_static(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_describes_the_content_is_kept_of_its_encoding() {
        assert_eq!(encoding(Some("aws-chunked".to_owned())), None);
        assert_eq!(encoding(Some("aws-chunked, gzip".to_owned())), Some("gzip".to_owned()));
        assert_eq!(encoding(None), None);
    }

    #[test]
    fn listings_are_percent_encoded() {
        assert_eq!(url("a b/ä+&.txt"), "a%20b/%C3%A4%2B%26.txt");
    }

    #[test]
    fn a_tag_that_stands_twice_is_refused() {
        assert_eq!(tags("a=1&b=x%20y").expect("tags").len(), 2);
        assert!(tags("a=1&a=2").is_err());
    }

    #[test]
    fn times_come_back_to_the_second() {
        let now = Timestamp::from_millis(1_763_733_360_000);
        assert_eq!(from_time(&time(now)), Some(now));
    }
}
