//! The face that S3 clients see: each operation is a function that reads its input, asks [`Objects`], and writes its
//! output. What has no function here is answered by `NotImplemented`.

mod access;
mod buckets;
mod convert;
mod error;
mod host;
mod listing;
mod multipart;
mod reading;
mod writing;

use std::sync::Arc;

use s3s::{
    S3, S3Request, S3Response, S3Result,
    config::{S3Config, StaticConfigProvider},
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
        CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CreateBucketInput,
        CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteBucketInput,
        DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectTaggingInput,
        DeleteObjectTaggingOutput, DeleteObjectsInput, DeleteObjectsOutput, GetBucketLocationInput,
        GetBucketLocationOutput, GetBucketVersioningInput, GetBucketVersioningOutput,
        GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectInput, GetObjectOutput,
        GetObjectTaggingInput, GetObjectTaggingOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput,
        HeadObjectOutput, ListBucketsInput, ListBucketsOutput, ListMultipartUploadsInput,
        ListMultipartUploadsOutput, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input,
        ListObjectsV2Output, ListPartsInput, ListPartsOutput, PutObjectInput, PutObjectOutput,
        PutObjectTaggingInput, PutObjectTaggingOutput, UploadPartCopyInput, UploadPartCopyOutput,
        UploadPartInput, UploadPartOutput,
    },
    service::{S3Service, S3ServiceBuilder},
};

use rouse_store::access_keys::Ring;

use super::Objects;

/// A body that is a document: 10,000 parts or 1,000 keys to delete.
const DOCUMENT_BYTES_MAX: usize = 8 << 20;

struct Face(Objects);

/// The service over these objects, for whoever has these keys.
pub(super) fn service(objects: Objects, keys: Ring) -> S3Service {
    let mut builder = S3ServiceBuilder::new(Face(objects));
    builder.set_auth(access::Auth(keys.clone()));
    builder.set_access(access::Access(keys));
    builder.set_host(host::ByName);
    let mut config = S3Config::default();
    config.xml_max_body_size = DOCUMENT_BYTES_MAX;
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.build()
}

macro_rules! operations {
    ($($name:ident = $run:path, $input:ident => $output:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Face {
            $(async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                Box::pin($run(&self.0, request)).await.map(S3Response::new)
            })*
        }
    };
}

operations! {
    create_bucket = buckets::create, CreateBucketInput => CreateBucketOutput;
    head_bucket = buckets::head, HeadBucketInput => HeadBucketOutput;
    list_buckets = buckets::list, ListBucketsInput => ListBucketsOutput;
    delete_bucket = buckets::delete, DeleteBucketInput => DeleteBucketOutput;
    get_bucket_location = buckets::location, GetBucketLocationInput => GetBucketLocationOutput;
    get_bucket_versioning = buckets::versioning, GetBucketVersioningInput => GetBucketVersioningOutput;
    put_object = writing::put, PutObjectInput => PutObjectOutput;
    copy_object = writing::copy, CopyObjectInput => CopyObjectOutput;
    delete_object = writing::delete, DeleteObjectInput => DeleteObjectOutput;
    delete_objects = writing::delete_many, DeleteObjectsInput => DeleteObjectsOutput;
    put_object_tagging = writing::put_tags, PutObjectTaggingInput => PutObjectTaggingOutput;
    delete_object_tagging = writing::delete_tags, DeleteObjectTaggingInput => DeleteObjectTaggingOutput;
    get_object_tagging = reading::tags, GetObjectTaggingInput => GetObjectTaggingOutput;
    get_object = reading::get, GetObjectInput => GetObjectOutput;
    head_object = reading::head, HeadObjectInput => HeadObjectOutput;
    get_object_attributes = reading::attributes, GetObjectAttributesInput => GetObjectAttributesOutput;
    list_objects = listing::v1, ListObjectsInput => ListObjectsOutput;
    list_objects_v2 = listing::v2, ListObjectsV2Input => ListObjectsV2Output;
    create_multipart_upload = multipart::create, CreateMultipartUploadInput => CreateMultipartUploadOutput;
    upload_part = multipart::put, UploadPartInput => UploadPartOutput;
    upload_part_copy = multipart::copy, UploadPartCopyInput => UploadPartCopyOutput;
    list_parts = multipart::list_parts, ListPartsInput => ListPartsOutput;
    list_multipart_uploads = multipart::list, ListMultipartUploadsInput => ListMultipartUploadsOutput;
    complete_multipart_upload = multipart::complete, CompleteMultipartUploadInput => CompleteMultipartUploadOutput;
    abort_multipart_upload = multipart::abort, AbortMultipartUploadInput => AbortMultipartUploadOutput;
}
