//! What a leaf of an event is tested for.

use ipnet::IpNet;
use serde_json::{Number, Value};

/// One test. Strings that are compared without regard to case are in lower case already.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Equals(Value),
    Text(Text),
    /// None of these values, and none of these texts.
    AnythingBut(Vec<Value>, Vec<Text>),
    Numeric(Range),
    Exists(bool),
    Cidr(IpNet),
}

/// A test of a string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text {
    Prefix(String),
    PrefixIgnoreCase(String),
    Suffix(String),
    SuffixIgnoreCase(String),
    EqualsIgnoreCase(String),
    Wildcard(Wildcard),
}

/// A range of numbers, each end with whether it belongs to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Range {
    pub(super) min: Option<(f64, bool)>,
    pub(super) max: Option<(f64, bool)>,
}

impl Test {
    /// Whether a leaf passes: a value that is neither list nor object.
    pub(super) fn matches(&self, leaf: &Value) -> bool {
        match self {
            Self::Equals(value) => equals(value, leaf),
            Self::Text(text) => leaf.as_str().is_some_and(|leaf| text.matches(leaf)),
            Self::AnythingBut(values, texts) => {
                !values.iter().any(|value| equals(value, leaf))
                    && !leaf.as_str().is_some_and(|leaf| texts.iter().any(|text| text.matches(leaf)))
            }
            Self::Numeric(range) => leaf.as_f64().is_some_and(|number| range.contains(number)),
            Self::Exists(wanted) => *wanted,
            Self::Cidr(net) => leaf.as_str().and_then(|ip| ip.parse().ok()).is_some_and(|ip| has(net, ip)),
        }
    }
}

/// A network holds an address of its own version alone; one of IPv4 in IPv6's clothes counts as IPv4.
fn has(net: &IpNet, ip: std::net::IpAddr) -> bool {
    net.contains(&ip.to_canonical())
}

fn equals(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => equal_numbers(a, b),
        (a, b) => a == b,
    }
}

/// Whole numbers exactly, however large; else as floating point.
fn equal_numbers(a: &Number, b: &Number) -> bool {
    a == b || a.is_f64() | b.is_f64() && a.as_f64() == b.as_f64()
}

impl Text {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::PrefixIgnoreCase(prefix) => text.to_lowercase().starts_with(prefix),
            Self::Suffix(suffix) => text.ends_with(suffix),
            Self::SuffixIgnoreCase(suffix) => text.to_lowercase().ends_with(suffix),
            Self::EqualsIgnoreCase(other) => text.to_lowercase() == *other,
            Self::Wildcard(wildcard) => wildcard.matches(text),
        }
    }
}

impl Range {
    fn contains(&self, number: f64) -> bool {
        self.min.is_none_or(|(min, included)| number > min || included && number == min)
            && self.max.is_none_or(|(max, included)| number < max || included && number == max)
    }

    /// Whether no number lies in it.
    pub(super) fn is_empty(&self) -> bool {
        match (self.min, self.max) {
            (Some((min, min_in)), Some((max, max_in))) => min > max || min == max && !(min_in && max_in),
            _ => false,
        }
    }
}

/// A text with `*` for any characters: the parts between the stars, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wildcard(Vec<String>);

impl Wildcard {
    /// Reads it. `\*` and `\\` stand for themselves.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut parts = vec![String::new()];
        let mut chars = text.chars();
        let mut star = false;
        while let Some(c) = chars.next() {
            let literal = match c {
                '*' if star => return Err("two '*' in a row are one too many"),
                '*' => None,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '\\')) => Some(c),
                    _ => return Err("a '\\' stands before '*' or another '\\' only"),
                },
                c => Some(c),
            };
            star = literal.is_none();
            match (literal, parts.last_mut()) {
                (Some(c), Some(part)) => part.push(c),
                _ => parts.push(String::new()),
            }
        }
        Ok(Self(parts))
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let [first, rest @ ..] = self.0.as_slice() else { return false };
        let Some((last, middle)) = rest.split_last() else { return text == first };
        let Some(mut text) =
            text.strip_prefix(first.as_str()).and_then(|text| text.strip_suffix(last.as_str()))
        else {
            return false;
        };
        // Each part as early as it comes leaves the most for those after it.
        for part in middle {
            let Some(at) = text.find(part.as_str()) else { return false };
            text = &text[at + part.len()..];
        }
        true
    }
}
