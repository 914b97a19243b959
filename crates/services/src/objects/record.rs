//! What is kept about buckets, objects, uploads and parts: JSON in records.

use std::collections::BTreeMap;

use rouse_store::records::{Expect, Record, Write};
use rouse_types::{TenantId, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Error,
    digest::{Algorithm, Checksum, ChecksumKind},
    files::FileId,
    name,
};

/// Buckets, by `<tenant>/<bucket>`.
pub(super) const BUCKETS: &str = "object-buckets";
/// Objects, by `<tenant>/<bucket>/<encoded key>`.
pub(super) const OBJECTS: &str = "objects";
/// Multipart uploads, by `<tenant>/<bucket>/<encoded key>--<upload>`.
pub(super) const UPLOADS: &str = "object-uploads";
/// Parts of uploads, by `<upload>/<number>`.
pub(super) const PARTS: &str = "object-parts";
/// The files of objects that have several, by the id that the object names.
pub(super) const MANIFESTS: &str = "object-manifests";

/// The headers of a body that are kept and given back as they came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContentHeaders {
    /// `Content-Type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `Content-Encoding`, without `aws-chunked`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// `Content-Disposition`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    /// `Content-Language`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    /// `Cache-Control`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    /// `Expires`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// What a client says about an object beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Attributes {
    /// Headers of the content.
    #[serde(default)]
    pub headers: ContentHeaders,
    /// The user's own metadata (`x-amz-meta-…`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// Bytes of the user's metadata, names and values together (as S3).
const METADATA_BYTES_MAX: usize = 2_048;
/// Tags of one object, and the characters of a tag's key and value (as S3).
const TAGS_MAX: usize = 10;
const TAG_KEY_MAX: usize = 128;
const TAG_VALUE_MAX: usize = 256;

impl Attributes {
    /// Refuses what is more than is kept.
    pub(super) fn check(&self) -> Result<(), Error> {
        let bytes: usize = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > METADATA_BYTES_MAX {
            return Err(Error::MetadataTooLarge { bytes, max: METADATA_BYTES_MAX });
        }
        if self.tags.len() > TAGS_MAX {
            return Err(Error::InvalidTag(format!("an object has at most {TAGS_MAX} tags")));
        }
        for (key, value) in &self.tags {
            if !(1..=TAG_KEY_MAX).contains(&key.chars().count()) || value.chars().count() > TAG_VALUE_MAX {
                return Err(Error::InvalidTag(format!(
                    "a tag's key has 1 to {TAG_KEY_MAX} characters, its value at most {TAG_VALUE_MAX}"
                )));
            }
        }
        Ok(())
    }
}

/// An object, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its size in bytes.
    pub size: u64,
    /// The MD5 of its bytes in hexadecimal; of a multipart upload, that of its parts' MD5s and their number.
    pub etag: String,
    /// The checksum that its client asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// Changes with every write of the key.
    pub version: FileId,
    /// When it was put.
    pub modified: Timestamp,
    /// What its client said about it.
    pub attributes: Attributes,
    pub(super) content: Content,
}

/// Where the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Content {
    /// In one file.
    File(FileId),
    /// In the files of this manifest, one behind the other.
    Parts { manifest: FileId, count: u32 },
}

/// A file and its size in bytes.
pub(super) type Piece = (FileId, u64);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BucketRecord {
    pub(super) created: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct UploadRecord {
    pub(super) key: String,
    pub(super) begun: Timestamp,
    pub(super) attributes: Attributes,
    pub(super) checksum: Option<(Algorithm, ChecksumKind)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PartRecord {
    pub(super) file: FileId,
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) checksum: Option<Checksum>,
    pub(super) modified: Timestamp,
}

/// What every record's key of a bucket's objects begins with.
pub(super) fn bucket_key(tenant: &TenantId, bucket: &str) -> String {
    format!("{}/{bucket}", tenant.as_str())
}

pub(super) fn object_key(tenant: &TenantId, bucket: &str, key: &str) -> String {
    format!("{}/{bucket}/{}", tenant.as_str(), name::encode(key))
}

pub(super) fn upload_key(tenant: &TenantId, bucket: &str, key: &str, upload: FileId) -> String {
    format!("{}{}{upload}", object_key(tenant, bucket, key), name::BREAK)
}

pub(super) fn part_key(upload: FileId, number: u32) -> String {
    format!("{upload}/{number:05}")
}

pub(super) fn read<T: DeserializeOwned>(record: &Record) -> Result<T, Error> {
    serde_json::from_slice(&record.value).map_err(|error| Error::Record(record.key.clone(), error))
}

/// A write of this value, or the deletion of what is there.
pub(super) fn write<T: Serialize>(
    namespace: &str,
    key: impl Into<String>,
    expect: Expect,
    value: Option<&T>,
) -> Result<Write, Error> {
    let key = key.into();
    let value = match value {
        Some(value) => Some(serde_json::to_vec(value).map_err(|error| Error::Record(key.clone(), error))?),
        None => None,
    };
    Ok(Write { namespace: namespace.to_owned(), key, expect, value })
}

pub(super) fn delete(namespace: &str, key: impl Into<String>, expect: Expect) -> Write {
    Write { namespace: namespace.to_owned(), key: key.into(), expect, value: None }
}
