//! Operations that read objects.

use std::{
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use s3s::{
    S3Error, S3Request, S3Result, StdError,
    dto::{
        self, ChecksumMode, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectInput,
        GetObjectOutput, GetObjectTaggingInput, GetObjectTaggingOutput, HeadObjectInput, HeadObjectOutput,
        StorageClass, StreamingBlob, Tag,
    },
    s3_error,
    stream::{ByteStream, RemainingLength},
};

use super::{access::caller, convert};
use crate::objects::{Checksum, Error, Object, Objects, Read, Reader, record::Content};

struct Blob(Reader);

impl Stream for Blob {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(context).map_err(StdError::from)
    }
}

impl ByteStream for Blob {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(usize::try_from(self.0.remaining()).unwrap_or(usize::MAX))
    }
}

/// The bytes that a request asks for.
fn select(wanted: Option<dto::Range>, size: u64) -> Result<Range<u64>, Error> {
    let Some(wanted) = wanted else { return Ok(0..size) };
    wanted.check(size).ok().filter(|range| !range.is_empty()).ok_or(Error::InvalidRange { size })
}

/// Fills in what an output says about an object, which two do in the same words.
macro_rules! describe {
    ($output:ident, $input:expr, $object:expr, $range:expr) => {{
        let (object, range): (&Object, &Range<u64>) = ($object, $range);
        let headers = object.attributes.headers.clone();
        $output.accept_ranges = Some("bytes".to_owned());
        $output.content_length = Some(convert::size(range.end - range.start));
        $output.e_tag = Some(convert::etag(&object.etag));
        $output.last_modified = Some(convert::time(object.modified));
        $output.metadata = Some(object.attributes.metadata.clone().into_iter().collect());
        let binary = || Some("binary/octet-stream".to_owned());
        $output.content_type = $input.response_content_type.clone().or(headers.content_type).or_else(binary);
        $output.content_encoding = $input.response_content_encoding.clone().or(headers.content_encoding);
        $output.content_language = $input.response_content_language.clone().or(headers.content_language);
        $output.content_disposition =
            $input.response_content_disposition.clone().or(headers.content_disposition);
        $output.cache_control = $input.response_cache_control.clone().or(headers.cache_control);
        $output.expires = $input.response_expires.clone().or(headers.expires.map(convert::time));
        if $input.range.is_some() {
            $output.content_range = Some(format!("bytes {}-{}/{}", range.start, range.end - 1, object.size));
        }
        if let Content::Parts { count, .. } = object.content {
            $output.parts_count = $input.part_number.and(i32::try_from(count).ok());
        }
        // The checksum is over the whole.
        let whole = range.end - range.start == object.size;
        if let Some(checksum) = asked_for($input.checksum_mode.as_ref(), object).filter(|_| whole) {
            $output.checksum_type = Some(convert::kind(checksum.kind));
            convert::set_checksum!($output, Some(checksum));
        }
    }};
}

fn asked_for<'a>(mode: Option<&ChecksumMode>, object: &'a Object) -> Option<&'a Checksum> {
    let asked = mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
    object.checksum.as_ref().filter(|_| asked)
}

fn no_parts(number: Option<i32>) -> S3Result<()> {
    match number {
        None => Ok(()),
        Some(_) => Err(s3_error!(NotImplemented, "parts are not read by number: ask for a range of bytes")),
    }
}

pub(super) async fn get(objects: &Objects, request: S3Request<GetObjectInput>) -> S3Result<GetObjectOutput> {
    let caller = caller(&request)?;
    let input = &request.input;
    no_parts(input.part_number)?;
    let condition = convert::condition(
        input.if_match.as_ref(),
        input.if_none_match.as_ref(),
        input.if_modified_since.as_ref(),
        input.if_unmodified_since.as_ref(),
    );
    let wanted = input.range;
    let read = objects.get(&caller, &input.bucket, &input.key, &condition, |size| select(wanted, size));
    let Read { object, range, body } = read.await?;
    let mut output = GetObjectOutput::default();
    describe!(output, input, &object, &range);
    let tags = object.attributes.tags.len();
    output.tag_count = i32::try_from(tags).ok().filter(|count| *count > 0);
    output.body = Some(StreamingBlob::new(Blob(body)));
    Ok(output)
}

pub(super) async fn head(
    objects: &Objects,
    request: S3Request<HeadObjectInput>,
) -> S3Result<HeadObjectOutput> {
    let caller = caller(&request)?;
    let input = &request.input;
    no_parts(input.part_number)?;
    let condition = convert::condition(
        input.if_match.as_ref(),
        input.if_none_match.as_ref(),
        input.if_modified_since.as_ref(),
        input.if_unmodified_since.as_ref(),
    );
    let object = objects.head(&caller, &input.bucket, &input.key).await?;
    condition.check_read(&object)?;
    let range = select(input.range, object.size)?;
    let mut output = HeadObjectOutput::default();
    describe!(output, input, &object, &range);
    Ok(output)
}

pub(super) async fn tags(
    objects: &Objects,
    request: S3Request<GetObjectTaggingInput>,
) -> S3Result<GetObjectTaggingOutput> {
    let object = objects.head(&caller(&request)?, &request.input.bucket, &request.input.key).await?;
    let tag = |(key, value)| Tag { key: Some(key), value: Some(value) };
    Ok(GetObjectTaggingOutput {
        tag_set: object.attributes.tags.into_iter().map(tag).collect(),
        ..GetObjectTaggingOutput::default()
    })
}

pub(super) async fn attributes(
    objects: &Objects,
    request: S3Request<GetObjectAttributesInput>,
) -> S3Result<GetObjectAttributesOutput> {
    let input = &request.input;
    let object = objects.head(&caller(&request)?, &input.bucket, &input.key).await?;
    let mut output = GetObjectAttributesOutput {
        last_modified: Some(convert::time(object.modified)),
        ..GetObjectAttributesOutput::default()
    };
    // Some clients send a header for each, others one with all.
    for attribute in input.object_attributes.iter().flat_map(|some| some.as_str().split(',')) {
        match attribute.trim() {
            "ETag" => output.e_tag = Some(convert::etag(&object.etag)),
            "ObjectSize" => output.object_size = Some(convert::size(object.size)),
            "StorageClass" => output.storage_class = Some(StorageClass::from_static(StorageClass::STANDARD)),
            "Checksum" => {
                output.checksum = object.checksum.as_ref().map(|checksum| {
                    let checksum_type = Some(convert::kind(checksum.kind));
                    let mut shown = dto::Checksum { checksum_type, ..dto::Checksum::default() };
                    convert::set_checksum!(shown, Some(checksum));
                    shown
                });
            }
            other => {
                let text = format!("the attribute {other} is not implemented");
                return Err(S3Error::with_message(s3s::S3ErrorCode::NotImplemented, text));
            }
        }
    }
    Ok(output)
}
