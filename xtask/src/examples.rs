//! The examples and the components that only tests call: what there is, and building them when something has changed.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{paths, setup::Tools, sh};

/// One example: an app of one function of the same name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Example {
    /// Its folder below examples/, its app and its function.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) kind: &'static str,
    /// Something to post to it that shows its own job.
    pub(crate) job: &'static str,
}

/// All of them.
pub(crate) const ALL: [Example; 4] = [
    Example {
        name: "hello-rust",
        kind: "component, Rust",
        job: "the quick brown fox jumps over the lazy dog",
    },
    Example { name: "hello-js", kind: "component, JavaScript", job: r#"{"names":["Ada","Grace"]}"# },
    Example { name: "hello-python", kind: "Lambda, Python", job: "[1,2,3,10]" },
    Example {
        name: "hello-node",
        kind: "Lambda, Node.js",
        job: r#"{"items":[{"name":"tea","price":"3.50","count":2}]}"#,
    },
];

/// The folder of an example.
pub(crate) fn folder(name: &str) -> PathBuf {
    paths::root().join("examples").join(name)
}

/// Builds all that need it.
pub(crate) fn build(tools: &Tools) -> Result<()> {
    for example in ALL {
        let begun = Instant::now();
        if let Some(component) = component(&folder(example.name), tools)? {
            let size = fs::metadata(&component).context("look at the component")?.len();
            println!(
                "  {:<12} {:>8} KiB in {:>4.1} s  {}",
                example.name,
                size / 1024,
                begun.elapsed().as_secs_f64(),
                component.display()
            );
        }
    }
    Ok(())
}

/// Builds what lies in tests/guests, for tests to call: components, and a Lambda function in Rust.
pub(crate) fn guests(tools: &Tools) -> Result<()> {
    let guests = paths::root().join("tests/guests");
    for guest in fs::read_dir(&guests).with_context(|| format!("list {}", guests.display()))? {
        let guest = guest?.path();
        if guest.join("rouse.toml").is_file() {
            component(&guest, tools)?;
        }
    }
    Ok(())
}

/// Builds the one function of an app by the command of its `rouse.toml`, and gives what that makes; nothing when it
/// needs no building. Does nothing when no input has changed.
pub(crate) fn component(app: &Path, tools: &Tools) -> Result<Option<PathBuf>> {
    let manifest = fs::read_to_string(app.join("rouse.toml"))
        .with_context(|| format!("read {}/rouse.toml", app.display()))?;
    let table: toml::Table = manifest.parse().context("read rouse.toml")?;
    let build = table
        .get("functions")
        .and_then(|functions| functions.as_table()?.values().next()?.get("build"))
        .and_then(toml::Value::as_table);
    let Some(build) = build else { return Ok(None) };
    let text = |key: &str| build.get(key).and_then(toml::Value::as_str).with_context(|| format!("no {key}"));
    let (command, output) = (text("command")?, app.join(text("output")?));

    let mut inputs = DefaultHasher::new();
    (&tools.path, &tools.env).hash(&mut inputs);
    hash_folder(app, &mut inputs)?;
    let inputs = inputs.finish().to_string();
    let stamp = output.with_extension("inputs");
    if output.is_file() && fs::read_to_string(&stamp).is_ok_and(|before| before == inputs) {
        return Ok(Some(output));
    }
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).current_dir(app);
    sh::quiet(tools.apply(&mut shell)).with_context(|| format!("build {}", app.display()))?;
    fs::write(stamp, inputs)?;
    Ok(Some(output))
}

/// Everything but what building makes.
fn hash_folder(folder: &Path, into: &mut DefaultHasher) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<std::io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        if ["target", "dist", "node_modules"].iter().any(|made| name == *made) {
            continue;
        }
        name.hash(into);
        if entry.file_type()?.is_dir() {
            hash_folder(&entry.path(), into)?;
        } else {
            fs::read(entry.path())?.hash(into);
        }
    }
    Ok(())
}
