//! Any bytes as a layer: unpacked within bounds, into the folder and nowhere else, or refused.
#![no_main]

use std::{fs, os::unix::fs::FileTypeExt as _, path::Path};

use libfuzzer_sys::fuzz_target;
use rouse_image::unpack::{Bounds, unpack};

const BOUNDS: Bounds = Bounds { entries: 64, bytes: 1 << 20 };

fuzz_target!(|bytes: &[u8]| {
    let around = tempfile::tempdir().expect("a folder");
    let into = around.path().join("into");
    fs::create_dir(&into).expect("a folder");
    let mut bounds = BOUNDS;
    let _ = unpack(bytes, &into, &mut bounds);
    assert_eq!(fs::read_dir(around.path()).expect("a folder").count(), 1, "something was written beside it");
    let (entries, size) = sum(&into);
    assert!(entries <= BOUNDS.entries && size <= BOUNDS.bytes, "{entries} entries, {size} bytes");
});

/// Entries, and bytes of all files. Links are counted and not followed; the only devices are whiteouts.
fn sum(folder: &Path) -> (usize, u64) {
    let (mut entries, mut size) = (0, 0);
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let found = entry.metadata().expect("an entry");
        let kind = found.file_type();
        assert!(kind.is_dir() || kind.is_file() || kind.is_symlink() || kind.is_char_device(), "{entry:?}");
        entries += 1;
        if kind.is_dir() {
            let below = sum(&entry.path());
            entries += below.0;
            size += below.1;
        } else if kind.is_file() {
            size += found.len() / std::os::unix::fs::MetadataExt::nlink(&found);
        } else if kind.is_char_device() {
            assert_eq!(std::os::unix::fs::MetadataExt::rdev(&found), 0, "{entry:?}");
        }
    }
    (entries, size)
}
