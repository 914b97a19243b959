//! Queries (`?a=1&b=x`) to and from types, strictly: an unknown, repeated or malformed parameter is refused.

use rouse_types::{Code, Refusal};
use schemars::JsonSchema;
use serde::{
    Deserialize, Serialize,
    de::{self, DeserializeOwned, IntoDeserializer, Visitor},
    forward_to_deserialize_any,
};

use crate::percent::{decode, encode};

/// Which version an invocation is for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InvokeQuery {
    /// An alias, a version's number, or `$LATEST`; `live` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// When it is answered: with the function's answer when left out, or, as `event`, with 202 once the call is on the
    /// disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<InvokeMode>,
}

/// When an invocation is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InvokeMode {
    /// With what the function answers.
    Call,
    /// Once it is on the disk, with its id; it runs later, and again if it fails.
    Event,
}

/// The longest query that is read.
const QUERY_BYTES_MAX: usize = 4_096;

/// Reads a query.
///
/// # Errors
/// What is wrong with it, as [`Code::BadRequest`].
pub fn read<T: DeserializeOwned>(query: &str) -> Result<T, Refusal> {
    let refuse = |what: String| Refusal::new(Code::BadRequest, format!("the query is wrong: {what}"));
    if query.len() > QUERY_BYTES_MAX {
        return Err(refuse(format!("it has {} bytes; at most {QUERY_BYTES_MAX} are read", query.len())));
    }
    let mut pairs = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let decoded = decode(name).filter(|name| !name.is_empty()).zip(decode(value));
        let (name, value) = decoded.ok_or_else(|| refuse(format!("'{part}' is not percent-encoded")))?;
        pairs.push((name, Value(value)));
    }
    T::deserialize(de::value::MapDeserializer::new(pairs.into_iter()))
        .map_err(|error: de::value::Error| refuse(error.to_string()))
}

/// Writes a query, without the `?`. Takes what is a flat object of scalars; anything else is left out.
#[must_use]
pub fn write<T: Serialize>(value: &T) -> String {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(value) else { return String::new() };
    let pairs = fields.iter().filter_map(|(name, value)| {
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Bool(flag) => flag.to_string(),
            _ => return None,
        };
        Some(format!("{}={}", encode(name), encode(&text)))
    });
    pairs.collect::<Vec<_>>().join("&")
}

/// A parameter's text, read as whatever the field wants.
struct Value(String);

impl IntoDeserializer<'_, de::value::Error> for Value {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $what:literal)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            match self.0.parse() {
                Ok(value) => visitor.$visit(value),
                Err(_) => Err(de::Error::custom(format_args!("'{}' is not {}", self.0, $what))),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Value {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    parsed! {
        deserialize_bool visit_bool "true or false"
        deserialize_u32 visit_u32 "a whole number"
        deserialize_u64 visit_u64 "a whole number"
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use rouse_types::{FunctionName, InvocationId, Timestamp};

    use super::*;
    use crate::{LogsQuery, UsageBy, UsageQuery};

    #[test]
    fn a_query_reads_back_what_it_wrote() {
        let logs = LogsQuery {
            function: Some(FunctionName::new("123").expect("a name")),
            invocation: Some(InvocationId::new()),
            since: Some(Timestamp(17)),
            limit: Some(5),
            follow: true,
        };
        assert_eq!(read::<LogsQuery>(&write(&logs)), Ok(logs));
        assert_eq!(read::<LogsQuery>(""), Ok(LogsQuery::default()));
        let usage = UsageQuery { by: UsageBy::Hour, since: None, until: Some(Timestamp(9)) };
        assert_eq!(read::<UsageQuery>(&write(&usage)), Ok(usage));
        let invoke = InvokeQuery { alias: Some("$LATEST".to_owned()), mode: None };
        assert_eq!(write(&invoke), "alias=%24LATEST");
        assert_eq!(read::<InvokeQuery>("alias=$LATEST"), Ok(invoke));
    }

    #[test]
    fn an_unknown_repeated_or_malformed_parameter_is_refused() {
        for query in [
            "fn=x",
            "limit=x",
            "limit=-1",
            "follow=yes",
            "since=1&since=2",
            "function=A",
            "function=%f",
            "limit=",
        ] {
            let refusal = read::<LogsQuery>(query).expect_err(query);
            assert_eq!(refusal.code, Code::BadRequest, "{query}");
        }
        assert!(read::<UsageQuery>("by=day").is_err());
        assert!(read::<LogsQuery>(&"x".repeat(5_000)).is_err());
    }
}
