//! What a proxy changes in the heads of requests and answers: RFC 9110 §7.6 and RFC 7239.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header, uri};
use rouse_types::TraceContext;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const CLOUD_TRACE: HeaderName = HeaderName::from_static("x-cloud-trace-context");

/// The protocol that a request asks to change to.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get_all(header::CONNECTION).iter().any(|value| has_word(value, "upgrade"));
    headers.get(header::UPGRADE).filter(|_| asked).cloned()
}

/// Makes a caller's request one that goes to the code. `over_h2` says where the host stands.
pub(crate) fn to_code<B>(
    request: &mut Request<B>,
    peer: Option<IpAddr>,
    trace: &TraceContext,
    upgrade: Option<HeaderValue>,
    over_h2: bool,
) {
    let headers = request.headers_mut();
    let trailers = headers.get_all(header::TE).iter().any(|value| has_word(value, "trailers"));
    strip(headers);
    // The gateway has said "100 Continue" already, or its client sends without.
    headers.remove(header::EXPECT);
    if trailers {
        // gRPC's servers refuse requests without it.
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    if let Ok(value) = HeaderValue::try_from(trace.to_string()) {
        headers.insert(TRACEPARENT, value);
    }
    let cloud = format!("{:032x}/{};o={}", trace.trace_id, trace.span_id, trace.flags & 1);
    if let Ok(value) = HeaderValue::try_from(cloud) {
        headers.insert(CLOUD_TRACE, value);
    }
    let host = address(request, over_h2);
    forwarded(request.headers_mut(), peer, &host);
}

/// Puts the host where the protocol has it, and gives it. The caller's own wins over the one in the address.
pub(crate) fn address<B>(request: &mut Request<B>, over_h2: bool) -> HeaderValue {
    let from_uri = request.uri().authority().and_then(|host| HeaderValue::try_from(host.as_str()).ok());
    let host = request.headers_mut().remove(header::HOST).or(from_uri);
    let host = host.unwrap_or(HeaderValue::from_static("localhost"));
    let mut parts = uri::Parts::default();
    parts.path_and_query = request.uri().path_and_query().cloned();
    if over_h2 {
        parts.scheme = Some(uri::Scheme::HTTP);
        let authority = uri::Authority::try_from(host.as_bytes());
        parts.authority = Some(authority.unwrap_or_else(|_| uri::Authority::from_static("localhost")));
        *request.version_mut() = http::Version::HTTP_2;
    } else {
        request.headers_mut().insert(header::HOST, host.clone());
        *request.version_mut() = http::Version::HTTP_11;
    }
    // A path and a host that were parsed before make a URI.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    host
}

/// Who called, at which name, how: what a proxy before us said stays, as it knows more.
fn forwarded(headers: &mut HeaderMap, peer: Option<IpAddr>, host: &HeaderValue) {
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    headers.entry(FORWARDED_HOST).or_insert_with(|| host.clone());
    let Some(peer) = peer else { return };
    append(headers, FORWARDED_FOR, &peer.to_string());
    let node = match peer {
        IpAddr::V4(peer) => peer.to_string(),
        IpAddr::V6(peer) => format!("\"[{peer}]\""),
    };
    let host = host.to_str().unwrap_or_default().replace(['"', '\\'], "");
    append(headers, header::FORWARDED, &format!("for={node};host=\"{host}\";proto=http"));
}

/// Adds a member to a list that may stand in several lines.
fn append(headers: &mut HeaderMap, name: HeaderName, member: &str) {
    let before: Vec<_> = headers.get_all(&name).iter().filter_map(|value| value.to_str().ok()).collect();
    let text = before.into_iter().chain([member]).collect::<Vec<_>>().join(", ");
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(name, value);
    }
}

/// Makes the code's answer one that goes to the caller.
pub(crate) fn to_caller(status: StatusCode, headers: &mut HeaderMap) {
    let upgrade = headers.get(header::UPGRADE).cloned();
    strip(headers);
    if let Some(protocol) = upgrade.filter(|_| status == StatusCode::SWITCHING_PROTOCOLS) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
}

/// Removes what must not go beyond this hop, also what `connection` names.
fn strip(headers: &mut HeaderMap) {
    let lines: Vec<_> = headers.get_all(header::CONNECTION).iter().cloned().collect();
    for name in lines.iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')) {
        headers.remove(name.trim());
    }
    for name in [
        header::CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
}

fn has_word(value: &HeaderValue, word: &str) -> bool {
    value.to_str().is_ok_and(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> TraceContext {
        "00-0af7651916cd43dd8448eb211c80319c-00000000000000ff-01".parse().expect("a trace")
    }

    fn seen(build: http::request::Builder, over_h2: bool) -> Request<()> {
        let mut request = build.body(()).expect("a request");
        let upgrade = upgrade(request.headers());
        to_code(&mut request, "192.0.2.7".parse().ok(), &trace(), upgrade, over_h2);
        request
    }

    #[test]
    fn what_belongs_to_the_connection_goes_no_further() {
        let request = seen(
            Request::get("http://shop.example/a?b=c")
                .header("connection", "close, x-mine")
                .header("x-mine", "1")
                .header("te", "gzip, trailers")
                .header("keep-alive", "5")
                .header("x-yours", "2"),
            false,
        );
        let headers = request.headers();
        assert!(["connection", "x-mine", "keep-alive"].iter().all(|name| !headers.contains_key(*name)));
        assert_eq!(
            (&headers["te"], &headers["x-yours"]),
            (&"trailers".parse().expect("t"), &"2".parse().expect("2"))
        );
        assert_eq!(headers["host"], "shop.example");
        assert_eq!(request.uri(), "/a?b=c");
    }

    #[test]
    fn the_code_learns_who_called_and_a_proxy_before_us_is_believed() {
        let request = seen(
            Request::get("/")
                .header("host", "shop.example")
                .header("x-forwarded-for", "198.51.100.1")
                .header("x-forwarded-proto", "https"),
            false,
        );
        let headers = request.headers();
        assert_eq!(headers["x-forwarded-for"], "198.51.100.1, 192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "shop.example");
        assert_eq!(headers["forwarded"], "for=192.0.2.7;host=\"shop.example\";proto=http");
        assert_eq!(headers["traceparent"], trace().to_string());
        assert_eq!(headers["x-cloud-trace-context"], "0af7651916cd43dd8448eb211c80319c/255;o=1");
    }

    #[test]
    fn over_http2_the_host_stands_in_the_address() {
        let request = seen(Request::get("/x").header("host", "shop.example:81"), true);
        assert_eq!(request.uri(), "http://shop.example:81/x");
        assert!(!request.headers().contains_key("host"));
    }

    #[test]
    fn an_upgrade_stays_one_and_an_answer_of_its_kind_too() {
        let asked =
            Request::get("/").header("connection", "keep-alive, Upgrade").header("upgrade", "websocket");
        let request = seen(asked, false);
        assert_eq!(
            (&request.headers()["connection"], &request.headers()["upgrade"]),
            (&"upgrade".parse().expect("a"), &"websocket".parse().expect("b"))
        );
        let mut answer = request.headers().clone();
        to_caller(StatusCode::OK, &mut answer);
        assert!(!answer.contains_key("upgrade"));
        let mut answer = request.headers().clone();
        to_caller(StatusCode::SWITCHING_PROTOCOLS, &mut answer);
        assert_eq!(answer["upgrade"], "websocket");
    }
}
