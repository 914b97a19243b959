//! What a journal promises, tried out: order, following, cursors, sealing, corruption, retention, full disks.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use proptest::prelude::*;
use rouse_store::journal::{Cursor, Error, Options, Policy, Position, Reader, Record, Writer, retain};
use rouse_types::Timestamp;

fn small(writer: &str) -> Options {
    Options { segment_bytes: 64 << 10, ..Options::new(writer) }
}

fn read_all(dir: &Path) -> Vec<Record> {
    let mut reader = Reader::open(dir, Cursor::default());
    let mut records = Vec::new();
    loop {
        let batch = reader.read(1_000).unwrap();
        assert_eq!(batch.corruptions, []);
        records.extend(batch.records);
        if batch.caught_up {
            return records;
        }
    }
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "seg")).collect();
    files.sort();
    files
}

#[test]
fn a_reader_follows_a_living_writer_and_goes_on_from_its_cursor() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = Reader::open(dir.path(), Cursor::default());
    assert!(reader.read(10).unwrap().records.is_empty(), "no one wrote yet");
    let mut writer = Writer::open(dir.path(), small("a")).unwrap();
    writer.append(Timestamp(1), b"one").unwrap();
    let batch = reader.read(10).unwrap();
    assert_eq!(batch.records.len(), 1);
    assert_eq!((batch.records[0].payload.as_slice(), batch.records[0].time), (&b"one"[..], Timestamp(1)));
    assert!(reader.read(10).unwrap().records.is_empty());
    writer.append(Timestamp(2), b"").unwrap();
    writer.append(Timestamp(3), b"three").unwrap();
    // What a cursor says survives being written down.
    let json = serde_json::to_string(reader.cursor()).unwrap();
    let mut reader = Reader::open(dir.path(), serde_json::from_str(&json).unwrap());
    let batch = reader.read(1).unwrap();
    assert_eq!((batch.records[0].payload.len(), batch.caught_up), (0, false));
    let batch = reader.read(9).unwrap();
    assert_eq!((batch.records[0].payload.as_slice(), batch.caught_up), (&b"three"[..], true));
}

#[test]
fn records_cross_many_segments_in_order_and_none_is_lost_or_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), small("a")).unwrap();
    let mut other = Writer::open(dir.path(), small("b")).unwrap();
    for n in 0..5_000_u64 {
        writer.append(Timestamp(n), &n.to_le_bytes().repeat(1 + (n % 40) as usize)).unwrap();
        other.append(Timestamp(n), b"b").unwrap();
    }
    let check = || {
        let mut next = BTreeMap::from([("a", 0), ("b", 0)]);
        for record in read_all(dir.path()) {
            let expected = next.get_mut(&*record.writer).unwrap();
            assert_eq!(record.time, Timestamp(*expected));
            *expected += 1;
        }
        assert_eq!(next, BTreeMap::from([("a", 5_000), ("b", 5_000)]));
    };
    check();
    drop((writer, other));
    check();
    assert!(segment_files(&dir.path().join("a")).len() > 10);
}

#[test]
fn a_busy_writer_does_not_keep_others_from_being_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut busy = Writer::open(dir.path(), small("a")).unwrap();
    let mut quiet = Writer::open(dir.path(), small("b")).unwrap();
    quiet.append(Timestamp(0), b"quiet").unwrap();
    let mut reader = Reader::open(dir.path(), Cursor::default());
    let read = (0..3).flat_map(|_| {
        (0..10).for_each(|n| busy.append(Timestamp(n), b"busy").unwrap());
        reader.read(5).unwrap().records
    });
    assert!(read.collect::<Vec<_>>().iter().any(|record| record.payload == b"quiet"));
}

#[test]
fn a_second_writer_of_the_same_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Writer::open(dir.path(), small("a")).unwrap();
    assert!(matches!(Writer::open(dir.path(), small("a")), Err(Error::Busy { .. })));
}

#[test]
fn what_no_segment_takes_and_what_is_no_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["", "..", "a/b", "A", &"x".repeat(65)] {
        assert!(matches!(Writer::open(dir.path(), small(name)), Err(Error::WriterName(_))), "{name}");
    }
    let tiny = Options { segment_bytes: 1, ..small("a") };
    assert!(matches!(Writer::open(dir.path(), tiny), Err(Error::SegmentBytes(1))));
    let mut writer = Writer::open(dir.path(), small("a")).unwrap();
    let error = writer.append(Timestamp(1), &vec![0; 64 << 10]).unwrap_err();
    let Error::TooLarge { bytes_max, .. } = error else { panic!("{error}") };
    // The next one still goes in, and so does the largest.
    writer.append(Timestamp(2), b"small").unwrap();
    writer.append(Timestamp(3), &vec![7; bytes_max]).unwrap();
    let records = read_all(dir.path());
    assert_eq!(records.iter().map(|r| r.payload.len()).collect::<Vec<_>>(), [5, bytes_max]);
}

#[test]
fn a_record_larger_than_a_readers_chunk_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), Options { segment_bytes: 4 << 20, ..small("a") }).unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    writer.append(Timestamp(1), b"before").unwrap();
    writer.append(Timestamp(2), &large).unwrap();
    writer.append(Timestamp(3), b"after").unwrap();
    let records = read_all(dir.path());
    assert_eq!(records.len(), 3);
    assert!(records[1].payload == large);
}

#[test]
fn a_corrupt_record_is_reported_and_reading_goes_on_in_the_next_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), small("a")).unwrap();
    for n in 0..2_000 {
        writer.append(Timestamp(n), &[n as u8; 100]).unwrap();
    }
    drop(writer);
    let whole = read_all(dir.path());
    let first = &segment_files(&dir.path().join("a"))[0];
    let in_first = whole.iter().filter(|record| record.position.segment == 1).count();
    let hit = &whole[in_first / 2];
    let file = OpenOptions::new().read(true).write(true).open(first).unwrap();
    file.write_all_at(b"\xff", hit.position.offset + 30).unwrap();
    let batch = Reader::open(dir.path(), Cursor::default()).read(10_000).unwrap();
    assert_eq!(batch.corruptions.len(), 1);
    assert_eq!((batch.corruptions[0].offset, &batch.corruptions[0].path), (hit.position.offset, first));
    let expected: Vec<_> = whole[..in_first / 2].iter().chain(&whole[in_first..]).cloned().collect();
    assert!(batch.records == expected);
}

#[test]
fn a_file_that_is_no_segment_or_is_cut_short_is_reported_and_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), small("a")).unwrap();
    for n in 0..2_000 {
        writer.append(Timestamp(n), &[1; 100]).unwrap();
    }
    drop(writer);
    let files = segment_files(&dir.path().join("a"));
    assert!(files.len() >= 4);
    fs::write(&files[0], b"").unwrap();
    fs::write(&files[1], vec![0xaa; 70_000]).unwrap();
    OpenOptions::new().write(true).open(&files[2]).unwrap().set_len(30_000).unwrap();
    let batch = Reader::open(dir.path(), Cursor::default()).read(10_000).unwrap();
    assert_eq!(batch.corruptions.len(), 3);
    assert!(batch.records.iter().all(|record| record.position.segment >= 3));
    // A writer of the same name still starts, behind all of them.
    let mut writer = Writer::open(dir.path(), small("a")).unwrap();
    writer.append(Timestamp(9_999), b"new").unwrap();
    let batch = Reader::open(dir.path(), Cursor::default()).read(10_000).unwrap();
    assert_eq!(batch.records.last().unwrap().payload, b"new");
}

#[test]
fn a_time_range_gives_only_its_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), small("a")).unwrap();
    for n in 0..3_000 {
        writer.append(Timestamp(n), &[0; 100]).unwrap();
    }
    let mut reader = Reader::open(dir.path(), Cursor::default()).between(Timestamp(1_500)..Timestamp(1_510));
    let times: Vec<_> = reader.read(100).unwrap().records.iter().map(|record| record.time.0).collect();
    assert_eq!(times, (1_500..1_510).collect::<Vec<_>>());
    // Without a range, no time is too late.
    writer.append(Timestamp(u64::MAX), b"never").unwrap();
    assert_eq!(read_all(dir.path()).len(), 3_001);
}

#[test]
fn retention_deletes_the_oldest_but_nothing_live_or_unread() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), small("a")).unwrap();
    for n in 0..3_000 {
        writer.append(Timestamp(n), &[0; 100]).unwrap();
    }
    let keep_none = Policy { bytes_max: 0, age_max: Duration::from_secs(3_600) };
    let unread = Cursor(BTreeMap::from([("a".to_owned(), Position { segment: 3, offset: 500 })]));
    let now = Timestamp(3_000);
    let nothing_read = retain(dir.path(), &keep_none, Some(&Cursor::default()), now).unwrap();
    assert_eq!(nothing_read.segments, 0);
    let removed = retain(dir.path(), &keep_none, Some(&unread), now).unwrap();
    assert_eq!(removed.segments, 2);
    assert_eq!(read_all(dir.path())[0].position.segment, 3);
    // By age: all but the live one.
    let aged = Policy { bytes_max: u64::MAX, age_max: Duration::from_micros(1) };
    retain(dir.path(), &aged, None, Timestamp(1_000_000)).unwrap();
    let left = read_all(dir.path());
    assert!(left.iter().all(|record| record.position.segment == left[0].position.segment));
    writer.append(Timestamp(3_001), b"still").unwrap();
    assert_eq!(read_all(dir.path()).last().unwrap().payload, b"still");
}

#[test]
fn a_writer_whose_segments_were_all_deleted_counts_on_so_that_cursors_hold() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), small("a")).unwrap();
    for n in 0..2_000 {
        writer.append(Timestamp(n), &[0; 100]).unwrap();
    }
    drop(writer);
    let mut reader = Reader::open(dir.path(), Cursor::default());
    assert!(reader.read(10_000).unwrap().caught_up);
    let none = Policy { bytes_max: 0, age_max: Duration::ZERO };
    let removed = retain(dir.path(), &none, Some(reader.cursor()), Timestamp(9_000)).unwrap();
    assert_eq!((removed.bytes_left, segment_files(&dir.path().join("a")).len()), (0, 0));
    let mut writer = Writer::open(dir.path(), small("a")).unwrap();
    writer.append(Timestamp(1), b"new").unwrap();
    assert_eq!(reader.read(10).unwrap().records[0].payload, b"new");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Whatever the sizes, restarts and batch sizes: what was appended is what is read.
    #[test]
    fn what_was_appended_is_read_once_and_in_order(
        payloads in prop::collection::vec((0..20_000_usize, any::<bool>()), 1..60), batch in 1..40_usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut reader = Reader::open(dir.path(), Cursor::default());
        let mut writer = Writer::open(dir.path(), small("a")).unwrap();
        let mut seen = Vec::new();
        for (n, &(size, restart)) in payloads.iter().enumerate() {
            writer.append(Timestamp(n as u64), &vec![n as u8; size]).unwrap();
            if restart {
                drop(writer);
                writer = Writer::open(dir.path(), small("a")).unwrap();
                seen.extend(reader.read(batch).unwrap().records);
            }
        }
        loop {
            let read = reader.read(batch).unwrap();
            prop_assert!(read.corruptions.is_empty());
            seen.extend(read.records);
            if read.caught_up {
                break;
            }
        }
        let expected: Vec<_> = payloads.iter().map(|&(size, _)| size).collect();
        prop_assert_eq!(seen.iter().map(|record| record.payload.len()).collect::<Vec<_>>(), expected);
        let ordered = seen.iter().enumerate().all(|(n, record)| record.time == Timestamp(n as u64));
        prop_assert!(ordered);
    }

    /// Whatever a disk does to the files: no panic, and no record that was not written.
    #[test]
    fn damaged_files_give_only_records_that_were_written(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30),
        cut in prop::option::of(any::<prop::sample::Index>()), sealed: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path(), small("a")).unwrap();
        for n in 0..600_u64 {
            writer.append(Timestamp(n), &n.to_le_bytes().repeat(20)).unwrap();
        }
        let mut writer = Some(writer);
        if sealed {
            writer = None;
        }
        for file in segment_files(&dir.path().join("a")) {
            let mut bytes = fs::read(&file).unwrap();
            for (at, value) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            // A living writer's file is never cut; nothing of ours would do that.
            if let Some(cut) = cut.as_ref().filter(|_| sealed) {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            OpenOptions::new().write(true).open(&file).unwrap().set_len(bytes.len() as u64).unwrap();
            OpenOptions::new().write(true).open(&file).unwrap().write_all_at(&bytes, 0).unwrap();
        }
        let mut reader = Reader::open(dir.path(), Cursor::default());
        let read = reader.read(10_000).unwrap();
        for record in &read.records {
            prop_assert_eq!(&record.payload, &record.time.0.to_le_bytes().repeat(20));
        }
        let policy = Policy { bytes_max: 0, age_max: Duration::ZERO };
        retain(dir.path(), &policy, None, Timestamp(0)).unwrap();
        drop(writer);
        drop(Writer::open(dir.path(), small("a")).unwrap());
    }
}
