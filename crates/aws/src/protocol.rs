//! REST with JSON, by the model: which operation a request means, what it says, and how an answer is written.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use rouse_api::percent::decode;
use serde_json::{Map, Value};

use crate::{
    Body,
    error::AwsError,
    model::{self, Kind, Member, Operation, Place},
    query,
};

/// The longest path that is looked at.
const PATH_BYTES_MAX: usize = 8_192;

/// A request, read.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) operation: &'static Operation,
    /// Its members by name, as JSON. A payload is left out: it is the body as it came.
    pub(crate) input: Value,
    /// The body as it came.
    pub(crate) payload: Bytes,
}

/// The name of the operation of this method, path and query.
pub(crate) fn operation(method: &Method, path: &str, query_text: &str) -> Option<&'static str> {
    find(method, path, &query::pairs(query_text)).map(|(operation, _)| operation.name)
}

/// The operation of this method, path and query, with what the path says.
fn find(
    method: &Method,
    path: &str,
    query: &[(String, String)],
) -> Option<(&'static Operation, Vec<(&'static str, String)>)> {
    if path.len() > PATH_BYTES_MAX {
        return None;
    }
    // `/functions/` is what some clients write for `/functions`.
    let path = path.strip_suffix('/').unwrap_or(path);
    let candidates = model::OPERATIONS.iter().filter(|operation| *method == operation.method);
    let fitting = candidates.filter_map(|operation| {
        let (template, wanted) = operation.uri.split_once('?').unwrap_or((operation.uri, ""));
        let (name, value) = wanted.split_once('=').unwrap_or(("", ""));
        let asked = name.is_empty() || query.iter().any(|(n, v)| n == name && v == value);
        let params = segments(template, path).filter(|_| asked)?;
        Some((!name.is_empty(), params.len(), operation, params))
    });
    // What asks for a query, or names more of the path, knows better.
    let best = fitting.min_by_key(|(query, params, ..)| (!query, *params))?;
    Some((best.2, best.3))
}

fn segments(template: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let mut params = Vec::new();
    let mut parts = path.split('/');
    for expected in template.split('/') {
        let part = parts.next()?;
        match expected.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => params.push((name, decode(part).filter(|value| !value.is_empty())?)),
            None if expected == part => {}
            None => return None,
        }
    }
    parts.next().is_none().then_some(params)
}

/// Reads a request.
///
/// # Errors
/// There is no such operation, or it cannot be read as what it should be.
pub(crate) fn read(
    method: &Method,
    path: &str,
    query_text: &str,
    headers: &HeaderMap,
    payload: Bytes,
) -> Result<Call, AwsError> {
    let query = query::pairs(query_text);
    let (operation, params) = find(method, path, &query).ok_or_else(|| {
        let shown: String = path.chars().take(200).collect();
        AwsError::new(
            "UnknownOperationException",
            format!("Rouse's Lambda API has no operation {method} {shown}: it has those of {}", model::MODEL),
        )
    })?;
    let members = model::members(operation.input);
    let mut input = Map::new();
    let has_payload = members.iter().any(|member| member.place == Place::Payload);
    if !has_payload && members.iter().any(|member| member.place == Place::Body) && !payload.is_empty() {
        let body: Value = serde_json::from_slice(&payload).map_err(|_| {
            AwsError::new("SerializationException", "Unable to parse the request's body as JSON")
        })?;
        let Value::Object(body) = body else {
            return Err(AwsError::new("SerializationException", "The request's body is no JSON object"));
        };
        for member in members.iter().filter(|member| member.place == Place::Body) {
            if let Some(value) = body.get(member.wire).filter(|value| !value.is_null()) {
                input.insert(member.name.to_owned(), typed(member.shape, value)?);
            }
        }
    }
    for member in members {
        let texts: Vec<String> = match member.place {
            Place::Uri => {
                params.iter().filter(|(name, _)| *name == member.wire).map(|(_, v)| v.clone()).collect()
            }
            Place::Query => {
                query.iter().filter(|(name, _)| name == member.wire).map(|(_, v)| v.clone()).collect()
            }
            Place::Header => {
                let value = headers.get(member.wire).and_then(|value| value.to_str().ok());
                value.map(str::to_owned).into_iter().collect()
            }
            Place::Body | Place::Payload | Place::Status => continue,
        };
        if let Some(value) = scalar(member, texts)? {
            input.insert(member.name.to_owned(), value);
        }
    }
    Ok(Call { operation, input: Value::Object(input), payload })
}

/// A value of the path, the query or a header.
fn scalar(member: &Member, mut texts: Vec<String>) -> Result<Option<Value>, AwsError> {
    let kind = &model::shape(member.shape).kind;
    if let Kind::List { .. } = kind {
        return Ok((!texts.is_empty()).then(|| Value::from(texts)));
    }
    let Some(text) = texts.pop() else { return Ok(None) };
    let wrong = |what: &str| {
        AwsError::new("SerializationException", format!("'{text}' of {} is not {what}", member.wire))
    };
    Ok(Some(match kind {
        Kind::Integer { .. } => Value::from(text.parse::<i64>().map_err(|_| wrong("a whole number"))?),
        Kind::Boolean => Value::from(text.parse::<bool>().map_err(|_| wrong("true or false"))?),
        _ => Value::from(text),
    }))
}

/// A value of the body, with its types checked, and without what the model does not know.
pub(crate) fn typed(number: usize, value: &Value) -> Result<Value, AwsError> {
    let shape = model::shape(number);
    let wrong = |wanted: &str| {
        let found = match value {
            Value::Null => "NULL_VALUE",
            Value::Bool(true) => "TRUE_VALUE",
            Value::Bool(false) => "FALSE_VALUE",
            Value::Number(_) => "NUMBER_VALUE",
            Value::String(_) => "STRING_VALUE",
            Value::Array(_) => "START_ARRAY",
            Value::Object(_) => "START_OBJECT",
        };
        AwsError::new("SerializationException", format!("{found} can not be converted to {wanted}"))
    };
    Ok(match (&shape.kind, value) {
        (Kind::Structure(members), Value::Object(fields)) => {
            let mut read = Map::new();
            for member in *members {
                if let Some(value) = fields.get(member.wire).filter(|value| !value.is_null()) {
                    read.insert(member.name.to_owned(), typed(member.shape, value)?);
                }
            }
            Value::Object(read)
        }
        (Kind::List { member, .. }, Value::Array(items)) => {
            Value::Array(items.iter().map(|item| typed(*member, item)).collect::<Result<_, _>>()?)
        }
        (Kind::Map { value: of, .. }, Value::Object(entries)) => {
            let entries = entries.iter().map(|(name, value)| Ok((name.clone(), typed(*of, value)?)));
            Value::Object(entries.collect::<Result<_, AwsError>>()?)
        }
        (Kind::Text { .. } | Kind::Blob { .. }, Value::String(_))
        | (Kind::Boolean, Value::Bool(_))
        | (Kind::Double { .. } | Kind::Timestamp, Value::Number(_)) => value.clone(),
        (Kind::Integer { .. }, Value::Number(number)) if number.is_i64() || number.is_u64() => value.clone(),
        (Kind::Text { .. }, Value::Number(_) | Value::Bool(_)) => Value::from(value.to_string()),
        (Kind::Structure(_), _) => return Err(wrong("an Object")),
        (Kind::List { .. }, _) => return Err(wrong("a List")),
        (Kind::Map { .. }, _) => return Err(wrong("a Map")),
        (Kind::Text { .. }, _) => return Err(wrong("a String")),
        (Kind::Blob { .. }, _) => return Err(wrong("a Blob")),
        (Kind::Integer { .. }, _) => return Err(wrong("an Integer")),
        (Kind::Double { .. }, _) => return Err(wrong("a Double")),
        (Kind::Boolean, _) => return Err(wrong("a Boolean")),
        (Kind::Timestamp, _) => return Err(wrong("a Timestamp")),
    })
}

/// Writes an answer: members to headers, status and body, as the model has them. What is null is left out where it
/// is a member of a structure.
pub(crate) fn answer(operation: &Operation, output: Value) -> Response<Body> {
    let members = model::members(operation.output);
    let mut fields = match output {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let mut status = operation.status;
    let mut headers = HeaderMap::new();
    for member in members {
        match member.place {
            Place::Header => {
                let value = fields.remove(member.name);
                let text = value.and_then(|value| HeaderValue::try_from(value.as_str()?.to_owned()).ok());
                if let (Some(text), Ok(name)) = (text, HeaderName::try_from(member.wire)) {
                    headers.insert(name, text);
                }
            }
            Place::Status => {
                let told = fields.remove(member.name).and_then(|value| value.as_u64());
                status = told.and_then(|told| u16::try_from(told).ok()).unwrap_or(status);
            }
            _ => {}
        }
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let body = match status {
        StatusCode::NO_CONTENT => Bytes::new(),
        _ if operation.output.is_none() => Bytes::new(),
        _ => Bytes::from(without_nulls(Value::Object(fields)).to_string()),
    };
    let mut response = Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.headers_mut() = headers;
    response
}

/// AWS leaves absent members out; lists keep what they hold. `Nextmarker`s and the like never are null.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let there = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(there.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
