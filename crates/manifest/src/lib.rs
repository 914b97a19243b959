//! `rouse.toml`: what a developer writes about an app, read strictly.
//!
//! ```text
//! text ─▶ toml, with spans ─▶ read: every key and value ─▶ Manifest
//!                              └─▶ all errors at once, each with line, column and a hint
//! ```
//!
//! Invariant: no I/O. A caller hands in the text, and what a source folder holds.

pub mod detect;
mod error;
mod file;
mod hint;
mod read;
mod value;
pub mod written;

pub use error::{Error, Errors};
pub use file::{App, Build, Bytes, Function, Manifest, Span};

/// The manifest's name.
pub const FILE_NAME: &str = "rouse.toml";
/// The largest manifest that is read: a kilobyte for each function of the largest app.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// Reads a manifest.
///
/// # Errors
/// All that is wrong with it. While the text is not TOML at all, only that is told: what a broken text
/// was meant to say would be guesswork.
pub fn parse(text: &str) -> Result<Manifest, Errors> {
    read::manifest(text)
}

/// The JSON schema of the manifest, for editors.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    let mut schema =
        schemars::generate::SchemaSettings::draft07().into_generator().into_root_schema_for::<Manifest>();
    schema.insert("title".into(), "rouse.toml".into());
    schema.to_value()
}

#[cfg(test)]
mod tests;
