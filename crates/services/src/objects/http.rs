//! The service over HTTP: bounds and refusals that need no signature, before S3 sees a request.

use std::convert::Infallible;

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, service::Service};
use rouse_store::access_keys::Ring;
use s3s::{Body, S3Error, S3ErrorCode, service::S3Service};

use super::{Objects, s3, write::BODY_BYTES_MAX};

/// What a body is longer by when it is sent in signed chunks: at most 100 bytes for each 8 KiB, and trailers.
const FRAMING: u64 = BODY_BYTES_MAX / 64;

/// The service as a value for hyper, such as [`crate::server::serve`]. It never fails; errors are answers.
#[derive(Debug, Clone)]
pub struct S3Http(S3Service);

impl S3Http {
    /// The service over these objects, for whoever signs with one of these keys.
    #[must_use]
    pub fn new(objects: Objects, keys: Ring) -> Self {
        Self(s3::service(objects, keys))
    }
}

impl Service<Request<Incoming>> for S3Http {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let service = self.0.clone();
        async move {
            let result = match refusal(&request) {
                Some(error) => error.to_http_response().map_err(|error| error.to_string()),
                None => Service::call(&service, request).await.map_err(|error| {
                    let error: s3s::StdError = error.into();
                    error.to_string()
                }),
            };
            let mut response = result.unwrap_or_else(|error| {
                tracing::error!(error, "an answer could not be made");
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            });
            let id = uuid::Uuid::now_v7().as_simple().to_string();
            if let Ok(id) = HeaderValue::try_from(id) {
                response.headers_mut().insert("x-amz-request-id", id);
            }
            Ok(response)
        }
        .boxed()
    }
}

/// What is refused by a request's head alone.
fn refusal<B>(request: &Request<B>) -> Option<S3Error> {
    let text = |name: header::HeaderName| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    let query = request.uri().query().unwrap_or_default();
    let asks = |name: &str| form_urlencoded::parse(query.as_bytes()).any(|(found, _)| found == name);
    let with = |code, text: &'static str| Some(S3Error::with_message(code, text));
    // Forms are held in memory, and the old signature signs with SHA-1 and not the body.
    if text(header::CONTENT_TYPE).trim_start().to_ascii_lowercase().starts_with("multipart/form-data") {
        return with(
            S3ErrorCode::NotImplemented,
            "uploads by HTML forms are not implemented: use a presigned PUT",
        );
    }
    if text(header::AUTHORIZATION).starts_with("AWS ") || asks("AWSAccessKeyId") {
        return with(
            S3ErrorCode::InvalidRequest,
            "sign with AWS Signature Version 4: version 2 is not accepted",
        );
    }
    if !text(header::AUTHORIZATION).starts_with("AWS4-HMAC-SHA256") && !asks("X-Amz-Signature") {
        let said = "unsigned requests are refused: sign with AWS Signature Version 4";
        return with(S3ErrorCode::AccessDenied, said);
    }
    let length: u64 = text(header::CONTENT_LENGTH).parse().unwrap_or_default();
    if length > BODY_BYTES_MAX + FRAMING {
        return with(S3ErrorCode::EntityTooLarge, "a body has at most 5 GiB: use a multipart upload");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_signed_as_it_must_be_is_refused_by_its_head() {
        let head = |uri: &str, headers: &[(&str, &str)]| {
            let mut request = Request::builder().uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(()).expect("a request");
            refusal(&request).map(|error| error.code().clone())
        };
        let signed = ("authorization", "AWS4-HMAC-SHA256 Credential=…");
        assert_eq!(head("/b/k", &[]), Some(S3ErrorCode::AccessDenied));
        assert_eq!(head("/b/k", &[("authorization", "AWS4-HMAC-SHA256 Credential=x")]), None);
        assert_eq!(head("/b/k?X-Amz-Signature=1", &[]), None);
        assert_eq!(head("/b/k", &[("authorization", "AWS a:b")]), Some(S3ErrorCode::InvalidRequest));
        assert_eq!(head("/b/k?AWSAccessKeyId=a&Signature=b", &[]), Some(S3ErrorCode::InvalidRequest));
        let form = ("content-type", "multipart/form-data; boundary=x");
        assert_eq!(head("/b", &[signed, form]), Some(S3ErrorCode::NotImplemented));
        let long = ("content-length", "9999999999999");
        let signed = ("authorization", "AWS4-HMAC-SHA256 Credential=x");
        assert_eq!(head("/b/k", &[signed, long]), Some(S3ErrorCode::EntityTooLarge));
    }
}
