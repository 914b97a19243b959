//! The house rules that a machine can check: which crate may use which, and what no source file may hold.

mod crates;
mod files;

use std::process::Command;

use anyhow::{Result, bail};

use crate::{paths, sh};

/// Checks all, and says every breach at once.
pub(crate) fn run() -> Result<()> {
    let root = paths::root();
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--format-version=1", "--no-deps", "--offline"]).current_dir(&root);
    let metadata: serde_json::Value = serde_json::from_str(&sh::output(&mut cargo)?)?;
    let mut breaches = crates::breaches(&crates::edges(&metadata));

    // New files count before they are added, ignored ones never.
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(&root);
    for path in sh::output(&mut git)?.lines() {
        // A file that is gone from the folder but not yet from the index, or that is no text, has nothing to check.
        let Ok(text) = std::fs::read_to_string(root.join(path)) else { continue };
        breaches.extend(files::breaches(path, &text));
    }
    if breaches.is_empty() {
        return Ok(());
    }
    for breach in &breaches {
        println!("  tidy: {breach}");
    }
    bail!("{} breaches of the house rules (CONTRIBUTING.md says why each is one)", breaches.len())
}
