//! Images in an archive: an OCI image layout, or what `docker save` writes, as a tar. The layers are read from where they
//! lie in it, so nothing is unpacked twice.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Seek as _, SeekFrom, Write},
    os::unix::fs::FileExt as _,
    path::Path,
};

use rouse_types::{Digest, Image, Refusal};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{
    Store, invalid, io as said, layers,
    manifest::{self, Config, DOCUMENT_BYTES_MAX, Document, INDEXES_MAX},
    shown,
    tar::{Kind, Reader, Writer},
    unpack::Bounds,
};

/// Entries of an archive: its documents, and a few for each layer.
const ENTRIES_MAX: usize = 10_000;
/// What refusals call an image that has no name.
const NAME: &str = "the image in the archive";

/// Where the files of an archive lie.
struct Index {
    file: File,
    places: HashMap<Vec<u8>, (u64, u64)>,
}

/// Unpacks an archive's image. Blocks.
///
/// # Errors
/// [`rouse_types::Code::ImageInvalid`], [`rouse_types::Code::CodeTooLarge`],
/// [`rouse_types::Code::StorageFull`].
pub fn install(file: File, store: &Store) -> Result<Image, Refusal> {
    let index = Index::read(file)?;
    let (Config { image, diff_ids }, blobs) = index.image()?;
    if diff_ids.len() != blobs.len() {
        return Err(invalid(format!("{NAME} has a configuration that is not its manifest's")));
    }
    let chain = layers::chain(&diff_ids);
    let mut bounds = Bounds::default();
    for (number, (diff, name)) in diff_ids.iter().zip(&blobs).enumerate() {
        if !store.has(&chain[number]) {
            store.install(&diff_ids[..number], *diff, index.open(name)?, &mut bounds)?;
        }
    }
    Ok(Image { layers: chain, ..image })
}

/// Whether bytes are the begin of a tar archive.
#[must_use]
pub fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

impl Index {
    fn read(file: File) -> Result<Self, Refusal> {
        let broken =
            |error| invalid(format!("{NAME} cannot be read: {error}")).hint("make it again by `docker save`");
        let mut places = HashMap::new();
        let mut links = Vec::new();
        let mut archive = Reader::new(io::BufReader::new(&file));
        while let Some(entry) = archive.next_entry().map_err(broken)? {
            if places.len() + links.len() == ENTRIES_MAX {
                return Err(invalid(format!("{NAME} has more than {ENTRIES_MAX} entries")));
            }
            let name = clean(&entry.path);
            match entry.kind {
                Kind::File => drop(places.insert(name, (entry.offset, entry.size))),
                // Older `docker save` writes a layer that is there twice as a link to the first.
                Kind::Symlink => {
                    let folder = name.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
                    links.push((name.clone(), resolve(&name[..folder], &entry.link)));
                }
                Kind::Folder | Kind::Hardlink | Kind::Special => {}
            }
        }
        drop(archive);
        for (name, target) in links {
            if let Some(place) = places.get(&target).copied() {
                places.insert(name, place);
            }
        }
        Ok(Self { file, places })
    }

    /// A file of the archive.
    fn open(&self, name: &str) -> Result<impl Read, Refusal> {
        let &(offset, size) = self
            .places
            .get(name.as_bytes())
            .ok_or_else(|| invalid(format!("{NAME} lacks its file '{}'", shown(name.as_bytes()))))?;
        let file = self.file.try_clone().map_err(said("read an archive"))?;
        Ok(Slice { file, at: offset, end: offset + size })
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, Refusal> {
        let mut text = Vec::new();
        self.open(name)?
            .take(DOCUMENT_BYTES_MAX as u64 + 1)
            .read_to_end(&mut text)
            .map_err(said("read an archive"))?;
        if text.len() > DOCUMENT_BYTES_MAX {
            return Err(invalid(format!("{NAME} has a document of more than {DOCUMENT_BYTES_MAX} bytes")));
        }
        Ok(text)
    }

    /// A document that a digest names, and that must be it.
    fn blob(&self, digest: &Digest) -> Result<Vec<u8>, Refusal> {
        let text = self.document(&blob_name(digest))?;
        if Digest::of(&text) == *digest {
            return Ok(text);
        }
        Err(invalid(format!("{NAME} is damaged: its file {} is another one", blob_name(digest))))
    }

    /// How the image is run, and the names of its layers' files.
    fn image(&self) -> Result<(Config, Vec<String>), Refusal> {
        if self.places.contains_key(b"index.json".as_slice()) {
            return self.layout();
        }
        if self.places.contains_key(b"manifest.json".as_slice()) {
            return self.saved();
        }
        Err(invalid(format!(
            "{NAME} is neither an OCI layout nor of `docker save`: it has no index.json and no manifest.json"
        )))
    }

    /// Of an OCI image layout.
    fn layout(&self) -> Result<(Config, Vec<String>), Refusal> {
        let mut text = self.document("index.json")?;
        for _ in 0..=INDEXES_MAX {
            match manifest::document(&text, NAME)? {
                Document::Index(next) => text = self.blob(&next.digest)?,
                Document::Manifest(manifest) => {
                    let config = manifest::config(&self.blob(&manifest.config.digest)?, NAME)?;
                    return Ok((
                        config,
                        manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
                    ));
                }
            }
        }
        Err(invalid(format!("{NAME} is an index of indexes without end")))
    }

    /// Of `docker save` (moby, "Image Specification v1.2").
    fn saved(&self) -> Result<(Config, Vec<String>), Refusal> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Saved {
            config: String,
            layers: Vec<String>,
        }
        let text = self.document("manifest.json")?;
        let mut all: Vec<Saved> = serde_json::from_slice(&text)
            .map_err(|error| invalid(format!("the manifest.json of {NAME} cannot be read: {error}")))?;
        let (Some(saved), true) = (all.pop(), all.is_empty()) else {
            return Err(
                invalid("the archive does not hold exactly one image").hint("`docker save` one image alone")
            );
        };
        Ok((manifest::config(&self.document(&saved.config)?, NAME)?, saved.layers))
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A name without `./` before it.
fn clean(name: &[u8]) -> Vec<u8> {
    name.strip_prefix(b"./").unwrap_or(name).to_vec()
}

/// What a relative link leads to. It is a key and no path, so nothing depends on what comes out.
fn resolve(folder: &[u8], link: &[u8]) -> Vec<u8> {
    let joined = [folder, link].concat();
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in joined.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// A part of a file, read without moving the file's own position.
struct Slice {
    file: File,
    at: u64,
    end: u64,
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends too early"));
        }
        self.at += read as u64;
        Ok(read)
    }
}

/// The digest of a file that may be larger than memory.
///
/// # Errors
/// It cannot be read.
pub fn digest(path: &Path) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(Digest::from_hasher(hash))
}

/// Packs an OCI image layout's folder as an archive that depends on nothing but its files.
///
/// # Errors
/// It is no layout, or a file cannot be read or written.
pub fn pack(layout: &Path, to: impl Write) -> io::Result<()> {
    let mut writer = Writer::new(to);
    let mut add = |name: &str| {
        let mut file = File::open(layout.join(name)).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", layout.join(name).display()))
        })?;
        let size = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        writer.add(b'0', name, "", 0o644, size, file)
    };
    add("oci-layout")?;
    add("index.json")?;
    let blobs = fs::read_dir(layout.join("blobs/sha256"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut blobs = blobs.collect::<io::Result<Vec<String>>>()?;
    blobs.sort();
    blobs.iter().try_for_each(|name| add(&format!("blobs/sha256/{name}")))?;
    writer.finish().map(drop)
}
