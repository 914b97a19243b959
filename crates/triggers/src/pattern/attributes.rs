//! Filters over the attributes of CloudEvents, as the CloudEvents Subscriptions API 1.0 has them (§3.2.4).
//!
//! ```json
//! [{ "exact": { "type": "com.example.paid" } }, { "not": { "prefix": { "subject": "test/" } } }]
//! ```

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{
    compile::{DEPTH_MAX, VALUES_MAX},
    error::{Error, below},
};

/// A filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Expression);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    Exact(String, String),
    Prefix(String, String),
    Suffix(String, String),
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
}

impl Filter {
    /// Makes a filter of JSON: a list, all of whose expressions must be true, or one expression.
    ///
    /// # Errors
    /// It is no filter, too large, or can never match.
    pub fn compile(filter: &Value) -> Result<Self, Error> {
        let mut compiler = Compiler { values: 0 };
        match filter {
            Value::Array(list) => compiler.list("", list, 0).map(|list| Self(Expression::All(list))),
            one => compiler.expression("", one, 0).map(Self),
        }
    }

    /// Whether an event with these attributes is wanted. `attribute` gives an attribute as text, if the event has it.
    pub fn matches<'a>(&self, attribute: impl Fn(&str) -> Option<Cow<'a, str>>) -> bool {
        self.0.is_true(&attribute)
    }
}

impl Expression {
    fn is_true<'a>(&self, attribute: &dyn Fn(&str) -> Option<Cow<'a, str>>) -> bool {
        let passes =
            |name: &str, test: &dyn Fn(&str) -> bool| attribute(name).is_some_and(|value| test(&value));
        match self {
            Self::Exact(name, wanted) => passes(name, &|value| value == wanted),
            Self::Prefix(name, prefix) => passes(name, &|value| value.starts_with(prefix)),
            Self::Suffix(name, suffix) => passes(name, &|value| value.ends_with(suffix)),
            Self::All(all) => all.iter().all(|expression| expression.is_true(attribute)),
            Self::Any(any) => any.iter().any(|expression| expression.is_true(attribute)),
            Self::Not(not) => !not.is_true(attribute),
        }
    }
}

struct Compiler {
    values: usize,
}

impl Compiler {
    fn list(&mut self, path: &str, list: &[Value], depth: usize) -> Result<Vec<Expression>, Error> {
        if list.is_empty() {
            return Err(Error::new(path, "an empty list of filters says nothing"));
        }
        list.iter()
            .enumerate()
            .map(|(i, value)| self.expression(&format!("{path}[{i}]"), value, depth))
            .collect()
    }

    fn expression(&mut self, path: &str, value: &Value, depth: usize) -> Result<Expression, Error> {
        self.values += 1;
        if depth >= DEPTH_MAX || self.values > VALUES_MAX {
            return Err(Error::new(
                path,
                format!("there are more than {VALUES_MAX} filters, or {DEPTH_MAX} in each other"),
            ));
        }
        let only =
            value.as_object().filter(|object| object.len() == 1).and_then(|object| object.iter().next());
        let Some((dialect, argument)) = only else {
            let error = Error::new(path, "a filter is an object with one key");
            return Err(error.hint("there are exact, prefix, suffix, all, any, not"));
        };
        let path = below(path, dialect);
        match (dialect.as_str(), argument) {
            ("exact", Value::Object(object)) => self.attributes(&path, object, Expression::Exact),
            ("prefix", Value::Object(object)) => self.attributes(&path, object, Expression::Prefix),
            ("suffix", Value::Object(object)) => self.attributes(&path, object, Expression::Suffix),
            ("all", Value::Array(list)) => self.list(&path, list, depth + 1).map(Expression::All),
            ("any", Value::Array(list)) => self.list(&path, list, depth + 1).map(Expression::Any),
            ("not", Value::Object(_)) => {
                Ok(Expression::Not(Box::new(self.expression(&path, argument, depth + 1)?)))
            }
            ("exact" | "prefix" | "suffix", _) => {
                Err(Error::new(path, "it is an object").hint("such as {\"type\": \"com.example.paid\"}"))
            }
            ("all" | "any", _) => Err(Error::new(path, "it is a list of filters")),
            ("not", _) => Err(Error::new(path, "it is one filter")),
            (other, _) => Err(Error::new(path, format!("there is no filter '{other}'"))
                .hint("there are exact, prefix, suffix, all, any, not")),
        }
    }

    /// Each attribute must pass.
    fn attributes(
        &mut self,
        path: &str,
        object: &Map<String, Value>,
        test: fn(String, String) -> Expression,
    ) -> Result<Expression, Error> {
        self.values += object.len();
        let mut tests = Vec::with_capacity(object.len());
        for (name, value) in object {
            let path = below(path, name);
            // CloudEvents 1.0 §3.1.
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            {
                let error = Error::new(path, format!("'{name}' is no attribute"));
                return Err(
                    error.hint("attributes are written with a-z and 0-9, such as type, source, subject")
                );
            }
            match value {
                Value::String(value) if !value.is_empty() => tests.push(test(name.clone(), value.clone())),
                _ => return Err(Error::new(path, "it is a string that is not empty")),
            }
        }
        match tests.len() {
            0 => {
                Err(Error::new(path, "it names no attribute")
                    .hint("such as {\"type\": \"com.example.paid\"}"))
            }
            1 => Ok(tests.remove(0)),
            _ => Ok(Expression::All(tests)),
        }
    }
}
