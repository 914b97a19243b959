//! Why a schedule is refused, with the place in its text.

use std::{fmt, ops::Range};

/// What is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The schedule's text.
    pub text: String,
    /// Where in it, in bytes.
    pub at: Range<usize>,
    /// What is wrong there.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

impl Error {
    pub(super) fn new(text: &str, at: Range<usize>, message: impl Into<String>) -> Self {
        Self { text: text.to_owned(), at, message: message.into(), hint: None }
    }

    /// About the text as a whole.
    pub(super) fn whole(text: &str, message: impl Into<String>) -> Self {
        Self::new(text, 0..text.len(), message)
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error about a text that holds this one from the byte `by` on.
    pub(super) fn within(mut self, text: &str, by: usize) -> Self {
        text.clone_into(&mut self.text);
        self.at = self.at.start + by..self.at.end + by;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.text.get(self.at.clone()).unwrap_or_default();
        write!(f, "the schedule '{}'", self.text)?;
        if !part.is_empty() && part != self.text {
            write!(f, ", at '{part}'")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Error {}
