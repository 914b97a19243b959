//! Makes patterns of JSON, and says what is wrong where.

use serde_json::{Map, Value};

use super::{
    Fields, Node,
    error::{Error, below},
    leaf::{Range, Test, Text, Wildcard},
};

/// The longest text of a pattern, in bytes. AWS takes 4,096.
pub const TEXT_BYTES_MAX: usize = 16_384;
/// How deep objects and alternatives lie in each other.
pub const DEPTH_MAX: usize = 32;
/// Values and tests of one pattern: bounds what an event costs.
pub const VALUES_MAX: usize = 1_000;
/// Whole numbers up to here are exact in floating point.
const NUMBER_MAX: f64 = 9_007_199_254_740_992.0;

/// The names of tests, for the reader.
const TESTS: &str = "prefix, suffix, equals-ignore-case, wildcard, anything-but, numeric, exists, cidr";

pub(super) fn pattern(value: &Value) -> Result<Fields, Error> {
    let Value::Object(object) = value else {
        return Err(Error::new("", "it is no object").hint("such as {\"detail\": {\"state\": [\"paid\"]}}"));
    };
    Compiler { values: 0 }.fields("", object, 0)
}

struct Compiler {
    values: usize,
}

impl Compiler {
    fn fields(&mut self, path: &str, object: &Map<String, Value>, depth: usize) -> Result<Fields, Error> {
        if depth >= DEPTH_MAX {
            return Err(Error::new(path, format!("it lies deeper than {DEPTH_MAX}")));
        }
        if object.is_empty() {
            let error = Error::new(path, "it is empty, so it says nothing");
            return Err(
                error.hint("leave it out to take every event, or test a field for {\"exists\": true}")
            );
        }
        let mut fields = Fields::default();
        for (key, value) in object {
            let path = below(path, key);
            match value {
                Value::Array(patterns) if key == "$or" => {
                    self.one_of(&path, patterns)?;
                    for (index, pattern) in patterns.iter().enumerate() {
                        let path = format!("{path}[{index}]");
                        let Value::Object(pattern) = pattern else {
                            return Err(Error::new(path, "an alternative of $or is an object"));
                        };
                        fields.alternatives.push(self.fields(&path, pattern, depth + 1)?);
                    }
                }
                Value::Object(object) => {
                    fields.fields.push((key.clone(), Node::Object(self.fields(&path, object, depth + 1)?)));
                }
                Value::Array(tests) => {
                    self.one_of(&path, tests)?;
                    let test = |(index, value)| test(&format!("{path}[{index}]"), value);
                    let tests = tests.iter().enumerate().map(test).collect::<Result<_, _>>()?;
                    fields.fields.push((key.clone(), Node::Leaf(tests)));
                }
                scalar => {
                    let error = Error::new(path, "the values that it may have stand in a list");
                    return Err(error.hint(format!("write [{scalar}]")));
                }
            }
        }
        Ok(fields)
    }

    /// Checks a list of which one must match.
    fn one_of(&mut self, path: &str, list: &[Value]) -> Result<(), Error> {
        if list.is_empty() {
            let error = Error::new(path, "an empty list matches nothing, so the pattern never matches");
            return Err(error.hint("for a field that is missing or empty, write [{\"exists\": false}]"));
        }
        self.values += list.len();
        if self.values > VALUES_MAX {
            return Err(Error::new(path, format!("it has more than {VALUES_MAX} values in all")));
        }
        Ok(())
    }
}

fn test(path: &str, value: &Value) -> Result<Test, Error> {
    let object = match value {
        Value::Object(object) => object,
        Value::Array(_) => return Err(Error::new(path, "a list in a list is no test")),
        scalar => return Ok(Test::Equals(scalar.clone())),
    };
    let (name, argument) = only(path, object)?;
    let path = below(path, name);
    match (name, argument) {
        ("exists", Value::Bool(wanted)) => Ok(Test::Exists(*wanted)),
        ("exists", _) => Err(Error::new(path, "it is true or false")),
        ("numeric", Value::Array(parts)) => range(&path, parts).map(Test::Numeric),
        ("numeric", _) => Err(Error::new(path, "it is a list").hint("such as [\">=\", 0, \"<\", 100]")),
        ("cidr", Value::String(net)) => net.parse().map(Test::Cidr).map_err(|_| {
            Error::new(path, format!("'{net}' is no network")).hint("such as 10.0.0.0/8 or 2001:db8::/32")
        }),
        ("anything-but", argument) => anything_but(&path, argument),
        (name, argument) => match text(&path, name, argument)? {
            Some(text) => Ok(Test::Text(text)),
            None => {
                Err(Error::new(path, format!("there is no test '{name}'")).hint(format!("there are {TESTS}")))
            }
        },
    }
}

fn only<'a>(path: &str, object: &'a Map<String, Value>) -> Result<(&'a str, &'a Value), Error> {
    let mut entries = object.iter();
    match (entries.next(), entries.next()) {
        (Some((name, argument)), None) => Ok((name, argument)),
        (None, _) => Err(Error::new(path, "a test has a name").hint(format!("there are {TESTS}"))),
        _ => {
            Err(Error::new(path, "a test has one name")
                .hint("write two tests as two elements: either is enough"))
        }
    }
}

/// A test of strings, if there is one of this name.
fn text(path: &str, name: &str, argument: &Value) -> Result<Option<Text>, Error> {
    let ignoring_case = argument.as_object().filter(|_| matches!(name, "prefix" | "suffix"));
    if let Some(object) = ignoring_case {
        return match (name, only(path, object)?) {
            ("prefix", ("equals-ignore-case", Value::String(text))) => {
                Ok(Some(Text::PrefixIgnoreCase(text.to_lowercase())))
            }
            (_, ("equals-ignore-case", Value::String(text))) => {
                Ok(Some(Text::SuffixIgnoreCase(text.to_lowercase())))
            }
            _ => Err(Error::new(path, "it is a string or {\"equals-ignore-case\": string}")),
        };
    }
    let test: fn(&str) -> Result<Text, &'static str> = match name {
        "prefix" => |text| Ok(Text::Prefix(text.to_owned())),
        "suffix" => |text| Ok(Text::Suffix(text.to_owned())),
        "equals-ignore-case" => |text| Ok(Text::EqualsIgnoreCase(text.to_lowercase())),
        "wildcard" => |text| Wildcard::parse(text).map(Text::Wildcard),
        _ => return Ok(None),
    };
    let Value::String(argument) = argument else { return Err(Error::new(path, "it is a string")) };
    test(argument).map(Some).map_err(|message| Error::new(path, message))
}

fn anything_but(path: &str, argument: &Value) -> Result<Test, Error> {
    let list = |path: &str, value: &Value| -> Result<Vec<Value>, Error> {
        match value {
            Value::Array(list) if list.is_empty() => {
                Err(Error::new(path, "its list is empty, so it excludes nothing"))
            }
            Value::Array(list) if list.len() > VALUES_MAX => {
                Err(Error::new(path, format!("its list has more than {VALUES_MAX} values")))
            }
            Value::Array(list) => Ok(list.clone()),
            one => Ok(vec![one.clone()]),
        }
    };
    if let Value::Object(object) = argument {
        let (name, argument) = only(path, object)?;
        let path = below(path, name);
        let texts = list(&path, argument)?.into_iter().map(|argument| {
            text(&path, name, &argument)?.ok_or_else(|| {
                let error = Error::new(path.clone(), format!("anything-but knows no test '{name}'"));
                error.hint("it takes values, or one of prefix, suffix, equals-ignore-case, wildcard")
            })
        });
        return Ok(Test::AnythingBut(Vec::new(), texts.collect::<Result<_, _>>()?));
    }
    let values = list(path, argument)?;
    if values.iter().any(|value| value.is_array() || value.is_object()) {
        return Err(Error::new(path, "its list holds values, no lists or tests"));
    }
    Ok(Test::AnythingBut(values, Vec::new()))
}

/// `["<", n]`, `[">=", n, "<", m]`, `["=", n]`.
fn range(path: &str, parts: &[Value]) -> Result<Range, Error> {
    let shape = || {
        Error::new(path, "it is one comparison, or two that bound both ends")
            .hint("such as [\">=\", 0, \"<\", 100]")
    };
    if !matches!(parts.len(), 2 | 4) {
        return Err(shape());
    }
    let mut range = Range { min: None, max: None };
    for part in parts.chunks(2) {
        let [Value::String(sign), Value::Number(number)] = part else { return Err(shape()) };
        let number = number
            .as_f64()
            .filter(|number| number.abs() <= NUMBER_MAX)
            .ok_or_else(|| Error::new(path, format!("{number} is too large to be compared exactly")))?;
        let taken = match sign.as_str() {
            ">" | ">=" => range.min.replace((number, sign == ">=")).is_some(),
            "<" | "<=" => range.max.replace((number, sign == "<=")).is_some(),
            "=" => range.min.replace((number, true)).is_some() | range.max.replace((number, true)).is_some(),
            _ => return Err(Error::new(path, format!("'{sign}' is no comparison: <, <=, =, >=, >"))),
        };
        if taken {
            return Err(shape());
        }
    }
    if range.is_empty() {
        return Err(Error::new(path, "no number lies in this range, so the pattern never matches"));
    }
    Ok(range)
}
