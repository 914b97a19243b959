//! Whether a request keeps the model's constraints, in the words that AWS has for it. Pure.

use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock, PoisonError},
};

use serde_json::Value;

use crate::{
    error::AwsError,
    model::{self, Kind, Shape},
};

/// Errors that are told of at once: more help nobody.
const ERRORS_MAX: usize = 20;

/// Checks an input against the shape of this number.
///
/// # Errors
/// `ValidationException`, with each constraint that is broken.
pub(crate) fn input(number: Option<usize>, value: &Value) -> Result<(), AwsError> {
    let Some(number) = number else { return Ok(()) };
    let mut errors = Vec::new();
    check(model::shape(number), value, "", &mut errors);
    if errors.is_empty() {
        return Ok(());
    }
    errors.truncate(ERRORS_MAX);
    let (count, s) = (errors.len(), if errors.len() == 1 { "" } else { "s" });
    Err(AwsError::validation(format!("{count} validation error{s} detected: {}", errors.join("; "))))
}

fn check(shape: &Shape, value: &Value, path: &str, errors: &mut Vec<String>) {
    let mut broken = |constraint: String| errors.push(told(shape, value, path, &constraint));
    match (&shape.kind, value) {
        (Kind::Structure(members), Value::Object(fields)) => {
            for member in *members {
                let name = lower_first(member.name);
                let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                match fields.get(member.name) {
                    None | Some(Value::Null) if member.required => {
                        errors.push(format!(
                            "Value null at '{path}' failed to satisfy constraint: Member must not be null"
                        ));
                    }
                    None | Some(Value::Null) => {}
                    Some(value) => check(model::shape(member.shape), value, &path, errors),
                }
            }
        }
        (Kind::List { member, min, max }, Value::Array(items)) => {
            length(items.len(), *min, *max).into_iter().for_each(&mut broken);
            let shape = model::shape(*member);
            if matches!(shape.kind, Kind::Text { .. }) {
                if items.iter().any(|item| !constraints(shape, item).is_empty()) {
                    // Layers are checked elsewhere at AWS, in other words.
                    let values = all(shape).replace(", Member must not be null", "");
                    broken(match path {
                        "compatibleRuntimes" => values,
                        "compatibleArchitectures" => format!("Member must satisfy constraint: [{values}]"),
                        _ => format!("Member must satisfy constraint: [{}]", all(shape)),
                    });
                }
                return;
            }
            for (index, item) in items.iter().enumerate() {
                check(shape, item, &format!("{path}.{}.member", index + 1), errors);
            }
        }
        (Kind::Map { key, value: of, min, max }, Value::Object(entries)) => {
            length(entries.len(), *min, *max).into_iter().for_each(&mut broken);
            let (key, of) = (model::shape(*key), model::shape(*of));
            if entries.keys().any(|name| !constraints(key, &Value::from(name.as_str())).is_empty()) {
                broken(format!("Map keys must satisfy constraint: [{}]", all(key)));
            }
            if entries.values().any(|value| !constraints(of, value).is_empty()) {
                broken(format!("Map value must satisfy constraint: [{}]", all(of)));
            }
        }
        _ => constraints(shape, value).into_iter().for_each(broken),
    }
}

/// The constraints of a scalar that a value breaks.
fn constraints(shape: &Shape, value: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    match (&shape.kind, value) {
        (Kind::Text { min, max, pattern, values }, Value::String(text)) => {
            broken.extend(length(text.chars().count(), *min, *max));
            if let Some(pattern) = pattern.filter(|pattern| !matches(pattern, text)) {
                broken.push(format!("Member must satisfy regular expression pattern: {pattern}"));
            }
            if !values.is_empty() && !values.contains(&text.as_str()) {
                broken.push(format!("Member must satisfy enum value set: [{}]", values.join(", ")));
            }
        }
        (Kind::Integer { min, max } | Kind::Double { min, max }, Value::Number(number)) => {
            let number = number.as_f64().unwrap_or_default();
            #[expect(clippy::cast_precision_loss, reason = "no bound of the model is near 2^53")]
            let bound = |bound: Option<i64>| bound.map(|bound| bound as f64);
            if bound(*max).is_some_and(|max| number > max) {
                broken.extend(max.map(|max| at_most(shape, max)));
            }
            if bound(*min).is_some_and(|min| number < min) {
                broken.extend(min.map(|min| at_least(shape, min)));
            }
        }
        // In base64: what it holds is looked at by whoever wants it.
        (Kind::Blob { min, max }, Value::String(text)) => {
            broken.extend(length(text.len() / 4 * 3, *min, *max));
        }
        _ => {}
    }
    broken
}

/// All constraints of a scalar, as lists and maps tell of them.
fn all(shape: &Shape) -> String {
    let mut all = Vec::new();
    if let Kind::Text { min, max, pattern, values } = &shape.kind {
        all.extend(max.map(|max| format!("Member must have length less than or equal to {max}")));
        all.extend(min.map(|min| format!("Member must have length greater than or equal to {min}")));
        all.extend(
            pattern.map(|pattern| format!("Member must satisfy regular expression pattern: {pattern}")),
        );
        if !values.is_empty() {
            all.push(format!("Member must satisfy enum value set: [{}]", values.join(", ")));
        }
    }
    if let Kind::Integer { min, max } | Kind::Double { min, max } = &shape.kind {
        all.extend(max.map(|max| at_most(shape, max)));
        all.extend(min.map(|min| at_least(shape, min)));
    }
    all.push("Member must not be null".to_owned());
    all.join(", ")
}

fn at_most(shape: &Shape, max: i64) -> String {
    format!("Member must have value less than or equal to {}", as_of(shape, &Value::from(max)))
}

fn at_least(shape: &Shape, min: i64) -> String {
    format!("Member must have value greater than or equal to {}", as_of(shape, &Value::from(min)))
}

fn length(length: usize, min: Option<i64>, max: Option<i64>) -> Vec<String> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let mut broken = Vec::new();
    if let Some(max) = max.filter(|max| length > *max) {
        broken.push(format!("Member must have length less than or equal to {max}"));
    }
    if let Some(min) = min.filter(|min| length < *min) {
        broken.push(format!("Member must have length greater than or equal to {min}"));
    }
    broken
}

fn told(shape: &Shape, value: &Value, path: &str, constraint: &str) -> String {
    if shape.sensitive {
        return format!("Value at '{path}' failed to satisfy constraint: {constraint}");
    }
    format!("Value '{}' at '{path}' failed to satisfy constraint: {constraint}", as_of(shape, value))
}

/// A value of a shape as Java prints it: a number that may have a fraction is shown with one.
fn as_of(shape: &Shape, value: &Value) -> String {
    match (&shape.kind, value) {
        (Kind::Double { .. }, Value::Number(number)) => format!("{:?}", number.as_f64().unwrap_or_default()),
        (Kind::Map { value: of, .. }, Value::Object(entries)) => {
            let of = model::shape(*of);
            let entries = entries.iter().map(|(name, value)| format!("{name}={}", as_of(of, value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        _ => shown(value),
    }
}

/// A value as Java prints it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}={}", shown(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn lower_first(name: &str) -> String {
    // As Java's beans: what begins with several capitals stays, such as `KMSKeyArn`.
    let mut chars = name.chars();
    match chars.next() {
        Some(first) if !chars.as_str().starts_with(|c: char| c.is_ascii_uppercase()) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => name.to_owned(),
    }
}

/// Whether the whole of a text has a form. Forms are compiled once.
fn matches(pattern: &'static str, text: &str) -> bool {
    static COMPILED: OnceLock<Mutex<HashMap<&'static str, Option<fancy_regex::Regex>>>> = OnceLock::new();
    let mut compiled = COMPILED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let regex = compiled.entry(pattern).or_insert_with(|| compile(pattern));
    // A form that cannot be told is taken: the operation itself looks closer.
    regex.as_ref().is_none_or(|regex| regex.is_match(text).unwrap_or(true))
}

fn compile(pattern: &str) -> Option<fancy_regex::Regex> {
    fancy_regex::Regex::new(&format!(r"\A(?:{pattern})\z")).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(operation: &str, value: &Value) -> String {
        let operation = model::operation(operation).expect("an operation");
        input(operation.input, value).expect_err("it breaks a constraint").message
    }

    #[test]
    fn each_broken_constraint_is_told_as_aws_tells_it() {
        let name = "FunctionName";
        assert_eq!(
            message("UpdateFunctionConfiguration", &json!({ name: "f", "MemorySize": 1 })),
            "1 validation error detected: Value '1' at 'memorySize' failed to satisfy constraint: \
             Member must have value greater than or equal to 128"
        );
        assert_eq!(
            message("UpdateFunctionConfiguration", &json!({ name: "f", "MemorySize": 1, "Timeout": 0 })),
            "2 validation errors detected: Value '1' at 'memorySize' failed to satisfy constraint: Member must have \
             value greater than or equal to 128; Value '0' at 'timeout' failed to satisfy constraint: Member must \
             have value greater than or equal to 1"
        );
        assert!(
            message("PutFunctionConcurrency", &json!({ name: "f" }))
                .ends_with("Value null at 'reservedConcurrentExecutions' failed to satisfy constraint: Member must not be null")
        );
        assert!(
            message("CreateAlias", &json!({ name: "f", "Name": "12", "FunctionVersion": "1" })).ends_with(
                "Value '12' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: \
                 (?!^[0-9]+$)([a-zA-Z0-9-_]+)"
            )
        );
        assert!(
            message("UpdateFunctionCode", &json!({ name: "f", "Architectures": ["X86_64"] })).contains(
                "Value '[X86_64]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: \
                 [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"
            )
        );
        let weights = json!({ "AdditionalVersionWeights": { "2": 2 } });
        let alias = json!({ name: "f", "Name": "a", "FunctionVersion": "1", "RoutingConfig": weights });
        assert_eq!(
            message("CreateAlias", &alias),
            "1 validation error detected: Value '{2=2.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy \
             constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member \
             must have value greater than or equal to 0.0, Member must not be null]"
        );
        let layer = json!({ "LayerName": "l", "Content": {}, "CompatibleArchitectures": ["ppc"] });
        assert!(
            message("PublishLayerVersion", &layer)
                .ends_with("[Member must satisfy enum value set: [x86_64, arm64]]")
        );
        let environment = json!({ name: "f", "Environment": { "Variables": { "1A": "secret" } } });
        let told = message("UpdateFunctionConfiguration", &environment);
        assert!(
            told.contains("Value at 'environment.variables' failed") && told.contains("Map keys must"),
            "{told}"
        );
        assert!(!told.contains("secret"), "{told}");
    }

    #[test]
    fn what_keeps_its_constraints_is_taken() {
        let operation = model::operation("CreateAlias").expect("an operation");
        let value = json!({ "FunctionName": "arn:aws:lambda:us-east-1:000000000000:function:f-1_x", "Name": "live", "FunctionVersion": "$LATEST" });
        input(operation.input, &value).expect("it is right");
    }

    #[test]
    fn every_form_of_the_model_can_be_told() {
        let mut forms = 0;
        for operation in model::OPERATIONS {
            for member in model::members(operation.input) {
                if let Kind::Text { pattern: Some(pattern), .. } = model::shape(member.shape).kind {
                    assert!(compile(pattern).is_some(), "{pattern}");
                    forms += 1;
                }
            }
        }
        assert!(forms > 50, "{forms}");
    }
}
