//! Archives as an attacker makes them. None may write outside, hang, or take more than the bounds.

use std::io::Cursor;

use proptest::prelude::*;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;

/// A zip of stored entries, written by hand so that it may hold whatever a library would refuse to write.
fn raw_zip(entries: &[(&[u8], &[u8], u32)]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content, mode) in entries {
        let offset = u32::try_from(bytes.len()).expect("small");
        let mut crc = crc32(content).to_le_bytes().to_vec();
        crc.extend(u32::try_from(content.len()).expect("small").to_le_bytes());
        crc.extend(u32::try_from(content.len()).expect("small").to_le_bytes());
        crc.extend(u16::try_from(name.len()).expect("short").to_le_bytes());
        crc.extend([0, 0]);
        bytes.extend(b"PK\x03\x04\x14\0\0\x08\0\0\0\0\x21\0");
        bytes.extend(&crc);
        bytes.extend(*name);
        bytes.extend(*content);
        directory.extend(b"PK\x01\x02\x14\x03\x14\0\0\x08\0\0\0\0\x21\0");
        directory.extend(&crc);
        directory.extend([0; 6]);
        directory.extend((mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(*name);
    }
    let count = u16::try_from(entries.len()).expect("few").to_le_bytes();
    let at = u32::try_from(bytes.len()).expect("small");
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(count);
    bytes.extend(count);
    bytes.extend(u32::try_from(directory.len()).expect("small").to_le_bytes());
    bytes.extend(at.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc: u32, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1))
        })
    })
}

fn unpack_bytes(bytes: &[u8], bounds: Bounds) -> (tempfile::TempDir, Result<Unpacked, Refusal>) {
    let outer = tempfile::tempdir().expect("a folder");
    let dir = outer.path().join("inner");
    fs::create_dir(&dir).expect("a folder");
    let result = unpack(Cursor::new(bytes), &dir, bounds);
    let beside: Vec<_> = fs::read_dir(outer.path()).expect("list").collect();
    assert_eq!(beside.len(), 1, "something was written outside");
    (outer, result)
}

fn refused(bytes: &[u8]) -> Refusal {
    unpack_bytes(bytes, Bounds::default()).1.expect_err("it is refused")
}

const FILE: u32 = 0o100_644;

#[test]
fn a_plain_archive_unpacks_read_only_and_keeps_what_is_executable() {
    use std::os::unix::fs::PermissionsExt as _;
    let bytes = raw_zip(&[
        (b"bin/", b"", 0o040_755),
        (b"bin/run", b"#!/bin/sh\n", 0o104_755),
        (b"lib/deep/mod.py", b"x = 1\n", FILE),
        ("naïve.txt".as_bytes(), b"", 0),
    ]);
    let (outer, unpacked) = unpack_bytes(&bytes, Bounds::default());
    assert_eq!(unpacked.expect("it unpacks"), Unpacked { files: 3, bytes: 16 });
    let mode = |name: &str| {
        fs::metadata(outer.path().join("inner").join(name)).expect("it is there").permissions().mode()
            & 0o7777
    };
    assert_eq!(mode("bin/run"), 0o555, "executable, and without the set-uid bit");
    assert_eq!(mode("lib/deep/mod.py"), 0o444);
}

#[test]
fn names_that_lead_out_or_deceive_are_refused_by_name() {
    let long = "x/".repeat(40) + "y";
    let names: [&[u8]; 14] = [
        b"../evil",
        b"a/../../evil",
        b"/etc/passwd",
        b"a\\..\\evil",
        b"C:\\evil",
        b"a\0b",
        b"a\nb",
        b"./a",
        b"a//b",
        b"",
        b"/",
        b"..",
        b"\xff\xfe",
        long.as_bytes(),
    ];
    for name in names {
        let refusal = refused(&raw_zip(&[(name, b"x", FILE)]));
        assert_eq!(refusal.code, Code::CodeInvalid, "{name:?}: {refusal}");
    }
    assert!(refused(&raw_zip(&[(b"../evil", b"x", FILE)])).message.contains("'../evil'"));
    let long = "x".repeat(2_000);
    assert_eq!(refused(&raw_zip(&[(long.as_bytes(), b"", FILE)])).code, Code::CodeInvalid);
}

#[test]
fn links_devices_and_pipes_are_refused() {
    for (mode, what) in
        [(0o120_777, "symbolic link"), (0o020_666, "device"), (0o010_644, "pipe"), (0o060_666, "device")]
    {
        let refusal = refused(&raw_zip(&[(b"ok", b"", FILE), (b"odd", b"inside", mode)]));
        assert!(refusal.message.contains("'odd'") && refusal.message.contains(what), "{refusal}");
    }
}

#[test]
fn entries_that_collide_are_refused() {
    let twice = refused(&raw_zip(&[(b"a", b"1", FILE), (b"a", b"2", FILE)]));
    assert_eq!(twice.code, Code::CodeInvalid, "{twice}");
    let inside = refused(&raw_zip(&[(b"a", b"1", FILE), (b"a/b", b"2", FILE)]));
    assert_eq!(inside.code, Code::CodeInvalid, "{inside}");
    let over = refused(&raw_zip(&[(b"a/b", b"1", FILE), (b"a", b"2", FILE)]));
    assert_eq!(over.code, Code::CodeInvalid, "{over}");
}

#[test]
fn a_bomb_is_stopped_while_it_grows() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    writer.start_file("zeros", options).expect("an entry");
    writer.write_all(&vec![0; 32 << 20]).expect("zeros");
    let bytes = writer.finish().expect("an archive").into_inner();
    assert!(bytes.len() < 100_000);
    let refusal = refused(&bytes);
    assert_eq!(refusal.code, Code::CodeTooLarge);
    assert!(refusal.message.contains("'zeros'"), "{refusal}");
    let small = Bounds { bytes: 1_000, ..Bounds::default() };
    let (outer, result) = unpack_bytes(&raw_zip(&[(b"a", &[1; 2_000], FILE)]), small);
    assert_eq!(result.expect_err("too large").code, Code::CodeTooLarge);
    assert_eq!(fs::metadata(outer.path().join("inner/a")).expect("the file").len(), 0);
}

#[test]
fn too_many_entries_are_refused_named_or_implied() {
    let few = Bounds { entries: 3, ..Bounds::default() };
    let names: Vec<String> = (0..4).map(|i| format!("f{i}")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_bytes(), &b""[..], FILE)).collect();
    assert_eq!(unpack_bytes(&raw_zip(&entries), few).1.expect_err("too many").code, Code::CodeTooLarge);
    let implied = raw_zip(&[(b"a/b/c/d", b"", FILE)]);
    assert_eq!(unpack_bytes(&implied, few).1.expect_err("too many").code, Code::CodeTooLarge);
}

#[test]
fn an_archive_that_can_be_read_in_two_ways_is_refused() {
    let good = raw_zip(&[(b"a", b"1", FILE)]);
    let mut prefixed = b"MZ".to_vec();
    prefixed.extend(&good);
    assert_eq!(refused(&prefixed).code, Code::CodeInvalid);
    let mut trailed = good.clone();
    trailed.extend(b"more");
    assert_eq!(refused(&trailed).code, Code::CodeInvalid);
    let mut two = good.clone();
    two.extend(&good);
    assert_eq!(refused(&two).code, Code::CodeInvalid);
    assert_eq!(refused(&good[..good.len() - 1]).code, Code::CodeInvalid);
    assert_eq!(refused(b"").code, Code::CodeInvalid);
    let mut damaged = good;
    damaged[31] ^= 1;
    assert!(refused(&damaged).message.contains("'a'"), "a wrong checksum names the entry");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_name_is_refused_or_stays_inside(name in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok((path, _)) = entry_path(&name) {
            prop_assert!(path.is_relative());
            let plain = |part| matches!(part, std::path::Component::Normal(_));
            prop_assert!(path.components().all(plain));
        }
    }

    #[test]
    fn any_damage_is_refused_or_harmless(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = raw_zip(&[(b"d/a", b"hello", FILE), (b"b", b"world", 0o100_755)]);
        let index = at.index(bytes.len());
        bytes[index] = byte;
        let _ = unpack_bytes(&bytes, Bounds::default());
        bytes.truncate(cut.index(bytes.len()));
        let _ = unpack_bytes(&bytes, Bounds::default());
    }
}
