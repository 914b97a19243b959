//! Tells which files of an app changed, once they stopped changing.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use notify::{EventKind, RecursiveMode, Watcher as _, event::ModifyKind};
use tokio::{sync::mpsc, time::timeout};

use crate::cli::report::hinted;

/// Editors write a file in several steps; this long without another is the end of an edit.
const QUIET: Duration = Duration::from_millis(50);
/// An edit without end (a build that writes into the source) is looked at all the same.
const EDIT_MAX: Duration = Duration::from_millis(500);
/// Changes that wait to be looked at. What does not fit is lost, but an edit is known to be there.
const EVENTS_MAX: usize = 1_024;
/// Folders that hold what tools made or keep, and never what a person edits.
const SKIPPED: &[&str] =
    &[".git", ".hg", ".svn", ".rouse", "__pycache__", ".venv", ".mypy_cache", ".pytest_cache", ".idea"];
/// Folders that builds write into, for builds that do not say what to watch.
const OUTPUTS: &[&str] = &["target", "node_modules", "dist", "build", "out"];

/// Watches one folder.
#[derive(Debug)]
pub(super) struct Watcher {
    changes: mpsc::Receiver<PathBuf>,
    _watcher: notify::RecommendedWatcher,
}

impl Watcher {
    pub(super) fn new(folder: &Path) -> anyhow::Result<Self> {
        let (sender, changes) = mpsc::channel(EVENTS_MAX);
        let root = folder.to_owned();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if !is_edit(&event.kind) {
                return;
            }
            for path in event.paths {
                if !is_skipped(path.strip_prefix(&root).unwrap_or(&path)) {
                    // Full: there are changes enough to look at.
                    let _ = sender.try_send(path);
                }
            }
        })
        .context("watch the app's folder")?;
        watcher.watch(folder, RecursiveMode::Recursive).map_err(|error| {
            hinted(
                format!("cannot watch {}: {error}", folder.display()),
                "where the limit is reached: sysctl fs.inotify.max_user_watches=524288",
            )
        })?;
        Ok(Self { changes, _watcher: watcher })
    }

    /// Waits for an edit, and gives all paths that it touched.
    pub(super) async fn changed(&mut self) -> anyhow::Result<BTreeSet<PathBuf>> {
        let first = self.changes.recv().await.context("the watcher stopped")?;
        let mut paths = BTreeSet::from([first]);
        let deadline = tokio::time::Instant::now() + EDIT_MAX;
        while tokio::time::Instant::now() < deadline {
            match timeout(QUIET, self.changes.recv()).await {
                Ok(Some(path)) => paths.insert(path),
                Ok(None) | Err(_) => break,
            };
        }
        Ok(paths)
    }
}

fn is_edit(kind: &EventKind) -> bool {
    match kind {
        // Reading a file, or its times, is no edit; else packing it would be one.
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

fn has_part(path: &Path, names: &[&str]) -> bool {
    path.components().any(
        |component| matches!(component, Component::Normal(name) if names.iter().any(|known| name == *known)),
    )
}

/// Whether this path, relative to the app, is none that a person edits.
fn is_skipped(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // What vim, emacs and others write beside a file while it is edited.
    let scratch = name.ends_with('~')
        || name.ends_with(".swp")
        || name.ends_with(".swx")
        || name == "4913"
        || name.starts_with(".#")
        || name.starts_with('#') && name.ends_with('#');
    scratch || has_part(path, SKIPPED)
}

/// Whether this path, relative to where a build runs, is probably what it writes.
pub(super) fn is_build_output(path: &Path) -> bool {
    has_part(path, OUTPUTS) || path.extension().is_some_and(|extension| extension == "wasm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_write_is_no_edit() {
        for path in [".git/index", "a/__pycache__/x.pyc", "a/.x.py.swp", "x~", ".#x"] {
            assert!(is_skipped(Path::new(path)), "{path}");
        }
        for path in ["app.py", "hello/index.mjs", "rouse.toml", "#notes"] {
            assert!(!is_skipped(Path::new(path)), "{path}");
        }
        assert!(is_build_output(Path::new("target/x/y.d")) && is_build_output(Path::new("hello.wasm")));
        assert!(!is_build_output(Path::new("src/lib.rs")));
    }

    #[tokio::test]
    async fn an_edit_is_told_once_with_all_its_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("a path");
        let mut watcher = Watcher::new(&root).expect("a watcher");
        for name in ["a.py", "b.py", ".a.py.swp"] {
            std::fs::write(root.join(name), "x").expect("write");
        }
        let mut paths = watcher.changed().await.expect("an edit");
        // On a busy machine an edit may be told in two parts; never more than it is.
        while paths.len() < 2 {
            paths.extend(watcher.changed().await.expect("the rest"));
        }
        assert_eq!(paths, BTreeSet::from([root.join("a.py"), root.join("b.py")]));
    }
}
