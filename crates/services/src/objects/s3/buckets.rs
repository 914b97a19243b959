//! Operations on buckets.

use s3s::{
    S3Request, S3Result,
    dto::{
        Bucket, CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput,
        GetBucketLocationInput, GetBucketLocationOutput, GetBucketVersioningInput, GetBucketVersioningOutput,
        HeadBucketInput, HeadBucketOutput, ListBucketsInput, ListBucketsOutput, Owner,
    },
};

use super::{access::caller, convert};
use crate::objects::Objects;

pub(super) async fn create(
    objects: &Objects,
    request: S3Request<CreateBucketInput>,
) -> S3Result<CreateBucketOutput> {
    let bucket = &request.input.bucket;
    objects.create_bucket(&caller(&request)?, bucket).await?;
    Ok(CreateBucketOutput { location: Some(format!("/{bucket}")) })
}

pub(super) async fn head(
    objects: &Objects,
    request: S3Request<HeadBucketInput>,
) -> S3Result<HeadBucketOutput> {
    objects.head_bucket(&caller(&request)?, &request.input.bucket).await?;
    Ok(HeadBucketOutput::default())
}

pub(super) async fn list(
    objects: &Objects,
    request: S3Request<ListBucketsInput>,
) -> S3Result<ListBucketsOutput> {
    let caller = caller(&request)?;
    let ListBucketsInput { prefix, continuation_token, max_buckets, .. } = request.input;
    let begins = prefix.clone().unwrap_or_default();
    let after = continuation_token.unwrap_or_default();
    let limit = convert::limit(max_buckets, "max-buckets")?.max(1);
    let found = objects.buckets(&caller).await?;
    let mut found: Vec<_> =
        found.into_iter().filter(|bucket| bucket.name.starts_with(&begins) && bucket.name > after).collect();
    let more = found.len() > limit;
    found.truncate(limit);
    // A bucket's name has no character that would be trouble in a token.
    let next = found.last().filter(|_| more).map(|last| last.name.clone());
    let bucket = |bucket: crate::objects::Bucket| Bucket {
        name: Some(bucket.name),
        creation_date: Some(convert::time(bucket.created)),
        ..Bucket::default()
    };
    let tenant = caller.tenant.as_str().to_owned();
    Ok(ListBucketsOutput {
        buckets: Some(found.into_iter().map(bucket).collect()),
        continuation_token: next,
        owner: Some(Owner { display_name: Some(tenant.clone()), id: Some(tenant) }),
        prefix,
    })
}

pub(super) async fn delete(
    objects: &Objects,
    request: S3Request<DeleteBucketInput>,
) -> S3Result<DeleteBucketOutput> {
    objects.delete_bucket(&caller(&request)?, &request.input.bucket).await?;
    Ok(DeleteBucketOutput::default())
}

/// No constraint: the service is in one place.
pub(super) async fn location(
    objects: &Objects,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<GetBucketLocationOutput> {
    objects.head_bucket(&caller(&request)?, &request.input.bucket).await?;
    Ok(GetBucketLocationOutput::default())
}

/// No status: versions were never kept.
pub(super) async fn versioning(
    objects: &Objects,
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<GetBucketVersioningOutput> {
    objects.head_bucket(&caller(&request)?, &request.input.bucket).await?;
    Ok(GetBucketVersioningOutput::default())
}
