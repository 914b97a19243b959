//! Objects that came or went, as Amazon S3 tells of them: records of version 2.1.

use std::net::IpAddr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rouse_types::Timestamp;
use serde::Serialize;

use super::{Place, Records, millis};

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It was written in one request.
    Put,
    /// It was written by a form.
    Post,
    /// It was copied from another.
    Copy,
    /// Its parts were put together.
    CompleteMultipartUpload,
    /// It was deleted.
    Delete,
    /// With versions: a marker now hides it.
    DeleteMarkerCreated,
}

impl What {
    /// As it stands in a record. What subscriptions name has `s3:` before it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "ObjectCreated:Put",
            Self::Post => "ObjectCreated:Post",
            Self::Copy => "ObjectCreated:Copy",
            Self::CompleteMultipartUpload => "ObjectCreated:CompleteMultipartUpload",
            Self::Delete => "ObjectRemoved:Delete",
            Self::DeleteMarkerCreated => "ObjectRemoved:DeleteMarkerCreated",
        }
    }

    /// Whether there is an object now.
    #[must_use]
    pub fn is_created(self) -> bool {
        !matches!(self, Self::Delete | Self::DeleteMarkerCreated)
    }
}

/// A change of an object.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// What happened.
    pub what: What,
    /// When.
    pub time: Timestamp,
    /// The bucket.
    pub bucket: &'a str,
    /// The key, as it is.
    pub key: &'a str,
    /// Bytes.
    pub size: u64,
    /// The entity tag, without quotes.
    pub etag: &'a str,
    /// Its version, in buckets that have them.
    pub version: Option<&'a str>,
    /// Ascends with each change of a key: tells which of two came first.
    pub sequence: u64,
    /// The subscription that wants to know of it.
    pub subscription: &'a str,
    /// Who did it.
    pub principal: &'a str,
    /// From where.
    pub peer: Option<IpAddr>,
    /// The request that did it.
    pub request_id: &'a str,
}

/// What `application/x-www-form-urlencoded` leaves as it is, and `/`: so S3 writes keys.
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'*').remove(b'_').remove(b'/').remove(b' ');

/// The event of a change.
#[must_use]
pub fn records<'a>(place: Place<'a>, change: &Change<'a>) -> Records<impl Serialize + use<'a>> {
    let created = change.what.is_created();
    Records {
        records: vec![Record {
            event_version: "2.1",
            event_source: "aws:s3",
            aws_region: place.region,
            event_time: millis(change.time),
            event_name: change.what.name(),
            user_identity: Identity { principal_id: change.principal },
            request_parameters: Parameters {
                address: change.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            },
            response_elements: Elements { request_id: change.request_id, id_2: "" },
            s3: S3 {
                s3_schema_version: "1.0",
                configuration_id: change.subscription,
                bucket: Bucket {
                    name: change.bucket,
                    owner_identity: Identity { principal_id: place.account },
                    arn: format!("arn:aws:s3:::{}", change.bucket),
                },
                object: Object {
                    key: utf8_percent_encode(change.key, ESCAPED).to_string().replace(' ', "+"),
                    size: created.then_some(change.size),
                    e_tag: created.then_some(change.etag),
                    version_id: change.version,
                    // Strings of one length, so that comparing them as text is right.
                    sequencer: format!("{:016X}", change.sequence),
                },
            },
        }],
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    event_version: &'a str,
    event_source: &'a str,
    aws_region: &'a str,
    event_time: String,
    event_name: &'a str,
    user_identity: Identity<'a>,
    request_parameters: Parameters,
    response_elements: Elements<'a>,
    s3: S3<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    principal_id: &'a str,
}

#[derive(Debug, Serialize)]
struct Parameters {
    #[serde(rename = "sourceIPAddress")]
    address: String,
}

#[derive(Debug, Serialize)]
struct Elements<'a> {
    #[serde(rename = "x-amz-request-id")]
    request_id: &'a str,
    #[serde(rename = "x-amz-id-2")]
    id_2: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct S3<'a> {
    s3_schema_version: &'a str,
    configuration_id: &'a str,
    bucket: Bucket<'a>,
    object: Object<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Bucket<'a> {
    name: &'a str,
    owner_identity: Identity<'a>,
    arn: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e_tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_id: Option<&'a str>,
    sequencer: String,
}
