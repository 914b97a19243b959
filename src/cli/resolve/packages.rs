//! What was resolved, by name and version, read from what the tool put there.

use std::{collections::BTreeSet, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::needs::Tool;

/// A package's description that is larger tells nothing.
const DESCRIPTION_BYTES_MAX: u64 = 1 << 20;
/// Packages in packages: npm's deepest trees are not as deep.
const DEPTH_MAX: usize = 32;

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl std::fmt::Display for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// All packages below a folder, sorted.
pub(super) fn list(folder: &Path, tool: Tool) -> io::Result<Vec<Package>> {
    let mut found = BTreeSet::new();
    match tool {
        Tool::Pip { .. } => wheels(folder, &mut found)?,
        Tool::Npm { .. } => modules(&folder.join("node_modules"), DEPTH_MAX, &mut found)?,
    }
    Ok(found.into_iter().collect())
}

/// `name-version.dist-info`: PyPA, "Recording installed projects".
fn wheels(folder: &Path, found: &mut BTreeSet<Package>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let named = name.strip_suffix(".dist-info").and_then(|name| name.split_once('-'));
        if let Some((name, version)) = named {
            found.insert(Package { name: name.to_owned(), version: version.to_owned() });
        }
    }
    Ok(())
}

fn modules(folder: &Path, depth: usize, found: &mut BTreeSet<Package>) -> io::Result<()> {
    if depth == 0 || !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A link leads to what stands elsewhere in the tree, or to the function's own folder.
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('@') {
            modules(&path, depth - 1, found)?;
        } else {
            found.extend(described(&path.join("package.json")));
            modules(&path.join("node_modules"), depth - 1, found)?;
        }
    }
    Ok(())
}

fn described(path: &Path) -> Option<Package> {
    let metadata = fs::symlink_metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > DESCRIPTION_BYTES_MAX {
        return None;
    }
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(files: &[(&str, &str)], tool: Tool) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("create");
            fs::write(path, text).expect("write");
        }
        list(folder.path(), tool).expect("list").iter().map(Package::to_string).collect()
    }

    #[test]
    fn packages_are_found_where_the_tools_put_them() {
        let wheels =
            [("six-1.16.0.dist-info/RECORD", ""), ("six.py", ""), ("zope.x-5.0.dist-info/RECORD", "")];
        assert_eq!(listed(&wheels, Tool::Pip { minor: 11 }), ["six 1.16.0", "zope.x 5.0"]);
        let modules = [
            ("node_modules/ms/package.json", r#"{"name":"ms","version":"2.1.3","main":"i.js"}"#),
            ("node_modules/@a/b/package.json", r#"{"name":"@a/b","version":"1.0.0"}"#),
            ("node_modules/@a/b/node_modules/ms/package.json", r#"{"name":"ms","version":"1.0.0"}"#),
            ("node_modules/broken/package.json", "{"),
        ];
        let tool = Tool::Npm { major: 20, locked: true };
        assert_eq!(listed(&modules, tool), ["@a/b 1.0.0", "ms 1.0.0", "ms 2.1.3"]);
    }
}
