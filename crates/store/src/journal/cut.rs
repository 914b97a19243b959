//! Where a journal ends at one moment: for copies of it that are made while its writers go on.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{Error, format, segment_path, segments, survey, writers};

/// A file of a journal as it was: `head`, and the bytes of the file behind that, up to `bytes` in all. They never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Its first bytes. Those of a live segment change when it is sealed, so they are kept here.
    pub head: Vec<u8>,
    /// How many bytes it had.
    pub bytes: u64,
}

/// The files of all writers of a journal, each up to its last record. Whoever copies them holds off what deletes segments.
///
/// # Errors
/// What the operating system says.
pub fn cut(dir: &Path) -> Result<Vec<Cut>, Error> {
    let mut cuts = Vec::new();
    for writer in writers(dir)? {
        let dir = dir.join(writer);
        // From which number on a successor counts.
        let lock = dir.join("lock");
        match std::fs::read(&lock) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => {
                let head = other.map_err(Error::io("read the lock", &lock))?;
                cuts.push(Cut { bytes: head.len() as u64, path: lock, head });
            }
        }
        for sequence in segments(&dir)? {
            cuts.extend(segment(segment_path(&dir, sequence))?);
        }
    }
    Ok(cuts)
}

fn segment(path: PathBuf) -> Result<Option<Cut>, Error> {
    let file = match File::open(&path) {
        // One that was made ahead is removed by a writer that ends.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open the segment", &path))?,
    };
    let length = file.metadata().map_err(Error::io("look at the segment", &path))?.len();
    let mut head = vec![0; format::HEADER_BYTES.min(usize::try_from(length).unwrap_or(usize::MAX))];
    file.read_exact_at(&mut head, 0).map_err(Error::io("read the segment", &path))?;
    // The head was read first: if it says that the segment is live, that is how it is copied, sealed since or not.
    let header = head.first_chunk().map(format::decode_header);
    let bytes = match header {
        Some(Ok(header)) => match header.end {
            Some(end) => end.min(length),
            None => match survey::live(&file, &path)? {
                (_, None) => return Ok(None),
                (end, Some(_)) => end,
            },
        },
        // What is damaged stays so, for readers to tell of it.
        _ => length,
    };
    Ok(Some(Cut { path, head, bytes }))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use rouse_types::Timestamp;

    use super::*;
    use crate::journal::{Cursor, Options, Reader, Writer};

    fn copy(cuts: &[Cut], from: &Path, to: &Path) {
        for Cut { path, head, bytes } in cuts {
            let place = to.join(path.strip_prefix(from).expect("below"));
            fs::create_dir_all(place.parent().expect("a folder")).expect("made");
            let all = fs::read(path).expect("read");
            let mut file = File::create(place).expect("made");
            file.write_all(head).expect("written");
            let bytes = usize::try_from(*bytes).expect("a size");
            file.write_all(&all[head.len()..bytes]).expect("written");
        }
    }

    fn texts(dir: &Path) -> Vec<String> {
        let batch = Reader::open(dir, Cursor::default()).read(100_000).expect("read");
        assert_eq!(batch.corruptions, []);
        batch.records.iter().map(|record| String::from_utf8_lossy(&record.payload).into_owned()).collect()
    }

    #[test]
    fn a_cut_has_what_was_written_before_it_and_a_writer_goes_on_behind_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let options = || Options { segment_bytes: 64 << 10, ..Options::new("gateway-0") };
        let mut writer = Writer::open(&from, options()).expect("a writer");
        let mut written = Vec::new();
        let mut write = |writer: &mut Writer, count: usize| {
            for _ in 0..count {
                let text = format!("record {}", written.len());
                writer.append(Timestamp(written.len() as u64), text.as_bytes()).expect("written");
                written.push(text);
            }
            written.clone()
        };
        // Some segments, the last of them live.
        let before = write(&mut writer, 5_000);
        let cuts = cut(&from).expect("a cut");
        // The live one is sealed and others follow before it is copied.
        write(&mut writer, 5_000);
        copy(&cuts, &from, &to);
        assert_eq!(texts(&to), before);
        drop(writer);

        // The copy is a journal as any: its writer takes another segment, and the records stay.
        let mut writer = Writer::open(&to, options()).expect("a writer");
        writer.append(Timestamp(9), b"later").expect("written");
        let mut all = before;
        all.push("later".to_owned());
        assert_eq!(texts(&to), all);
    }

    #[test]
    fn a_journal_that_nobody_wrote_has_no_files() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(cut(&dir.path().join("none")).expect("a cut"), []);
    }
}
