//! Layers that do what none should, and what comes out of those that are well made.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
};

use super::*;

/// An entry: kind, path, link, mode, bytes.
type Made<'a> = (u8, &'a str, &'a str, u32, &'a str);

fn archive(entries: &[Made<'_>]) -> Vec<u8> {
    let mut writer = tar::Writer::new(Vec::new());
    for (kind, path, link, mode, bytes) in entries {
        writer.add(*kind, path, link, *mode, bytes.len() as u64, bytes.as_bytes()).expect("written");
    }
    writer.finish().expect("ended")
}

/// Unpacks into a folder that has neighbours, and checks that these stay as they are.
fn unpacked(entries: &[Made<'_>]) -> (tempfile::TempDir, Result<Unpacked, Refusal>) {
    let around = tempfile::tempdir().expect("a folder");
    fs::create_dir(around.path().join("layer")).expect("a folder");
    fs::write(around.path().join("secret"), "untouched").expect("a file");
    let mut bounds = Bounds { entries: 100, bytes: 1 << 20 };
    let result = unpack(&archive(entries)[..], &around.path().join("layer"), &mut bounds);
    assert_eq!(
        fs::read_dir(around.path()).expect("a folder").count(),
        2,
        "something was written beside the layer"
    );
    assert_eq!(fs::read_to_string(around.path().join("secret")).expect("a file"), "untouched");
    (around, result)
}

#[test]
fn files_folders_and_links_come_out_as_the_owner_needs_them() {
    let (around, result) = unpacked(&[
        (b'5', "app/", "", 0o2555, ""),
        (b'0', "app/run", "", 0o4011, "x"),
        (b'0', "app/data", "", 0o000, "data"),
        (b'2', "bin", "app", 0o777, ""),
        (b'1', "app/same", "app/data", 0o644, ""),
        (b'0', "/etc/deep/conf", "", 0o644, "made on the way"),
        (b'0', "bin/through", "", 0o644, "a link of the layer's own"),
        (b'6', "app/pipe", "", 0o644, ""),
    ]);
    let root = around.path().join("layer");
    assert_eq!(result.expect("unpacked"), Unpacked { opaque: vec![], skipped: 1 });
    let mode = |name: &str| fs::metadata(root.join(name)).expect("there").permissions().mode() & 0o7777;
    assert_eq!((mode("app"), mode("app/run"), mode("app/data")), (0o755, 0o711, 0o600));
    assert_eq!(fs::metadata(root.join("app/same")).expect("there").nlink(), 2);
    assert_eq!(fs::metadata(root.join("app/run")).expect("there").mtime(), 0);
    assert!(root.join("app/through").is_file() && root.join("etc/deep/conf").is_file());
    assert!(!root.join("app/pipe").exists());
}

#[test]
fn nothing_gets_out_by_dots_links_or_second_names() {
    for entries in [
        &[(b'0', "../secret", "", 0o644, "taken")][..],
        &[(b'0', "a/../../secret", "", 0o644, "taken")],
        &[(b'1', "mine", "../secret", 0o644, "")],
        &[(b'2', "out", "..", 0o777, ""), (b'1', "mine", "out/secret", 0o644, "")],
        &[(b'5', "a", "", 0o755, ""), (b'0', "a", "", 0o644, "a file")],
        &[(b'0', "a", "", 0o644, ""), (b'0', "a/b", "", 0o644, "in a file")],
        &[(b'0', ".wh...", "", 0o644, "")],
        &[(b'0', ".wh.", "", 0o644, "")],
    ] {
        let (_around, result) = unpacked(entries);
        assert_eq!(result.expect_err("refused").code, Code::ImageInvalid, "{entries:?}");
    }
    // Links that would lead out lead to the image's own root, as they will when it runs.
    let (around, result) = unpacked(&[
        (b'2', "out", "../..", 0o777, ""),
        (b'0', "out/secret", "", 0o644, "in the layer"),
        (b'2', "there", "/etc", 0o777, ""),
        (b'5', "etc", "", 0o755, ""),
        (b'0', "there/passwd", "", 0o644, "in the layer"),
        (b'2', "file", "../secret", 0o777, ""),
        (b'0', "file", "", 0o644, "replaces the link"),
    ]);
    result.expect("unpacked");
    let root = around.path().join("layer");
    assert_eq!(fs::read_to_string(root.join("secret")).expect("a file"), "in the layer");
    assert_eq!(fs::read_to_string(root.join("etc/passwd")).expect("a file"), "in the layer");
    assert!(fs::symlink_metadata(root.join("file")).expect("there").is_file());
}

#[test]
fn whiteouts_become_what_overlayfs_knows() {
    let (around, result) = unpacked(&[
        (b'0', "etc/.wh.gone", "", 0o644, ""),
        (b'0', "cache/.wh..wh..opq", "", 0o644, ""),
        (b'0', ".wh..wh.plnk", "", 0o644, ""),
        (b'0', ".wh.new", "", 0o644, ""),
        (b'5', "new", "", 0o755, ""),
        (b'5', "late", "", 0o755, ""),
        (b'0', ".wh.late", "", 0o644, ""),
    ]);
    let opaque = ["cache", "new", "late"].map(PathBuf::from).to_vec();
    assert_eq!(result.expect("unpacked"), Unpacked { opaque, skipped: 0 });
    let root = around.path().join("layer");
    let gone = fs::symlink_metadata(root.join("etc/gone")).expect("there");
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert!(root.join("new").is_dir() && !root.join(".wh..wh.plnk").exists());
}

#[test]
fn more_than_the_bounds_is_refused_before_it_is_written() {
    let big = "x".repeat(2 << 20);
    let (around, result) = unpacked(&[(b'0', "big", "", 0o644, &big)]);
    assert_eq!(result.expect_err("too large").code, Code::CodeTooLarge);
    assert!(!around.path().join("layer/big").exists());
    let deep = vec!["d"; 120].join("/");
    let (_around, result) = unpacked(&[(b'0', &deep, "", 0o644, "")]);
    assert_eq!(result.expect_err("too many folders").code, Code::CodeTooLarge);
}
