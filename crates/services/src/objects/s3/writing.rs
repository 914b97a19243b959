//! Operations that write objects and their tags.

use futures_util::StreamExt as _;
use s3s::{
    S3Error, S3Request, S3Result,
    dto::{
        CopyObjectInput, CopyObjectOutput, CopyObjectResult, DeleteObjectInput, DeleteObjectOutput,
        DeleteObjectTaggingInput, DeleteObjectTaggingOutput, DeleteObjectsInput, DeleteObjectsOutput,
        DeletedObject, MetadataDirective, PutObjectInput, PutObjectOutput, PutObjectTaggingInput,
        PutObjectTaggingOutput, TaggingDirective,
    },
    s3_error,
};

use super::{access::caller, convert};
use crate::objects::{Attributes, Caller, Condition, ContentHeaders, Copy, Objects, Put};

/// Keys of one request to delete many (as S3).
const DELETE_MAX: usize = 1_000;
/// Of those, how many are under way at once: they share commits.
const DELETE_AT_ONCE: usize = 32;

/// What an input says about an object, which several inputs do in the same words.
macro_rules! attributes {
    ($input:expr) => {
        Attributes {
            headers: ContentHeaders {
                content_type: $input.content_type.take(),
                content_encoding: convert::encoding($input.content_encoding.take()),
                content_disposition: $input.content_disposition.take(),
                content_language: $input.content_language.take(),
                cache_control: $input.cache_control.take(),
                expires: $input.expires.take().as_ref().and_then(convert::from_time),
            },
            metadata: $input.metadata.take().unwrap_or_default().into_iter().collect(),
            tags: match $input.tagging.take() {
                Some(header) => convert::tags(&header)?,
                None => Default::default(),
            },
        }
    };
}
pub(super) use attributes;

pub(super) async fn put(
    objects: &Objects,
    mut request: S3Request<PutObjectInput>,
) -> S3Result<PutObjectOutput> {
    let caller = caller(&request)?;
    let input = &mut request.input;
    let put = Put {
        attributes: attributes!(input),
        expected: convert::expected(
            &request.headers,
            input.content_length,
            input.content_md5.take(),
            convert::checksums!(input),
            input.checksum_algorithm.as_ref(),
        )?,
        condition: convert::condition(input.if_match.as_ref(), input.if_none_match.as_ref(), None, None),
    };
    let body = convert::body(input.body.take());
    let late = convert::late(&request.headers, request.trailing_headers.take());
    let object = objects.put_with(&caller, &input.bucket, &input.key, put, body, late).await?;
    let mut output =
        PutObjectOutput { e_tag: Some(convert::etag(&object.etag)), ..PutObjectOutput::default() };
    output.checksum_type = object.checksum.as_ref().map(|checksum| convert::kind(checksum.kind));
    convert::set_checksum!(output, &object.checksum);
    Ok(output)
}

pub(super) async fn copy(
    objects: &Objects,
    mut request: S3Request<CopyObjectInput>,
) -> S3Result<CopyObjectOutput> {
    let caller = caller(&request)?;
    let input = &mut request.input;
    let (from_bucket, from_key) = convert::source(input.copy_source.clone())?;
    let replaces = |directive: Option<&str>, replace: &str| directive == Some(replace);
    let replace_metadata = replaces(
        input.metadata_directive.as_ref().map(MetadataDirective::as_str),
        MetadataDirective::REPLACE,
    );
    let replace_tags =
        replaces(input.tagging_directive.as_ref().map(TaggingDirective::as_str), TaggingDirective::REPLACE);
    let onto_itself = from_bucket == input.bucket && from_key == input.key;
    if onto_itself && !replace_metadata && !replace_tags {
        return Err(s3_error!(
            InvalidRequest,
            "a copy of an object onto itself must change something: set x-amz-metadata-directive to REPLACE"
        ));
    }
    let attributes = attributes!(input);
    let copy = Copy {
        from_bucket,
        from_key,
        from_condition: convert::condition(
            input.copy_source_if_match.as_ref(),
            input.copy_source_if_none_match.as_ref(),
            input.copy_source_if_modified_since.as_ref(),
            input.copy_source_if_unmodified_since.as_ref(),
        ),
        tags: replace_tags.then(|| attributes.tags.clone()),
        attributes: replace_metadata.then_some(attributes),
    };
    let object = objects.copy(&caller, &input.bucket, &input.key, copy).await?;
    let mut result = CopyObjectResult {
        e_tag: Some(convert::etag(&object.etag)),
        last_modified: Some(convert::time(object.modified)),
        ..CopyObjectResult::default()
    };
    result.checksum_type = object.checksum.as_ref().map(|checksum| convert::kind(checksum.kind));
    convert::set_checksum!(result, &object.checksum);
    Ok(CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() })
}

pub(super) async fn delete(
    objects: &Objects,
    request: S3Request<DeleteObjectInput>,
) -> S3Result<DeleteObjectOutput> {
    let caller = caller(&request)?;
    let input = &request.input;
    if input.if_match_size.is_some() || input.if_match_last_modified_time.is_some() {
        return Err(s3_error!(NotImplemented, "deletion on a condition takes If-Match alone"));
    }
    let condition = convert::condition(input.if_match.as_ref(), None, None, None);
    objects.delete(&caller, &input.bucket, &input.key, condition).await?;
    Ok(DeleteObjectOutput::default())
}

pub(super) async fn delete_many(
    objects: &Objects,
    request: S3Request<DeleteObjectsInput>,
) -> S3Result<DeleteObjectsOutput> {
    let caller = caller(&request)?;
    let DeleteObjectsInput { bucket, delete, .. } = request.input;
    if delete.objects.len() > DELETE_MAX {
        return Err(s3_error!(MalformedXML, "at most {DELETE_MAX} keys are deleted by one request"));
    }
    objects.head_bucket(&caller, &bucket).await?;
    let mut output = DeleteObjectsOutput::default();
    let (caller, bucket) = (&caller, &*bucket);
    let one = |wanted: s3s::dto::ObjectIdentifier| async move {
        let result = delete_one(objects, caller, bucket, &wanted).await;
        (wanted.key, result)
    };
    let mut results = futures_util::stream::iter(delete.objects).map(one).buffered(DELETE_AT_ONCE);
    while let Some((key, result)) = results.next().await {
        match result {
            Ok(()) if delete.quiet == Some(true) => {}
            Ok(()) => {
                let deleted = DeletedObject { key: Some(key), ..DeletedObject::default() };
                output.deleted.get_or_insert_default().push(deleted);
            }
            Err(error) => output.errors.get_or_insert_default().push(s3s::dto::Error {
                code: Some(error.code().as_str().to_owned()),
                message: error.message().map(str::to_owned),
                key: Some(key),
                version_id: None,
            }),
        }
    }
    Ok(output)
}

async fn delete_one(
    objects: &Objects,
    caller: &Caller,
    bucket: &str,
    wanted: &s3s::dto::ObjectIdentifier,
) -> Result<(), S3Error> {
    if wanted.version_id.as_deref().is_some_and(|id| !matches!(id, "" | "null")) {
        return Err(s3_error!(NoSuchVersion, "versions are not kept: leave out VersionId"));
    }
    if wanted.size.is_some() || wanted.last_modified_time.is_some() {
        return Err(s3_error!(NotImplemented, "deletion on a condition takes ETag alone"));
    }
    let if_match = wanted.e_tag.as_ref().map(|etag| etag.value().to_owned());
    objects.delete(caller, bucket, &wanted.key, Condition { if_match, ..Condition::default() }).await?;
    Ok(())
}

pub(super) async fn put_tags(
    objects: &Objects,
    request: S3Request<PutObjectTaggingInput>,
) -> S3Result<PutObjectTaggingOutput> {
    let caller = caller(&request)?;
    let PutObjectTaggingInput { bucket, key, tagging, .. } = request.input;
    objects.tag(&caller, &bucket, &key, convert::tag_set(tagging.tag_set)?).await?;
    Ok(PutObjectTaggingOutput::default())
}

pub(super) async fn delete_tags(
    objects: &Objects,
    request: S3Request<DeleteObjectTaggingInput>,
) -> S3Result<DeleteObjectTaggingOutput> {
    let caller = caller(&request)?;
    objects.tag(&caller, &request.input.bucket, &request.input.key, Default::default()).await?;
    Ok(DeleteObjectTaggingOutput::default())
}
