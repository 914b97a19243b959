//! Calls by HTTP, and waiting for what must come to be.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

/// A call that takes longer hangs.
const CALL_MAX: Duration = Duration::from_secs(90);

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, and the trailers of a streamed answer.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// A header's value, empty when it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON: {error}: {} {}", self.status, self.text()))
    }

    /// The parts of `server-timing` in microseconds: queue, start, init, run, total.
    ///
    /// # Panics
    /// When a part is missing.
    #[must_use]
    pub fn timing_us(&self) -> [u64; 5] {
        let header = self.header("server-timing");
        ["queue", "start", "init", "run", "total"].map(|part| {
            let found =
                header.split(',').find_map(|field| field.trim().strip_prefix(part)?.strip_prefix(";dur="));
            let digits = found.map(|ms| ms.replace('.', ""));
            digits.and_then(|us| us.parse().ok()).unwrap_or_else(|| panic!("no {part} in '{header}'"))
        })
    }

    /// The code of a refusal; empty for an answer.
    #[must_use]
    pub fn code(&self) -> &str {
        self.header("x-rouse-error")
    }
}

/// Sends one request and reads the whole answer.
///
/// # Errors
/// The connection failed before the answer was whole.
///
/// # Panics
/// When it takes longer than any call may.
pub async fn call_on(
    client: &Client<HttpConnector, Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, String> {
    let what = format!("{} {}", request.method(), request.uri());
    let call = async {
        let response = client.request(request).await.map_err(|error| format!("{what}: {error:?}"))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| format!("{what}: body: {error:?}"))?;
        let mut headers = head.headers;
        if let Some(trailers) = body.trailers() {
            headers.extend(trailers.clone());
        }
        Ok(Answer { status: head.status, headers, body: body.to_bytes() })
    };
    tokio::time::timeout(CALL_MAX, call)
        .await
        .unwrap_or_else(|_| panic!("{what} took longer than {CALL_MAX:?}"))
}

/// `GET` of a path at an address, on a connection of its own.
///
/// # Errors
/// The connection failed before the answer was whole.
pub async fn get(to: SocketAddr, path: &str) -> Result<Answer, String> {
    call_on(&client(), request(to, path, None)).await
}

pub(crate) fn client() -> Client<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

pub(crate) fn request(to: SocketAddr, path: &str, body: Option<Bytes>) -> Request<Full<Bytes>> {
    let method = if body.is_some() { "POST" } else { "GET" };
    Request::builder()
        .method(method)
        .uri(format!("http://{to}{path}"))
        .header("content-type", "application/json")
        .header("te", "trailers")
        .body(Full::new(body.unwrap_or_default()))
        .expect("a valid request")
}

/// Waits until something holds.
///
/// # Panics
/// When it does not within the time.
pub async fn wait_for(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + limit;
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
