//! Operations that list objects. A token for the next page is the last entry of this one, in base64.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use s3s::{
    S3Request, S3Result,
    dto::{
        self, CommonPrefix, EncodingType, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
        ListObjectsV2Output, ObjectStorageClass, Owner,
    },
    s3_error,
};

use super::{access::caller, convert};
use crate::objects::{Caller, Entry, Listing, Objects, Query};

/// How names are written: percent-encoded if the client asked for it, since XML cannot have every character.
#[derive(Clone, Copy)]
struct Names(bool);

impl Names {
    fn asked(encoding: Option<&EncodingType>) -> S3Result<Self> {
        match encoding.map(EncodingType::as_str) {
            None => Ok(Self(false)),
            Some(EncodingType::URL) => Ok(Self(true)),
            Some(_) => Err(s3_error!(InvalidArgument, "encoding-type must be url")),
        }
    }

    fn write(self, name: &str) -> String {
        if self.0 { convert::url(name) } else { name.to_owned() }
    }
}

fn entries(listing: Listing, names: Names, owner: Option<&Caller>) -> (Vec<dto::Object>, Vec<CommonPrefix>) {
    let (mut contents, mut prefixes) = (Vec::new(), Vec::new());
    for entry in listing.entries {
        match entry {
            Entry::Prefix(prefix) => prefixes.push(CommonPrefix { prefix: Some(names.write(&prefix)) }),
            Entry::Object(key, object) => contents.push(dto::Object {
                key: Some(names.write(&key)),
                e_tag: Some(convert::etag(&object.etag)),
                size: Some(convert::size(object.size)),
                last_modified: Some(convert::time(object.modified)),
                storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
                checksum_algorithm: object
                    .checksum
                    .as_ref()
                    .map(|checksum| vec![dto::ChecksumAlgorithm::from_static(checksum.algorithm.as_str())]),
                checksum_type: object.checksum.as_ref().map(|checksum| convert::kind(checksum.kind)),
                owner: owner.map(|owner| {
                    let tenant = owner.tenant.as_str().to_owned();
                    Owner { display_name: Some(tenant.clone()), id: Some(tenant) }
                }),
                ..dto::Object::default()
            }),
        }
    }
    (contents, prefixes)
}

pub(super) async fn v1(
    objects: &Objects,
    request: S3Request<ListObjectsInput>,
) -> S3Result<ListObjectsOutput> {
    let caller = caller(&request)?;
    let ListObjectsInput { bucket, delimiter, encoding_type, marker, max_keys, prefix, .. } = request.input;
    let names = Names::asked(encoding_type.as_ref())?;
    let limit = convert::limit(max_keys, "max-keys")?;
    let query = Query {
        prefix: prefix.clone().unwrap_or_default(),
        delimiter: delimiter.clone(),
        after: marker.clone().filter(|marker| !marker.is_empty()),
        limit,
    };
    let listing = objects.list(&caller, &bucket, &query).await?;
    let last = listing.entries.last().filter(|_| listing.more).map(|last| names.write(last.name()));
    let more = listing.more;
    let (contents, prefixes) = entries(listing, names, Some(&caller));
    Ok(ListObjectsOutput {
        name: Some(bucket),
        prefix: Some(names.write(&prefix.unwrap_or_default())),
        marker: Some(names.write(&marker.unwrap_or_default())),
        max_keys: i32::try_from(limit).ok(),
        is_truncated: Some(more),
        contents: Some(contents),
        common_prefixes: Some(prefixes),
        delimiter: delimiter.map(|delimiter| names.write(&delimiter)),
        next_marker: last,
        encoding_type,
        ..ListObjectsOutput::default()
    })
}

pub(super) async fn v2(
    objects: &Objects,
    request: S3Request<ListObjectsV2Input>,
) -> S3Result<ListObjectsV2Output> {
    let caller = caller(&request)?;
    let input = request.input;
    let names = Names::asked(input.encoding_type.as_ref())?;
    let limit = convert::limit(input.max_keys, "max-keys")?;
    let token = input.continuation_token.as_deref().map(|token| {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        bytes.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|after| !after.is_empty())
    });
    let after = match token {
        Some(None) => return Err(s3_error!(InvalidArgument, "the continuation token is none of ours")),
        Some(after) => after,
        None => input.start_after.clone().filter(|after| !after.is_empty()),
    };
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input.delimiter.clone(),
        after,
        limit,
    };
    let listing = objects.list(&caller, &input.bucket, &query).await?;
    let next =
        listing.entries.last().filter(|_| listing.more).map(|last| URL_SAFE_NO_PAD.encode(last.name()));
    let (more, count) = (listing.more, listing.entries.len());
    let owner = Some(&caller).filter(|_| input.fetch_owner == Some(true));
    let (contents, prefixes) = entries(listing, names, owner);
    Ok(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(names.write(&input.prefix.unwrap_or_default())),
        max_keys: i32::try_from(limit).ok(),
        key_count: i32::try_from(count).ok(),
        continuation_token: input.continuation_token,
        is_truncated: Some(more),
        next_continuation_token: next,
        contents: Some(contents),
        common_prefixes: Some(prefixes),
        delimiter: input.delimiter.map(|delimiter| names.write(&delimiter)),
        encoding_type: input.encoding_type,
        start_after: input.start_after.map(|after| names.write(&after)),
        ..ListObjectsV2Output::default()
    })
}
