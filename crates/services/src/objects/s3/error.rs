//! Our errors in S3's words.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use s3s::{S3Error, S3ErrorCode};

use crate::objects::Error;

/// When to come again after a refusal for fullness, in seconds.
const RETRY_AFTER: &str = "5";

impl From<Error> for S3Error {
    fn from(error: Error) -> Self {
        let custom = |code: &'static str| S3ErrorCode::Custom(code.into());
        let (code, status) = match &error {
            Error::NoSuchBucket(_) => (S3ErrorCode::NoSuchBucket, None),
            Error::NoSuchKey(_) => (S3ErrorCode::NoSuchKey, None),
            Error::NoSuchUpload(_) => (S3ErrorCode::NoSuchUpload, None),
            Error::BucketExists(_) => (S3ErrorCode::BucketAlreadyOwnedByYou, None),
            Error::BucketNotEmpty(_) => (S3ErrorCode::BucketNotEmpty, None),
            Error::TooManyBuckets(_) => (S3ErrorCode::TooManyBuckets, None),
            Error::InvalidBucketName(_) => (S3ErrorCode::InvalidBucketName, None),
            Error::KeyTooLong(_) => (S3ErrorCode::KeyTooLongError, None),
            Error::Invalid(_) => (S3ErrorCode::InvalidArgument, None),
            Error::InvalidTag(_) => (S3ErrorCode::InvalidTag, None),
            Error::MetadataTooLarge { .. } => (S3ErrorCode::MetadataTooLarge, None),
            Error::PreconditionFailed(_) => (S3ErrorCode::PreconditionFailed, None),
            Error::NotModified { .. } => (S3ErrorCode::NotModified, None),
            Error::InvalidRange { .. } => (S3ErrorCode::InvalidRange, None),
            Error::BadDigest { .. } => (S3ErrorCode::BadDigest, None),
            Error::BodySignature => (custom("XAmzContentSHA256Mismatch"), Some(StatusCode::BAD_REQUEST)),
            Error::IncompleteBody(_) => (S3ErrorCode::IncompleteBody, None),
            Error::BodyTimeout(_) => (S3ErrorCode::RequestTimeout, None),
            Error::TooLarge { .. } => (S3ErrorCode::EntityTooLarge, None),
            Error::PartTooSmall { .. } => (S3ErrorCode::EntityTooSmall, None),
            Error::InvalidPart(_) => (S3ErrorCode::InvalidPart, None),
            Error::InvalidPartOrder => (S3ErrorCode::InvalidPartOrder, None),
            Error::OutboxFull(_) | Error::Busy => (S3ErrorCode::SlowDown, None),
            // S3 has no word for it, nor a limit.
            Error::QuotaExceeded { .. } => (custom("QuotaExceeded"), Some(StatusCode::FORBIDDEN)),
            Error::Stopping => (S3ErrorCode::ServiceUnavailable, None),
            Error::Away { .. } => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "the store of objects' bytes does not answer as it should");
                (S3ErrorCode::ServiceUnavailable, None)
            }
            Error::Full(_) => (custom("StorageFull"), Some(StatusCode::INSUFFICIENT_STORAGE)),
            Error::Missing(_) => {
                tracing::error!(%error, "an object cannot be read");
                let text = "the bytes of this object are missing: see the log of the platform";
                return Self::with_message(S3ErrorCode::InternalError, text);
            }
            Error::Store(_) | Error::Record(..) | Error::Io { .. } | Error::Place(_) => {
                // What went wrong inside is for the log alone.
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, "an operation on objects failed");
                return Self::with_message(
                    S3ErrorCode::InternalError,
                    "a fault of ours: see the log of the platform",
                );
            }
        };
        let mut answer = Self::with_message(code, error.to_string());
        if let Some(status) = status {
            answer.set_status_code(status);
        }
        let mut headers = HeaderMap::new();
        match &error {
            Error::OutboxFull(_) | Error::Busy | Error::Away { .. } | Error::Stopping => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
            }
            Error::NotModified { etag, .. } => {
                headers.extend(
                    HeaderValue::from_str(&format!("\"{etag}\"")).ok().map(|tag| (header::ETAG, tag)),
                );
            }
            Error::InvalidRange { size } => {
                let range = HeaderValue::from_str(&format!("bytes */{size}"));
                headers.extend(range.ok().map(|range| (header::CONTENT_RANGE, range)));
            }
            _ => return answer,
        }
        // Headers that are set replace those of the document.
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        answer.set_headers(headers);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_away_is_worth_another_try_and_its_own_words_are_for_the_log() {
        let source = "GET http://inside:8333/bytes failed".into();
        let busy = (Error::Busy, S3ErrorCode::SlowDown);
        for (error, code) in [(Error::Away { action: "read", source }, S3ErrorCode::ServiceUnavailable), busy]
        {
            let answer = S3Error::from(error);
            assert_eq!((answer.code(), answer.status_code()), (&code, Some(StatusCode::SERVICE_UNAVAILABLE)));
            assert!(answer.headers().is_some_and(|headers| headers.contains_key(header::RETRY_AFTER)));
            assert!(!format!("{:?}", answer.message()).contains("inside"));
        }
    }
}
