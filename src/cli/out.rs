//! Standard output and error. Data goes to the first, everything else to the second.

use std::io::Write as _;

use serde::Serialize;

/// Writes data as it is.
pub(crate) fn raw(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

/// Writes text.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    raw(text.as_bytes())
}

/// Writes one JSON value, for people too.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    text(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Writes one JSON value on one line.
pub(crate) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    text(&(serde_json::to_string(value)? + "\n"))
}

/// Tells something that is no data. That nobody can read it stops nothing.
pub(crate) fn note(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{text}");
}
