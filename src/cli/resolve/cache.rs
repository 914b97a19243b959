//! Dependencies that were resolved before, one folder for each key. An entry is moved into place when it is whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use rouse_types::Digest;
use tempfile::TempDir;

use super::packages::Package;

/// How many entries are kept: those used last. Each has at most what code may have, 512 MiB.
const ENTRIES_MAX: usize = 32;
/// What an ended build left behind is older than any build takes.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 3_600);
const FILES: &str = "files";
const PACKAGES: &str = "packages.json";
/// What the name of an entry that is not whole begins with.
const FRESH: &str = ".new-";

/// The cache of one user.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    folder: PathBuf,
}

/// An entry under way; gone when dropped.
#[derive(Debug)]
pub(super) struct Fresh {
    cache: Cache,
    entry: TempDir,
    files: PathBuf,
}

impl Cache {
    /// In the user's folder for such things (XDG Base Directory Specification).
    pub(super) fn usual() -> Self {
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        Self { folder: cache.unwrap_or_else(std::env::temp_dir).join("rouse/dependencies") }
    }

    #[cfg(test)]
    pub(super) fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// What was kept under this key.
    pub(super) fn find(&self, key: &Digest) -> Option<(PathBuf, Vec<Package>)> {
        let entry = self.folder.join(key.hex());
        let packages = serde_json::from_slice(&fs::read(entry.join(PACKAGES)).ok()?).ok()?;
        // Used now: it is among the last to go. That its time cannot be set loses nothing but that.
        let _ = fs::File::open(&entry).and_then(|folder| folder.set_modified(now()));
        Some((entry.join(FILES), packages))
    }

    /// Begins an entry.
    pub(super) fn begin(&self) -> anyhow::Result<Fresh> {
        let begin = || -> io::Result<Fresh> {
            fs::create_dir_all(&self.folder)?;
            let entry = tempfile::Builder::new().prefix(FRESH).tempdir_in(&self.folder)?;
            let files = entry.path().join(FILES);
            fs::create_dir(&files)?;
            Ok(Fresh { cache: self.clone(), entry, files })
        };
        begin().with_context(|| format!("write below {}", self.folder.display()))
    }

    /// Deletes what was not used for the longest time.
    fn prune(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let used = entry.metadata()?.modified()?;
            if !entry.file_name().to_string_lossy().starts_with(FRESH) {
                entries.push((used, entry.path()));
            } else if now().duration_since(used).is_ok_and(|age| age > LEFT_BEHIND) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        entries.sort();
        let over = entries.len().saturating_sub(ENTRIES_MAX);
        entries[..over].iter().try_for_each(|(_, path)| fs::remove_dir_all(path))
    }
}

impl Fresh {
    /// Where its files go.
    pub(super) fn files(&self) -> &Path {
        &self.files
    }

    /// Puts it in place, in that of an older one, and gives the folder of its files.
    pub(super) fn keep(self, key: &Digest, packages: &[Package]) -> anyhow::Result<PathBuf> {
        let place = self.cache.folder.join(key.hex());
        let keep = || -> io::Result<()> {
            fs::write(self.entry.path().join(PACKAGES), serde_json::to_vec(packages)?)?;
            fs::File::open(self.entry.path())?.set_modified(now())?;
            if place.exists() {
                // One that another build reads meanwhile fails there, loudly, and can be repeated.
                fs::remove_dir_all(&place)?;
            }
            fs::rename(self.entry.path(), &place)
        };
        keep().with_context(|| format!("keep what was resolved in {}", place.display()))?;
        // A cache that is too large is a loss of space, not of this build.
        if let Err(error) = self.cache.prune() {
            tracing::debug!(%error, "the cache of dependencies cannot be pruned");
        }
        Ok(place.join(FILES))
    }
}

#[expect(clippy::disallowed_methods, reason = "the age of files is by the machine's clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_once_it_is_whole_and_the_oldest_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::in_folder(folder.path().join("cache"));
        let key = |number: usize| Digest::of(&number.to_be_bytes());
        let package = Package { name: "six".into(), version: "1".into() };
        let lost = cache.begin().expect("an entry");
        fs::write(lost.files().join("half"), "").expect("write");
        drop(lost);
        for number in 0..=ENTRIES_MAX {
            let fresh = cache.begin().expect("an entry");
            fs::write(fresh.files().join("six.py"), "1").expect("write");
            assert_eq!(cache.find(&key(number)), None);
            fresh.keep(&key(number), std::slice::from_ref(&package)).expect("keep");
            let (files, packages) = cache.find(&key(number)).expect("it is there");
            assert_eq!(packages, std::slice::from_ref(&package));
            assert_eq!(fs::read_to_string(files.join("six.py")).expect("read"), "1");
        }
        assert_eq!(cache.find(&key(0)), None);
        assert_eq!(fs::read_dir(&cache.folder).expect("list").count(), ENTRIES_MAX);
    }
}
