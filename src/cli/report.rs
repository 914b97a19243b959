//! How a failure is told: what failed, what lies below it, and the next step.

use std::fmt::Write as _;

use rouse_types::Refusal;

use super::style::Style;

/// A failure with its next step.
#[derive(Debug)]
struct Hinted {
    message: String,
    hint: String,
}

impl std::fmt::Display for Hinted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Hinted {}

/// A failure that hands over the next step.
pub(crate) fn hinted(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Hinted { message: message.into(), hint: hint.into() }.into()
}

/// A failure that was shown already: only the exit code is left to give.
#[derive(Debug)]
pub(crate) struct Shown;

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Shown {}

/// The text for a person: the failure, its causes, the hint. Nothing when it was shown already, or when
/// whoever read our output went away.
pub(crate) fn render(error: &anyhow::Error, style: Style) -> Option<String> {
    let gone = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    };
    // Only our own output is written without context; a socket that broke has one.
    if error.is::<Shown>() || gone(error.as_ref()) {
        return None;
    }
    let refusal = error.chain().find_map(|cause| cause.downcast_ref::<Refusal>());
    let code = refusal.map(|refusal| format!("[{}]", refusal.code)).unwrap_or_default();
    let mut text = format!("{} {error}\n", style.red(&format!("error{code}:")));
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !last.contains(&cause) {
            let _ = writeln!(text, "  caused by: {cause}");
        }
        last = cause;
    }
    let hint = error.chain().find_map(|cause| {
        let ours = cause.downcast_ref::<Hinted>().map(|hinted| hinted.hint.as_str());
        ours.or_else(|| cause.downcast_ref::<Refusal>().and_then(|refusal| refusal.hint.as_deref()))
    });
    if let Some(hint) = hint {
        let _ = writeln!(text, "  {} {hint}", style.cyan("hint:"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use rouse_types::Code;

    use super::*;

    #[test]
    fn the_causes_and_the_hint_are_told_wherever_in_the_chain_the_hint_is() {
        let error =
            Err::<(), _>(hinted("no such folder", "make it")).context("deploy").expect_err("an error");
        let text = render(&error, Style::plain()).expect("a text");
        assert_eq!(text, "error: deploy\n  caused by: no such folder\n  hint: make it\n");
    }

    #[test]
    fn a_refusal_is_told_with_its_code_and_hint() {
        let refusal = Refusal::new(Code::AppNotFound, "no app 'x'").hint("`rouse list`");
        let text = render(&refusal.into(), Style::plain()).expect("a text");
        assert_eq!(text, "error[app-not-found]: no app 'x'\n  hint: `rouse list`\n");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure_to_tell_of() {
        let error = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(render(&error.into(), Style::plain()), None);
    }
}
