//! What a function returns, as an HTTP answer: payload format 2.0.
//!
//! JSON with a `statusCode` says status, headers, cookies and body itself; any other JSON is the body of a 200.
//! Source: as [`super::http_event`].

use std::collections::BTreeMap;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

/// The most headers that an answer may have: what hyper's clients take.
const HEADERS_MAX: usize = 100;
/// The most bytes of them together.
const HEADERS_BYTES_MAX: usize = 32 << 10;

/// The answer is none: why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Status and headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// 200 to 599.
    pub status: StatusCode,
    /// Without those that belong to the connection or to the platform.
    pub headers: HeaderMap,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    status_code: Option<Value>,
    #[serde(default)]
    headers: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    multi_value_headers: Option<BTreeMap<String, Vec<Value>>>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default)]
    body: Option<Value>,
    #[serde(default)]
    is_base64_encoded: Option<bool>,
}

impl Head {
    /// Reads a prelude: as an answer, without a body.
    ///
    /// # Errors
    /// [`Invalid`] says what is wrong.
    pub fn read(json: &[u8]) -> Result<Self, Invalid> {
        let mut shape: Shape = serde_json::from_slice(json).map_err(|error| {
            Invalid::new(format!("the head of the streamed answer is not as it must be: {error}"))
        })?;
        let status = status(shape.status_code.take().as_ref().unwrap_or(&Value::from(200)))?;
        let headers = headers(&shape)?;
        Ok(Self { status, headers })
    }

    /// The head of an answer that says nothing of itself.
    #[must_use]
    pub fn plain(content_type: HeaderValue) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type);
        Self { status: StatusCode::OK, headers }
    }
}

/// Turns what the function returned into an HTTP answer.
///
/// # Errors
/// [`Invalid`] says what is wrong.
pub fn read(payload: &Bytes) -> Result<(Head, Bytes), Invalid> {
    let json = HeaderValue::from_static("application/json");
    let value: Value = serde_json::from_slice(payload)
        .map_err(|error| Invalid::new(format!("the function's answer is not JSON: {error}")))?;
    match value {
        Value::Object(object) if object.contains_key("statusCode") => shaped(Value::Object(object)),
        // A string is the body itself; anything else is the body as it was written.
        Value::String(text) => Ok((Head::plain(json), text.into())),
        _ => Ok((Head::plain(json), payload.clone())),
    }
}

fn shaped(value: Value) -> Result<(Head, Bytes), Invalid> {
    let shape: Shape = serde_json::from_value(value)
        .map_err(|error| Invalid::new(format!("the function's answer is not as it must be: {error}")))?;
    let status = status(shape.status_code.as_ref().unwrap_or(&Value::Null))?;
    let mut headers = headers(&shape)?;
    headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    let text = match shape.body {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text,
        Some(_) => return Err(Invalid::new("`body` must be a string: encode an object as JSON first")),
    };
    let body = if shape.is_base64_encoded == Some(true) {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.as_bytes());
        bytes.map_err(|_| Invalid::new("`isBase64Encoded` is true, but `body` is not base64"))?.into()
    } else {
        Bytes::from(text)
    };
    Ok((Head { status, headers }, body))
}

/// A number, or one in a string; AWS takes both.
fn status(value: &Value) -> Result<StatusCode, Invalid> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let code = number.and_then(|number| u16::try_from(number).ok());
    // 1xx is no answer (RFC 9110 §15.2).
    code.filter(|code| (200..600).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| Invalid::new("`statusCode` must be a number from 200 to 599"))
}

fn headers(shape: &Shape) -> Result<HeaderMap, Invalid> {
    let mut all = HeaderMap::new();
    let mut bytes = 0;
    let mut add = |name: &str, value: &str, append: bool| {
        bytes += name.len() + value.len();
        if bytes > HEADERS_BYTES_MAX || all.len() >= HEADERS_MAX {
            let most = format!("{HEADERS_MAX} headers of {HEADERS_BYTES_MAX} bytes together");
            return Err(Invalid::new(format!("the answer has more than {most}")));
        }
        let wrong = || Invalid::new(format!("the header '{}' cannot be sent", name.escape_debug()));
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        if belongs_to_platform(&header) {
            return Ok(());
        }
        if append {
            all.append(header, value);
        } else {
            all.insert(header, value);
        }
        Ok(())
    };
    for (name, value) in shape.headers.iter().flatten() {
        add(name, &text(name, value)?, false)?;
    }
    for (name, values) in shape.multi_value_headers.iter().flatten() {
        for (at, value) in values.iter().enumerate() {
            // They stand instead of the single one of the same name.
            add(name, &text(name, value)?, at > 0)?;
        }
    }
    for cookie in shape.cookies.iter().flatten() {
        add(header::SET_COOKIE.as_str(), cookie, true)?;
    }
    Ok(all)
}

fn text(name: &str, value: &Value) -> Result<String, Invalid> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        _ => Err(Invalid::new(format!("the header '{}' must be a string", name.escape_debug()))),
    }
}

/// Headers of one connection (RFC 9110 §7.6.1), the length, which is ours to count, and the platform's own words.
fn belongs_to_platform(name: &HeaderName) -> bool {
    const CONNECTION: [HeaderName; 6] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    CONNECTION.contains(name)
        || ["keep-alive", "proxy-connection"].contains(&name.as_str())
        || name.as_str().starts_with("x-rouse-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(json: &str) -> Result<(Head, Bytes), Invalid> {
        read(&Bytes::copy_from_slice(json.as_bytes()))
    }

    #[test]
    fn without_a_status_the_whole_is_the_body() {
        for (json, body) in [
            (r#"{ "message": "Hi" }"#, r#"{ "message": "Hi" }"#),
            (r#""Hi""#, "Hi"),
            ("[1, 2]", "[1, 2]"),
            ("null", "null"),
            (r#"{"body": "x"}"#, r#"{"body": "x"}"#),
        ] {
            let (head, found) = answer(json).expect(json);
            assert_eq!(head.status, StatusCode::OK);
            assert_eq!(head.headers[header::CONTENT_TYPE], "application/json");
            assert_eq!(found, body);
        }
    }

    #[test]
    fn with_a_status_everything_is_as_it_says() {
        let (head, body) = answer(
            r#"{"statusCode": 201, "headers": {"Content-Type": "text/plain", "X-N": 3, "Connection": "close",
                "Content-Length": "999", "x-rouse-outcome": "{}"}, "cookies": ["a=1", "b=2; HttpOnly"], "body": "made"}"#,
        )
        .expect("an answer");
        assert_eq!(head.status, StatusCode::CREATED);
        assert_eq!(head.headers["content-type"], "text/plain");
        assert_eq!(head.headers["x-n"], "3");
        assert_eq!(head.headers.len(), 4, "what belongs to the connection is dropped: {:?}", head.headers);
        assert_eq!(head.headers.get_all("set-cookie").iter().count(), 2);
        assert_eq!(body, "made");
    }

    #[test]
    fn a_body_in_base64_is_decoded() {
        let (_, body) =
            answer(r#"{"statusCode": "200", "body": "aGk=", "isBase64Encoded": true}"#).expect("ok");
        assert_eq!(body, "hi");
    }

    #[test]
    fn headers_with_many_values_are_all_sent() {
        let (head, _) = answer(r#"{"statusCode":200,"multiValueHeaders":{"X":["1","2"]}}"#).expect("ok");
        assert_eq!(head.headers.get_all("x").iter().collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn what_is_no_answer_is_refused_with_the_reason() {
        for (json, reason) in [
            ("", "not JSON"),
            ("{", "not JSON"),
            (r#"{"statusCode":"x"}"#, "statusCode"),
            (r#"{"statusCode":99}"#, "statusCode"),
            (r#"{"statusCode":100}"#, "statusCode"),
            (r#"{"statusCode":null}"#, "statusCode"),
            (r#"{"statusCode":200,"body":{}}"#, "body"),
            (r#"{"statusCode":200,"body":"?","isBase64Encoded":true}"#, "base64"),
            (r#"{"statusCode":200,"headers":{"a b":"c"}}"#, "header"),
            (r#"{"statusCode":200,"headers":{"a":"b\r\nc: d"}}"#, "header"),
            (r#"{"statusCode":200,"headers":{"a":{}}}"#, "header"),
            (r#"{"statusCode":200,"headers":[]}"#, "not as it must be"),
            (r#"{"statusCode":200,"cookies":"a=b"}"#, "not as it must be"),
        ] {
            let error = answer(json).expect_err(json).to_string();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(json in "\\{\"statusCode\":[0-9]{1,5},\"headers\":\\{\"\\PC{0,8}\":\"\\PC{0,8}\"\\}\\}") {
            let _ = answer(&json);
        }
    }
}
