//! Operations of multipart uploads.

use futures_util::StreamExt as _;
use s3s::{
    S3Request, S3Result,
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumAlgorithm, ChecksumType,
        CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CopyPartResult,
        CreateMultipartUploadInput, CreateMultipartUploadOutput, EncodingType, ListMultipartUploadsInput,
        ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload, Part, Range,
        UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
    },
    s3_error,
};

use super::{access::caller, convert, writing::attributes};
use crate::objects::{
    Attributes, ChecksumKind, CompletedPart, Completion, ContentHeaders, Error, Expected, Objects, Read,
    UploadQuery,
};

fn number(number: i32) -> u32 {
    // Zero is refused behind.
    u32::try_from(number).unwrap_or_default()
}

pub(super) async fn create(
    objects: &Objects,
    mut request: S3Request<CreateMultipartUploadInput>,
) -> S3Result<CreateMultipartUploadOutput> {
    let caller = caller(&request)?;
    let input = &mut request.input;
    let algorithm = input.checksum_algorithm.as_ref().map(convert::algorithm).transpose()?;
    let checksum = match (algorithm, input.checksum_type.as_ref().map(ChecksumType::as_str)) {
        (None, None) => None,
        (None, Some(_)) => return Err(s3_error!(InvalidRequest, "x-amz-checksum-type needs an algorithm")),
        (Some(algorithm), None) => Some((algorithm, algorithm.kind())),
        (Some(algorithm), Some(ChecksumType::FULL_OBJECT)) => Some((algorithm, ChecksumKind::Full)),
        (Some(algorithm), Some(ChecksumType::COMPOSITE)) => Some((algorithm, ChecksumKind::Composite)),
        _ => return Err(s3_error!(InvalidRequest, "x-amz-checksum-type must be COMPOSITE or FULL_OBJECT")),
    };
    let attributes = attributes!(input);
    let upload = objects.begin_upload(&caller, &input.bucket, &input.key, attributes, checksum).await?;
    Ok(CreateMultipartUploadOutput {
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        upload_id: Some(upload.id),
        checksum_algorithm: input.checksum_algorithm.clone(),
        checksum_type: checksum.map(|(_, kind)| convert::kind(kind)),
        ..CreateMultipartUploadOutput::default()
    })
}

pub(super) async fn put(
    objects: &Objects,
    mut request: S3Request<UploadPartInput>,
) -> S3Result<UploadPartOutput> {
    let caller = caller(&request)?;
    let input = &mut request.input;
    let expected = convert::expected(
        &request.headers,
        input.content_length,
        input.content_md5.take(),
        convert::checksums!(input),
        input.checksum_algorithm.as_ref(),
    )?;
    let body = convert::body(input.body.take());
    let late = convert::late(&request.headers, request.trailing_headers.take());
    let upload = (&*input.bucket, &*input.key, &*input.upload_id);
    let part =
        objects.put_part_with(&caller, upload, number(input.part_number), expected, body, late).await?;
    let mut output =
        UploadPartOutput { e_tag: Some(convert::etag(&part.etag)), ..UploadPartOutput::default() };
    convert::set_checksum!(output, &part.checksum);
    Ok(output)
}

pub(super) async fn copy(
    objects: &Objects,
    request: S3Request<UploadPartCopyInput>,
) -> S3Result<UploadPartCopyOutput> {
    let caller = caller(&request)?;
    let input = &request.input;
    let (from_bucket, from_key) = convert::source(input.copy_source.clone())?;
    let condition = convert::condition(
        input.copy_source_if_match.as_ref(),
        input.copy_source_if_none_match.as_ref(),
        input.copy_source_if_modified_since.as_ref(),
        input.copy_source_if_unmodified_since.as_ref(),
    );
    let range = input.copy_source_range.as_deref().map(Range::parse).transpose();
    let range =
        range.map_err(|_| s3_error!(InvalidArgument, "x-amz-copy-source-range must be bytes=first-last"))?;
    let select = |size: u64| match range {
        None => Ok(0..size),
        // Unlike a read, a copy takes no range that ends behind the source.
        Some(Range::Int { first, last: Some(last) }) if first <= last && last < size => Ok(first..last + 1),
        Some(_) => Err(Error::InvalidRange { size }),
    };
    let read = objects.get(&caller, &from_bucket, &from_key, &condition, select).await;
    let Read { range, body, .. } = read.map_err(|error| match error {
        Error::NotModified { .. } => Error::PreconditionFailed("x-amz-copy-source-if-none-match"),
        other => other,
    })?;
    let expected = Expected { bytes: Some(range.end - range.start), ..Expected::default() };
    let upload = (&*input.bucket, &*input.key, &*input.upload_id);
    let part = objects.put_part(&caller, upload, number(input.part_number), expected, body.fuse()).await?;
    let mut result = CopyPartResult {
        e_tag: Some(convert::etag(&part.etag)),
        last_modified: Some(convert::time(part.modified)),
        ..CopyPartResult::default()
    };
    convert::set_checksum!(result, &part.checksum);
    Ok(UploadPartCopyOutput { copy_part_result: Some(result), ..UploadPartCopyOutput::default() })
}

pub(super) async fn list_parts(
    objects: &Objects,
    request: S3Request<ListPartsInput>,
) -> S3Result<ListPartsOutput> {
    let caller = caller(&request)?;
    let input = request.input;
    let limit = convert::limit(input.max_parts, "max-parts")?;
    let after = number(input.part_number_marker.unwrap_or_default());
    let (upload, parts) = objects.list_parts(&caller, (&input.bucket, &input.key, &input.upload_id)).await?;
    let mut parts: Vec<_> = parts.into_iter().filter(|part| part.number > after).collect();
    let more = parts.len() > limit;
    parts.truncate(limit);
    let last = parts.last().and_then(|part| i32::try_from(part.number).ok());
    let shown = parts.into_iter().map(|part| {
        let mut shown = Part {
            part_number: i32::try_from(part.number).ok(),
            size: Some(convert::size(part.size)),
            e_tag: Some(convert::etag(&part.etag)),
            last_modified: Some(convert::time(part.modified)),
            ..Part::default()
        };
        convert::set_checksum!(shown, &part.checksum);
        shown
    });
    Ok(ListPartsOutput {
        parts: Some(shown.collect()),
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        max_parts: i32::try_from(limit).ok(),
        part_number_marker: input.part_number_marker,
        is_truncated: Some(more),
        next_part_number_marker: last.filter(|_| more),
        checksum_algorithm: upload.checksum.map(|(one, _)| ChecksumAlgorithm::from_static(one.as_str())),
        checksum_type: upload.checksum.map(|(_, kind)| convert::kind(kind)),
        ..ListPartsOutput::default()
    })
}

pub(super) async fn list(
    objects: &Objects,
    request: S3Request<ListMultipartUploadsInput>,
) -> S3Result<ListMultipartUploadsOutput> {
    let caller = caller(&request)?;
    let input = request.input;
    if input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty()) {
        return Err(s3_error!(NotImplemented, "uploads are not rolled up: leave out the delimiter"));
    }
    let url = input.encoding_type.as_ref().is_some_and(|encoding| encoding.as_str() == EncodingType::URL);
    let write = |name: String| if url { convert::url(&name) } else { name };
    let limit = convert::limit(input.max_uploads, "max-uploads")?;
    let key_marker = input.key_marker.clone().filter(|marker| !marker.is_empty());
    let query = UploadQuery {
        prefix: input.prefix.clone().unwrap_or_default(),
        after: key_marker.map(|key| (key, input.upload_id_marker.clone().filter(|id| !id.is_empty()))),
        limit,
    };
    let found = objects.list_uploads(&caller, &input.bucket, &query).await?;
    let last = found.uploads.last().filter(|_| found.more).cloned();
    let upload = |upload: crate::objects::Upload| MultipartUpload {
        key: Some(write(upload.key)),
        upload_id: Some(upload.id),
        initiated: Some(convert::time(upload.begun)),
        checksum_algorithm: upload.checksum.map(|(one, _)| ChecksumAlgorithm::from_static(one.as_str())),
        checksum_type: upload.checksum.map(|(_, kind)| convert::kind(kind)),
        ..MultipartUpload::default()
    };
    Ok(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: input.prefix.map(write),
        key_marker: input.key_marker.map(write),
        upload_id_marker: input.upload_id_marker,
        max_uploads: i32::try_from(limit).ok(),
        is_truncated: Some(found.more),
        next_key_marker: last.as_ref().map(|last| write(last.key.clone())),
        next_upload_id_marker: last.map(|last| last.id),
        uploads: Some(found.uploads.into_iter().map(upload).collect()),
        encoding_type: input.encoding_type,
        ..ListMultipartUploadsOutput::default()
    })
}

pub(super) async fn complete(
    objects: &Objects,
    request: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<CompleteMultipartUploadOutput> {
    let caller = caller(&request)?;
    let input = request.input;
    let condition = convert::condition(input.if_match.as_ref(), input.if_none_match.as_ref(), None, None);
    let checksum = convert::checksums!(input).into_iter().flatten().next().cloned();
    let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
    let part = |part: s3s::dto::CompletedPart| CompletedPart {
        number: number(part.part_number.unwrap_or_default()),
        etag: part.e_tag.as_ref().map(|etag| etag.value().to_owned()).unwrap_or_default(),
        checksum: convert::checksums!(part).into_iter().flatten().next().cloned(),
    };
    let completion = Completion { parts: parts.into_iter().map(part).collect(), condition, checksum };
    let upload = (&*input.bucket, &*input.key, &*input.upload_id);
    let object = objects.complete_upload(&caller, upload, completion).await?;
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, convert::url(&input.key))),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(convert::etag(&object.etag)),
        ..CompleteMultipartUploadOutput::default()
    };
    output.checksum_type = object.checksum.as_ref().map(|checksum| convert::kind(checksum.kind));
    convert::set_checksum!(output, &object.checksum);
    Ok(output)
}

pub(super) async fn abort(
    objects: &Objects,
    request: S3Request<AbortMultipartUploadInput>,
) -> S3Result<AbortMultipartUploadOutput> {
    let caller = caller(&request)?;
    let input = &request.input;
    objects.abort_upload(&caller, (&input.bucket, &input.key, &input.upload_id)).await?;
    Ok(AbortMultipartUploadOutput::default())
}
