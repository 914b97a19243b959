//! Walks a TOML table key by key, and collects what is wrong instead of stopping at it.

use std::{cell::RefCell, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{Error, error::ERRORS_MAX, hint};

/// A value with its place in the text.
pub(crate) type Value<'t> = Spanned<DeValue<'t>>;

/// Where errors go.
pub(crate) struct Report<'t> {
    text: &'t str,
    errors: RefCell<Vec<Error>>,
}

impl<'t> Report<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, errors: RefCell::default() }
    }

    /// Adds an error.
    pub(crate) fn error(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        if !self.full() {
            self.errors.borrow_mut().push(Error::at(self.text, span, message.into(), hint.into()));
        }
    }

    /// Whether so many errors were found that no more are looked for.
    fn full(&self) -> bool {
        self.errors.borrow().len() >= ERRORS_MAX
    }

    /// All errors, in the order of the text.
    pub(crate) fn into_errors(self) -> Vec<Error> {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|error| error.span.start);
        errors
    }
}

/// One table while it is read: remembers which keys were asked for, so that what is left over is unknown.
pub(crate) struct Table<'r, 't> {
    report: &'r Report<'t>,
    /// What to call it: `[functions.a]`.
    name: String,
    span: Range<usize>,
    entries: Vec<(&'r str, Range<usize>, &'r Value<'t>)>,
    asked: Vec<&'static str>,
}

impl<'r, 't> Table<'r, 't> {
    pub(crate) fn new(
        report: &'r Report<'t>,
        name: impl Into<String>,
        span: Range<usize>,
        table: &'r DeTable<'t>,
    ) -> Self {
        let entries = table.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value)).collect();
        Self { report, name: name.into(), span, entries, asked: Vec::new() }
    }

    /// The table of this value; reports what is none.
    pub(crate) fn of(report: &'r Report<'t>, name: impl Into<String>, value: &'r Value<'t>) -> Option<Self> {
        let name = name.into();
        let Some(table) = value.get_ref().as_table() else {
            wrong_type(report, &name, "a table", value);
            return None;
        };
        Some(Self::new(report, name, value.span(), table))
    }

    /// The value of a key, which from now on is known.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<&'r Value<'t>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.entries.iter().find(|(name, ..)| *name == key).map(|(.., value)| *value)
    }

    /// All entries, for tables whose keys are free.
    pub(crate) fn entries(&self) -> &[(&'r str, Range<usize>, &'r Value<'t>)] {
        &self.entries
    }

    /// The value of a key that must be there.
    pub(crate) fn require(&mut self, key: &'static str, hint: &str) -> Option<&'r Value<'t>> {
        let value = self.get(key);
        if value.is_none() {
            let message = format!("{} needs `{key}`", self.name);
            self.report.error(self.span.clone(), message, hint.to_owned());
        }
        value
    }

    /// A text.
    pub(crate) fn string(&mut self, key: &'static str) -> Option<(&'r str, Range<usize>)> {
        let value = self.get(key)?;
        string(self.report, key, value)
    }

    /// A text that is read further. What `read` finds wrong is reported at the value.
    pub(crate) fn parsed<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, (String, Option<String>)>,
    ) -> Option<T> {
        let (text, span) = self.string(key)?;
        match read(text) {
            Ok(value) => Some(value),
            Err((message, hint)) => {
                self.report.error(span, format!("`{key}`: {message}"), hint);
                None
            }
        }
    }

    /// A whole number of at least `min`.
    pub(crate) fn number(&mut self, key: &'static str, min: u32) -> Option<u32> {
        let value = self.get(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            wrong_type(self.report, key, "a whole number", value);
            return None;
        };
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|&n| n >= min);
        if number.is_none() {
            let message = format!("`{key}` must be a whole number from {min} to {}", u32::MAX);
            self.report.error(value.span(), message, None);
        }
        number
    }

    /// A list of texts.
    pub(crate) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            wrong_type(self.report, key, "true or false", value);
        }
        flag
    }

    pub(crate) fn strings(&mut self, key: &'static str) -> Vec<(&'r str, Range<usize>)> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            wrong_type(self.report, key, "a list of texts", value);
            return Vec::new();
        };
        array.iter().filter_map(|item| string(self.report, key, item)).collect()
    }

    /// Reports each key that nobody asked for.
    pub(crate) fn finish(self) {
        for (key, span, _) in &self.entries {
            if self.asked.contains(key) {
                continue;
            }
            if self.report.full() {
                break;
            }
            let hint = match hint::meant(key, &self.asked) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known keys are {}", list(&self.asked)),
            };
            self.report.error(span.clone(), format!("{} has no key `{}`", self.name, shown(key)), hint);
        }
    }
}

/// The text of a value; reports what is none.
pub(crate) fn string<'r>(
    report: &Report<'_>,
    key: &str,
    value: &'r Value<'_>,
) -> Option<(&'r str, Range<usize>)> {
    let text = value.get_ref().as_str();
    if text.is_none() {
        wrong_type(report, key, "a text", value);
    }
    text.map(|text| (text, value.span()))
}

fn wrong_type(report: &Report<'_>, key: &str, wanted: &str, value: &Value<'_>) {
    let quotable = matches!(value.get_ref(), DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_));
    let hint = (wanted == "a text" && quotable).then(|| "put it in quotes".to_owned());
    let name = if key.starts_with('[') { key.to_owned() } else { format!("`{key}`") };
    let message = format!("{name} must be {wanted}, not {}", article(value.get_ref().type_str()));
    report.error(value.span(), message, hint);
}

fn article(kind: &str) -> String {
    match kind {
        "string" => "a text".to_owned(),
        "integer" => "a whole number".to_owned(),
        "float" => "a number with a fraction".to_owned(),
        "array" => "a list".to_owned(),
        other => format!("a {other}"),
    }
}

/// A key as it is shown: never so long that it hides the message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Words as a list for people.
pub(crate) fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
