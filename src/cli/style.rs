//! Colours, on a terminal only, and text that is safe to show on one.

use std::io::IsTerminal as _;

/// Whether to use colours on one of the two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    coloured: bool,
    terminal: bool,
}

impl Style {
    /// For standard output.
    pub(crate) fn stdout() -> Self {
        Self::of(std::io::stdout().is_terminal())
    }

    /// For standard error.
    pub(crate) fn stderr() -> Self {
        Self::of(std::io::stderr().is_terminal())
    }

    /// No colours.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { coloured: false, terminal: false }
    }

    /// <https://no-color.org>: set and not empty means no colours.
    fn of(terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { coloured: terminal && !unwanted && !dumb, terminal }
    }

    /// Whether a person looks at it as it comes.
    pub(crate) fn is_terminal(self) -> bool {
        self.terminal
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }

    /// What strangers wrote, for this output. A terminal obeys control characters, so of these only tabs and,
    /// where colours are shown, colours come through; a file or pipe gets every byte.
    pub(crate) fn foreign(self, text: &str) -> String {
        if !self.terminal {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some(colour) = colour_sequence(rest) {
                if self.coloured {
                    out.push_str(colour);
                }
                rest = &rest[colour.len()..];
                continue;
            }
            out.push(if c.is_control() && c != '\t' { '\u{fffd}' } else { c });
            rest = &rest[c.len_utf8()..];
        }
        if self.coloured && out.contains('\x1b') {
            out.push_str("\x1b[0m");
        }
        out
    }

    /// Several lines that strangers wrote.
    pub(crate) fn foreign_lines(self, text: &str) -> String {
        text.lines().map(|line| self.foreign(line)).collect::<Vec<_>>().join("\n")
    }
}

/// `ESC [ digits ; … m` at the beginning of the text (ECMA-48, SGR).
fn colour_sequence(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[end..].starts_with('m').then(|| &text[..end + 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_wrote_cannot_move_the_cursor_or_set_the_title() {
        let terminal = Style { coloured: true, terminal: true };
        assert_eq!(terminal.foreign("a\x1b[2Jb\x1b]0;x\x07"), "a\u{fffd}[2Jb\u{fffd}]0;x\u{fffd}");
        assert_eq!(terminal.foreign("\x1b[31mred\tx"), "\x1b[31mred\tx\x1b[0m");
        let uncoloured = Style { coloured: false, terminal: true };
        assert_eq!(uncoloured.foreign("\x1b[31mred\x1b[0m"), "red");
        assert_eq!(Style::plain().foreign("\x1b[2J"), "\x1b[2J");
    }

    #[test]
    fn text_for_a_file_has_no_colours() {
        assert_eq!(Style::plain().red("x"), "x");
    }
}
