//! Apps to deploy: the examples, and small ones that a test writes down itself.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// An app in a folder of its own, gone when dropped.
#[derive(Debug)]
pub struct App {
    folder: TempDir,
    name: String,
}

impl App {
    /// An app without functions.
    ///
    /// # Panics
    /// When the disk cannot be written, as all here.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let app = Self { folder: tempfile::tempdir().expect("a folder"), name: name.to_owned() };
        app.file("rouse.toml", format!("[app]\nname = \"{name}\"\n"))
    }

    /// Writes a file of it.
    #[must_use]
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        fs::write(path, content).expect("write a file");
        self
    }

    /// Adds a function: the lines of its table in `rouse.toml`. Anyone may call it, unless they say otherwise.
    #[must_use]
    pub fn function(self, name: &str, lines: &str) -> Self {
        let invoke = if lines.contains("invoke =") { "" } else { "invoke = \"public\"\n" };
        let path = self.folder.path().join("rouse.toml");
        let before = fs::read_to_string(path).expect("read the manifest");
        self.file("rouse.toml", format!("{before}\n[functions.{name}]\n{invoke}{lines}\n"))
    }

    /// Adds a Lambda handler in Python: what follows `def handler(event, context):`, indented by it.
    #[must_use]
    pub fn python(self, name: &str, body: &str, lines: &str) -> Self {
        let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
        let code = format!("import json, os, sys, time\n\ndef handler(event, context):\n{body}");
        self.file(&format!("{name}/app.py"), code)
            .function(name, &format!("source = \"{name}\"\nhandler = \"app.handler\"\n{lines}"))
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A folder of the repository.
///
/// # Panics
/// When the repository has gone.
#[must_use]
pub fn folder(path: &str) -> PathBuf {
    // As cargo says now, not as it said when it built: two clones may share a target folder.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let root = Path::new(&here).join("../..");
    root.join(path).canonicalize().unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The folder of an example.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    folder(&format!("examples/{name}"))
}

/// The folder of an app that only tests need.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    folder(&format!("tests/e2e/fixtures/{name}"))
}
