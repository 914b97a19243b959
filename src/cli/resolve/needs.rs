//! What a function's folder says that it depends on, by pip's or npm's own files: read, not resolved.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, bail};
use rouse_types::Runtime;
use serde_json::{Map, Value};

use super::requirements::{self, Requirements};
use crate::cli::report::hinted;

/// A file of dependencies that is larger is none: npm's lock files of large apps have some MiB.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// npm's lock files, the one that it prefers first.
const LOCKS: [&str; 2] = ["npm-shrinkwrap.json", "package-lock.json"];
/// What npm runs of the package itself when it installs.
const OWN_SCRIPTS: [&str; 4] = ["preinstall", "install", "postinstall", "prepare"];

/// Who resolves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// pip, for this Python 3.N.
    Pip { minor: u8 },
    /// npm, for this Node.js.
    Npm { major: u8, locked: bool },
}

impl Tool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pip { .. } => "pip",
            Self::Npm { .. } => "npm",
        }
    }
}

/// What a folder depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) tool: Tool,
    /// What the tool must see: these files, relative to the folder; or all of it, because it installs parts of the
    /// folder, or runs scripts of it.
    pub(crate) files: Option<BTreeSet<String>>,
    /// Addresses that the files name.
    pub(crate) urls: BTreeSet<String>,
    /// Names of variables that the files expect from the environment.
    pub(crate) variables: BTreeSet<String>,
    /// What is not pinned to one version, and may be another next time.
    pub(crate) loose: Vec<String>,
}

/// What this source depends on, if anything.
///
/// # Errors
/// Its files cannot be read, or ask for what cannot be packed.
pub(crate) fn of(source: &Path, runtime: &Runtime) -> anyhow::Result<Option<Needs>> {
    match runtime {
        Runtime::Python { minor } if source.join(requirements::FILE).is_file() => python(source, *minor),
        Runtime::Node { major } if source.join("package.json").is_file() => node(source, *major),
        _ => Ok(None),
    }
}

/// Whether somebody installed the dependencies into the folder already, where the platform finds them.
pub(crate) fn installed(source: &Path, tool: Tool) -> bool {
    match tool {
        Tool::Npm { .. } => source.join("node_modules").is_dir(),
        Tool::Pip { .. } => fs::read_dir(source).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(".dist-info"))
        }),
    }
}

/// A small file of the folder.
pub(super) fn text(source: &Path, name: &str) -> anyhow::Result<String> {
    let path = source.join(name);
    let metadata = fs::metadata(&path).with_context(|| format!("read {}", path.display()))?;
    if metadata.len() > FILE_BYTES_MAX {
        bail!("{} has {} bytes; at most {FILE_BYTES_MAX} are read", path.display(), metadata.len());
    }
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

fn python(source: &Path, minor: u8) -> anyhow::Result<Option<Needs>> {
    let Requirements { count, files, local, urls, variables, loose } =
        requirements::read(&|name| text(source, name))?;
    if count == 0 {
        return Ok(None);
    }
    Ok(Some(Needs { tool: Tool::Pip { minor }, files: (!local).then_some(files), urls, variables, loose }))
}

fn node(source: &Path, major: u8) -> anyhow::Result<Option<Needs>> {
    let package = object(source, "package.json")?;
    let of = |key: &str| package.get(key).and_then(Value::as_object).into_iter().flatten();
    let wanted: Vec<(&String, &str)> = of("dependencies")
        .chain(of("optionalDependencies"))
        .filter_map(|(name, version)| Some((name, version.as_str()?)))
        .collect();
    let workspaces = package.contains_key("workspaces");
    let has_scripts = of("scripts").any(|(name, _)| OWN_SCRIPTS.iter().any(|script| name == *script));
    if wanted.is_empty() && !workspaces {
        return Ok(None);
    }
    let lock = LOCKS.into_iter().find(|lock| source.join(lock).is_file());
    if lock.is_none() {
        refuse_other_locks(source)?;
    }
    let mut local = false;
    let mut urls = BTreeSet::new();
    for (name, version) in &wanted {
        if let Some(path) = local_path(version) {
            if path.starts_with('/') || leads_out(path) {
                bail!(hinted(
                    format!("package.json: {name} is at {path}, which is outside of the function's folder"),
                    "copy it into the folder, or build with a command: [functions.NAME.build]",
                ));
            }
            local = true;
        } else if version.contains("://") {
            urls.insert(version.trim_start_matches("git+").to_owned());
        }
    }
    let mut files = BTreeSet::from(["package.json".to_owned()]);
    files.extend([".npmrc"].into_iter().filter(|name| source.join(name).is_file()).map(str::to_owned));
    if let Some(lock) = lock {
        files.insert(lock.to_owned());
        let lock = object(source, lock)?;
        let packages = lock.get("packages").and_then(Value::as_object).into_iter().flatten();
        urls.extend(packages.filter_map(|(_, package)| {
            let resolved = package.get("resolved")?.as_str()?;
            resolved.contains("://").then(|| resolved.trim_start_matches("git+").to_owned())
        }));
    }
    let variables = files
        .contains(".npmrc")
        .then(|| text(source, ".npmrc"))
        .transpose()?
        .map(|text| requirements::variables(&text))
        .unwrap_or_default();
    let loose = match lock {
        Some(_) => Vec::new(),
        None => wanted
            .iter()
            .filter(|(_, version)| !version.starts_with(|c: char| c.is_ascii_digit()))
            .map(|(name, _)| (*name).clone())
            .collect(),
    };
    Ok(Some(Needs {
        tool: Tool::Npm { major, locked: lock.is_some() },
        files: (!local && !workspaces && !has_scripts).then_some(files),
        urls,
        variables,
        loose,
    }))
}

fn object(source: &Path, name: &str) -> anyhow::Result<Map<String, Value>> {
    let value: Value = serde_json::from_str(&text(source, name)?)
        .map_err(|error| anyhow::anyhow!("{}: {error}", source.join(name).display()))?;
    match value {
        Value::Object(object) => Ok(object),
        _ => bail!("{} is no JSON object", source.join(name).display()),
    }
}

fn refuse_other_locks(source: &Path) -> anyhow::Result<()> {
    for (lock, tool) in [("yarn.lock", "yarn"), ("pnpm-lock.yaml", "pnpm"), ("bun.lock", "bun")] {
        if source.join(lock).is_file() {
            bail!(hinted(
                format!(
                    "{} is of {tool}, and only npm's lock files are understood",
                    source.join(lock).display()
                ),
                format!(
                    "write package-lock.json with `npm install --package-lock-only`, or use {tool} itself: \
                     [functions.NAME.build] with command = \"{tool} install\""
                ),
            ));
        }
    }
    Ok(())
}

/// The path of a dependency that is a folder or file and comes from no registry.
fn local_path(version: &str) -> Option<&str> {
    let path = version.strip_prefix("file:").or_else(|| version.strip_prefix("link:"));
    path.or_else(|| {
        ["./", "../", "/", "~/"].iter().any(|begin| version.starts_with(begin)).then_some(version)
    })
}

/// Whether a relative path leads out of where it begins.
pub(super) fn leads_out(path: &str) -> bool {
    let mut depth = 0_i32;
    path.split('/').any(|part| {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        depth < 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("write");
        }
        folder
    }

    const NODE: Runtime = Runtime::Node { major: 20 };

    #[test]
    fn a_package_without_dependencies_needs_nothing() {
        for package in [r#"{}"#, r#"{"type":"module","devDependencies":{"x":"1.0.0"}}"#] {
            let folder = folder(&[("package.json", package)]);
            assert_eq!(of(folder.path(), &NODE).expect("read"), None, "{package}");
        }
        let folder = folder(&[("requirements.txt", "# none yet\n\n")]);
        assert_eq!(of(folder.path(), &Runtime::Python { minor: 11 }).expect("read"), None);
        assert_eq!(of(folder.path(), &Runtime::Provided).expect("read"), None);
    }

    #[test]
    fn a_lock_file_is_seen_with_the_hosts_that_it_names() {
        let folder = folder(&[
            ("package.json", r#"{"dependencies":{"ms":"^2.0.0"}}"#),
            (
                "package-lock.json",
                r#"{"packages":{"":{},"node_modules/ms":{"resolved":"https://r.example.com/ms.tgz"}}}"#,
            ),
            ("index.mjs", ""),
        ]);
        let needs = of(folder.path(), &NODE).expect("read").expect("some");
        assert_eq!(needs.tool, Tool::Npm { major: 20, locked: true });
        assert_eq!(needs.urls, BTreeSet::from(["https://r.example.com/ms.tgz".to_owned()]));
        assert_eq!(needs.loose, Vec::<String>::new());
        let files = needs.files.expect("no other");
        assert_eq!(
            files.iter().map(String::as_str).collect::<Vec<_>>(),
            ["package-lock.json", "package.json"]
        );
    }

    #[test]
    fn what_npm_reads_or_runs_of_the_folder_makes_it_see_all_of_it() {
        for package in [
            r#"{"dependencies":{"a":"file:./lib"}}"#,
            r#"{"dependencies":{"a":"1.0.0"},"scripts":{"postinstall":"node build.js"}}"#,
            r#"{"workspaces":["packages/*"]}"#,
        ] {
            let folder = folder(&[("package.json", package)]);
            let needs = of(folder.path(), &NODE).expect("read").expect("some");
            assert_eq!(needs.files, None, "{package}");
        }
        let loose = folder(&[("package.json", r#"{"dependencies":{"a":"^1.0.0","b":"1.2.3"}}"#)]);
        assert_eq!(of(loose.path(), &NODE).expect("read").expect("some").loose, ["a"]);
    }

    #[test]
    fn what_cannot_be_packed_is_refused_by_name() {
        for (files, told) in [
            (vec![("package.json", r#"{"dependencies":{"a":"file:../lib"}}"#)], "a is at ../lib"),
            (
                vec![("package.json", r#"{"dependencies":{"a":"1"}}"#), ("yarn.lock", "")],
                "yarn.lock is of yarn",
            ),
            (vec![("package.json", "[]")], "is no JSON object"),
            (vec![("package.json", "{,")], "package.json: key must be"),
        ] {
            let folder = folder(&files);
            let error = of(folder.path(), &NODE).expect_err("must be refused").to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_path_that_comes_back_leads_out_all_the_same() {
        assert!(leads_out("../x") && leads_out("a/../../x"));
        assert!(!leads_out("./a/../b") && !leads_out("a"));
    }
}
