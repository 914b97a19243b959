//! The operator's files: pairs that are named one by one, and folders of pairs.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::pair::{Error, Pair};

/// The endings of certificates in a folder; their keys end in `.key`.
const ENDINGS: [&str; 3] = ["pem", "crt", "cert"];
/// What certbot calls a certificate with its chain, and its key, in a folder for each.
const CERTBOT: (&str, &str) = ("fullchain.pem", "privkey.pem");

/// Where the operator's certificates are.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Certificates with their chains, each with its key.
    pub pairs: Vec<(PathBuf, PathBuf)>,
    /// Folders: `NAME.pem` (or `.crt`, `.cert`) with `NAME.key`, and `NAME/fullchain.pem` with `NAME/privkey.pem`.
    pub folders: Vec<PathBuf>,
}

/// A file as it was: its path, inode, length, and when it was changed.
pub type Mark = (PathBuf, u64, u64, i64, i64);

impl Sources {
    /// Whether nothing is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.folders.is_empty()
    }

    /// The files, certificate and key, in the order in which they answer.
    fn files(&self) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
        let mut files = self.pairs.clone();
        for folder in &self.folders {
            files.extend(of_folder(folder)?);
        }
        Ok(files)
    }

    /// Reads all of them, and checks each.
    ///
    /// # Errors
    /// What is wrong with the first that is wrong.
    pub fn read(&self) -> Result<Vec<Pair>, Error> {
        let mut pairs = Vec::new();
        for (certificates, key) in self.files()? {
            let pair = Pair {
                from: certificates.display().to_string(),
                certificates: text(&certificates)?,
                key: text(&key)?,
            };
            pair.load()?;
            pairs.push(pair);
        }
        if pairs.is_empty() && !self.is_empty() {
            let folders: Vec<_> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
            return Err(Error::Unpaired(format!(
                "{} holds no certificates: expected NAME.pem with NAME.key, or NAME/fullchain.pem with NAME/privkey.pem",
                folders.join(", ")
            )));
        }
        Ok(pairs)
    }

    /// What tells whether any of the files was changed, without reading them.
    #[must_use]
    pub fn marks(&self) -> Vec<Mark> {
        let files = self.files().unwrap_or_default();
        let paths = files.into_iter().flat_map(|(certificates, key)| [certificates, key]);
        let mark = |path: PathBuf| {
            let file = fs::metadata(&path).ok();
            let file =
                file.map_or((0, 0, 0, 0), |file| (file.ino(), file.len(), file.mtime(), file.mtime_nsec()));
            (path, file.0, file.1, file.2, file.3)
        };
        paths.map(mark).collect()
    }
}

fn text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.display().to_string(), source })
}

/// The pairs of a folder, by name.
fn of_folder(folder: &Path) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    let unreadable = |source| Error::Unreadable { path: folder.display().to_string(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let (chain, key) = (path.join(CERTBOT.0), path.join(CERTBOT.1));
        if chain.is_file() {
            found.push((chain, key));
            continue;
        }
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if ENDINGS.contains(&ending) {
            let key = path.with_extension("key");
            if !key.is_file() {
                return Err(Error::Unpaired(format!(
                    "{} has no key beside it: expected {}",
                    path.display(),
                    key.display()
                )));
            }
            found.push((path, key));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::tests::pair;

    #[test]
    fn a_folder_holds_pairs_by_name_and_as_certbot_writes_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let sources = Sources { pairs: Vec::new(), folders: vec![folder.path().to_owned()] };
        let wrong = || sources.read().expect_err("it is wrong").to_string();
        assert!(wrong().contains("holds no certificates"), "{}", wrong());
        let (one, other) = (pair(&["b.example"]), pair(&["a.example"]));
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
        write("b.crt", &one.certificates);
        assert!(wrong().contains("b.key"), "{}", wrong());
        write("b.key", &one.key);
        write("README", "certbot writes one");
        fs::create_dir(folder.path().join("a.example")).expect("made");
        write("a.example/fullchain.pem", &other.certificates);
        assert!(wrong().contains("privkey.pem"), "{}", wrong());
        write("a.example/privkey.pem", &other.key);
        let read = sources.read().expect("all are good");
        assert_eq!(read.iter().map(|pair| &pair.key).collect::<Vec<_>>(), [&other.key, &one.key]);

        let before = sources.marks();
        assert_eq!(before, sources.marks());
        write("b.key", &other.key);
        assert_ne!(before, sources.marks());
        assert!(wrong().contains("b.crt is not the one of its certificate"), "{}", wrong());
    }
}
