//! Makes the bytes that are uploaded out of a function's source. The same files give the same bytes, so
//! that code which did not change is neither uploaded nor made a version again.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use rouse_types::limits::{CODE_BYTES_MAX, CODE_FILES_MAX, CODE_UNPACKED_BYTES_MAX};
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use super::{ignore::Ignore, report::hinted};

/// Deflate's level: a `rouse dev` must pack a `node_modules` well within a second, and the last tenth of
/// size is worth less than that.
const LEVEL: i64 = 3;
/// A `.rouseignore` that is larger is none.
const IGNORE_BYTES_MAX: u64 = 64 << 10;

/// Packs a folder, or takes a `.zip` or `.wasm` as it is; any other file becomes an archive of itself.
pub(crate) fn pack(source: &Path) -> anyhow::Result<Bytes> {
    let metadata = fs::metadata(source).with_context(|| format!("read {}", source.display()))?;
    if metadata.is_dir() {
        return zip(source, entries(source, &[])?);
    }
    let extension = source.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if matches!(extension, "zip" | "wasm" | "wat") {
        if metadata.len() > CODE_BYTES_MAX {
            bail!(too_large(source, metadata.len(), CODE_BYTES_MAX));
        }
        return Ok(fs::read(source).with_context(|| format!("read {}", source.display()))?.into());
    }
    let name = source.file_name().and_then(|name| name.to_str()).context("the source's name is not UTF-8")?;
    let path = source.to_owned();
    zip(source, vec![Entry { name: name.to_owned(), kind: kind_of(&metadata), path }])
}

/// Packs a folder together with the dependencies that were resolved for it. Where both have a file, the function's own
/// is taken.
pub(crate) fn pack_with(source: &Path, dependencies: &Path) -> anyhow::Result<Bytes> {
    let mut all = dependency_entries(dependencies)?;
    all.extend(code_entries(source)?.into_iter().map(|entry| (entry.name.clone(), entry)));
    if all.len() > CODE_FILES_MAX {
        bail!(too_many(source));
    }
    zip(source, all.into_values().collect())
}

/// What goes in of a function's own folder when its dependencies were resolved: all but what somebody installed.
pub(crate) fn code_entries(source: &Path) -> anyhow::Result<Vec<Entry>> {
    entries(source, &["node_modules"])
}

/// What goes in of resolved dependencies, by name.
pub(crate) fn dependency_entries(folder: &Path) -> anyhow::Result<BTreeMap<String, Entry>> {
    let ignore = Ignore::new(npm_only());
    let found = list(folder, &ignore)?;
    Ok(found.into_iter().map(|entry| (entry.name.clone(), entry)).collect())
}

/// What npm writes down for itself, with where each package came from: of no use to a function, and not the same
/// from one registry to another.
fn npm_only() -> &'static str {
    "/node_modules/.package-lock.json\n/node_modules/.cache/\n"
}

/// What an entry of a package is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    File { executable: bool },
    Folder,
    Link { target: String },
}

/// One entry of a package.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// Relative to the source, with `/`.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Where it is.
    pub(crate) path: PathBuf,
}

/// What a plain file is.
pub(crate) fn kind_of(metadata: &fs::Metadata) -> Kind {
    Kind::File { executable: metadata.permissions().mode() & 0o111 != 0 }
}

fn ignore_file(source: &Path) -> anyhow::Result<String> {
    let path = source.join(".rouseignore");
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() > IGNORE_BYTES_MAX => {
            bail!("{} has {} bytes; at most {IGNORE_BYTES_MAX} are read", path.display(), metadata.len())
        }
        Ok(_) => fs::read_to_string(&path).with_context(|| format!("read {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// All that goes in of a function's folder, less its `.rouseignore` and the folders of these names at its top.
pub(crate) fn entries(source: &Path, without: &[&str]) -> anyhow::Result<Vec<Entry>> {
    let mut text = ignore_file(source)?;
    text.extend(without.iter().map(|name| format!("\n/{name}/\n")));
    list(source, &Ignore::new(&text))
}

/// All that goes in, sorted by name, so that the order of the file system does not matter.
fn list(source: &Path, ignore: &Ignore) -> anyhow::Result<Vec<Entry>> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let path = source.join(&folder);
        for item in fs::read_dir(&path).with_context(|| format!("list {}", path.display()))? {
            let item = item.with_context(|| format!("list {}", path.display()))?;
            let Ok(file_name) = item.file_name().into_string() else {
                bail!("the name of {} is not UTF-8", item.path().display());
            };
            let name = if folder.is_empty() { file_name } else { format!("{folder}/{file_name}") };
            let metadata = item.metadata().with_context(|| format!("read {}", item.path().display()))?;
            if ignore.leaves_out(&name, metadata.is_dir()) {
                continue;
            }
            let kind = if metadata.is_dir() {
                folders.push(name.clone());
                Kind::Folder
            } else if metadata.is_symlink() {
                Kind::Link { target: link(source, &name)? }
            } else if metadata.is_file() {
                kind_of(&metadata)
            } else {
                bail!(hinted(
                    format!("{} is neither a file nor a folder", item.path().display()),
                    "leave it out with a line in .rouseignore",
                ));
            };
            found.push(Entry { name, kind, path: item.path() });
            if found.len() > CODE_FILES_MAX {
                bail!(too_many(source));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A link's target, when it stays inside: the platform would refuse any other.
fn link(source: &Path, name: &str) -> anyhow::Result<String> {
    let path = source.join(name);
    let target = fs::read_link(&path).with_context(|| format!("read {}", path.display()))?;
    let mut depth = Path::new(name).components().count().saturating_sub(1);
    let mut inside = true;
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => inside = false,
        }
    }
    match (inside, target.to_str()) {
        (true, Some(text)) => Ok(text.to_owned()),
        _ => bail!(hinted(
            format!("the link {} leads out of the source, to {}", path.display(), target.display()),
            "copy what it leads to into the source, or leave it out with a .rouseignore",
        )),
    }
}

fn zip(source: &Path, entries: Vec<Entry>) -> anyhow::Result<Bytes> {
    if entries.is_empty() {
        bail!("{} holds nothing to deploy", source.display());
    }
    // 1980-01-01: the format's own beginning. The files' real times would make each checkout another version.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(LEVEL))
        .last_modified_time(DateTime::default());
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let mut unpacked = 0;
    for Entry { name, kind, path } in entries {
        match kind {
            Kind::Folder => writer.add_directory(name, options.unix_permissions(0o755))?,
            Kind::Link { target } => writer.add_symlink(name, target, options)?,
            Kind::File { executable } => {
                let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                unpacked += content.len() as u64;
                if unpacked > CODE_UNPACKED_BYTES_MAX {
                    bail!(too_large(source, unpacked, CODE_UNPACKED_BYTES_MAX));
                }
                let mode = if executable { 0o755 } else { 0o644 };
                writer.start_file(name, options.unix_permissions(mode))?;
                writer.write_all(&content)?;
            }
        }
    }
    let bytes = writer.finish()?.into_inner();
    if bytes.len() as u64 > CODE_BYTES_MAX {
        bail!(too_large(source, bytes.len() as u64, CODE_BYTES_MAX));
    }
    Ok(bytes.into())
}

fn too_many(source: &Path) -> anyhow::Error {
    hinted(
        format!("{} holds more than {CODE_FILES_MAX} files", source.display()),
        "leave out what the function does not need with a .rouseignore",
    )
}

fn too_large(source: &Path, bytes: u64, bytes_max: u64) -> anyhow::Error {
    hinted(
        format!(
            "{} has {} MiB or more; at most {} MiB are taken",
            source.display(),
            bytes >> 20,
            bytes_max >> 20
        ),
        "leave out what the function does not need with a .rouseignore",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("create");
            fs::write(path, content).expect("write");
        }
        folder
    }

    fn names(bytes: &Bytes) -> Vec<(String, u32)> {
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes.clone())).expect("an archive");
        (0..archive.len())
            .map(|index| {
                let file = archive.by_index(index).expect("an entry");
                (file.name().expect("a name").into_owned(), file.unix_mode().unwrap_or_default() & 0o777)
            })
            .collect()
    }

    #[test]
    fn the_same_files_give_the_same_bytes_whenever_they_were_written() {
        let one = folder(&[("b.py", "2"), ("a.py", "1"), ("lib/c.py", "3")]);
        let two = folder(&[("lib/c.py", "3"), ("a.py", "1"), ("b.py", "2")]);
        let old = fs::File::open(two.path().join("a.py")).expect("open");
        old.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(999_999_999)).expect("set");
        assert_eq!(pack(one.path()).expect("pack"), pack(two.path()).expect("pack"));
    }

    #[test]
    fn executables_stay_executable_and_node_modules_stay_in() {
        let source =
            folder(&[("bootstrap", "#!/bin/sh"), ("node_modules/x/i.js", ""), ("__pycache__/a.pyc", "")]);
        let path = source.path().join("bootstrap");
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("chmod");
        let names = names(&pack(source.path()).expect("pack"));
        assert!(names.contains(&("bootstrap".to_owned(), 0o755)), "{names:?}");
        assert!(names.contains(&("node_modules/x/i.js".to_owned(), 0o644)), "{names:?}");
        assert!(!names.iter().any(|(name, _)| name.contains("pycache")), "{names:?}");
    }

    #[test]
    fn a_rouseignore_leaves_out() {
        let source = folder(&[("a.py", ""), ("data/big.bin", ""), (".rouseignore", "data/\n")]);
        let names = names(&pack(source.path()).expect("pack"));
        assert_eq!(names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a.py"]);
    }

    #[test]
    fn a_link_inside_is_kept_and_one_that_leads_out_is_refused() {
        let source = folder(&[("lib/a.js", ""), ("bin/x", "")]);
        symlink("../lib/a.js", source.path().join("bin/a")).expect("link");
        assert!(names(&pack(source.path()).expect("pack")).iter().any(|(name, _)| name == "bin/a"));
        for target in ["/etc/passwd", "../../etc/passwd", "../lib/../../x"] {
            let link = source.path().join("bin/out");
            let _ = fs::remove_file(&link);
            symlink(target, &link).expect("link");
            let error = pack(source.path()).expect_err("must be refused").to_string();
            assert!(error.contains("leads out of the source"), "{error}");
        }
    }

    #[test]
    fn wasm_and_zip_files_are_taken_as_they_are_and_other_files_are_packed() {
        let source = folder(&[("a.wasm", "wasm"), ("a.zip", "zip"), ("app.py", "1")]);
        assert_eq!(pack(&source.path().join("a.wasm")).expect("pack"), "wasm");
        assert_eq!(pack(&source.path().join("a.zip")).expect("pack"), "zip");
        assert_eq!(names(&pack(&source.path().join("app.py")).expect("pack"))[0].0, "app.py");
    }

    #[test]
    fn what_is_not_there_or_empty_is_refused_by_name() {
        let source = folder(&[]);
        assert!(pack(source.path()).expect_err("empty").to_string().contains("nothing to deploy"));
        let missing = pack(&source.path().join("nope")).expect_err("missing");
        assert!(missing.to_string().contains("nope"), "{missing}");
    }
}
