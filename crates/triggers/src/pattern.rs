//! Which events a trigger wants: event patterns of Amazon EventBridge over JSON, and the attribute filters of
//! CloudEvents Subscriptions.
//!
//! ```json
//! { "source": ["shop"], "detail": { "state": ["paid", { "prefix": "refund" }], "total": [{ "numeric": [">", 100] }] } }
//! ```
//! A pattern is compiled once and refused if it is malformed or can never match. What it costs to match is bounded by
//! the size of the pattern times that of the event.

mod attributes;
mod compile;
mod error;
mod leaf;
mod unique;

use serde_json::Value;

use self::leaf::Test;
pub use self::{
    attributes::Filter,
    compile::{DEPTH_MAX, TEXT_BYTES_MAX, VALUES_MAX},
    error::Error,
};

/// An event pattern.
///
/// A field's list is what its value may be: literals (`"a"`, `5`, `true`, `null`) and tests (`prefix`, `suffix`,
/// `equals-ignore-case`, `wildcard`, `anything-but`, `numeric`, `exists`, `cidr`). All fields must match; `$or` holds
/// patterns of which one must. Where the event has a list, one of its elements must match; what a nested pattern says of
/// objects in a list must be true of one and the same.
///
/// One thing is other than on EventBridge: numbers are compared as numbers, so `300` matches `3.0e2`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern(Fields);

/// What is said of an object.
#[derive(Debug, Clone, PartialEq, Default)]
struct Fields {
    fields: Vec<(String, Node)>,
    /// Of each `$or`, one must match.
    alternatives: Vec<Fields>,
}

/// What is said of a field.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Object(Fields),
    Leaf(Vec<Test>),
}

impl Pattern {
    /// Reads a pattern from JSON.
    ///
    /// # Errors
    /// It is no pattern, too large, or can never match.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Error::new(
                "",
                format!("it has {} bytes; at most {TEXT_BYTES_MAX} are allowed", text.len()),
            ));
        }
        Self::compile(&unique::parse(text)?)
    }

    /// Makes a pattern of JSON that was read, as from a manifest.
    ///
    /// # Errors
    /// As [`Pattern::parse`].
    pub fn compile(pattern: &Value) -> Result<Self, Error> {
        compile::pattern(pattern).map(Self)
    }

    /// Whether the event is wanted.
    #[must_use]
    pub fn matches(&self, event: &Value) -> bool {
        self.0.matches(Some(event))
    }
}

impl Fields {
    fn matches(&self, value: Option<&Value>) -> bool {
        match value {
            Some(Value::Array(items)) if !items.is_empty() => {
                items.iter().any(|item| self.matches(Some(item)))
            }
            value => {
                let object = value.and_then(Value::as_object);
                let field =
                    |(name, node): &(String, Node)| node.matches(object.and_then(|object| object.get(name)));
                self.fields.iter().all(field)
                    && (self.alternatives.is_empty()
                        || self.alternatives.iter().any(|fields| fields.matches(value)))
            }
        }
    }
}

impl Node {
    fn matches(&self, value: Option<&Value>) -> bool {
        match self {
            Self::Object(fields) => fields.matches(value),
            Self::Leaf(tests) => {
                let mut leaves = 0;
                let found = value.is_some_and(|value| {
                    any_leaf(value, &mut leaves, &|leaf| tests.iter().any(|test| test.matches(leaf)))
                });
                // What has no leaf is absent: a missing field, an object, an empty list.
                found || leaves == 0 && tests.contains(&Test::Exists(false))
            }
        }
    }
}

/// Whether one of the leaves of a value, in lists too, passes; counts those that were looked at.
fn any_leaf(value: &Value, leaves: &mut usize, passes: &dyn Fn(&Value) -> bool) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| any_leaf(item, leaves, passes)),
        Value::Object(_) => false,
        leaf => {
            *leaves += 1;
            passes(leaf)
        }
    }
}

#[cfg(test)]
mod tests;
