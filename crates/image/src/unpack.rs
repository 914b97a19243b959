//! Unpacks a layer that a stranger made into a new folder (OCI image specification 1.1, "Image Layer Filesystem
//! Changeset").
//!
//! ```text
//!  tar ─▶ name: parts, no `..` ─▶ the folder it lies in, opened within the root ─▶ made there, by its last part alone
//! ```
//!
//! The kernel keeps every step within the folder: a parent is opened with `RESOLVE_IN_ROOT`, so whatever links the
//! layer made before, none leads out; and the last part is never followed. What hides files of lower layers becomes
//! what overlayfs knows: a character device 0:0, which needs no privilege to make. There are no extended attributes:
//! a folder that hides all that lay in it before is noted in [`Unpacked::opaque`], and [`super::layers`] does the rest.
//!
//! Files keep what lets the owner read, write and run them, for the sandbox' user will own them; they lose setuid and
//! the like, owners, devices and extended attributes.
//!
//! Invariant: nothing is written outside of the folder, nor more than the bounds allow. On an error the folder holds
//! some part; the caller deletes it.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rouse_types::{Code, Refusal, limits};
use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, chmodat, futimens, linkat,
        makedev, mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat,
    },
    io::Errno,
};

use crate::{
    invalid, shown,
    tar::{self, Entry, Kind},
};

/// A path's bytes: what Linux takes.
const PATH_BYTES_MAX: usize = 4_095;
/// Folders in folders: npm's deepest trees have some thirty.
const DEPTH_MAX: usize = 128;

/// What an image may come to; shared by its layers.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Entries that are left.
    pub entries: usize,
    /// Bytes of files that are left.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { entries: limits::IMAGE_FILES_MAX, bytes: limits::IMAGE_UNPACKED_BYTES_MAX }
    }
}

/// What came out of a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Folders, from the layer's root, that show nothing of what lower layers have there.
    pub opaque: Vec<PathBuf>,
    /// Devices, pipes and the like that were left out.
    pub skipped: usize,
}

/// Unpacks into `dir`, which must exist and be empty, and takes what it used off the bounds. Reads the archive, not
/// what may follow it.
///
/// # Errors
/// [`Code::ImageInvalid`] or [`Code::CodeTooLarge`], naming the entry; [`Code::StorageFull`].
pub fn unpack(from: impl Read, dir: &Path, bounds: &mut Bounds) -> Result<Unpacked, Refusal> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, dir, flags, Mode::empty()).map_err(|error| failed(error, b"/"))?;
    let mut layer = Layer { root, bounds, unpacked: Unpacked::default(), parent: None };
    let mut archive = tar::Reader::new(from);
    while let Some(entry) = archive.next_entry().map_err(|error| broken(&error))? {
        layer.entry(&entry, &mut archive)?;
    }
    Ok(layer.unpacked)
}

struct Layer<'a> {
    root: OwnedFd,
    bounds: &'a mut Bounds,
    unpacked: Unpacked,
    /// The folder of the entry before: most entries lie where the one before did.
    parent: Option<(PathBuf, OwnedFd)>,
}

impl Layer<'_> {
    fn entry(&mut self, entry: &Entry, content: &mut impl Read) -> Result<(), Refusal> {
        self.count()?;
        let path = path_of(&entry.path)?;
        let Some(name) = path.file_name() else {
            // The root itself, which the spec allows.
            return Ok(());
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return self.whiteout(parent, hidden, &entry.path);
        }
        if entry.kind == Kind::Special {
            self.unpacked.skipped += 1;
            return Ok(());
        }
        self.open_parent(parent, &entry.path)?;
        let at = |error: Errno| failed(error, &entry.path);
        let Some((_, folder)) = &self.parent else { return Err(at(Errno::NOENT)) };
        let there = clear(folder, name, entry.kind).map_err(|problem| problem.refusal(&entry.path))?;
        match entry.kind {
            Kind::Folder => {
                if there != There::Folder {
                    mkdirat(folder, name, Mode::RWXU).map_err(at)?;
                }
                if there == There::Whiteout {
                    self.unpacked.opaque.push(path.clone());
                }
                let mode = Mode::from_raw_mode(entry.mode & 0o777 | 0o700);
                chmodat(folder, name, mode, AtFlags::empty()).map_err(at)?;
            }
            Kind::File => self.file(name, entry, content)?,
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.len() > PATH_BYTES_MAX || entry.link.contains(&0) {
                    return Err(wrong(&entry.path, "is a link to nowhere"));
                }
                symlinkat(OsStr::from_bytes(&entry.link), folder, name).map_err(at)?;
            }
            Kind::Hardlink => self.hardlink(name, entry)?,
            Kind::Special => {}
        }
        // It may have been on the way to where we stand.
        if there == There::Other || there == There::Whiteout {
            self.parent = None;
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Refusal> {
        self.bounds.entries = self.bounds.entries.checked_sub(1).ok_or_else(|| {
            too_large(format!("the image has more than {} files and folders", limits::IMAGE_FILES_MAX))
        })?;
        Ok(())
    }

    /// Opens the folder of an entry, and makes what is missing on the way: a layer need not name its folders.
    fn open_parent(&mut self, parent: &Path, name: &[u8]) -> Result<(), Refusal> {
        if self.parent.as_ref().is_some_and(|(known, _)| known == parent) {
            return Ok(());
        }
        let mut made = PathBuf::new();
        let opened = match self.open(parent) {
            Err(Errno::NOENT) => {
                for part in parent.components() {
                    let folder = self.open(&made).map_err(|error| failed(error, name))?;
                    made.push(part);
                    match mkdirat(&folder, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                        Ok(()) => self.count()?,
                        Err(Errno::EXIST) => {}
                        Err(error) => return Err(failed(error, name)),
                    }
                    // A file of ours that lay there hid the lower layers' folder, and this one does so too.
                }
                self.open(parent)
            }
            other => other,
        };
        let opened = opened.map_err(|error| match error {
            Errno::NOTDIR | Errno::LOOP | Errno::NOENT => wrong(name, "lies in what is no folder"),
            other => failed(other, name),
        })?;
        self.parent = Some((parent.to_owned(), opened));
        Ok(())
    }

    /// Opens a folder as the image itself would see it: links are followed, none out of the root.
    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    fn file(&mut self, name: &OsStr, entry: &Entry, content: &mut impl Read) -> Result<(), Refusal> {
        self.bounds.bytes = self.bounds.bytes.checked_sub(entry.size).ok_or_else(|| {
            let most = limits::IMAGE_UNPACKED_BYTES_MAX >> 30;
            too_large(format!("the image unpacks to more than {most} GiB (at '{}')", shown(&entry.path)))
        })?;
        let at = |error: Errno| failed(error, &entry.path);
        let Some((_, folder)) = &self.parent else { return Err(at(Errno::NOENT)) };
        let runs = if entry.mode & 0o111 == 0 { 0 } else { 0o100 };
        let mode = Mode::from_raw_mode(entry.mode & 0o777 | 0o600 | runs);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(folder, name, flags, Mode::RUSR | Mode::WUSR).map_err(at)?);
        let mut buffer = [0; 64 << 10];
        loop {
            let read = content.read(&mut buffer).map_err(|error| broken(&tar::Error::Io(error)))?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read]).map_err(|error| unwritable(&error, &entry.path))?;
        }
        rustix::fs::fchmod(&file, mode).map_err(at)?;
        // Interpreters compare it with what they compiled.
        let time = Timespec { tv_sec: entry.mtime, tv_nsec: 0 };
        futimens(&file, &Timestamps { last_access: time, last_modification: time }).map_err(at)
    }

    fn hardlink(&mut self, name: &OsStr, entry: &Entry) -> Result<(), Refusal> {
        let missing = || wrong(&entry.path, "is another name of a file that the layer does not have");
        let target = path_of(&entry.link)?;
        let last = target.file_name().ok_or_else(missing)?;
        let from = self.open(target.parent().unwrap_or(Path::new(""))).map_err(|_| missing())?;
        let Some((_, folder)) = &self.parent else { return Err(missing()) };
        match linkat(&from, last, folder, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT | Errno::PERM | Errno::NOTDIR) => Err(missing()),
            Err(error) => Err(failed(error, &entry.path)),
        }
    }

    /// Hides a file or folder of the lower layers, or all of a folder.
    fn whiteout(&mut self, parent: &Path, hidden: &[u8], path: &[u8]) -> Result<(), Refusal> {
        if hidden == b".wh..opq" {
            self.unpacked.opaque.push(parent.to_owned());
            return Ok(());
        }
        if hidden.starts_with(b".wh.") {
            // What aufs kept for itself; tools of its time packed it.
            return Ok(());
        }
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(wrong(path, "hides nothing that could be there"));
        }
        self.open_parent(parent, path)?;
        let Some((_, folder)) = &self.parent else { return Err(failed(Errno::NOENT, path)) };
        let name = OsStr::from_bytes(hidden);
        match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            // It hides what is below; the layer's own stays, but alone.
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                self.unpacked.opaque.push(parent.join(name));
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => whiteout(folder, name).map_err(|error| failed(error, path)),
            Err(error) => Err(failed(error, path)),
        }
    }
}

/// Makes what overlayfs takes as "nothing is here, whatever lies below".
pub(crate) fn whiteout(folder: impl AsFd, name: &OsStr) -> Result<(), Errno> {
    mknodat(folder, name, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, makedev(0, 0))
}

/// What was at an entry's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    /// It stays, and is given the new one's permissions.
    Folder,
    /// A whiteout of this layer, taken away.
    Whiteout,
    /// A file or a link of this layer, taken away: the later entry counts.
    Other,
}

enum Problem {
    FolderInTheWay,
    Host(Errno),
}

impl Problem {
    fn refusal(&self, path: &[u8]) -> Refusal {
        match self {
            Self::FolderInTheWay => wrong(path, "is a folder and also a file"),
            Self::Host(error) => failed(*error, path),
        }
    }
}

fn clear(folder: &OwnedFd, name: &OsStr, kind: Kind) -> Result<There, Problem> {
    let found = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(There::Nothing),
        found => found.map_err(Problem::Host)?,
    };
    let there = match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory if kind == Kind::Folder => return Ok(There::Folder),
        FileType::Directory => return Err(Problem::FolderInTheWay),
        FileType::CharacterDevice => There::Whiteout,
        _ => There::Other,
    };
    unlinkat(folder, name, AtFlags::empty()).map_err(Problem::Host)?;
    Ok(there)
}

/// A path below the root. One that begins with `/` is meant so, too.
fn path_of(raw: &[u8]) -> Result<PathBuf, Refusal> {
    if raw.len() > PATH_BYTES_MAX || raw.contains(&0) {
        return Err(wrong(raw, "has a name that is none"));
    }
    let mut path = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(raw)).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(wrong(raw, "leads out of the image by '..'"));
            }
        }
    }
    if path.components().count() > DEPTH_MAX {
        return Err(wrong(raw, "lies too deep"));
    }
    Ok(path)
}

fn wrong(path: &[u8], what: &str) -> Refusal {
    invalid(format!("a layer's entry '{}' {what}", shown(path)))
}

fn too_large(what: String) -> Refusal {
    Refusal::new(Code::CodeTooLarge, what)
        .hint("begin from a smaller base, such as a `-slim` one, or in several stages")
}

/// What is said of a layer that cannot be read on.
pub(crate) fn broken(error: &tar::Error) -> Refusal {
    // A refusal of ours that came through the reader says more.
    if let tar::Error::Io(error) = error
        && let Some(refusal) = error.get_ref().and_then(|inner| inner.downcast_ref::<Refusal>())
    {
        return refusal.clone();
    }
    invalid(format!("a layer cannot be unpacked: {error}")).hint("push the image again")
}

fn failed(error: Errno, path: &[u8]) -> Refusal {
    match error {
        Errno::NAMETOOLONG => wrong(path, "has a name that is too long"),
        Errno::EXIST => wrong(path, "is there twice"),
        other => unwritable(&other.into(), path),
    }
}

fn unwritable(error: &io::Error, path: &[u8]) -> Refusal {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return crate::io("unpack a layer")(io::Error::from(error.kind()));
    }
    Refusal::new(
        Code::Internal,
        format!("the platform cannot write a layer's entry '{}': {error}", shown(path)),
    )
}

#[cfg(test)]
mod tests;
