//! How AWS writes the names of headers. HTTP tells no case from another (RFC 9110 §5.1), but clients show names as they came, and
//! some programs look for AWS' spelling.
//!
//! hyper writes names as a message of its own had them: one is read at the start, and what it remembers of its names goes with
//! every answer.

use std::convert::Infallible;

use http::{Extensions, Request, Response};
use http_body_util::Empty;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

/// As AWS' services spell them. Others are written in small letters.
const NAMES: [&str; 24] = [
    "Accept-Ranges",
    "Access-Control-Allow-Credentials",
    "Access-Control-Allow-Headers",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Origin",
    "Access-Control-Expose-Headers",
    "Access-Control-Max-Age",
    "Connection",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "Date",
    "ETag",
    "Last-Modified",
    "Location",
    "Retry-After",
    "Server",
    "Transfer-Encoding",
    "X-Amz-Executed-Version",
    "X-Amz-Function-Error",
    "X-Amz-Log-Result",
    "x-amzn-ErrorType",
    "x-amzn-Remapped-Content-Type",
    "x-amzn-RequestId",
];

/// What an answer carries so that its names are written so.
pub(crate) async fn spelled() -> Extensions {
    let mut text = String::from("GET / HTTP/1.1\r\n");
    for name in NAMES {
        // A request that ends here: its length and coding are looked at, unlike the rest.
        let value = match name {
            "Content-Length" => "0",
            "Transfer-Encoding" => continue,
            "Connection" => "close",
            _ => "-",
        };
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let (mut near, far) = tokio::io::duplex(text.len() + 1_024);
    let (told, mut found) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(move |request: Request<Incoming>| {
        let _ = told.send(request.extensions().clone());
        async { Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new())) }
    });
    if near.write_all(text.as_bytes()).await.is_ok() {
        let _ = http1::Builder::new()
            .preserve_header_case(true)
            .serve_connection(TokioIo::new(far), service)
            .await;
    }
    found.try_recv().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn names_are_written_as_aws_writes_them() {
        let case = spelled().await;
        let (near, far) = tokio::io::duplex(4_096);
        let service = service_fn(move |_: Request<Incoming>| {
            let mut response = Response::new(Empty::<bytes::Bytes>::new());
            for name in NAMES.map(str::to_ascii_lowercase) {
                if !["content-length", "transfer-encoding", "connection"].contains(&name.as_str()) {
                    let name = http::HeaderName::try_from(name).expect("a name");
                    response.headers_mut().insert(name, http::HeaderValue::from_static("v"));
                }
            }
            response.headers_mut().insert("x-own", http::HeaderValue::from_static("v"));
            *response.extensions_mut() = case.clone();
            async { Ok::<_, Infallible>(response) }
        });
        let asked = async {
            let (mut read, mut write) = tokio::io::split(near);
            write.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await.expect("asked");
            let mut text = String::new();
            read.read_to_string(&mut text).await.expect("answered");
            text
        };
        let (_, text) =
            tokio::join!(http1::Builder::new().serve_connection(TokioIo::new(far), service), asked);
        for name in NAMES.iter().filter(|name| !["Transfer-Encoding"].contains(name)) {
            assert!(text.contains(&format!("\r\n{name}: ")), "{name} in {text}");
        }
        assert!(text.contains("\r\nx-own: v"), "{text}");
    }
}
