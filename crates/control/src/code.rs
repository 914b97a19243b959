//! From an uploaded blob to what processes run: archives are unpacked, components compiled ahead of time.
//!
//! Everything is made under another name and renamed when it is whole and on the disk, so what has its
//! right name is right, and is not made again.

mod compile;

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use rouse_store::Blobs;
use rouse_types::{Code, Digest, Refusal, Runtime};

pub(crate) use compile::Compiler;

use crate::{archive, state};

/// What is being made begins with this. What a killed process left of it is removed at the next start.
const PARTIAL: &str = ".new-";

/// Folders below `/opt` that are the platform's own.
const LAYERS_OWN: [&str; 2] = ["rouse/runtime", "rouse/zygote"];

/// What the first bytes of code say that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Zip,
    Component,
    CoreModule,
    Unknown,
}

/// By the magic bytes: of zip (APPNOTE 4.3.7, 4.3.16 for an empty one), and of WebAssembly's two layers.
fn sniff(head: &[u8]) -> Kind {
    match head {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Kind::Zip,
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Kind::Component,
        [0, b'a', b's', b'm', ..] => Kind::CoreModule,
        _ => Kind::Unknown,
    }
}

/// Checks that the code is of the kind that its runtime takes.
fn check(head: &[u8], runtime: &Runtime) -> Result<(), Refusal> {
    let invalid = |what: &str| Refusal::new(Code::CodeInvalid, what);
    match (runtime, sniff(head)) {
        (Runtime::Component, Kind::Component) => Ok(()),
        (Runtime::Component, Kind::CoreModule) => {
            Err(invalid("the code is a core WebAssembly module, not a component")
                .hint("make a component of it: `wasm-tools component new module.wasm -o component.wasm`"))
        }
        (Runtime::Component, Kind::Zip) => {
            Err(invalid("the code is a zip archive, but the runtime 'component' takes a .wasm component")
                .hint("name the .wasm file itself as the source, or set another runtime"))
        }
        (Runtime::Component, Kind::Unknown) => Err(invalid("the code is not a WebAssembly component")
            .hint("name the .wasm file that the build makes as the source")),
        (_, Kind::Zip) => Ok(()),
        (_, Kind::Component | Kind::CoreModule) => {
            Err(invalid(&format!("the code is WebAssembly, but the runtime '{runtime}' takes a zip archive"))
                .hint("set runtime = \"component\""))
        }
        (_, Kind::Unknown) => {
            Err(invalid("the code is not a zip archive")
                .hint("`rouse deploy` packs a source folder by itself"))
        }
    }
}

/// The folders of code.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    code: PathBuf,
    compiled: PathBuf,
    engine_tag: String,
}

impl Store {
    /// Makes the folders, and removes what a killed process left half-made.
    pub(crate) fn open(state: &Path, engine_tag: &str) -> io::Result<Self> {
        let store = Self {
            code: state.join("code"),
            compiled: state.join("compiled"),
            engine_tag: engine_tag.to_owned(),
        };
        for dir in [&store.code, &store.compiled] {
            fs::create_dir_all(dir)?;
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                    remove(&entry.path())?;
                }
            }
        }
        Ok(store)
    }

    /// Where the code of a version lies.
    pub(crate) fn place(&self, digest: &Digest) -> PathBuf {
        self.code.join(digest.hex())
    }

    /// Where a component's compiled form lies.
    pub(crate) fn compiled(&self, digest: &Digest) -> PathBuf {
        self.compiled.join(format!("{}-{}.cwasm", digest.hex(), self.engine_tag))
    }

    /// A name for a compiled form that is being made.
    pub(crate) fn compiling(&self, digest: &Digest) -> PathBuf {
        self.compiled.join(format!("{PARTIAL}{}.cwasm", digest.hex()))
    }

    /// Puts code in its place; tells whether it was there already. Blocks.
    pub(crate) fn install(&self, blobs: &Blobs, digest: &Digest, runtime: &Runtime) -> Result<bool, Refusal> {
        let blob = blobs.path(digest).ok_or_else(|| missing(digest))?;
        let failed = |error: io::Error| state::io_refusal("put code in its place", &error);
        let mut file = File::open(&blob).map_err(failed)?;
        let mut head = Vec::with_capacity(8);
        file.by_ref().take(8).read_to_end(&mut head).map_err(failed)?;
        check(&head, runtime)?;
        let place = self.place(digest);
        let is_component = *runtime == Runtime::Component;
        let is_there = if is_component { place.is_file() } else { place.is_dir() };
        if is_there {
            return Ok(true);
        }
        if is_component {
            self.install_component(&blob, &place).map_err(failed)?;
        } else {
            self.install_archive(file, &place)?;
        }
        File::open(&self.code).and_then(|dir| dir.sync_all()).map_err(failed)?;
        Ok(false)
    }

    /// Puts layers in their place. What the platform itself has below `/opt` is mounted over them: its mount points must be
    /// there, since a sandbox sees layers read-only. Blocks.
    pub(crate) fn install_layers(&self, blobs: &Blobs, digest: &Digest) -> Result<(), Refusal> {
        self.install(blobs, digest, &Runtime::Provided)?;
        for folder in LAYERS_OWN {
            fs::create_dir_all(self.place(digest).join(folder)).map_err(|error| {
                Refusal::new(
                    Code::CodeInvalid,
                    format!("the layers have something at /opt/{folder}, which is the platform's: {error}"),
                )
                .hint("give it another place in the layer")
            })?;
        }
        Ok(())
    }

    fn install_component(&self, blob: &Path, place: &Path) -> io::Result<()> {
        // The blob's own file under a second name, where the file system can do that.
        if fs::hard_link(blob, place).is_ok() {
            return Ok(());
        }
        let mut partial = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(&self.code)?;
        io::copy(&mut File::open(blob)?, &mut partial)?;
        partial.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o444))?;
        partial.as_file().sync_all()?;
        partial.persist(place).map_err(|error| error.error)?;
        Ok(())
    }

    fn install_archive(&self, file: File, place: &Path) -> Result<(), Refusal> {
        let failed = |error: io::Error| state::io_refusal("unpack code", &error);
        let partial = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(&self.code).map_err(failed)?;
        archive::unpack(io::BufReader::new(file), partial.path(), archive::Bounds::default())?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(partial.path(), open).map_err(failed)?;
        // One call for all files: thousands of flushes, one by one, would take minutes.
        let dir = File::open(partial.path()).map_err(failed)?;
        rustix::fs::syncfs(&dir).map_err(|errno| failed(errno.into()))?;
        fs::rename(partial.path(), place).map_err(failed)?;
        // It has its name: there is nothing left to remove.
        let _renamed = partial.keep();
        Ok(())
    }

    /// Deletes what lies there of digests that are not wanted. Blocks.
    pub(crate) fn sweep(&self, unwanted: impl Fn(&Digest) -> bool) -> io::Result<()> {
        for dir in [&self.code, &self.compiled] {
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                let name = entry.file_name();
                let hex = name.to_str().and_then(|name| name.get(..64));
                let digest = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
                if digest.is_some_and(|digest| unwanted(&digest)) {
                    remove(&entry.path())?;
                }
            }
        }
        Ok(())
    }
}

/// What is said of code that is not there.
pub(crate) fn missing(digest: &Digest) -> Refusal {
    Refusal::new(Code::CodeMissing, format!("the code {digest} was not uploaded"))
        .hint("upload it first: PUT /v1/blobs/<digest>")
}

/// Deletes a file or a folder with all in it. Folders are writable by us, whatever their archive said.
fn remove(path: &Path) -> io::Result<()> {
    let result = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_the_wrong_kind_is_refused_with_the_way_out() {
        let core = check(b"\0asm\x01\0\0\0", &Runtime::Component).expect_err("a core module");
        assert!(core.hint.expect("a hint").contains("wasm-tools component new"));
        check(b"\0asm\x0d\0\x01\0", &Runtime::Component).expect("a component");
        check(b"PK\x03\x04....", &Runtime::Provided).expect("an archive");
        for (head, runtime) in [
            (&b"PK\x03\x04"[..], Runtime::Component),
            (b"\0asm\x0d\0\x01\0", Runtime::Provided),
            (b"", Runtime::Provided),
            (b"#!/bin/sh", Runtime::Component),
        ] {
            assert_eq!(check(head, &runtime).expect_err("wrong").code, Code::CodeInvalid);
        }
    }
}
