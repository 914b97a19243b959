//! The code that a request brings: an archive, one among the objects, or the name of an image.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use rouse_types::Digest;
use serde_json::Value;
use sha2::Digest as _;

use super::{
    layers::{UNPACKED_BYTES_MAX, unpacked_bytes},
    op::Op,
};
use crate::error::AwsError;

/// What AWS takes in a request.
const ZIP_BYTES_MAX: usize = 52_428_800;

/// And from S3, where AWS bounds what it unpacks to: as large as the platform takes code.
const S3_BYTES_MAX: usize = rouse_types::limits::CODE_BYTES_MAX as usize;

/// Code that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Code {
    pub(crate) digest: Option<Digest>,
    pub(crate) image: Option<String>,
    pub(crate) size: usize,
    /// Bytes once unpacked, as the archive says.
    pub(crate) unpacked: u64,
    /// As `CodeSha256` has it.
    pub(crate) sha256: String,
}

impl Op<'_> {
    /// Reads and keeps the code of `of`: the request itself, or its `Code` or `Content`.
    pub(crate) async fn code(&self, of: &Value) -> Result<Code, AwsError> {
        let text = |member: &str| of.get(member).and_then(Value::as_str);
        if let Some(image) = text("ImageUri") {
            let sha256 = hex::encode(sha2::Sha256::digest(image));
            return Ok(Code { digest: None, image: Some(image.to_owned()), size: 0, unpacked: 0, sha256 });
        }
        if let (Some(bucket), Some(key)) = (text("S3Bucket"), text("S3Key")) {
            if text("S3ObjectVersion").is_some_and(|version| version != "null") {
                return Err(not_found("NoSuchVersion", "versions are not kept: leave out S3ObjectVersion"));
            }
            return self.store(self.object(bucket, key).await?).await;
        }
        let Some(zip) = text("ZipFile") else {
            return Err(AwsError::invalid("Please provide a source for function code."));
        };
        let bytes = STANDARD
            .decode(zip)
            .map_err(|_| AwsError::new("SerializationException", "ZipFile is not in base64"))?;
        if bytes.len() > ZIP_BYTES_MAX {
            return Err(AwsError::new(
                "RequestEntityTooLargeException",
                format!(
                    "Request must be smaller than {ZIP_BYTES_MAX} bytes for the CreateFunction operation"
                ),
            ));
        }
        self.store(Bytes::from(bytes)).await
    }

    /// An archive out of the platform's own objects, as the caller's tenant may read it.
    async fn object(&self, bucket: &str, key: &str) -> Result<Bytes, AwsError> {
        let found = self.face.platform.object(&self.around.scope.tenant, (bucket, key), S3_BYTES_MAX).await;
        found.map_err(|refusal| match refusal.code {
            rouse_types::Code::BucketNotFound => {
                not_found("NoSuchBucket", "The specified bucket does not exist")
            }
            rouse_types::Code::ObjectNotFound => not_found("NoSuchKey", "The specified key does not exist."),
            rouse_types::Code::BadRequest => not_found("InvalidRequest", &refusal.message),
            rouse_types::Code::CodeTooLarge => AwsError::invalid(refusal.message),
            _ => AwsError::service(refusal.message),
        })
    }

    /// Whether a function's own code is as small as it must be.
    pub(crate) fn expect_unpacked(&self, code: &Code) -> Result<(), AwsError> {
        if code.unpacked > UNPACKED_BYTES_MAX {
            return Err(AwsError::invalid(format!(
                "Unzipped size must be smaller than {UNPACKED_BYTES_MAX} bytes"
            )));
        }
        Ok(())
    }

    async fn store(&self, bytes: Bytes) -> Result<Code, AwsError> {
        check(&bytes)?;
        let sha256 = STANDARD.encode(sha2::Sha256::digest(&bytes));
        let (size, unpacked) = (bytes.len(), unpacked_bytes(&bytes));
        let digest = self.face.keep(bytes).await?;
        Ok(Code { digest: Some(digest), image: None, size, unpacked, sha256 })
    }
}

/// As AWS says that an object cannot be had.
fn not_found(code: &str, message: &str) -> AwsError {
    AwsError::invalid(format!(
        "Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"
    ))
}

/// Whether bytes are an archive that can be unpacked.
fn check(bytes: &Bytes) -> Result<(), AwsError> {
    let archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).map_err(|_| {
        AwsError::invalid("Could not unzip uploaded file. Please check your file, then try to upload again.")
    })?;
    if archive.is_empty() {
        return Err(AwsError::invalid("Uploaded file must be a non-empty zip"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_archive_is_refused_in_the_words_of_aws() {
        assert!(
            check(&Bytes::from_static(b"no zip")).expect_err("no zip").message.starts_with("Could not unzip")
        );
        // An archive without files: the end record alone.
        let mut empty = b"PK\x05\x06".to_vec();
        empty.extend([0; 18]);
        let error = check(&Bytes::from(empty)).expect_err("empty").message;
        assert_eq!(error, "Uploaded file must be a non-empty zip");
    }
}
