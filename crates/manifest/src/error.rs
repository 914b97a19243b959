//! What is wrong with a manifest, and where, shown as compilers do.

use std::{fmt, ops::Range};

/// Errors that are looked for; a file with more has one cause. Each is placed by counting lines, so this
/// bounds the work for a file that is nothing but errors.
pub(crate) const ERRORS_MAX: usize = 200;
/// Errors that are shown in full.
const SHOWN_MAX: usize = 50;
/// Characters of a source line that are shown around an error.
const LINE_CHARS_MAX: usize = 160;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// Where in the text, in bytes.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

/// All that is wrong with a manifest, in the order of the text. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Errors {
    /// Each error.
    pub all: Vec<Error>,
}

impl Error {
    /// An error at this place of the text.
    pub(crate) fn at(text: &str, span: Range<usize>, message: String, hint: Option<String>) -> Self {
        let start = text.floor_char_boundary(span.start);
        let end = text.floor_char_boundary(span.end).max(start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            span: start..end,
            message,
            hint,
        }
    }

    /// Writes the error with its source line and a caret below.
    fn render(&self, file: &str, text: &str, out: &mut impl fmt::Write) -> fmt::Result {
        writeln!(out, "{file}:{}:{}: {}", self.line, self.column, self.message)?;
        // A text other than the one that was read shows no line rather than a wrong one.
        if let Some(before) = text.get(..self.span.start) {
            let start = before.rfind('\n').map_or(0, |newline| newline + 1);
            let line = text[start..].lines().next().unwrap_or_default();
            let gutter = " ".repeat(self.line.to_string().len());
            let skipped = self.column.saturating_sub(LINE_CHARS_MAX / 2);
            // A control character would move the caret, or worse, the terminal's cursor.
            let printable = |c: char| if c.is_control() { ' ' } else { c };
            let shown: String = line.chars().skip(skipped).take(LINE_CHARS_MAX).map(printable).collect();
            let marked = text[self.span.clone()].lines().next().unwrap_or_default().chars().count();
            let room = LINE_CHARS_MAX.saturating_sub(self.column - 1 - skipped).max(1);
            let pad = " ".repeat(self.column - 1 - skipped);
            writeln!(out, "{gutter} |\n{} | {shown}", self.line)?;
            writeln!(out, "{gutter} | {pad}{}", "^".repeat(marked.clamp(1, room)))?;
        }
        if let Some(hint) = &self.hint {
            writeln!(out, "  hint: {hint}")?;
        }
        Ok(())
    }
}

impl Errors {
    /// All errors with their source lines, for a person.
    #[must_use]
    pub fn render(&self, file: &str, text: &str) -> String {
        let mut out = String::new();
        for (index, error) in self.all.iter().take(SHOWN_MAX).enumerate() {
            if index > 0 {
                out.push('\n');
            }
            // Writing to a String does not fail.
            let _ = error.render(file, text, &mut out);
        }
        if let Some(more @ 1..) = self.all.len().checked_sub(SHOWN_MAX) {
            out.push_str(&format!("\n… and {more} more\n"));
        }
        out
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.all.iter().take(SHOWN_MAX).enumerate() {
            let gap = if index > 0 { "; " } else { "" };
            write!(f, "{gap}line {}, column {}: {}", error.line, error.column, error.message)?;
        }
        Ok(())
    }
}
