//! The operations of the API on buckets and objects.

use std::time::Duration;

use futures_util::StreamExt as _;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use hyper::body::Incoming;
use rouse_api::{
    BucketInfo, ObjectInfo, ObjectPage, ObjectsQuery,
    operation::{Id, Params},
    query,
};
use rouse_types::{Code, Refusal, TenantId};
use serde::Serialize;

use super::{Body, answer};
use crate::objects::{
    Attributes, Bucket, Caller, Condition, ContentHeaders, Entry, Error, Object, Objects, Put, Query,
};

/// What events say about who did it.
const REQUESTER: &str = "rouse-api";
/// Objects of one page.
const PAGE: u32 = 1_000;
/// When to come again after a refusal for fullness.
const RETRY_AFTER: Duration = Duration::from_secs(5);

pub(super) async fn run(
    objects: &Objects,
    id: Id,
    params: &Params,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let caller = Caller { tenant: params.parse::<TenantId>("tenant")?, requester: REQUESTER.to_owned() };
    let (bucket, key) = (params.get("bucket"), params.get("key"));
    let refuse = |error| refusal(&error, &caller.tenant);
    match id {
        Id::ListBuckets => {
            let found = objects.buckets(&caller).await.map_err(refuse)?;
            json(&found.into_iter().map(bucket_info).collect::<Vec<_>>())
        }
        Id::CreateBucket => {
            match objects.create_bucket(&caller, bucket).await {
                Ok(()) | Err(Error::BucketExists(_)) => {}
                Err(error) => return Err(refuse(error)),
            }
            json(&bucket_info(objects.head_bucket(&caller, bucket).await.map_err(refuse)?))
        }
        Id::DeleteBucket => {
            let found = objects.head_bucket(&caller, bucket).await.map_err(refuse)?;
            objects.delete_bucket(&caller, bucket).await.map_err(refuse)?;
            json(&bucket_info(found))
        }
        Id::ListObjects => {
            let text = request.uri().query().unwrap_or_default();
            let ObjectsQuery { prefix, after, limit } = query::read(text)?;
            let limit = limit.unwrap_or(PAGE).min(PAGE) as usize;
            let query = Query { prefix: prefix.unwrap_or_default(), delimiter: None, after, limit };
            let found = objects.list(&caller, bucket, &query).await.map_err(refuse)?;
            let info = |entry| match entry {
                Entry::Object(key, object) => Some(info(&key, &object)),
                Entry::Prefix(_) => None,
            };
            json(&ObjectPage {
                objects: found.entries.into_iter().filter_map(info).collect(),
                more: found.more,
            })
        }
        Id::PutObject => {
            let content_type = request.headers().get(header::CONTENT_TYPE);
            let content_type = content_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
            let headers = ContentHeaders { content_type, ..ContentHeaders::default() };
            let attributes = Attributes { headers, ..Attributes::default() };
            let put = Put { attributes, ..Put::default() };
            let body = BodyStream::new(request.into_body()).filter_map(|frame| async {
                match frame {
                    Ok(frame) => frame.into_data().ok().map(Ok),
                    Err(error) => Some(Err(Error::IncompleteBody(error.to_string()))),
                }
            });
            let object = objects.put(&caller, bucket, key, put, Box::pin(body)).await.map_err(refuse)?;
            json(&info(key, &object))
        }
        Id::GetObject => {
            let whole = |size| Ok(0..size);
            let read =
                objects.get(&caller, bucket, key, &Condition::default(), whole).await.map_err(refuse)?;
            let length = read.object.size;
            let content_type = read.object.attributes.headers.content_type.as_deref();
            let content_type = content_type.and_then(|text| HeaderValue::from_str(text).ok());
            let body = StreamBody::new(read.body.map(|bytes| bytes.map(Frame::data)));
            let mut response = Response::new(body.boxed_unsync());
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_LENGTH, length.into());
            let unknown = HeaderValue::from_static("application/octet-stream");
            headers.insert(header::CONTENT_TYPE, content_type.unwrap_or(unknown));
            Ok(response)
        }
        Id::DeleteObject => {
            let deleted = objects.delete(&caller, bucket, key, Condition::default()).await.map_err(refuse)?;
            let object = deleted.ok_or_else(|| refuse(Error::NoSuchKey(key.to_owned())))?;
            json(&info(key, &object))
        }
        _ => Err(Refusal::new(Code::OperationNotFound, "this is no operation of objects")),
    }
}

fn bucket_info(Bucket { name, created }: Bucket) -> BucketInfo {
    BucketInfo { name, created }
}

fn info(key: &str, object: &Object) -> ObjectInfo {
    ObjectInfo {
        key: key.to_owned(),
        size: object.size,
        etag: object.etag.clone(),
        modified: object.modified,
        content_type: object.attributes.headers.content_type.clone(),
    }
}

fn json<T: Serialize>(value: &T) -> Result<Response<Body>, Refusal> {
    Ok(answer(StatusCode::OK, "application/json", serde_json::to_vec(value).unwrap_or_default()))
}

/// Our errors in the API's words.
fn refusal(error: &Error, tenant: &TenantId) -> Refusal {
    let with = |code| Refusal::new(code, error.to_string());
    match error {
        Error::NoSuchBucket(bucket) => {
            let text = format!("tenant '{tenant}' has no bucket '{bucket}'");
            Refusal::new(Code::BucketNotFound, text).hint(format!(
                "`rouse bucket list` shows which there are, `rouse bucket create {bucket}` makes it"
            ))
        }
        Error::NoSuchKey(_) => {
            with(Code::ObjectNotFound).hint("`rouse object ls BUCKET` shows which there are")
        }
        Error::TooLarge { .. } => with(Code::PayloadTooLarge),
        Error::IncompleteBody(_) | Error::BodyTimeout(_) => with(Code::RequestTimeout),
        Error::OutboxFull(_) | Error::Busy => with(Code::TooManyRequests).retry_after(RETRY_AFTER),
        Error::QuotaExceeded { .. } => {
            with(Code::QuotaExceeded).hint("delete objects, or ask the operator for more `object_bytes`")
        }
        Error::Full(_) => Refusal::new(Code::StorageFull, "the disk is full: no object is taken")
            .hint("delete objects, or make room on the disk of the state folder"),
        Error::Stopping => with(Code::ObjectsUnavailable).retry_after(RETRY_AFTER),
        Error::Away { .. } => {
            let error: &dyn std::error::Error = error;
            tracing::error!(error, "the store of objects' bytes does not answer as it should");
            with(Code::ObjectsUnavailable).retry_after(RETRY_AFTER)
        }
        Error::Store(_) | Error::Record(..) | Error::Io { .. } | Error::Missing(_) | Error::Place(_) => {
            // What went wrong inside is for the log alone.
            let error: &dyn std::error::Error = error;
            tracing::error!(error, "an operation on objects failed");
            Refusal::new(Code::Internal, "the store of objects failed").hint("look into the platform's log")
        }
        _ => with(Code::BadRequest),
    }
}
