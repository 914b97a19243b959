//! Tar archives, read entry by entry within bounds: POSIX ustar and pax (IEEE 1003.1-2017 "pax"), GNU's long names and
//! its numbers in base 256. And written, just enough for an archive of plain files.
//!
//! A reader of our own, because what it reads is hostile: names and extended headers have a bound here before they are
//! held in memory, and nothing else of an archive ever is.

use std::io::{self, Read, Write};

const BLOCK: usize = 512;
/// A long name, or an extended header: Linux takes paths of 4,096 bytes, and a header may hold a few more records.
const EXTENDED_BYTES_MAX: u64 = 1 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A plain file; its bytes follow.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// Another name of an earlier entry.
    Hardlink,
    /// A device, a pipe: what no image is given.
    Special,
}

/// The head of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Its path, as the archive has it.
    pub path: Vec<u8>,
    /// What a link leads to.
    pub link: Vec<u8>,
    /// Permissions.
    pub mode: u32,
    /// When it was changed, in seconds since 1970.
    pub mtime: i64,
    /// Its bytes.
    pub size: u64,
    /// Where they begin, in bytes from the begin of the archive.
    pub offset: u64,
}

/// Why an archive cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no tar archive, or broken.
    #[error("{0}")]
    Format(&'static str),
    /// What it comes from failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads an archive from its begin.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    position: u64,
    /// Of the entry under way: bytes not yet read, and what fills its last block.
    left: u64,
    fill: u64,
}

impl<R: Read> Reader<R> {
    /// An archive that begins where `from` stands.
    pub fn new(from: R) -> Self {
        Self { from, position: 0, left: 0, fill: 0 }
    }

    /// The next entry, or the end. What was not read of the one before is skipped.
    ///
    /// # Errors
    /// A broken archive.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let mut extended = Extended::default();
        loop {
            self.skip()?;
            let mut block = [0; BLOCK];
            if !self.block(&mut block)? || block.iter().all(|byte| *byte == 0) {
                // One empty block ends it as well as two; some writers leave out both.
                return Ok(None);
            }
            check_sum(&block)?;
            let size = extended.size.filter(|_| !is_meta(block[156])).map_or_else(
                || number(&block[124..136]).ok_or(Error::Format("an entry has no valid size")),
                Ok,
            )?;
            self.left = size;
            self.fill = size.next_multiple_of(BLOCK as u64) - size;
            match block[156] {
                b'L' => extended.path = Some(text(self.extended()?)),
                b'K' => extended.link = Some(text(self.extended()?)),
                b'x' => extended.read(&self.extended()?)?,
                b'g' => drop(self.extended()?),
                b'S' => return Err(Error::Format("it has a sparse file, which images do not have")),
                kind => return Ok(Some(self.entry(&block, kind, extended)?)),
            }
        }
    }

    fn entry(&mut self, block: &[u8; BLOCK], kind: u8, extended: Extended) -> Result<Entry, Error> {
        let mut path = extended.path.unwrap_or_else(|| {
            let name = field(&block[..100]);
            // GNU's own format has other things in the place of ustar's prefix.
            let prefix = if &block[257..263] == b"ustar\0" { field(&block[345..500]) } else { &[] };
            if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
        });
        let folder_by_name = path.last() == Some(&b'/');
        while path.last() == Some(&b'/') {
            path.pop();
        }
        let kind = match kind {
            b'0' | 0 | b'7' if folder_by_name => Kind::Folder,
            b'0' | 0 | b'7' => Kind::File,
            b'5' => Kind::Folder,
            b'2' => Kind::Symlink,
            b'1' => Kind::Hardlink,
            _ => Kind::Special,
        };
        if kind != Kind::File && self.left != 0 {
            // A size that belongs to nothing is skipped, as others do.
            self.skip()?;
        }
        Ok(Entry {
            kind,
            path,
            link: extended.link.unwrap_or_else(|| field(&block[157..257]).to_vec()),
            mode: number(&block[100..108]).and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644),
            mtime: extended.mtime.or_else(|| i64::try_from(number(&block[136..148])?).ok()).unwrap_or(0),
            size: self.left,
            offset: self.position,
        })
    }

    /// The bytes of an entry that is not a file of its own.
    fn extended(&mut self) -> Result<Vec<u8>, Error> {
        if self.left > EXTENDED_BYTES_MAX {
            return Err(Error::Format("a name or an extended header is too long"));
        }
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self) -> Result<(), Error> {
        let mut sink = [0; 16 << 10];
        while self.left > 0 {
            // A stream that ends too early says so here.
            let _ = self.read(&mut sink)?;
        }
        while self.fill > 0 {
            let most = usize::try_from(self.fill).unwrap_or(BLOCK).min(sink.len());
            let read = self.from.read(&mut sink[..most])?;
            if read == 0 {
                // Some writers leave the last block unfilled.
                self.fill = 0;
            }
            self.position += read as u64;
            self.fill = self.fill.saturating_sub(read as u64);
        }
        Ok(())
    }

    /// A whole block, or the end right before it.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, Error> {
        let mut have = 0;
        while have < BLOCK {
            let read = self.from.read(&mut block[have..])?;
            if read == 0 && have == 0 {
                return Ok(false);
            }
            if read == 0 {
                return Err(Error::Format("it ends within a header"));
            }
            have += read;
            self.position += read as u64;
        }
        Ok(true)
    }

    /// Gives back what the archive was read from, wherever it stands.
    pub fn into_inner(self) -> R {
        self.from
    }
}

/// The bytes of the entry that [`Reader::next_entry`] gave last.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.from.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends within a file"));
        }
        self.left -= read as u64;
        self.position += read as u64;
        Ok(read)
    }
}

/// What extended headers say of the entry after them.
#[derive(Debug, Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<i64>,
}

impl Extended {
    /// Records `<length> <key>=<value>\n`.
    fn read(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        const BROKEN: Error = Error::Format("an extended header is broken");
        while !bytes.is_empty() {
            let space = bytes.iter().position(|byte| *byte == b' ').ok_or(BROKEN)?;
            let length =
                std::str::from_utf8(&bytes[..space]).ok().and_then(|text| text.parse::<usize>().ok());
            let length =
                length.filter(|length| *length > space + 1 && *length <= bytes.len()).ok_or(BROKEN)?;
            let record = bytes[space + 1..length].strip_suffix(b"\n").ok_or(BROKEN)?;
            bytes = &bytes[length..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(BROKEN)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let as_text = || std::str::from_utf8(value).ok();
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(as_text().and_then(|text| text.parse().ok()).ok_or(BROKEN)?),
                // With a fraction, which is left out.
                b"mtime" => self.mtime = as_text().and_then(|text| text.split('.').next()?.parse().ok()),
                // Everything else an image may not have (attributes), or does not need (owners).
                _ if key.starts_with(b"GNU.sparse") => {
                    return Err(Error::Format("it has a sparse file, which images do not have"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_meta(kind: u8) -> bool {
    matches!(kind, b'L' | b'K' | b'x' | b'g')
}

/// A name as GNU writes it, with a zero at its end.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn field(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

/// Octal digits, or GNU's base 256.
fn number(bytes: &[u8]) -> Option<u64> {
    if bytes[0] & 0x80 != 0 {
        // The sign bit of a negative number, or more than 64 bits.
        let (high, low) = bytes.split_at(bytes.len() - 8);
        if high.iter().skip(1).any(|byte| *byte != 0) || high.first() != Some(&0x80) {
            return None;
        }
        return Some(u64::from_be_bytes(low.try_into().ok()?));
    }
    let digits = std::str::from_utf8(field(bytes)).ok()?.trim();
    if digits.is_empty() { Some(0) } else { u64::from_str_radix(digits, 8).ok() }
}

fn check_sum(block: &[u8; BLOCK]) -> Result<(), Error> {
    let said = number(&block[148..156]).ok_or(Error::Format("it is not a tar archive"))?;
    if sum(block) == said {
        Ok(())
    } else {
        Err(Error::Format("it is not a tar archive, or a header is broken"))
    }
}

/// All bytes, the sum's own place taken as blanks.
fn sum(block: &[u8; BLOCK]) -> u64 {
    let blanks = 148..156;
    (0..BLOCK).map(|at| if blanks.contains(&at) { 32 } else { u64::from(block[at]) }).sum()
}

/// Writes entries that depend on nothing but what they hold: no owner, no time.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
}

impl<W: Write> Writer<W> {
    /// An archive into `to`.
    pub fn new(to: W) -> Self {
        Self { to }
    }

    /// Adds an entry of this kind, with the bytes of a file or without any.
    ///
    /// # Errors
    /// The path or link is too long for a plain header, or `to` fails.
    pub fn add(
        &mut self,
        kind: u8,
        path: &str,
        link: &str,
        mode: u32,
        size: u64,
        mut bytes: impl Read,
    ) -> io::Result<()> {
        let mut block = [0; BLOCK];
        if path.len() > 100 {
            // A GNU long name: what every reader knows.
            let long = [path.as_bytes(), b"\0"].concat();
            self.head(&mut [0; BLOCK], b'L', "././@LongLink", "", 0, long.len() as u64)?;
            self.to.write_all(&long)?;
            self.fill(long.len() as u64)?;
        }
        let short = path.get(..path.floor_char_boundary(100)).unwrap_or(path);
        self.head(&mut block, kind, short, link, mode, size)?;
        let copied = io::copy(&mut bytes, &mut self.to)?;
        if copied != size {
            return Err(io::Error::other(format!("{path} has {copied} bytes, not {size}")));
        }
        self.fill(size)
    }

    /// Adds a file.
    ///
    /// # Errors
    /// As [`Writer::add`].
    pub fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.add(b'0', path, "", mode, bytes.len() as u64, bytes)
    }

    fn head(
        &mut self,
        block: &mut [u8; BLOCK],
        kind: u8,
        path: &str,
        link: &str,
        mode: u32,
        size: u64,
    ) -> io::Result<()> {
        if link.len() > 100 {
            return Err(io::Error::other(format!("the link {path} leads to a name of over 100 bytes")));
        }
        block[..path.len()].copy_from_slice(path.as_bytes());
        block[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
        block[108..124].copy_from_slice(b"0000000\x000000000\0");
        if size < 1 << 33 {
            block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        } else {
            block[124] = 0x80;
            block[128..136].copy_from_slice(&size.to_be_bytes());
        }
        block[136..148].copy_from_slice(b"00000000000\0");
        block[156] = kind;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        block[257..265].copy_from_slice(b"ustar  \0");
        let sum = sum(block);
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.to.write_all(&block[..])
    }

    fn fill(&mut self, size: u64) -> io::Result<()> {
        let fill = size.next_multiple_of(BLOCK as u64) - size;
        io::copy(&mut io::repeat(0).take(fill), &mut self.to).map(drop)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// `to` fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        Ok(self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_reads_back_also_with_a_long_name() {
        let long = format!("{}/x", "a".repeat(150));
        let mut writer = Writer::new(Vec::new());
        writer.file("a/b", 0o755, b"hello").expect("written");
        writer.file(&long, 0o644, &[7; 1000]).expect("written");
        writer.add(b'2', "link", "a/b", 0o777, 0, io::empty()).expect("written");
        let bytes = writer.finish().expect("ended");
        let mut reader = Reader::new(&bytes[..]);
        let first = reader.next_entry().expect("read").expect("an entry");
        assert_eq!(
            (first.path.as_slice(), first.mode, first.size, first.kind),
            (&b"a/b"[..], 0o755, 5, Kind::File)
        );
        assert_eq!(&bytes[512..517], b"hello");
        assert_eq!(first.offset, 512);
        let second = reader.next_entry().expect("read").expect("an entry");
        assert_eq!(second.path, long.as_bytes());
        let mut content = Vec::new();
        reader.read_to_end(&mut content).expect("read");
        assert_eq!(content, [7; 1000]);
        let third = reader.next_entry().expect("read").expect("an entry");
        assert_eq!((third.kind, third.link.as_slice()), (Kind::Symlink, &b"a/b"[..]));
        assert_eq!(reader.next_entry().expect("the end"), None);
    }

    #[test]
    fn pax_headers_give_name_size_and_time() {
        let mut extended = Extended::default();
        extended.read(b"11 path=\xc3\xa9\n20 mtime=1234.56789\n13 size=4711\n").expect("read");
        assert_eq!(extended.path.as_deref(), Some("é".as_bytes()));
        assert_eq!((extended.mtime, extended.size), (Some(1234), Some(4711)));
        for broken in [&b"5"[..], b"99 a=b\n", b"2 a=b\n", b"6 a=b", b"6 abc\n", b"9 size=x\n"] {
            assert!(Extended::default().read(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn what_is_cut_off_or_no_archive_is_an_error_and_never_more_memory_than_allowed() {
        let mut writer = Writer::new(Vec::new());
        writer.file("a", 0o644, &[1; 600]).expect("written");
        let bytes = writer.finish().expect("ended");
        assert!(Reader::new(&bytes[..100]).next_entry().is_err());
        let mut cut = Reader::new(&bytes[..700]);
        cut.next_entry().expect("read").expect("an entry");
        assert!(cut.next_entry().is_err());
        assert!(Reader::new(&[b'x'; 1024][..]).next_entry().is_err());
        let mut writer = Writer::new(Vec::new());
        writer.head(&mut [0; BLOCK], b'L', "x", "", 0, u64::MAX >> 1).expect("written");
        let huge = io::Cursor::new(writer.finish().expect("ended")).chain(io::repeat(b'x'));
        assert!(matches!(Reader::new(huge).next_entry(), Err(Error::Format(_))));
    }
}
