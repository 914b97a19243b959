//! CloudEvents 1.0: how events come and go over HTTP, in all three of its modes.
//!
//! ```text
//!  binary       ce-id: …, ce-type: …, content-type: of the data      body: the data
//!  structured   content-type: application/cloudevents+json           body: {"id": …, "data": …}
//!  batched      content-type: application/cloudevents-batch+json     body: [{…}, {…}]
//! ```
//! Sources: CloudEvents 1.0.2, its JSON format and its HTTP binding (cloudevents.io). What they require is required
//! here; what they only recommend is not, but for the bounds below.

mod json;
mod mode;

use std::{borrow::Cow, collections::BTreeMap};

use self::json::Members;
pub use self::mode::{BATCH_TYPE, STRUCTURED_TYPE, is_cloud_event, read};

/// Events of one batch.
pub const BATCH_MAX: usize = 1_000;
/// Bytes of one event's attributes, names and values: as much as any intermediary must pass on (§ "Size Limits").
pub const ATTRIBUTES_BYTES_MAX: usize = 65_536;
/// Attributes of one event beyond those of the specification.
pub const EXTENSIONS_MAX: usize = 64;
/// The longest name of an attribute, in bytes. The specification recommends 20.
const NAME_BYTES_MAX: usize = 64;

/// An event. Made by [`Event::new`] or read by [`read`], so what it holds is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    id: String,
    source: String,
    ty: String,
    subject: Option<String>,
    time: Option<String>,
    content_type: Option<String>,
    schema: Option<String>,
    extensions: BTreeMap<String, Extension>,
    data: Option<Vec<u8>>,
}

/// The value of an attribute beyond the specification's own. In binary mode all are text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extension {
    /// A Boolean.
    Boolean(bool),
    /// An Integer, which has 32 bits.
    Integer(i32),
    /// Anything else.
    Text(String),
}

/// Why something is no CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither its type nor its headers say that it is one.
    #[error(
        "the request is no CloudEvent: neither ce-specversion nor the content type {STRUCTURED_TYPE} is there"
    )]
    NotOne,
    /// A format other than JSON.
    #[error(
        "CloudEvents of the content type '{0}' are not understood, only {STRUCTURED_TYPE} and {BATCH_TYPE}"
    )]
    Format(String),
    /// A version other than 1.0.
    #[error("CloudEvents of the version '{0}' are not understood, only 1.0")]
    Version(String),
    /// A required attribute.
    #[error("the attribute {0} is missing")]
    Missing(&'static str),
    /// An attribute that is not as it must be.
    #[error("the attribute {name}: {why}")]
    Attribute {
        /// Its name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The body of a structured or batched request.
    #[error("the event's JSON: {0}")]
    Json(String),
    /// Larger than allowed.
    #[error("there is too much of it: {0}")]
    TooLarge(&'static str),
}

impl Extension {
    /// As it is written in a header.
    fn as_text(&self) -> Cow<'_, str> {
        match self {
            Self::Boolean(value) => value.to_string().into(),
            Self::Integer(value) => value.to_string().into(),
            Self::Text(text) => text.into(),
        }
    }
}

impl Error {
    fn attribute(name: &str, why: &'static str) -> Self {
        Self::Attribute { name: name.chars().take(NAME_BYTES_MAX).collect(), why }
    }
}

impl Event {
    /// An event with what each has.
    ///
    /// # Errors
    /// One of them is empty, or the source is no URI reference.
    pub fn new(
        id: impl Into<String>,
        source: impl Into<String>,
        ty: impl Into<String>,
    ) -> Result<Self, Error> {
        let mut event = Self::blank(None);
        event.set("id", Extension::Text(id.into()))?;
        event.set("source", Extension::Text(source.into()))?;
        event.set("type", Extension::Text(ty.into()))?;
        Ok(event)
    }

    /// With an attribute of any name.
    ///
    /// # Errors
    /// The name or the value is not as the specification has it.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Result<Self, Error> {
        self.set(name, Extension::Text(value.into()))?;
        self.check()?;
        Ok(self)
    }

    /// With data of this content type.
    ///
    /// # Errors
    /// The content type is none.
    pub fn with_data(mut self, content_type: &str, data: Vec<u8>) -> Result<Self, Error> {
        self.set("datacontenttype", Extension::Text(content_type.to_owned()))?;
        self.data = Some(data);
        Ok(self)
    }

    /// Its id, unique together with its source: what tells a repetition.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it comes from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What kind of event it is.
    #[must_use]
    pub fn ty(&self) -> &str {
        &self.ty
    }

    /// Its data, if it has any.
    #[must_use]
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }

    /// An attribute as text, if the event has it: what filters look at.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        let own = match name {
            "specversion" => Some("1.0"),
            "id" => Some(self.id.as_str()),
            "source" => Some(self.source.as_str()),
            "type" => Some(self.ty.as_str()),
            "subject" => self.subject.as_deref(),
            "time" => self.time.as_deref(),
            "datacontenttype" => self.content_type.as_deref(),
            "dataschema" => self.schema.as_deref(),
            name => return self.extensions.get(name).map(Extension::as_text),
        };
        own.map(Cow::Borrowed)
    }

    /// All of its attributes as text but for the version, by name.
    pub fn named_attributes(&self) -> impl Iterator<Item = (String, String)> {
        let own = self.attributes().map(|(name, value)| (name.to_owned(), value.as_text().into_owned()));
        own.chain(self.content_type.clone().map(|ty| ("datacontenttype".to_owned(), ty)))
    }

    /// Its attributes but for the version and the content type, in a fixed order.
    fn attributes(&self) -> impl Iterator<Item = (&str, Extension)> {
        let own = ["id", "source", "type", "subject", "time", "dataschema"];
        let own = own
            .into_iter()
            .filter_map(|name| Some((name, Extension::Text(self.attribute(name)?.into_owned()))));
        own.chain(self.extensions.iter().map(|(name, value)| (name.as_str(), value.clone())))
    }

    /// Sets an attribute that was read.
    fn set(&mut self, name: &str, value: Extension) -> Result<(), Error> {
        let wrong = |why| Error::attribute(name, why);
        // §3.1.
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(wrong("a name has 1 to 64 characters"));
        }
        if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(wrong("a name is written with a-z and 0-9"));
        }
        let own =
            matches!(name, "id" | "source" | "type" | "subject" | "time" | "datacontenttype" | "dataschema");
        if !own {
            if matches!(name, "data" | "database64" | "specversion") {
                return Err(wrong("the name is taken"));
            }
            if let Extension::Text(text) = &value {
                check_text(text).map_err(wrong)?;
            }
            self.extensions.insert(name.to_owned(), value);
            return if self.extensions.len() > EXTENSIONS_MAX {
                Err(Error::TooLarge("its extensions"))
            } else {
                Ok(())
            };
        }
        let Extension::Text(text) = value else { return Err(wrong("it is text")) };
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        check_text(&text).map_err(wrong)?;
        match name {
            "id" => self.id = text,
            "type" => self.ty = text,
            "source" if is_uri(&text) => self.source = text,
            "source" => return Err(wrong("it is no URI reference")),
            "dataschema" if is_uri(&text) && text.contains(':') => self.schema = Some(text),
            "dataschema" => return Err(wrong("it is no absolute URI")),
            "time" if is_time(&text) => self.time = Some(text),
            "time" => return Err(wrong("it is no time of RFC 3339")),
            "subject" => self.subject = Some(text),
            _ if is_media_type(&text) => self.content_type = Some(text),
            _ => return Err(wrong("it is no media type")),
        }
        Ok(())
    }

    /// What holds of an event as a whole.
    fn check(&self) -> Result<(), Error> {
        for (name, value) in [("id", &self.id), ("source", &self.source), ("type", &self.ty)] {
            if value.is_empty() {
                return Err(Error::Missing(name));
            }
        }
        let bytes: usize = self.attributes().map(|(name, value)| name.len() + value.as_text().len()).sum();
        if bytes > ATTRIBUTES_BYTES_MAX { Err(Error::TooLarge("its attributes")) } else { Ok(()) }
    }

    /// Nothing but data: what each event has is still to be set.
    fn blank(data: Option<Vec<u8>>) -> Self {
        Self {
            id: String::new(),
            source: String::new(),
            ty: String::new(),
            subject: None,
            time: None,
            content_type: None,
            schema: None,
            extensions: BTreeMap::new(),
            data,
        }
    }

    /// An event of what was read.
    fn from_members(members: Members) -> Result<Self, Error> {
        let mut event = Self::blank(members.data);
        match members.version.as_deref() {
            None => return Err(Error::Missing("specversion")),
            Some("1.0") => {}
            Some(other) => return Err(Error::Version(other.chars().take(20).collect())),
        }
        for (name, value) in members.attributes {
            event.set(&name, value)?;
        }
        event.check()?;
        Ok(event)
    }

    /// Whether the data is JSON, by its content type (JSON format §3.1): what has none is.
    fn is_json(&self) -> bool {
        self.content_type.as_deref().is_none_or(is_json)
    }
}

/// §3.1, "String": neither control characters nor what Unicode calls no characters.
fn check_text(text: &str) -> Result<(), &'static str> {
    let odd =
        |c: char| c.is_control() || matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe;
    if text.chars().any(odd) { Err("it holds a control character") } else { Ok(()) }
}

/// Whether the text has only what a URI reference may have (RFC 3986 §2). Characters beyond ASCII are let through, since
/// senders write IRIs.
fn is_uri(text: &str) -> bool {
    let percent = |(at, _): (usize, &str)| {
        text.as_bytes().get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    };
    text.chars().all(|c| !c.is_ascii() || c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c))
        && text.match_indices('%').all(percent)
}

/// Whether the text begins as a media type does (RFC 2045 §5.1).
fn is_media_type(text: &str) -> bool {
    let token = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
        && essence(text).split_once('/').is_some_and(|(ty, subtype)| token(ty) && token(subtype))
}

/// RFC 3339 §5.6: `2026-11-21T13:00:00.5+01:00`.
fn is_time(text: &str) -> bool {
    let shape: String =
        text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c.to_ascii_uppercase() }).collect();
    let Some(rest) = shape.strip_prefix("0000-00-00T00:00:00") else { return false };
    let zone = match rest.strip_prefix('.') {
        Some(fraction) if fraction.starts_with('0') => fraction.trim_start_matches('0'),
        Some(_) => return false,
        None => rest,
    };
    // The numbers themselves are checked by the one who knows the calendar.
    matches!(zone, "Z" | "+00:00" | "-00:00") && text.parse::<jiff::Timestamp>().is_ok()
}

/// A media type without its parameters, in lower case.
fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(media_type: &str) -> bool {
    let essence = essence(media_type);
    essence.ends_with("/json") || essence.ends_with("+json")
}

#[cfg(test)]
mod tests;
