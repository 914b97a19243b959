//! The lines of an export: each written in one way alone, and all of them held by the signature of the last.

use std::io::{BufRead, Read as _};

use ring::digest::{Context, SHA256};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    End, Hex, Link,
    key::{Key, Public},
    verify::Error,
};

/// The lines so far: how many, and what they are.
#[derive(Clone)]
pub(crate) struct Whole {
    hash: Context,
    lines: u64,
}

impl std::fmt::Debug for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Whole").field("lines", &self.lines).finish_non_exhaustive()
    }
}

impl Whole {
    pub(crate) fn new() -> Self {
        Self { hash: Context::new(&SHA256), lines: 0 }
    }

    /// Another line, without its newline.
    pub(crate) fn add(&mut self, text: &[u8]) {
        self.hash.update(text);
        self.hash.update(b"\n");
        self.lines += 1;
    }

    /// What the last line says of those before it.
    pub(crate) fn end(self, key: &Key) -> End {
        let (lines, digest) = (self.lines, Link::from(self.hash));
        End { lines, digest, signature: Hex(key.sign(&End::message(lines, &digest))) }
    }

    /// Whether the last line says this of them, and the key signed it.
    fn check(self, end: &End, key: &Public) -> Result<(), &'static str> {
        let (lines, digest) = (self.lines, Link::from(self.hash));
        if end.lines != lines || end.digest != digest {
            return Err("the lines are not all those that were exported");
        }
        match key.verifies(&End::message(lines, &digest), &end.signature.0) {
            true => Ok(()),
            false => Err("the end's signature is not of the export's key"),
        }
    }
}

/// What is read, and how it is spoken of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// `an export`.
    pub(super) name: &'static str,
    /// `the ledger`.
    pub(super) writer: &'static str,
    /// The longest line that is read.
    pub(super) line_bytes_max: u64,
}

/// Reads an export, line by line.
pub(super) struct Reader<R> {
    export: R,
    kind: Kind,
    whole: Whole,
    /// The line that was read last, counted from 1.
    line: u64,
    text: Vec<u8>,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(export: R, kind: Kind) -> Self {
        Self { export, kind, whole: Whole::new(), line: 0, text: Vec::new() }
    }

    /// Why the line that was read last is refused.
    pub(super) fn wrong(&self, reason: impl Into<String>) -> Error {
        Error::Wrong { line: self.line, reason: reason.into() }
    }

    /// The next line.
    pub(super) fn next<T: DeserializeOwned + Serialize>(&mut self) -> Result<T, Error> {
        if let Some((_, json)) = self.text.split_last() {
            self.whole.add(json);
        }
        self.line += 1;
        self.text.clear();
        (&mut self.export).take(self.kind.line_bytes_max).read_until(b'\n', &mut self.text)?;
        let Some((b'\n', json)) = self.text.split_last() else {
            return Err(self.wrong("the export is cut off: it has no end line"));
        };
        let parsed: T = serde_json::from_slice(json)
            .map_err(|error| self.wrong(format!("it is no line of {}: {error}", self.kind.name)))?;
        // Only one way of writing is taken: what was changed and means the same was changed all the same.
        if serde_json::to_vec(&parsed).ok().as_deref() != Some(json) {
            return Err(self.wrong(format!("it is not written as {} writes it", self.kind.writer)));
        }
        Ok(parsed)
    }

    /// Checks the line that was read last as the end of all before it, and that nothing comes after.
    pub(super) fn finish(mut self, end: &End, key: &Public) -> Result<(), Error> {
        self.whole.clone().check(end, key).map_err(|reason| self.wrong(reason))?;
        if self.export.read(&mut [0])? != 0 {
            self.line += 1;
            return Err(self.wrong("it stands after the end"));
        }
        Ok(())
    }
}
