//! S3: requests are passed on as they come to the process that keeps objects, and answers as they come from there. That
//! process checks the signature, for S3 signs each chunk of a body and what follows it, and it alone reads them.

use std::{path::Path, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rouse_api::wire::{self, Address, Timeouts};

use crate::{
    Body, query, server,
    sigv4::{self, Signed},
};

/// A body of 5 GiB may take long; one that stops coming is ended by whoever reads it.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(1),
    head: Duration::from_secs(12 * 3_600),
    idle: Duration::from_secs(300),
};

/// Whether a request is for S3: by what it says it is signed for. Nothing of that is believed.
pub(crate) fn is_meant(request: &Signed<'_>) -> bool {
    // Only S3 knows signatures of version 2, and says what to use in their place.
    let authorization = request.headers.get(header::AUTHORIZATION);
    authorization.is_some_and(|value| value.as_bytes().starts_with(b"AWS "))
        || query::pairs(request.query).iter().any(|(name, _)| name == "AWSAccessKeyId")
        || sigv4::claim(request).is_ok_and(|claim| claim.service == "s3")
}

/// Passes a request on, and its answer back.
pub(crate) async fn pass_on(state: &Path, parts: Parts, body: Incoming) -> Response<Body> {
    let Parts { method, uri, mut headers, .. } = parts;
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::EXPECT, header::UPGRADE] {
        headers.remove(name);
    }
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri.path_and_query().map_or("/", |path| path.as_str()).parse().unwrap_or_default();
    *request.headers_mut() = headers;
    let address = Address::Unix(state.join("run/s3.sock"));
    match Box::pin(wire::exchange(&address, request, TIMEOUTS)).await {
        Ok(answer) => {
            let (mut parts, body) = answer.into_parts();
            parts.headers.remove(header::CONNECTION);
            parts.headers.remove(header::TRANSFER_ENCODING);
            Response::from_parts(parts, body.map_err(std::io::Error::other).boxed_unsync())
        }
        Err(error) => {
            tracing::warn!(%error, "the process of objects did not answer");
            away()
        }
    }
}

/// An error as S3 shapes it. Neither text has what XML would take for its own.
pub(crate) fn refused(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    server::answer(status, "application/xml", text)
}

/// The answer while that process is away; clients try again by themselves.
fn away() -> Response<Body> {
    let told = "The process that keeps objects is not there at the moment: try again";
    let mut response = refused(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", told);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    #[test]
    fn a_request_is_for_s3_if_it_says_that_it_is_signed_for_it() {
        let meant = |query: &str, authorization: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert("x-amz-date", HeaderValue::from_static("20261121T000000Z"));
            if let Some(text) = authorization {
                headers.insert(header::AUTHORIZATION, text.parse().expect("a header"));
            }
            is_meant(&Signed { method: &Method::GET, path: "/b/k", query, headers: &headers })
        };
        let signed = |service: &str| {
            format!(
                "AWS4-HMAC-SHA256 Credential=A/20261121/us-east-1/{service}/aws4_request, SignedHeaders=host, \
                 Signature=00"
            )
        };
        assert!(meant("", Some(&signed("s3"))) && !meant("", Some(&signed("lambda"))));
        let presigned = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20261121%2Fus-east-1%2Fs3%2Faws4_request\
                         &X-Amz-Date=20261121T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00";
        assert!(meant(presigned, None));
        assert!(meant("AWSAccessKeyId=A&Signature=b", None) && meant("", Some("AWS A:b")));
        assert!(!meant("", None) && !meant("list-type=2", None));
    }
}
