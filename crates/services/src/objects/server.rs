//! The service over HTTP: bounds and refusals that need no signature, before S3 sees a request; and a server for it.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::rt::{TokioIo, TokioTimer};
use rouse_types::limits;
use s3s::{Body, S3Error, S3ErrorCode, service::S3Service};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Keys, Objects, s3, write::BODY_BYTES_MAX};

/// Connections at once; who comes then waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 1_024;
/// What is waited after an error of accepting, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long requests under way may go on after the end was asked for.
const DRAIN: Duration = Duration::from_secs(10);
/// What a body is longer by when it is sent in signed chunks: at most 100 bytes for each 8 KiB, and trailers.
const FRAMING: u64 = BODY_BYTES_MAX / 64;

/// The service as a value for hyper: to be served here by [`serve`], or mounted elsewhere. It never fails; errors are
/// answers.
#[derive(Debug, Clone)]
pub struct S3Http(S3Service);

impl S3Http {
    /// The service over these objects, for whoever signs with one of these keys.
    #[must_use]
    pub fn new(objects: Objects, keys: Keys) -> Self {
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

/// Serves until told to stop, then ends what is under way; meanwhile sweeps.
///
/// # Errors
/// None of single connections or requests; only that the listener cannot be used.
pub async fn serve(
    objects: Objects,
    keys: Keys,
    listener: TcpListener,
    stop: CancellationToken,
) -> io::Result<()> {
    listener.local_addr()?;
    let service = S3Http::new(objects.clone(), keys);
    tokio::select! {
        () = accept(service, listener, stop) => Ok(()),
        () = objects.maintain() => Ok(()),
    }
}

async fn accept(service: S3Http, listener: TcpListener, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        let (Ok(place), Ok((stream, _))) = accepted else {
            tracing::warn!("a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (service, stop) = (service.clone(), stop.clone());
        connections.spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits::HEADER_TIMEOUT)
                .max_headers(limits::HEADERS_MAX)
                .max_buf_size(limits::HEADER_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection broke off");
            }
            drop(place);
        });
    }
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!("connections were cut off at the end");
    }
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
