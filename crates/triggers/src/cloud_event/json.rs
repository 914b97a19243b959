//! The JSON format: one event, or a list of them.

use std::{collections::BTreeSet, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serializer as _,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
    ser::SerializeMap as _,
};
use serde_json::value::RawValue;

use super::{BATCH_MAX, Error, Event, Extension, essence, is_json};

/// The parts of an event, as they were read.
#[derive(Debug, Default)]
pub(super) struct Members {
    pub(super) version: Option<String>,
    pub(super) attributes: Vec<(String, Extension)>,
    pub(super) data: Option<Vec<u8>>,
}

/// Reads one event.
pub(super) fn one(body: &[u8]) -> Result<Event, Error> {
    let object: Object<'_> = serde_json::from_slice(body).map_err(|error| Error::Json(error.to_string()))?;
    Event::from_members(members(object)?)
}

/// Reads a batch.
pub(super) fn batch(body: &[u8]) -> Result<Vec<Event>, Error> {
    let Batch(objects) = serde_json::from_slice(body).map_err(|error| Error::Json(error.to_string()))?;
    if objects.len() > BATCH_MAX {
        return Err(Error::TooLarge("events of its batch"));
    }
    objects.into_iter().map(|object| Event::from_members(members(object)?)).collect()
}

/// An object's members in their order, each name once.
struct Object<'a>(Vec<(String, &'a RawValue)>);

/// No more objects than are allowed, and one to tell that there were more.
struct Batch<'a>(Vec<Object<'a>>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event, which is an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Object<'de>, A::Error> {
                let (mut seen, mut members) = (BTreeSet::new(), Vec::new());
                while let Some((name, value)) = entries.next_entry::<String, &'de RawValue>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("the member '{name}' is there twice")));
                    }
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl<'de> Deserialize<'de> for Batch<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Batch<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a batch, which is a list of events")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Batch<'de>, A::Error> {
                let mut objects = Vec::new();
                while let Some(object) = items.next_element()? {
                    if objects.len() <= BATCH_MAX {
                        objects.push(object);
                    }
                }
                Ok(Batch(objects))
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

fn members(Object(object): Object<'_>) -> Result<Members, Error> {
    let mut members = Members::default();
    let (mut data, mut base64) = (None, None);
    let text = |name: &str, value: &RawValue| -> Result<String, Error> {
        serde_json::from_str(value.get()).map_err(|_| Error::attribute(name, "it is text"))
    };
    for (name, value) in object {
        match name.as_str() {
            // A member that is null is one that is not there (§2.2).
            _ if value.get() == "null" => {}
            "specversion" => members.version = Some(text(&name, value)?),
            "data" => data = Some(value),
            "data_base64" => base64 = Some(text(&name, value)?),
            _ => members.attributes.push((name.clone(), extension(&name, value)?)),
        }
    }
    members.data = match (data, base64) {
        (None, None) => None,
        (Some(_), Some(_)) => return Err(Error::attribute("data_base64", "it stands beside data")),
        (None, Some(base64)) => {
            Some(STANDARD.decode(base64).map_err(|_| Error::attribute("data_base64", "it is no base64"))?)
        }
        (Some(data), None) => {
            let ty = members.attributes.iter().find(|(name, _)| name == "datacontenttype");
            let is_json = ty.is_none_or(|(_, ty)| matches!(ty, Extension::Text(ty) if is_json(ty)));
            // Of a text that is no JSON, the string is the text (§3.1.1).
            match serde_json::from_str::<String>(data.get()) {
                Ok(text) if !is_json => Some(text.into_bytes()),
                _ => Some(data.get().as_bytes().to_vec()),
            }
        }
    };
    Ok(members)
}

fn extension(name: &str, value: &RawValue) -> Result<Extension, Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Any {
        Boolean(bool),
        Integer(i32),
        Text(String),
    }
    match serde_json::from_str(value.get()) {
        Ok(Any::Boolean(value)) => Ok(Extension::Boolean(value)),
        Ok(Any::Integer(value)) => Ok(Extension::Integer(value)),
        Ok(Any::Text(value)) => Ok(Extension::Text(value)),
        Err(_) => {
            Err(Error::attribute(name, "it is neither text nor true nor false nor a whole number of 32 bits"))
        }
    }
}

impl Event {
    /// The event as one JSON object: the body of a request with the content type [`super::STRUCTURED_TYPE`].
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(256 + self.data.as_ref().map_or(0, Vec::len));
        // Writing to memory what has only text for keys does not fail.
        let _ = self.write(&mut json);
        json
    }

    /// Events as a JSON list: the body of a request with the content type [`super::BATCH_TYPE`].
    #[must_use]
    pub fn batch_to_json(events: &[Self]) -> Vec<u8> {
        let objects: Vec<_> = events.iter().map(Self::to_json).collect();
        let mut json = vec![b'['];
        json.extend(objects.join(&b','));
        json.push(b']');
        json
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        let mut serializer = serde_json::Serializer::new(out);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("specversion", "1.0")?;
        for (name, value) in self.attributes() {
            match value {
                Extension::Boolean(value) => map.serialize_entry(name, &value)?,
                Extension::Integer(value) => map.serialize_entry(name, &value)?,
                Extension::Text(value) => map.serialize_entry(name, &value)?,
            }
        }
        if let Some(ty) = &self.content_type {
            map.serialize_entry("datacontenttype", ty)?;
        }
        if let Some(data) = &self.data {
            let text = std::str::from_utf8(data).ok();
            // What says that it is JSON and is not goes as bytes, as does `null`, which would read as no data at all.
            let json = text.filter(|text| self.is_json() && text.trim() != "null");
            let is_text = self.content_type.as_deref().is_some_and(|ty| essence(ty).starts_with("text/"));
            if let Some(json) = json.and_then(|text| serde_json::from_str::<&RawValue>(text).ok()) {
                map.serialize_entry("data", json)?;
            } else if let Some(text) = text.filter(|_| is_text && !self.is_json()) {
                map.serialize_entry("data", text)?;
            } else {
                map.serialize_entry("data_base64", &STANDARD.encode(data))?;
            }
        }
        map.end()
    }
}
