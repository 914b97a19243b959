//! Why a pattern or filter is refused, with the place in it.

use std::fmt;

/// What is wrong with a pattern or filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Where: keys and indexes, such as `detail.state[1].prefix`. Empty for the whole.
    pub path: String,
    /// What is wrong there.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

impl Error {
    pub(super) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return write!(f, "the pattern: {}", self.message);
        }
        write!(f, "the pattern, at {}: {}", self.path, self.message)
    }
}

impl std::error::Error for Error {}

/// The path of a key below another.
pub(super) fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
