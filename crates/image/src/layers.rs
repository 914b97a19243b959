//! The layers of this machine: `<state>/layers/<hex of the chain id>`, each unpacked once and immutable.
//!
//! A layer is made under another name and renamed when it is whole, is what its digest says, and is on the disk: what
//! has its right name is right. Layers stand below each other as overlayfs takes them; why not one folder for an image,
//! and why by chain id: docs/decisions/006-images.md.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rouse_types::{Digest, Image, Refusal};
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use crate::{
    invalid, io as said,
    unpack::{self, Bounds},
    zstd::Zstd,
};

/// What is being made begins with this. What a killed process left of it is removed at the next start.
const PARTIAL: &str = ".new-";

/// The folder of layers. One process writes it.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// The chain ids of layers whose uncompressed digests these are, the lowest first: OCI image specification, "Layer
/// ChainID".
#[must_use]
pub fn chain(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff in diff_ids {
        let id = chain.last().map_or(*diff, |below| Digest::of(format!("{below} {diff}").as_bytes()));
        chain.push(id);
    }
    chain
}

impl Store {
    /// The folder of layers below the state folder; makes it, and removes what a killed process left half-made.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(state: &Path) -> io::Result<Self> {
        let dir = state.join("layers");
        fs::create_dir_all(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self { dir })
    }

    /// Where a layer lies.
    #[must_use]
    pub fn path(&self, layer: &Digest) -> PathBuf {
        self.dir.join(layer.hex())
    }

    /// Whether a layer is there.
    #[must_use]
    pub fn has(&self, layer: &Digest) -> bool {
        self.path(layer).is_dir()
    }

    /// A folder for what is being made; it goes when dropped.
    pub(crate) fn partial(&self) -> Result<tempfile::TempDir, Refusal> {
        tempfile::Builder::new()
            .prefix(PARTIAL)
            .tempdir_in(&self.dir)
            .map_err(said("make a folder for a layer"))
    }

    /// Puts a layer in its place, which lies over those whose uncompressed digests are `below`. Blocks.
    ///
    /// # Errors
    /// [`rouse_types::Code::ImageInvalid`], [`rouse_types::Code::CodeTooLarge`],
    /// [`rouse_types::Code::StorageFull`].
    pub fn install(
        &self,
        below: &[Digest],
        diff: Digest,
        from: impl Read,
        bounds: &mut Bounds,
    ) -> Result<(), Refusal> {
        let mut ids = below.to_vec();
        ids.push(diff);
        let mut chain = chain(&ids);
        let Some(place) = chain.pop().map(|id| self.path(&id)) else { return Ok(()) };
        if place.is_dir() {
            return Ok(());
        }
        let partial = self.partial()?;
        let mut stream = Hashed { from: uncompressed(from)?, hash: Sha256::new() };
        let unpacked = unpack::unpack(&mut stream, partial.path(), bounds)?;
        // What stands behind the archive's end counts for the digest, too; it has a bound as files have.
        let rest = io::copy(&mut stream.by_ref().take(bounds.bytes), &mut io::sink());
        rest.map_err(|error| unpack::broken(&crate::tar::Error::Io(error)))?;
        let found = Digest::from_hasher(stream.hash);
        if found != diff {
            return Err(invalid(format!(
                "a layer is {found} once uncompressed, not {diff} as its image says"
            ))
            .hint("push the image again"));
        }
        if unpacked.skipped > 0 {
            tracing::info!(layer = %diff, devices = unpacked.skipped, "a layer's devices were left out");
        }
        let lower: Vec<PathBuf> = chain.iter().rev().map(|id| self.path(id)).collect();
        for folder in &unpacked.opaque {
            hide(partial.path(), folder, &lower)
                .map_err(|errno| said("hide files of lower layers")(errno.into()))?;
        }
        let failed = said("put a layer in its place");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(partial.path(), open).map_err(&failed)?;
        // One call for all files: thousands of flushes, one by one, would take minutes.
        let dir = File::open(partial.path()).map_err(&failed)?;
        rustix::fs::syncfs(&dir).map_err(|errno| failed(errno.into()))?;
        match fs::rename(partial.path(), &place) {
            Ok(()) => {
                // It has its name: there is nothing left to remove.
                let _renamed = partial.keep();
            }
            // Another deployment made the same at the same time.
            Err(_) if place.is_dir() => {}
            Err(error) => return Err(failed(error)),
        }
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    /// All layers that are there.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn list(&self) -> io::Result<BTreeSet<Digest>> {
        let names =
            fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let names: io::Result<Vec<String>> = names.collect();
        Ok(names?.iter().filter_map(|name| format!("sha256:{name}").parse().ok()).collect())
    }

    /// Deletes a layer. What runs from it keeps its files until it ends. Blocks.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn delete(&self, layer: &Digest) -> io::Result<()> {
        // Renamed first: half a layer must not have its name.
        let gone = self.dir.join(format!("{PARTIAL}gone-{}", layer.hex()));
        match fs::rename(self.path(layer), &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        fs::remove_dir_all(gone)
    }
}

/// Writes down an image in the folder of its code, which is made whole or not at all.
///
/// # Errors
/// What the operating system says.
pub fn record(place: &Path, image: &Image) -> io::Result<()> {
    if read(place).is_ok_and(|found| found == *image) {
        return Ok(());
    }
    fs::create_dir_all(place)?;
    fs::set_permissions(place, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let mut file = tempfile::NamedTempFile::new_in(place)?;
    serde_json::to_writer(&mut file, image)?;
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o444))?;
    file.as_file().sync_all()?;
    file.persist(place.join(Image::FILE)).map_err(|error| error.error)?;
    File::open(place)?.sync_all()
}

/// Reads what [`record`] wrote.
///
/// # Errors
/// What the operating system says, or the file is none of ours.
pub fn read(place: &Path) -> io::Result<Image> {
    Ok(serde_json::from_slice(&fs::read(place.join(Image::FILE))?)?)
}

/// A layer's bytes as they are archived: by the first of them, gzip (RFC 1952), zstd (RFC 8878), or as they are.
fn uncompressed<'a>(from: impl Read + 'a) -> Result<Box<dyn Read + 'a>, Refusal> {
    let mut from = io::BufReader::with_capacity(256 << 10, from);
    let head = io::BufRead::fill_buf(&mut from).map_err(said("read a layer"))?;
    match head {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(from))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Box::new(Zstd::new(from))),
        _ => Ok(Box::new(from)),
    }
}

/// Hides in `folder` of a layer all that lower layers, the upper ones first, have there.
fn hide(layer: &Path, folder: &Path, lower: &[PathBuf]) -> Result<(), Errno> {
    let own = open(layer, folder)?;
    let mut done: HashSet<Vec<u8>> = HashSet::new();
    for below in lower {
        let there = match open(below, folder) {
            Ok(there) => there,
            Err(Errno::NOENT) => continue,
            // A file or a whiteout on the way: whatever is below is hidden already.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in Dir::read_from(&there)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || !done.insert(name.to_vec()) {
                continue;
            }
            let name: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name);
            match statat(&own, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => unpack::whiteout(&own, name)?,
                Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                    // The layer has a folder of that name; what lower ones have in theirs must not show either.
                    hide(layer, &folder.join(name), lower)?;
                }
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Opens a folder of a layer, without a link on the way.
fn open(layer: &Path, folder: &Path) -> Result<OwnedFd, Errno> {
    let root = openat(CWD, layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(root, folder, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

struct Hashed<R> {
    from: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}
