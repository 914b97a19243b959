//! What the client asks of buckets and objects.

use std::path::Path;

use bytes::Bytes;
use http::{Method, header};
use http_body_util::BodyExt as _;
use rouse_types::{Code, Refusal, TenantId};

use super::{Client, RequestBody, TIMEOUTS, UPLOAD_TIMEOUT, empty, upload};
use crate::{
    BucketInfo, ObjectInfo, ObjectPage, ObjectsQuery,
    operation::{Id, path},
    query,
    wire::Timeouts,
};

impl Client {
    /// The buckets.
    pub async fn buckets(&self, tenant: &TenantId) -> Result<Vec<BucketInfo>, Refusal> {
        self.get(path(Id::ListBuckets, &[tenant.as_str()])).await
    }

    /// Makes a bucket. One that is there stays as it is.
    pub async fn create_bucket(&self, tenant: &TenantId, bucket: &str) -> Result<BucketInfo, Refusal> {
        self.ask(Method::PUT, path(Id::CreateBucket, &[tenant.as_str(), bucket]), empty()).await
    }

    /// Deletes an empty bucket.
    pub async fn delete_bucket(&self, tenant: &TenantId, bucket: &str) -> Result<BucketInfo, Refusal> {
        self.ask(Method::DELETE, path(Id::DeleteBucket, &[tenant.as_str(), bucket]), empty()).await
    }

    /// A page of a bucket's objects.
    pub async fn objects(
        &self,
        tenant: &TenantId,
        bucket: &str,
        query: &ObjectsQuery,
    ) -> Result<ObjectPage, Refusal> {
        let path = path(Id::ListObjects, &[tenant.as_str(), bucket]);
        self.get(format!("{path}?{}", query::write(query))).await
    }

    /// Puts a file as an object. `progress` is told of the bytes that were sent so far.
    pub async fn put_object_file(
        &self,
        tenant: &TenantId,
        at: (&str, &str),
        content_type: Option<&str>,
        file: &Path,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<ObjectInfo, Refusal> {
        let (bytes, body) = upload::file(file, progress).await?;
        self.put_object(tenant, at, content_type, bytes, body).await
    }

    async fn put_object(
        &self,
        tenant: &TenantId,
        (bucket, key): (&str, &str),
        content_type: Option<&str>,
        bytes: u64,
        body: RequestBody,
    ) -> Result<ObjectInfo, Refusal> {
        let path = path(Id::PutObject, &[tenant.as_str(), bucket, key]);
        let mut request = self.request(Method::PUT, path, body)?;
        request.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
        if let Some(text) = content_type {
            let value = text
                .parse()
                .map_err(|_| Refusal::new(Code::BadRequest, format!("'{text}' is not a media type")))?;
            request.headers_mut().insert(header::CONTENT_TYPE, value);
        }
        let answer = self.checked(request, Timeouts { head: UPLOAD_TIMEOUT, ..TIMEOUTS }).await?;
        let body = self.collect(answer.into_body()).await?;
        serde_json::from_slice(&body)
            .map_err(|_| Refusal::new(Code::InvalidResponse, "the answer does not tell of the object"))
    }

    /// Gets an object: `write` takes its bytes as they come. One that breaks off is an error.
    pub async fn get_object(
        &self,
        tenant: &TenantId,
        (bucket, key): (&str, &str),
        mut write: impl FnMut(Bytes) -> std::io::Result<()>,
    ) -> Result<u64, Refusal> {
        let path = path(Id::GetObject, &[tenant.as_str(), bucket, key]);
        let request = self.request(Method::GET, path, empty())?;
        let answer = self.checked(request, TIMEOUTS).await?;
        let (mut body, mut bytes) = (answer.into_body(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Refusal::new(
                    Code::ControlUnavailable,
                    format!("'{key}' broke off after {bytes} bytes: {error}"),
                )
            })?;
            let Ok(data) = frame.into_data() else { continue };
            bytes += data.len() as u64;
            write(data).map_err(|error| {
                Refusal::new(Code::BadRequest, format!("what '{key}' holds cannot be written: {error}"))
            })?;
        }
        Ok(bytes)
    }

    /// Deletes an object.
    pub async fn delete_object(
        &self,
        tenant: &TenantId,
        (bucket, key): (&str, &str),
    ) -> Result<ObjectInfo, Refusal> {
        self.ask(Method::DELETE, path(Id::DeleteObject, &[tenant.as_str(), bucket, key]), empty()).await
    }
}
