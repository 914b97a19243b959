//! Writes a backup.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{COPY_BYTES, End, Entry, Error, Head, Kind, LINE_BYTES_MAX, Proof, Summary, encode};

/// A backup under way. Without its [`end`](Self::end) it is none.
#[derive(Debug)]
pub struct Pack<W> {
    out: Hashed<W>,
    summary: Summary,
}

impl<W: Write> Pack<W> {
    /// Begins one.
    ///
    /// # Errors
    /// What writing says.
    pub fn begin(out: W, head: Head) -> Result<Self, Error> {
        let mut pack = Self { out: Hashed { out, hash: Sha256::new(), at: 0 }, summary: Summary::new(head) };
        let head = pack.summary.head.clone();
        pack.line(&head)?;
        Ok(pack)
    }

    /// Adds a file of exactly so many bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are fewer; what reading and writing says.
    pub fn file(&mut self, path: &Path, mode: u32, bytes: u64, from: &mut dyn Read) -> Result<(), Error> {
        self.entry(path, Kind::File, mode, bytes, None)?;
        let mut left = bytes;
        let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(bytes).unwrap_or(COPY_BYTES))];
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = match from.read(&mut buffer[..want]) {
                Ok(0) => {
                    let what = format!("{} became shorter while it was read: begin again", path.display());
                    return Err(Error::Invalid(what));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(Error::io("read", path))?,
            };
            self.out.write_all(&buffer[..read]).map_err(written)?;
            left -= read as u64;
        }
        self.prove()?;
        self.summary.add(path, bytes);
        Ok(())
    }

    /// Adds a folder.
    ///
    /// # Errors
    /// What writing says.
    pub fn folder(&mut self, path: &Path, mode: u32) -> Result<(), Error> {
        self.whole(path, Kind::Folder, mode, None)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// What writing says.
    pub fn link(&mut self, path: &Path, target: &Path) -> Result<(), Error> {
        self.whole(path, Kind::Link, 0o777, Some(target))
    }

    /// Adds what hides a name of the layer below.
    ///
    /// # Errors
    /// What writing says.
    pub fn whiteout(&mut self, path: &Path) -> Result<(), Error> {
        self.whole(path, Kind::Whiteout, 0, None)
    }

    /// Ends it: only now is it a backup. Gives back what it was written to, not flushed to any disk.
    ///
    /// # Errors
    /// What writing says.
    pub fn end(mut self) -> Result<(W, Summary), Error> {
        self.line(&End { end: self.summary.total })?;
        self.prove()?;
        self.out.flush().map_err(written)?;
        self.summary.length = self.out.at;
        Ok((self.out.out, self.summary))
    }

    fn whole(&mut self, path: &Path, kind: Kind, mode: u32, target: Option<&Path>) -> Result<(), Error> {
        self.entry(path, kind, mode, 0, target)?;
        self.prove()?;
        self.summary.add(path, 0);
        Ok(())
    }

    fn entry(
        &mut self,
        path: &Path,
        kind: Kind,
        mode: u32,
        bytes: u64,
        target: Option<&Path>,
    ) -> Result<(), Error> {
        self.line(&Entry { path: encode(path), kind, mode, bytes, target: target.map(encode) })
    }

    fn prove(&mut self) -> Result<(), Error> {
        let sha256 = hex::encode(self.out.hash.clone().finalize());
        self.line(&Proof { sha256 })
    }

    fn line(&mut self, value: &impl Serialize) -> Result<(), Error> {
        let mut line = serde_json::to_vec(value).map_err(|error| Error::Invalid(error.to_string()))?;
        line.push(b'\n');
        if line.len() > LINE_BYTES_MAX {
            return Err(Error::Invalid(format!("a name of {} bytes is too long for a backup", line.len())));
        }
        self.out.write_all(&line).map_err(written)
    }
}

/// The place has no path here: it may be a store.
fn written(source: io::Error) -> Error {
    Error::Io { action: "write", path: PathBuf::from("the backup"), source }
}

#[derive(Debug)]
struct Hashed<W> {
    out: W,
    hash: Sha256,
    at: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
