//! What a backup is made of, while others write to it: databases, journals, and folders of files that never change.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read, Write},
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::{Error, Pack};
use crate::journal::Cut;

/// How long a database's writer may hold up its copy.
const BUSY_MAX: Duration = Duration::from_secs(60);

/// Copies a database as it is at one moment, while others read and write it. Needs as much room as it takes.
///
/// # Errors
/// What the database says.
pub fn database(from: &Path, to: &Path) -> Result<(), Error> {
    let copy = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(from, flags)?;
        db.busy_timeout(BUSY_MAX)?;
        db.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
        db.close().map_err(|(_, error)| error)
    };
    copy().map_err(|source| Error::Database { path: from.to_owned(), source })
}

/// Adds a journal, cut where it ended when `cuts` were made ([`cut`](crate::journal::cut)).
///
/// # Errors
/// What reading and writing says.
pub fn journal<W: Write>(pack: &mut Pack<W>, state: &Path, cuts: Vec<Cut>) -> Result<(), Error> {
    for Cut { path, head, bytes } in cuts {
        let mut file = File::open(&path).map_err(Error::io("open the segment", &path))?;
        let skipped = io::copy(&mut (&mut file).take(head.len() as u64), &mut io::sink());
        skipped.map_err(Error::io("read the segment", &path))?;
        let mut whole = head.as_slice().chain(file);
        pack.file(&below(state, &path)?, 0o644, bytes, &mut whole)?;
    }
    Ok(())
}

/// Adds a folder with all below it, or a file, if it is there; but not what is not `wanted`, by its path below the state folder. Gives how many
/// files went away meanwhile.
///
/// # Errors
/// [`Error::Invalid`] for what is no file, folder or link; what reading and writing says.
pub fn tree<W: Write>(
    pack: &mut Pack<W>,
    state: &Path,
    path: &Path,
    wanted: &dyn Fn(&Path) -> bool,
) -> Result<u64, Error> {
    let (mut gone, mut open) = (0, vec![path.to_owned()]);
    let root = path;
    while let Some(path) = open.pop() {
        let name = below(state, &path)?;
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                gone += u64::from(path != root);
                continue;
            }
            other => other.map_err(Error::io("look at", &path))?,
        };
        if !wanted(&name) {
            continue;
        }
        if metadata.is_dir() {
            pack.folder(&name, mode(&metadata))?;
            let mut found = Vec::new();
            for entry in fs::read_dir(&path).map_err(Error::io("list the folder", &path))? {
                found.push(entry.map_err(Error::io("list the folder", &path))?.path());
            }
            // The same folder gives the same backup.
            found.sort_unstable_by(|a, b| b.cmp(a));
            open.extend(found);
        } else if !one(pack, &path, &name, &metadata)? {
            gone += 1;
        }
    }
    Ok(gone)
}

/// Adds what is no folder; whether it was still there.
fn one<W: Write>(pack: &mut Pack<W>, path: &Path, name: &Path, metadata: &Metadata) -> Result<bool, Error> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(path).map_err(Error::io("read the link", path))?;
        pack.link(name, &target)?;
    } else if kind.is_char_device() && metadata.rdev() == 0 {
        pack.whiteout(name)?;
    } else if kind.is_file() {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(Error::io("open", path))?,
        };
        let metadata = file.metadata().map_err(Error::io("look at", path))?;
        pack.file(name, mode(&metadata), metadata.len(), &mut file)?;
    } else {
        return Err(Error::Invalid(format!("{} is neither a file nor a folder nor a link", path.display())));
    }
    Ok(true)
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o7777
}

fn below(state: &Path, path: &Path) -> Result<PathBuf, Error> {
    let below = path.strip_prefix(state);
    below
        .map(Path::to_owned)
        .map_err(|_| Error::Invalid(format!("{} is not below {}", path.display(), state.display())))
}
