//! Which mode a request is in, and the headers of binary mode.

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::de::IgnoredAny;

use super::{
    BATCH_MAX, Error, Event, Extension, essence,
    json::{self, Members},
};

/// The content type of one event as JSON.
pub const STRUCTURED_TYPE: &str = "application/cloudevents+json";
/// The content type of several.
pub const BATCH_TYPE: &str = "application/cloudevents-batch+json";

/// What is not written as it is in a header: beside what is no ASCII, spaces, quotes and percent signs (HTTP binding
/// §3.1.3.2).
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Whether a request says of itself that it holds CloudEvents.
#[must_use]
pub fn is_cloud_event(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion") || content_type(headers).starts_with("application/cloudevents")
}

/// Reads the events of a request: one, or those of a batch, which may have none.
///
/// # Errors
/// It holds no CloudEvents, or one that is not valid: then none is taken.
pub fn read(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Event>, Error> {
    let ty = content_type(headers);
    match ty.as_str() {
        STRUCTURED_TYPE => json::one(body).map(|event| vec![event]),
        BATCH_TYPE => json::batch(body),
        ty if ty.starts_with("application/cloudevents") => Err(Error::Format(ty.chars().take(100).collect())),
        _ if headers.contains_key("ce-specversion") => binary(headers, body).map(|event| vec![event]),
        _ => Err(Error::NotOne),
    }
}

fn content_type(headers: &HeaderMap) -> String {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(essence).unwrap_or_default()
}

fn binary(headers: &HeaderMap, body: &[u8]) -> Result<Event, Error> {
    // Without a content type there may be data all the same; without either there is none.
    let mut members = Members { data: (!body.is_empty()).then(|| body.to_vec()), ..Members::default() };
    for name in headers.keys() {
        let attribute = match name.as_str().strip_prefix("ce-") {
            Some("datacontenttype") => {
                return Err(Error::attribute("datacontenttype", "it is the header content-type"));
            }
            Some(attribute) => attribute,
            None if name == CONTENT_TYPE => "datacontenttype",
            None => continue,
        };
        let mut values = headers.get_all(name).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Error::attribute(attribute, "it is there twice"));
        };
        let value = if attribute == "datacontenttype" {
            value
                .to_str()
                .map(str::to_owned)
                .map_err(|_| Error::attribute(attribute, "it is no media type"))?
        } else {
            decode(value).ok_or_else(|| Error::attribute(attribute, "it is no text in UTF-8"))?
        };
        match attribute {
            "specversion" => members.version = Some(value),
            attribute => members.attributes.push((attribute.to_owned(), Extension::Text(value))),
        }
    }
    if members.attributes.len() > BATCH_MAX {
        return Err(Error::TooLarge("its attributes"));
    }
    Event::from_members(members)
}

/// A header's text: quotes are taken off, then percent signs are resolved, once.
fn decode(value: &HeaderValue) -> Option<String> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?.trim();
    let text = match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        None => text.to_owned(),
        // RFC 9110 §5.6.4: a backslash stands for what follows it.
        Some(quoted) => {
            let mut plain = String::with_capacity(quoted.len());
            let mut chars = quoted.chars();
            while let Some(c) = chars.next() {
                plain.push(if c == '\\' { chars.next()? } else { c });
            }
            plain
        }
    };
    percent_decode_str(&text).decode_utf8().ok().map(Into::into)
}

impl Event {
    /// The event in binary mode: the headers, and the data as the body.
    #[must_use]
    pub fn to_binary(&self) -> (HeaderMap, Vec<u8>) {
        let mut headers = HeaderMap::new();
        headers.insert("ce-specversion", HeaderValue::from_static("1.0"));
        for (name, value) in self.attributes() {
            let value = utf8_percent_encode(&value.as_text(), ESCAPED).to_string();
            let name = HeaderName::try_from(format!("ce-{name}"));
            // Checked when they were set: names are a-z and 0-9, values have no control characters.
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
        // Data without a content type is JSON where it came as JSON, which is to be said here.
        let json = || self.data.as_ref().filter(|data| serde_json::from_slice::<IgnoredAny>(data).is_ok());
        let ty = self.content_type.as_deref().or_else(|| json().map(|_| "application/json"));
        if let Some(ty) = ty.and_then(|ty| HeaderValue::from_str(ty).ok()) {
            headers.insert(CONTENT_TYPE, ty);
        }
        (headers, self.data.clone().unwrap_or_default())
    }
}
