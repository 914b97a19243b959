//! Reads a backup, checks it to its end, and makes a folder of it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, BufRead as _, BufReader, Read, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown, symlink},
    path::{Component, Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::{
    COPY_BYTES, End, Entry, Error, FORMAT, Head, Kind, LINE_BYTES_MAX, Proof, Summary, decode, release,
};

/// Where a backup goes.
pub struct Target<'a> {
    /// The folder, which is there and holds nothing that is in the way.
    pub folder: &'a Path,
    /// Whose each path is to be, by user and group; none: whoever runs this.
    pub owner: &'a dyn Fn(&Path) -> Option<(u32, u32)>,
}

impl std::fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Reads a backup to its end. Without a target it is checked alone. What was written to a target before an error is
/// worth nothing: the caller removes it, and uses the folder only when this succeeds.
///
/// # Errors
/// [`Error::Damaged`] with the place, [`Error::Foreign`], [`Error::Later`]; what reading and writing says.
pub fn unpack(input: impl Read, own_release: &str, target: Option<&Target<'_>>) -> Result<Summary, Error> {
    let mut input = Input { inner: BufReader::with_capacity(COPY_BYTES, input), hash: Sha256::new(), at: 0 };
    let head = head(&mut input, own_release)?;
    let mut summary = Summary::new(head);
    loop {
        let at = input.at;
        let line = input.line("between two entries")?;
        if let Ok(End { end }) = serde_json::from_slice(&line) {
            input.check("its end")?;
            if end != summary.total {
                return Err(damaged(at, "it holds other entries than it says at its end"));
            }
            summary.length = input.at;
            if !input.ended()? {
                return Err(damaged(input.at, "something follows its end"));
            }
            return Ok(summary);
        }
        let entry: Entry =
            serde_json::from_slice(&line).map_err(|_| damaged(at, "an entry's head cannot be read"))?;
        let path = path(&entry.path).ok_or_else(|| damaged(at, "an entry has no path below the folder"))?;
        put(&mut input, &entry, &path, target)?;
        input.check(&path.display().to_string())?;
        summary.add(&path, entry.bytes);
    }
}

fn head<R: Read>(input: &mut Input<R>, own: &str) -> Result<Head, Error> {
    let line = input.line("its first line").map_err(|error| match error {
        Error::Damaged { .. } => Error::Foreign,
        other => other,
    })?;
    // What a later release says of itself may have more fields.
    let value: serde_json::Value = serde_json::from_slice(&line).map_err(|_| Error::Foreign)?;
    let format = value["rouse_backup"].as_u64().ok_or(Error::Foreign)?;
    let found = value["release"].as_str().unwrap_or("a later release").to_owned();
    if format > u64::from(FORMAT) || release(&found) > release(own) {
        return Err(Error::Later { found, own: own.to_owned() });
    }
    serde_json::from_value(value).map_err(|_| damaged(0, "what it says of itself cannot be read"))
}

/// A path below a folder, and nothing else.
fn path(text: &str) -> Option<PathBuf> {
    let path = decode(text)?;
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && path.components().next().is_some()).then_some(path)
}

fn put<R: Read>(
    input: &mut Input<R>,
    entry: &Entry,
    path: &Path,
    target: Option<&Target<'_>>,
) -> Result<(), Error> {
    let what = path.display().to_string();
    let Some(Target { folder, owner }) = target else {
        return match entry.kind {
            Kind::File => input.copy(entry.bytes, &mut io::sink(), &what),
            _ => Ok(()),
        };
    };
    let place = folder.join(path);
    parents(folder, path, *owner)?;
    let own = |place: &Path| match owner(path) {
        Some((user, group)) => lchown(place, Some(user), Some(group)).map_err(Error::io("give away", place)),
        None => Ok(()),
    };
    // After the owner: giving a file away clears some of its bits.
    let allow = |place: &Path| {
        fs::set_permissions(place, Permissions::from_mode(entry.mode & 0o7777))
            .map_err(Error::io("set the mode of", place))
    };
    match entry.kind {
        Kind::File => {
            let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place);
            let mut file: File = opened.map_err(Error::io("make", &place))?;
            input.copy(entry.bytes, &mut file, &what)?;
            own(&place)?;
            allow(&place)
        }
        Kind::Folder => {
            // One that a file below it asked for is there already.
            match DirBuilder::new().mode(0o700).create(&place) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && place.is_dir() => {}
                other => other.map_err(Error::io("make the folder", &place))?,
            }
            own(&place)?;
            allow(&place)
        }
        Kind::Link => {
            let target = entry.target.as_deref().and_then(decode);
            let target = target.ok_or_else(|| damaged(input.at, &format!("{what} is a link to nothing")))?;
            symlink(target, &place).map_err(Error::io("make the link", &place))?;
            own(&place)
        }
        Kind::Whiteout => {
            let made = mknodat(CWD, &place, FileType::CharacterDevice, Mode::empty(), makedev(0, 0));
            made.map_err(|errno| Error::io("make", &place)(errno.into()))?;
            own(&place)
        }
    }
}

/// Makes the folders above an entry. None of them may be a link: a backup leads nowhere else.
fn parents(folder: &Path, path: &Path, owner: &dyn Fn(&Path) -> Option<(u32, u32)>) -> Result<(), Error> {
    let mut place = folder.to_owned();
    let mut name = PathBuf::new();
    for part in path.parent().into_iter().flat_map(Path::components) {
        place.push(part);
        name.push(part);
        match fs::symlink_metadata(&place) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(Error::Invalid(format!("{} is in the way of a folder", place.display()))),
            Err(_) => {
                DirBuilder::new().mode(0o750).create(&place).map_err(Error::io("make the folder", &place))?;
                if let Some((user, group)) = owner(&name) {
                    lchown(&place, Some(user), Some(group)).map_err(Error::io("give away", &place))?;
                }
            }
        }
    }
    Ok(())
}

fn damaged(at: u64, what: &str) -> Error {
    Error::Damaged { at, what: what.to_owned() }
}

/// A stream that is hashed as it is read.
struct Input<R> {
    inner: BufReader<R>,
    hash: Sha256,
    at: u64,
}

impl<R: Read> Input<R> {
    fn line(&mut self, place: &str) -> Result<Vec<u8>, Error> {
        let mut line = Vec::new();
        let read = (&mut self.inner).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line);
        read.map_err(taken)?;
        if line.last() != Some(&b'\n') {
            let what = match line.len() {
                LINE_BYTES_MAX => format!("{place} is no line of a backup"),
                _ => format!("it stops at {place}: it was not written to its end, or cut off"),
            };
            return Err(damaged(self.at + line.len() as u64, &what));
        }
        self.hash.update(&line);
        self.at += line.len() as u64;
        Ok(line)
    }

    fn json<T: DeserializeOwned>(&mut self, place: &str) -> Result<T, Error> {
        let at = self.at;
        let line = self.line(place)?;
        serde_json::from_slice(&line).map_err(|_| damaged(at, &format!("{place} has no digest behind it")))
    }

    /// Checks that all is as it was written, up to here.
    fn check(&mut self, place: &str) -> Result<(), Error> {
        let (at, found) = (self.at, hex::encode(self.hash.clone().finalize()));
        let Proof { sha256 } = self.json(place)?;
        if sha256 == found {
            return Ok(());
        }
        Err(damaged(at, &format!("{place} is not what was written: its digest is {found}, not {sha256}")))
    }

    fn copy(&mut self, bytes: u64, out: &mut dyn Write, place: &str) -> Result<(), Error> {
        let mut left = bytes;
        while left > 0 {
            let here = match self.inner.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(taken)?,
            };
            if here.is_empty() {
                let what = format!(
                    "it stops {left} bytes before the end of {place}: it was not written to its end, or cut off"
                );
                return Err(damaged(self.at, &what));
            }
            let some = here.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            out.write_all(&here[..some]).map_err(|source| Error::Io {
                action: "write",
                path: PathBuf::from(place),
                source,
            })?;
            self.hash.update(&here[..some]);
            self.inner.consume(some);
            self.at += some as u64;
            left -= some as u64;
        }
        Ok(())
    }

    fn ended(&mut self) -> Result<bool, Error> {
        Ok(self.inner.fill_buf().map_err(taken)?.is_empty())
    }
}

fn taken(source: io::Error) -> Error {
    Error::Io { action: "read", path: PathBuf::from("the backup"), source }
}
