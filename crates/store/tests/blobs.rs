//! What blobs promise: whole or absent, named by their content, and never into the reserve.

use rouse_store::{Blobs, Error};
use rouse_types::Digest;

#[test]
fn a_blob_is_found_under_its_digest_whole_and_can_be_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path(), 0).unwrap();
    let mut upload = blobs.begin(0).unwrap();
    upload.write(b"ab").unwrap();
    upload.write(b"c").unwrap();
    let digest = upload.finish(Some(Digest::of(b"abc"))).unwrap();
    assert_eq!(blobs.put(b"abc", None).unwrap(), digest, "the same content is the same blob");
    assert_eq!(blobs.get(&digest).unwrap().unwrap(), b"abc");
    assert_eq!(std::fs::read(blobs.path(&digest).unwrap()).unwrap(), b"abc");
    assert_eq!(blobs.list().unwrap(), [(digest, 3)]);
    assert!(blobs.delete(&digest).unwrap());
    assert!(!blobs.delete(&digest).unwrap());
    assert_eq!((blobs.path(&digest), blobs.get(&digest).unwrap()), (None, None));
}

#[test]
fn content_that_is_not_what_was_announced_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path(), 0).unwrap();
    let error = blobs.put(b"abd", Some(Digest::of(b"abc"))).unwrap_err();
    assert!(matches!(error, Error::Digest { .. }));
    let mut dropped = blobs.begin(0).unwrap();
    dropped.write(b"half").unwrap();
    drop(dropped);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_a_killed_process_left_is_removed_and_damage_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path(), 0).unwrap();
    let digest = blobs.put(b"abc", None).unwrap();
    std::fs::write(dir.path().join(".upload-x"), b"half").unwrap();
    let blobs = Blobs::open(dir.path(), 0).map(|_| blobs).unwrap();
    assert!(!dir.path().join(".upload-x").exists());
    let path = blobs.path(&digest).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"abd").unwrap();
    assert!(matches!(blobs.get(&digest), Err(Error::Digest { .. })));
}

#[test]
fn a_blob_that_would_touch_the_reserve_is_refused_before_and_while_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let all = Blobs::open(dir.path(), u64::MAX).unwrap();
    assert!(matches!(all.begin(1), Err(Error::Full(_))));
    let space = rustix::fs::statvfs(dir.path()).unwrap();
    let free = space.f_bavail * space.f_frsize;
    let blobs = Blobs::open(dir.path(), free / 2).unwrap();
    assert!(matches!(blobs.begin(free), Err(Error::Full(_))));
    blobs.put(b"small", None).unwrap();
}
