//! What senders attach to messages: checked, digested, and given back as far as a receiver asks for it.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rouse_api::queues::{Attribute, Attributes};
use rouse_triggers::shape::queue;
use serde_json::{Map, Value, json};

use super::invalid;
use crate::error::AwsError;

/// Attributes of one message.
const ATTRIBUTES_MAX: usize = 10;
const NAME_CHARS_MAX: usize = 256;

/// Reads what is attached.
pub(super) fn read(given: Option<&Value>) -> Result<Attributes, AwsError> {
    let given = given.and_then(Value::as_object).cloned().unwrap_or_default();
    if given.len() > ATTRIBUTES_MAX {
        return Err(invalid(format!(
            "Number of message attributes [{}] exceeds the allowed maximum [10].",
            given.len()
        )));
    }
    given.into_iter().map(|(name, value)| Ok((name.clone(), one(&name, &value)?))).collect()
}

fn one(name: &str, value: &Value) -> Result<Attribute, AwsError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let lower = name.to_ascii_lowercase();
    if name.is_empty()
        || name.len() > NAME_CHARS_MAX
        || !name.bytes().all(allowed)
        || name.starts_with('.')
        || name.ends_with('.')
        || name.contains("..")
        || lower.starts_with("aws.")
        || lower.starts_with("amazon.")
    {
        return Err(invalid(format!("The message attribute name '{name}' is invalid.")));
    }
    let ty = value["DataType"].as_str().unwrap_or_default();
    let text = value["StringValue"].as_str();
    let binary = value["BinaryValue"].as_str();
    let what = |told: &str| invalid(format!("The message attribute '{name}' {told}"));
    let value = match ty.split('.').next().unwrap_or_default() {
        "String" => text.filter(|text| !text.is_empty()),
        "Number" => match text {
            Some(text) if text.parse::<f64>().is_ok_and(f64::is_finite) => Some(text),
            Some(text) => {
                return Err(invalid(format!(
                    "Can't cast the value of message (user) attribute '{name}' to a number: {text}"
                )));
            }
            None => None,
        },
        "Binary" => {
            let bytes = binary.filter(|text| !text.is_empty());
            if bytes.is_some_and(|bytes| STANDARD.decode(bytes).is_err()) {
                return Err(what("has a binary value that is no base64."));
            }
            bytes
        }
        _ => {
            return Err(what(
                "has an invalid message attribute type, the set of supported type prefixes is Binary, Number, and String.",
            ));
        }
    };
    let value = value.ok_or_else(|| {
        invalid(format!("Message (user) attribute '{name}' must contain a non-empty value of type '{ty}'."))
    })?;
    Ok(Attribute { ty: ty.to_owned(), value: value.to_owned() })
}

/// Those that a receiver names: all, by name, or by the beginning of their names.
pub(super) fn wanted(attributes: &Attributes, names: &[&str]) -> Attributes {
    let fits = |name: &str, wanted: &str| match wanted.strip_suffix(".*") {
        Some(prefix) => name.starts_with(prefix),
        None => wanted == "All" || wanted == name,
    };
    let all = attributes.iter().filter(|(name, _)| names.iter().any(|wanted| fits(name, wanted)));
    all.map(|(name, attribute)| (name.clone(), attribute.clone())).collect()
}

/// As clients read them.
pub(super) fn shown(attributes: &Attributes) -> Option<Map<String, Value>> {
    let one = |attribute: &Attribute| match attribute.is_binary() {
        true => json!({ "DataType": attribute.ty, "BinaryValue": attribute.value }),
        false => json!({ "DataType": attribute.ty, "StringValue": attribute.value }),
    };
    let all: Map<_, _> = attributes.iter().map(|(name, attribute)| (name.clone(), one(attribute))).collect();
    Some(all).filter(|all| !all.is_empty())
}

/// The digest that clients compare; none of nothing.
pub(super) fn md5(attributes: &Attributes) -> Option<String> {
    if attributes.is_empty() {
        return None;
    }
    let bytes: BTreeMap<&str, Vec<u8>> = attributes
        .iter()
        .filter(|(_, attribute)| attribute.is_binary())
        .map(|(name, attribute)| (name.as_str(), STANDARD.decode(&attribute.value).unwrap_or_default()))
        .collect();
    let all = attributes.iter().map(|(name, attribute)| {
        let value = match bytes.get(name.as_str()) {
            Some(bytes) => queue::Value::Binary(bytes),
            None => queue::Value::Text(&attribute.value),
        };
        (name.as_str(), queue::Attribute { ty: &attribute.ty, value })
    });
    Some(queue::md5_of(&all.collect()))
}

/// How many bytes they count for.
pub(super) fn bytes(attributes: &Attributes) -> usize {
    let one = |(name, attribute): (&String, &Attribute)| {
        let value = attribute.value.len();
        name.len() + attribute.ty.len() + if attribute.is_binary() { value / 4 * 3 } else { value }
    };
    attributes.iter().map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_checked_and_given_back_as_they_are_asked_for() {
        let given = json!({
            "a.one": { "DataType": "String", "StringValue": "x" },
            "a.two": { "DataType": "Number.int", "StringValue": "7" },
            "b": { "DataType": "Binary", "BinaryValue": "AAE=" },
        });
        let attributes = read(Some(&given)).expect("attributes");
        let names = |wanted_names: &[&str]| wanted(&attributes, wanted_names).into_keys().collect::<Vec<_>>();
        assert_eq!(names(&["a.*"]), ["a.one", "a.two"]);
        assert_eq!(names(&["b", "none"]), ["b"]);
        assert_eq!(names(&["All"]).len(), 3);
        assert_eq!(names(&[".*"]).len(), 3);
        assert_eq!(Value::from(shown(&attributes).expect("some")), given);
        assert_eq!(bytes(&attributes), 5 + 6 + 1 + 5 + 10 + 1 + 1 + 6 + 3);
        for wrong in [
            json!({ "a": { "DataType": "String", "StringValue": "" } }),
            json!({ "a": { "DataType": "Number", "StringValue": "x" } }),
            json!({ "a": { "DataType": "List", "StringValue": "x" } }),
            json!({ "AWS.a": { "DataType": "String", "StringValue": "x" } }),
            json!({ "a b": { "DataType": "String", "StringValue": "x" } }),
        ] {
            assert_eq!(
                read(Some(&wrong)).expect_err("wrong").name,
                "InvalidParameterValueException",
                "{wrong}"
            );
        }
    }
}
