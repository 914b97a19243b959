//! A component in Rust: greets, and counts the words of a text that is posted to it.
//!
//! `GET /?name=Ada` greets and echoes the query; `POST /` with a text answers its most frequent words.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{
        Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
    },
    io::streams::StreamError,
};

/// Frequent words that are answered.
const WORDS_MAX: usize = 5;

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let (status, answer) = match request.method() {
            Method::Get | Method::Head => (200, greet(&request.path_with_query().unwrap_or_default())),
            Method::Post => match read(&request) {
                Ok(body) => post(&body),
                Err(error) => (400, json!({ "error": error })),
            },
            _ => (405, json!({ "error": "GET greets, POST counts words" })),
        };
        respond(out, status, &answer);
    }
}

fn greet(path_with_query: &str) -> Value {
    let query = path_with_query.split_once('?').map_or("", |(_, query)| query);
    let query: BTreeMap<String, String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect();
    let name = query.get("name").map_or("world", String::as_str);
    json!({ "greeting": format!("Hello, {name}!"), "from": "rust", "query": query })
}

/// A JSON object with a name is greeted, as `rouse invoke` sends one; anything else is a text to count.
fn post(body: &[u8]) -> (u16, Value) {
    if let Ok(Value::Object(object)) = serde_json::from_slice::<Value>(body)
        && let Some(name) = object.get("name").and_then(Value::as_str)
    {
        return (200, json!({ "greeting": format!("Hello, {name}!"), "from": "rust" }));
    }
    match str::from_utf8(body) {
        Ok(text) => (200, count(text)),
        Err(_) => (400, json!({ "error": "the body is not UTF-8 text" })),
    }
}

fn count(text: &str) -> Value {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    let words: u32 = counts.values().sum();
    let mut top: Vec<_> = counts.into_iter().collect();
    top.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    top.truncate(WORDS_MAX);
    let top: Vec<_> = top.into_iter().map(|(word, times)| json!({ "word": word, "times": times })).collect();
    json!({ "from": "rust", "lines": text.lines().count(), "words": words, "top": top })
}

/// The whole body. What it may weigh is the platform's to limit.
fn read(request: &IncomingRequest) -> Result<Vec<u8>, String> {
    let body: IncomingBody = request.consume().map_err(|()| "the body was taken already".to_owned())?;
    let stream = body.stream().map_err(|()| "the body was taken already".to_owned())?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}

fn respond(out: ResponseOutparam, status: u16, answer: &Value) {
    let headers = Fields::new();
    // Neither can fail: the name and the status are valid, and nothing else has the headers.
    let _ = headers.set("content-type", &[b"application/json".to_vec()]);
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(status);
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(out, Ok(response));
    let mut text = answer.to_string();
    text.push('\n');
    // The caller may have gone; there is no one left to tell.
    if let Ok(stream) = body.write() {
        for chunk in text.as_bytes().chunks(4096) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

/// Percent-decoding as forms do it: `+` is a space, what is no escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or_default() as u8;
                bytes.push(digit(high) << 4 | digit(low));
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
