//! Any bytes as an archive: unpacked within bounds, into the folder and nowhere else, or refused.
#![no_main]

use std::{fs, io::Cursor, path::Path};

use libfuzzer_sys::fuzz_target;
use rouse_control::archive::{Bounds, unpack};

const BOUNDS: Bounds = Bounds { entries: 64, bytes: 1 << 20, ratio: 200 };

fuzz_target!(|bytes: &[u8]| {
    let around = tempfile::tempdir().expect("a folder");
    let into = around.path().join("into");
    fs::create_dir(&into).expect("a folder");
    let unpacked = unpack(Cursor::new(bytes), &into, BOUNDS);
    assert_eq!(fs::read_dir(around.path()).expect("a folder").count(), 1, "something was written beside it");
    let found = size(&into);
    assert!(found <= BOUNDS.bytes, "{found} bytes");
    if let Ok(unpacked) = unpacked {
        assert_eq!(unpacked.bytes, found);
    }
});

/// Bytes of all files; there is nothing but files and folders.
fn size(folder: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let kind = entry.file_type().expect("a kind");
        assert!(kind.is_dir() || kind.is_file(), "{entry:?} is neither file nor folder");
        sum += if kind.is_dir() { size(&entry.path()) } else { entry.metadata().expect("a file").len() };
    }
    sum
}
