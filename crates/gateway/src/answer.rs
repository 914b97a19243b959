//! What every answer carries: the invocation's id, its time by part, what is billed; and refusals as people
//! and programs read them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use rouse_types::{
    InvocationId, OutcomeHead, Refusal, Timing,
    event::DELIVERY_HEADER,
    invocation::{
        BILLED_HEADER, COST_HEADER, ERROR_HEADER, ID_HEADER, INVOCATION_HEADER, LAMBDA_HEADER, OUTCOME_HEADER,
    },
};

use crate::body::Body;

const ID: HeaderName = HeaderName::from_static(ID_HEADER);
const BILLED: HeaderName = HeaderName::from_static(BILLED_HEADER);
const COST: HeaderName = HeaderName::from_static(COST_HEADER);
const ERROR: HeaderName = HeaderName::from_static(ERROR_HEADER);
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Headers between two hops, not between ends (RFC 9110 §7.6.1), and those that only our own processes
/// may say to each other.
const NOT_FORWARDED: [HeaderName; 13] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static(INVOCATION_HEADER),
    HeaderName::from_static(LAMBDA_HEADER),
    HeaderName::from_static(OUTCOME_HEADER),
    HeaderName::from_static(DELIVERY_HEADER),
    // What is billed is ours to say.
    BILLED,
    COST,
];

/// Removes what must not go beyond this hop, also what `connection` names.
pub(crate) fn strip(headers: &mut HeaderMap) {
    if let Some(named) = headers.get(header::CONNECTION).cloned() {
        for name in named.to_str().unwrap_or_default().split(',') {
            headers.remove(name.trim());
        }
    }
    for name in &NOT_FORWARDED {
        headers.remove(name);
    }
}

/// `Server-Timing` (W3C) with the parts in milliseconds; they sum to the total exactly.
fn server_timing(timing: &Timing) -> HeaderValue {
    let ms = |us: u64| format_args!("{}.{:03}", us / 1_000, us % 1_000).to_string();
    let text = format!(
        "queue;dur={}, start;dur={}, init;dur={}, run;dur={}, total;dur={}",
        ms(timing.queue_us),
        ms(timing.start_us),
        ms(timing.init_us),
        ms(timing.run_us),
        ms(timing.total_us()),
    );
    HeaderValue::try_from(text).expect("digits, letters and punctuation")
}

/// Adds the invocation's id.
pub(crate) fn put_id(headers: &mut HeaderMap, id: InvocationId) {
    let mut buffer = [0; 36];
    let text = id.encode(&mut buffer);
    headers.insert(ID, HeaderValue::from_str(text).expect("a uuid"));
}

/// Adds what is known once the code has ended: to the headers of a whole answer, to the trailers of a
/// streamed one.
pub(crate) fn put_outcome(headers: &mut HeaderMap, outcome: &OutcomeHead) {
    headers.insert(SERVER_TIMING, server_timing(&outcome.timing));
    headers.insert(BILLED, HeaderValue::from(outcome.billed_ms));
    if let Some(cost) = outcome.cost_nanos {
        headers.insert(COST, HeaderValue::from(cost));
    }
}

/// Says beforehand which trailers a streamed answer will have (RFC 9110 §6.6.2).
pub(crate) fn announce_trailers(headers: &mut HeaderMap) {
    headers.append(
        header::TRAILER,
        HeaderValue::from_static("server-timing, x-rouse-billed-ms, x-rouse-cost-nanos"),
    );
}

/// A refusal as an answer: JSON, the status of its code, `Retry-After` where there is one.
pub(crate) fn refuse(id: InvocationId, refusal: &Refusal, outcome: Option<&OutcomeHead>) -> Response<Body> {
    let json = serde_json::to_string(refusal).expect("plain data");
    let mut response = Response::new(Body::full(Bytes::from(json + "\n")));
    *response.status_mut() = StatusCode::from_u16(refusal.code.status()).expect("a code's status");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ERROR, HeaderValue::from_static(refusal.code.as_str()));
    if let Some(seconds) = refusal.retry_after_seconds() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    put_id(headers, id);
    if let Some(outcome) = outcome {
        put_outcome(headers, outcome);
    }
    response
}

#[cfg(test)]
mod tests {
    use rouse_types::Code;

    use super::*;

    #[test]
    fn the_parts_of_server_timing_sum_to_the_total() {
        let timing = Timing { queue_us: 12, start_us: 3_400, init_us: 56_789, run_us: 1_000_000 };
        assert_eq!(
            server_timing(&timing),
            "queue;dur=0.012, start;dur=3.400, init;dur=56.789, run;dur=1000.000, total;dur=1060.201"
        );
    }

    #[test]
    fn what_strangers_send_in_our_own_headers_is_removed() {
        let mut headers = HeaderMap::new();
        headers.insert(INVOCATION_HEADER, HeaderValue::from_static("{}"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("x-private, close"));
        headers.insert(COST_HEADER, HeaderValue::from_static("0"));
        headers.insert("x-private", HeaderValue::from_static("1"));
        headers.insert("x-kept", HeaderValue::from_static("1"));
        strip(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn a_refusal_says_when_to_come_again() {
        let refusal =
            Refusal::new(Code::TooManyRequests, "too many").retry_after(std::time::Duration::from_millis(1));
        let response = refuse(InvocationId::new(), &refusal, None);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()[ERROR], "too-many-requests");
    }
}
