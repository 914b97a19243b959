//! Writes an OCI image layout (image format specification 1.1) whose digest depends on nothing but what is in it: sorted
//! entries, no times, no owners but root.
//!
//! ```text
//!  what runs it (base) ─▶ layer 1     dependencies ─▶ layer 2     the function's code ─▶ layer 3
//! ```
//!
//! So an edit changes the last layer alone, which is all that is uploaded, pulled and unpacked again.

pub(crate) mod base;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::{Context as _, bail};
use flate2::{Compression, write::GzEncoder};
use rouse_image::tar::Writer;
use rouse_types::Digest;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::pack::{Entry, Kind};

/// The level that `docker build` and others take.
const LEVEL: u32 = 6;
/// When all was made: the format's field is for people, and the real time would make each build another image.
const CREATED: &str = "1980-01-01T00:00:00Z";
const OCI: &str = "application/vnd.oci.image";

/// One layer: what it is, and its entries by their path in the image, without a `/` before.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) about: &'static str,
    pub(crate) entries: BTreeMap<String, Entry>,
}

/// How the image is run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) workdir: &'static str,
}

impl Layer {
    /// A layer of these entries below a folder.
    pub(crate) fn below(about: &'static str, folder: &str, entries: impl IntoIterator<Item = Entry>) -> Self {
        let name = |entry: &Entry| format!("{folder}/{}", entry.name);
        Self { about, entries: entries.into_iter().map(|entry| (name(&entry), entry)).collect() }
    }
}

/// Writes the layout into an empty folder, and gives the manifest's digest and the bytes of all blobs.
pub(crate) fn write(folder: &Path, layers: &[Layer], run: &Run) -> anyhow::Result<(Digest, u64)> {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("create {}", blobs.display()))?;
    let mut bytes = 0;
    let (mut described, mut diffs, mut history) = (Vec::new(), Vec::new(), Vec::new());
    for layer in layers {
        let (blob, diff) =
            write_layer(&blobs, layer).with_context(|| format!("write the layer of {}", layer.about))?;
        bytes += blob.1;
        described.push(descriptor(&format!("{OCI}.layer.v1.tar+gzip"), blob));
        diffs.push(diff.to_string());
        history.push(json!({ "created": CREATED, "created_by": format!("rouse build: {}", layer.about) }));
    }
    let mut document = |value: &serde_json::Value| -> anyhow::Result<(Digest, u64)> {
        let text = serde_json::to_vec(value)?;
        let digest = Digest::of(&text);
        fs::write(blobs.join(digest.hex()), &text).context("write a document")?;
        bytes += text.len() as u64;
        Ok((digest, text.len() as u64))
    };
    let architecture = architecture()?;
    let env: Vec<String> = run.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let config = document(&json!({
        "created": CREATED,
        "architecture": architecture,
        "os": "linux",
        "config": { "Entrypoint": run.entrypoint, "Cmd": run.cmd, "Env": env, "WorkingDir": run.workdir },
        "rootfs": { "type": "layers", "diff_ids": diffs },
        "history": history,
    }))?;
    let manifest = document(&json!({
        "schemaVersion": 2,
        "mediaType": format!("{OCI}.manifest.v1+json"),
        "config": descriptor(&format!("{OCI}.config.v1+json"), config),
        "layers": described,
    }))?;
    let mut named = descriptor(&format!("{OCI}.manifest.v1+json"), manifest);
    named["platform"] = json!({ "architecture": architecture, "os": "linux" });
    let index =
        json!({ "schemaVersion": 2, "mediaType": format!("{OCI}.index.v1+json"), "manifests": [named] });
    fs::write(folder.join("index.json"), index.to_string()).context("write the index")?;
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).context("write the layout")?;
    Ok((manifest.0, bytes))
}

fn descriptor(media_type: &str, (digest, size): (Digest, u64)) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size })
}

/// As Go calls this machine's kind, which is how images do.
fn architecture() -> anyhow::Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("images of machines of the kind {other} are not written"),
    }
}

/// Hashes and counts what is written through it.
struct Hashed<W> {
    to: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Hashed<W> {
    fn new(to: W) -> Self {
        Self { to, hash: Sha256::new(), bytes: 0 }
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.to.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Writes a layer, and gives the blob's digest and size, and the digest of what it unpacks to.
fn write_layer(blobs: &Path, layer: &Layer) -> io::Result<((Digest, u64), Digest)> {
    let fresh = tempfile::NamedTempFile::new_in(blobs)?;
    let gzip = GzEncoder::new(Hashed::new(BufWriter::new(fresh)), Compression::new(LEVEL));
    let mut archive = Writer::new(Hashed::new(gzip));
    let mut folders = BTreeSet::new();
    for (path, entry) in &layer.entries {
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            if !layer.entries.contains_key(parent) && folders.insert(parent.to_owned()) {
                archive.add(b'5', &format!("{parent}/"), "", 0o755, 0, io::empty())?;
            }
        }
        match &entry.kind {
            Kind::Folder => archive.add(b'5', &format!("{path}/"), "", 0o755, 0, io::empty())?,
            Kind::Link { target } => archive.add(b'2', path, target, 0o777, 0, io::empty())?,
            Kind::File { executable } => {
                let file = File::open(&entry.path)?;
                let size = file.metadata()?.len();
                archive.add(b'0', path, "", if *executable { 0o755 } else { 0o644 }, size, file)?;
            }
        }
    }
    let tar = archive.finish()?;
    let diff = Digest::from_hasher(tar.hash);
    let Hashed { to, hash, bytes } = tar.to.finish()?;
    let digest = Digest::from_hasher(hash);
    let file = to.into_inner().map_err(io::IntoInnerError::into_error)?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(readable)?;
    file.persist(blobs.join(digest.hex()))?;
    Ok(((digest, bytes), diff))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::pack;

    fn layout(files: &[(&str, &str)]) -> (tempfile::TempDir, Digest) {
        let (code, folder) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        for (name, text) in files {
            let path = code.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("create");
            fs::write(path, text).expect("write");
        }
        let entries = pack::code_entries(code.path()).expect("entries");
        let layers = [Layer::below("code", "var/task", entries)];
        let run = Run { entrypoint: vec!["/run".into()], cmd: vec![], env: vec![], workdir: "/var/task" };
        let (digest, _) = write(folder.path(), &layers, &run).expect("written");
        (folder, digest)
    }

    #[test]
    fn the_same_files_give_the_same_image_and_every_blob_is_what_its_name_says() {
        let (one, first) = layout(&[("b/c.py", "2"), ("a.py", "1")]);
        let (_, second) = layout(&[("a.py", "1"), ("b/c.py", "2")]);
        let (_, other) = layout(&[("a.py", "1"), ("b/c.py", "3")]);
        assert_eq!(first, second);
        assert_ne!(first, other);
        let blobs: Vec<_> = fs::read_dir(one.path().join("blobs/sha256")).expect("blobs").flatten().collect();
        assert_eq!(blobs.len(), 3);
        for blob in blobs {
            let bytes = fs::read(blob.path()).expect("read");
            assert_eq!(Digest::of(&bytes).hex(), blob.file_name().to_string_lossy());
        }
    }
}
