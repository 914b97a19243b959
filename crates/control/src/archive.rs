//! Unpacks a zip archive that a stranger made (APPNOTE.TXT 6.3.10) into a new folder.
//!
//! Nothing that the archive says is believed: bytes are counted as they come out, names are taken apart
//! before they become paths, and whatever is not a plain file or folder is refused. Links are refused, all
//! of them: whether a link stays inside depends on the links that its target passes through.
//!
//! ```text
//!   tail: one end record, within bounds ─▶ names, kinds, overlaps ─▶ files, counted ─▶ the caller renames
//! ```
//!
//! Invariant: nothing is written outside of the folder, nor more than the bounds allow. On an error the
//! folder holds some part; the caller deletes it.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rouse_types::{Code, Refusal, limits};
use zip::{ZipArchive, result::ZipError};

/// What an archive may come to.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Entries, files and folders.
    pub entries: usize,
    /// Bytes of all files together, unpacked.
    pub bytes: u64,
    /// Unpacked bytes for each byte of the archive.
    pub ratio: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        // Deflate reaches 1032:1 on zeros; source text 10:1, the most regular data of real apps 100:1.
        Self { entries: limits::CODE_FILES_MAX, bytes: limits::CODE_UNPACKED_BYTES_MAX, ratio: 200 }
    }
}

/// Below so many unpacked bytes the ratio is of no interest.
const RATIO_FREE_BYTES: u64 = 16 << 20;
/// An entry's whole name, in bytes: Linux takes paths of 4,096, and the sandbox adds its own.
const NAME_BYTES_MAX: usize = 1_024;
/// One part of it, in bytes: what Linux takes.
const PART_BYTES_MAX: usize = 255;
/// Folders in folders: bounds the folders that one entry makes.
const DEPTH_MAX: usize = 32;
/// An end record with the longest comment (APPNOTE 4.3.16).
const TAIL_BYTES_MAX: u64 = 22 + 0xffff;

/// What came out of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unpacked {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

fn invalid(what: impl Into<String>) -> Refusal {
    Refusal::new(Code::CodeInvalid, what)
}

fn too_large(what: impl Into<String>) -> Refusal {
    Refusal::new(Code::CodeTooLarge, what).hint("leave out what the function does not need at run time")
}

/// Unpacks into `dir`, which must exist and be empty. Files are readable by all and writable by none, and
/// keep whether they are executable.
///
/// # Errors
/// [`Code::CodeInvalid`] or [`Code::CodeTooLarge`], naming the entry; [`Code::StorageFull`].
pub fn unpack<R: Read + Seek>(mut reader: R, dir: &Path, bounds: Bounds) -> Result<Unpacked, Refusal> {
    let archive_bytes = check_tail(&mut reader, bounds)?;
    let mut archive = ZipArchive::new(reader).map_err(|error| broken(None, &error))?;
    if archive.has_duplicate_names() {
        return Err(invalid("the archive has two entries of the same name"));
    }
    if archive.len() > bounds.entries {
        return Err(too_many(bounds));
    }
    // Entries that share bytes are how a small archive becomes petabytes.
    if archive.has_overlapping_files().map_err(|error| broken(None, &error))? {
        return Err(invalid("the archive has entries that overlap"));
    }
    let mut target = Target {
        dir,
        folders: HashSet::new(),
        entries_left: bounds.entries,
        bytes_max: bounds.bytes.min(archive_bytes.saturating_mul(bounds.ratio).max(RATIO_FREE_BYTES)),
        bounds,
        unpacked: Unpacked::default(),
    };
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| broken(None, &error))?;
        let name = shown(entry.name_raw());
        let (path, folder) = entry_path(entry.name_raw())?;
        if entry.encrypted() {
            return Err(invalid(format!("the archive's entry '{name}' is encrypted")));
        }
        let executable = match kind(entry.unix_mode(), folder) {
            Ok(executable) => executable,
            Err(what) => {
                return Err(invalid(format!("the archive's entry '{name}' is {what}")).hint(
                    "zip follows links unless it is told --symlinks; pack plain files and folders only",
                ));
            }
        };
        if folder {
            target.folder(&path, &name)?;
        } else {
            target.file(&path, &name, executable, &mut entry)?;
        }
    }
    Ok(target.unpacked)
}

/// Looks at the archive's end before anything is allocated by what it says: there is one end record, its
/// directory lies right before it, and it is no larger than it may be. Gives the archive's size.
fn check_tail<R: Read + Seek>(reader: &mut R, bounds: Bounds) -> Result<u64, Refusal> {
    let unreadable =
        |error: io::Error| Refusal::new(Code::Internal, format!("cannot read the archive: {error}"));
    let no_zip = || invalid("the code is not a zip archive, or the end of it is missing");
    let bytes = reader.seek(SeekFrom::End(0)).map_err(unreadable)?;
    reader.seek(SeekFrom::Start(bytes.saturating_sub(TAIL_BYTES_MAX))).map_err(unreadable)?;
    let mut tail = Vec::new();
    reader.by_ref().take(TAIL_BYTES_MAX).read_to_end(&mut tail).map_err(unreadable)?;
    reader.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let mut ends = tail.windows(4).enumerate().filter(|(_, window)| *window == b"PK\x05\x06");
    let (at, _) = ends.next().ok_or_else(no_zip)?;
    if ends.next().is_some() {
        return Err(invalid("the archive has several end records, so what it holds is ambiguous"));
    }
    let record = tail.get(at..at + 22).ok_or_else(no_zip)?;
    let short = |from: usize| u16::from_le_bytes([record[from], record[from + 1]]);
    let long = |from: usize| {
        u32::from_le_bytes([record[from], record[from + 1], record[from + 2], record[from + 3]])
    };
    let (entries_here, entries, directory_bytes, directory_at) = (short(8), short(10), long(12), long(16));
    if entries == u16::MAX || directory_bytes == u32::MAX || directory_at == u32::MAX {
        return Err(too_many(bounds));
    }
    if short(4) != 0 || entries_here != entries {
        return Err(invalid("the archive is one part of several"));
    }
    let end_at = bytes.saturating_sub(tail.len() as u64) + at as u64;
    if u64::from(directory_at) + u64::from(directory_bytes) != end_at
        || at + 22 + usize::from(short(20)) != tail.len()
    {
        return Err(invalid("the archive has bytes before its begin or behind its end"));
    }
    if usize::from(entries) > bounds.entries {
        return Err(too_many(bounds));
    }
    Ok(bytes)
}

/// The relative path of an entry, and whether it is a folder.
fn entry_path(raw: &[u8]) -> Result<(PathBuf, bool), Refusal> {
    let refuse = |what: &str| invalid(format!("the archive's entry '{}' {what}", shown(raw)));
    if raw.len() > NAME_BYTES_MAX {
        return Err(refuse(&format!(
            "has a name of {} bytes; at most {NAME_BYTES_MAX} are allowed",
            raw.len()
        )));
    }
    let name = std::str::from_utf8(raw).map_err(|_| refuse("has a name that is not UTF-8"))?;
    if name.chars().any(char::is_control) {
        return Err(refuse("has a name with control characters"));
    }
    if name.contains('\\') {
        return Err(refuse("has a name with a backslash").hint("pack with '/' between folders"));
    }
    if name.starts_with('/') {
        return Err(refuse("has an absolute path").hint("pack from inside of the function's folder"));
    }
    let (name, folder) = name.strip_suffix('/').map_or((name, false), |name| (name, true));
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > DEPTH_MAX {
        return Err(refuse(&format!("lies {} folders deep; at most {DEPTH_MAX} are allowed", parts.len())));
    }
    for part in &parts {
        match *part {
            ".." => {
                return Err(refuse("leads out of the archive by '..'")
                    .hint("pack from inside of the function's folder"));
            }
            "" | "." => return Err(refuse("has a path with an empty part")),
            part if part.len() > PART_BYTES_MAX => return Err(refuse("has a part of over 255 bytes")),
            _ => {}
        }
    }
    Ok((parts.iter().collect(), folder))
}

/// Whether an entry is executable, or what it is that cannot be unpacked.
fn kind(mode: Option<u32>, folder: bool) -> Result<bool, &'static str> {
    let mode = mode.unwrap_or(0);
    match mode & 0o170_000 {
        0 => Ok(mode & 0o111 != 0),
        0o100_000 if !folder => Ok(mode & 0o111 != 0),
        0o040_000 if folder => Ok(false),
        0o120_000 => Err("a symbolic link"),
        0o100_000 | 0o040_000 => Err("a file by its mode and a folder by its name, or the reverse"),
        _ => Err("a device, pipe or socket"),
    }
}

struct Target<'a> {
    dir: &'a Path,
    folders: HashSet<PathBuf>,
    entries_left: usize,
    bytes_max: u64,
    bounds: Bounds,
    unpacked: Unpacked,
}

impl Target<'_> {
    fn count(&mut self) -> Result<(), Refusal> {
        self.entries_left = self.entries_left.checked_sub(1).ok_or_else(|| too_many(self.bounds))?;
        Ok(())
    }

    /// Makes a folder and those that it lies in, each counted: an entry need not name its folders.
    fn folder(&mut self, path: &Path, name: &str) -> Result<(), Refusal> {
        if path.as_os_str().is_empty() || self.folders.contains(path) {
            return Ok(());
        }
        self.folder(path.parent().unwrap_or(Path::new("")), name)?;
        self.count()?;
        fs::create_dir(self.dir.join(path)).map_err(|error| unwritable(&error, name))?;
        self.folders.insert(path.to_owned());
        Ok(())
    }

    fn file(
        &mut self,
        path: &Path,
        name: &str,
        executable: bool,
        from: &mut impl Read,
    ) -> Result<(), Refusal> {
        self.folder(path.parent().unwrap_or(Path::new("")), name)?;
        self.count()?;
        let mode = if executable { 0o555 } else { 0o444 };
        // New, never through what is there: a second entry of that name is refused here at the latest.
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(self.dir.join(path));
        let mut file: File = file.map_err(|error| unwritable(&error, name))?;
        let mut buffer = [0; 32 << 10];
        loop {
            let read = from.read(&mut buffer).map_err(|error| {
                invalid(format!("the archive's entry '{name}' cannot be unpacked: {error}"))
            })?;
            if read == 0 {
                break;
            }
            self.unpacked.bytes += read as u64;
            if self.unpacked.bytes > self.bytes_max {
                return Err(too_large(format!(
                    "the archive unpacks to more than {} MiB (at the entry '{name}')",
                    self.bytes_max >> 20
                )));
            }
            file.write_all(&buffer[..read]).map_err(|error| unwritable(&error, name))?;
        }
        // The umask may have taken what others need: sandboxes run as users of their own.
        let mode: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        file.set_permissions(mode).map_err(|error| unwritable(&error, name))?;
        self.unpacked.files += 1;
        Ok(())
    }
}

fn too_many(bounds: Bounds) -> Refusal {
    too_large(format!("the archive has more than {} files and folders", bounds.entries))
}

fn unwritable(error: &io::Error, name: &str) -> Refusal {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => crate::state::full(),
        io::ErrorKind::AlreadyExists => invalid(format!("the archive has '{name}' twice")),
        io::ErrorKind::NotADirectory => {
            invalid(format!("the archive's entry '{name}' lies in what is a file, not a folder"))
        }
        _ => Refusal::new(Code::Internal, format!("cannot write the archive's entry '{name}': {error}")),
    }
}

fn broken(name: Option<&str>, error: &ZipError) -> Refusal {
    let what = name.map_or_else(|| "the archive".to_owned(), |name| format!("the archive's entry '{name}'"));
    invalid(format!("{what} is broken: {error}")).hint("`unzip -t` shows where; pack it again")
}

/// A name as it is shown: whatever bytes it has, printable and short.
fn shown(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).chars().take(120).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
