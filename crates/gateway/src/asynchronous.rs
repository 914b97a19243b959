//! Asynchronous calls: handed to the process that keeps events, and answered once they are on the disk.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use rouse_types::{
    Chain, Code, Event, EventCall, FunctionVersion, Refusal, Source,
    chain::CHAIN_HEADER,
    event::{ASYNC_HEADER, Accepted, IDEMPOTENCY_HEADER, KEY_BYTES_MAX, ORDERING_HEADER, latin1},
    trigger::EVENT_BYTES_MAX,
};

use crate::{
    answer,
    body::{Body, Count, RequestBody},
    forward::Connector,
    handle::Executor,
    run::{Arrived, request_refusal},
    table::Picked,
};

/// What is said of an event, and of why it is refused, is short.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long the disk may take. An event whose answer did not come may have been accepted.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that stay open without a call.
const IDLE_CONNECTIONS: usize = 64;

/// The way to the process of events.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    client: Client<Connector, Full<Bytes>>,
}

/// Whether a caller asks to be answered before the call is done.
pub(crate) fn asked(headers: &HeaderMap) -> bool {
    let said = headers.get(ASYNC_HEADER).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    said || headers.get_all("prefer").iter().any(|line| {
        // RFC 7240 §2: preferences with commas between them, each with parameters after semicolons.
        let line = line.to_str().unwrap_or_default();
        line.split(',').any(|preference| {
            let name = preference.split([';', '=']).next().unwrap_or_default();
            name.trim().eq_ignore_ascii_case("respond-async")
        })
    })
}

impl Events {
    pub(crate) fn new(socket: PathBuf, executor: Executor) -> Self {
        let client = Client::builder(executor)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .retry_canceled_requests(false)
            .build(Connector::new(socket));
        Self { client }
    }

    /// Has a call kept, to be run later.
    pub(crate) async fn accept(
        &self,
        picked: &Picked,
        alias: Option<&str>,
        arrived: &Arrived,
        source: Source,
        request: Request<RequestBody>,
        bytes_in: &Count,
    ) -> Response<Body> {
        let accepted = async {
            let (event, body) = event_of(picked, alias, arrived, source, request, bytes_in).await?;
            self.hand_over(&event, &body).await
        };
        match accepted.await {
            Ok(accepted) => {
                let mut response = answered(&accepted);
                let applied = HeaderValue::from_static("respond-async");
                response.headers_mut().insert("preference-applied", applied);
                response
            }
            Err(refusal) => answer::refuse(arrived.id, &refusal, None),
        }
    }

    /// Hands an event to the process that keeps them. Once this returns, it is on the disk.
    pub(crate) async fn hand_over(&self, event: &Event, body: &[u8]) -> Result<Accepted, Refusal> {
        let uri = Uri::from_static("http://events/accept");
        let bytes = self.post(uri, event.encode(body), ANSWER_BYTES_MAX, ACCEPT_TIMEOUT).await?;
        serde_json::from_slice(&bytes).map_err(|_| unavailable())
    }

    /// Posts to the process of events, and gives what it answers.
    pub(crate) async fn post(
        &self,
        uri: Uri,
        body: Vec<u8>,
        answer_bytes_max: usize,
        timeout: Duration,
    ) -> Result<Bytes, Refusal> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        (*request.method_mut(), *request.uri_mut()) = (http::Method::POST, uri);
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| {
                (error.to_string(), if error.is_connect() { unavailable() } else { unknown() })
            })?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), answer_bytes_max).collect().await;
            Ok((status, body.map_err(|error| (error.to_string(), unknown()))?.to_bytes()))
        };
        let answered = tokio::time::timeout(timeout, exchange).await;
        let late = |_| Err(("no answer in time".to_owned(), unknown()));
        let (status, bytes) = match answered.unwrap_or_else(late) {
            Ok(answer) => answer,
            Err((error, refusal)) => {
                tracing::warn!(error, "an event could not be handed over");
                return Err(refusal);
            }
        };
        match status.is_success() {
            true => Ok(bytes),
            false => Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| unavailable())),
        }
    }
}

/// A call as an event, with its body.
pub(crate) async fn event_of(
    picked: &Picked,
    alias: Option<&str>,
    arrived: &Arrived,
    source: Source,
    request: Request<RequestBody>,
    bytes_in: &Count,
) -> Result<(Event, Bytes), Refusal> {
    let version = &picked.version;
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let call = match source {
        Source::Invoke => {
            EventCall::Invoke { content_type: text(headers, "content-type").map(str::to_owned) }
        }
        Source::Http => http_call(&parts, arrived),
    };
    let event = Event {
        alias: alias.map(str::to_owned),
        idempotency_key: key(headers, IDEMPOTENCY_HEADER)?,
        ordering_key: key(headers, ORDERING_HEADER)?,
        ..arrived_event(version, arrived, headers, call)
    };
    let body = body.collect().await.map_err(|_| {
        let error = bytes_in.failure().unwrap_or(crate::body::Error::Broken);
        request_refusal(error, version)
    })?;
    let body = body.to_bytes();
    if body.len() > EVENT_BYTES_MAX {
        return Err(Refusal::new(
            Code::PayloadTooLarge,
            format!("an asynchronous call of '{}' has more than {EVENT_BYTES_MAX} bytes", version.function),
        )
        .hint("store what is large as an object, and send its name"));
    }
    Ok((event, body))
}

/// The answer of an event that is on the disk.
pub(crate) fn answered(accepted: &Accepted) -> Response<Body> {
    let json = serde_json::to_string(accepted).expect("plain data");
    let mut response = Response::new(Body::full(Bytes::from(json + "\n")));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer::put_id(headers, accepted.id);
    response
}

fn unavailable() -> Refusal {
    Refusal::new(
        Code::EventsUnavailable,
        "the process that keeps events is not there at the moment; the call was not accepted",
    )
    .hint("send it again; with an `idempotency-key` it runs once, whatever happened")
    .retry_after(Duration::from_secs(1))
}

/// What is said where it may have been handed over.
fn unknown() -> Refusal {
    Refusal::new(
        Code::EventsUnavailable,
        "the process that keeps events did not answer; whether the call was accepted is not known",
    )
    .hint("send it again; with an `idempotency-key` it runs once, whatever happened")
    .retry_after(Duration::from_secs(1))
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn key(headers: &HeaderMap, name: &str) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match value.to_str() {
        Ok(text) if (1..=KEY_BYTES_MAX).contains(&text.len()) => Ok(Some(text.to_owned())),
        _ => Err(Refusal::new(
            Code::BadRequest,
            format!("the header {name} must have 1 to {KEY_BYTES_MAX} characters of ASCII"),
        )),
    }
}

/// An event that came as a request, with the request's id.
pub(crate) fn arrived_event(
    version: &FunctionVersion,
    arrived: &Arrived,
    headers: &HeaderMap,
    call: EventCall,
) -> Event {
    Event {
        id: arrived.id,
        caller: arrived.caller,
        chain: Chain::read(text(headers, CHAIN_HEADER).unwrap_or_default()),
        ..Event::new(&version.tenant, &version.function, call, arrived.at)
    }
}

/// The request as the function is to see it later: without what concerned this connection, or its being sent.
pub(crate) fn http_call(parts: &http::request::Parts, arrived: &Arrived) -> EventCall {
    const LEFT_OUT: [HeaderName; 5] = [
        header::CONTENT_LENGTH,
        header::EXPECT,
        HeaderName::from_static("prefer"),
        HeaderName::from_static(ASYNC_HEADER),
        HeaderName::from_static(CHAIN_HEADER),
    ];
    let mut headers = parts.headers.clone();
    answer::strip(&mut headers);
    LEFT_OUT.iter().for_each(|name| drop(headers.remove(name)));
    if let Some(host) = parts.uri.authority().and_then(|a| HeaderValue::try_from(a.as_str()).ok()) {
        headers.entry(header::HOST).or_insert(host);
    }
    EventCall::Http {
        method: parts.method.to_string(),
        path: arrived.path.to_string(),
        headers: headers.iter().map(|(name, value)| (name.to_string(), latin1(value.as_bytes()))).collect(),
        peer: arrived.peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_may_ask_in_either_way() {
        let asks = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            asked(&headers)
        };
        assert!(asks("prefer", "respond-async") && asks("prefer", "wait=10, Respond-Async; x=1"));
        assert!(asks("x-rouse-async", "true"));
        assert!(!asks("prefer", "return=minimal") && !asks("x-rouse-async", "0"));
    }
}
