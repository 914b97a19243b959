//! Backups: what was packed comes back, and what is not whole is refused with the place.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use rouse_store::{
    Records,
    backup::{Error, FORMAT, Head, Pack, Summary, Target, database, tree, unpack},
};
use rouse_types::Timestamp;
use tempfile::TempDir;

const RELEASE: &str = "0.1.0";

fn head() -> Head {
    Head { rouse_backup: FORMAT, release: RELEASE.to_owned(), made: Timestamp(1), node: None }
}

/// A state folder with one of each, and the backup of it.
fn packed() -> (TempDir, Vec<u8>, Summary) {
    let state = tempfile::tempdir().expect("a folder");
    let path = |name: &str| state.path().join(name);
    fs::create_dir_all(path("objects/data/ab")).expect("folders");
    fs::write(path("objects/data/ab/1"), vec![7; 700_000]).expect("a file");
    fs::write(path("objects/data/ab/empty"), b"").expect("a file");
    fs::create_dir_all(path("layers/one/bin")).expect("folders");
    fs::write(path("layers/one/bin/tool"), b"#!").expect("a file");
    fs::set_permissions(path("layers/one/bin/tool"), fs::Permissions::from_mode(0o4755)).expect("a mode");
    symlink("/bin/tool", path("layers/one/link")).expect("a link");
    let mut pack = Pack::begin(Vec::new(), head()).expect("begun");
    for folder in ["objects/data", "layers"] {
        assert_eq!(tree(&mut pack, state.path(), &path(folder), &|_| true).expect("packed"), 0);
    }
    let (bytes, summary) = pack.end().expect("ended");
    assert_eq!(summary.length, bytes.len() as u64);
    (state, bytes, summary)
}

fn restored(bytes: &[u8]) -> Result<(TempDir, Summary), Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let target = Target { folder: folder.path(), owner: &|_| None };
    let summary = unpack(bytes, RELEASE, Some(&target))?;
    Ok((folder, summary))
}

fn refused(bytes: &[u8]) -> String {
    // Checking alone finds the same.
    let one = unpack(bytes, RELEASE, None).expect_err("it is not whole").to_string();
    let two = restored(bytes).expect_err("it is not whole").to_string();
    assert_eq!(one, two);
    one
}

#[test]
fn what_was_packed_comes_back_with_modes_and_links() {
    let (state, bytes, summary) = packed();
    let (folder, again) = restored(&bytes).expect("restored");
    assert_eq!(again, summary);
    assert_eq!(unpack(&*bytes, RELEASE, None).expect("checked"), summary);
    let path = |name: &str| folder.path().join(name);
    for file in ["objects/data/ab/1", "objects/data/ab/empty", "layers/one/bin/tool"] {
        assert_eq!(fs::read(path(file)).expect("read"), fs::read(state.path().join(file)).expect("read"));
    }
    let mode = fs::metadata(path("layers/one/bin/tool")).expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o4755);
    assert_eq!(fs::read_link(path("layers/one/link")).expect("a link"), Path::new("/bin/tool"));
    assert_eq!(summary.folders["objects"].bytes, 700_000);
    assert_eq!(summary.total.entries, 9, "with the folders");
}

#[test]
fn a_backup_that_was_cut_off_or_changed_anywhere_is_refused_with_the_place() {
    let (_state, bytes, _) = packed();
    // At every length: in heads, in bytes, between entries. Every byte near an end, and some others.
    let lengths = (0..2_000).chain((2_000..bytes.len()).step_by(9_973)).chain(bytes.len() - 500..bytes.len());
    for length in lengths {
        let said = refused(&bytes[..length]);
        let first = bytes.iter().position(|byte| *byte == b'\n').expect("a line");
        match length <= first {
            true => assert!(said.contains("not a backup"), "{length}: {said}"),
            false => assert!(said.contains("at byte") && said.contains("stops"), "{length}: {said}"),
        }
    }
    for at in (0..bytes.len()).step_by(4_999).chain([30, 100, bytes.len() - 100, bytes.len() - 10]) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        refused(&changed);
    }
    let mut changed = bytes.clone();
    changed[400_000] ^= 1;
    let said = refused(&changed);
    assert!(said.contains("objects/data/ab/1 is not what was written") && said.contains("at byte"), "{said}");
    let longer = [&bytes[..], b"x"].concat();
    assert!(refused(&longer).contains("follows its end"));
}

#[test]
fn what_is_no_backup_or_a_later_releases_is_refused() {
    assert!(refused(b"PK\x03\x04\n").contains("not a backup"));
    assert!(refused(b"{\"name\":\"x\"}\n").contains("not a backup"));
    let later = "{\"rouse_backup\":1,\"release\":\"0.2.0\",\"made\":1,\"node\":null,\"more\":true}\n";
    let said = refused(later.as_bytes());
    assert!(said.contains("made by Rouse 0.2.0") && said.contains("install 0.2.0 or newer"), "{said}");
    assert!(
        refused(later.replace("\"rouse_backup\":1", "\"rouse_backup\":2").as_bytes()).contains("install")
    );
}

#[test]
fn an_entry_that_leads_out_of_the_folder_is_refused() {
    let outside = tempfile::tempdir().expect("a folder");
    for name in ["../out", "/etc/out", "a/../../out", "."] {
        let mut pack = Pack::begin(Vec::new(), head()).expect("begun");
        pack.file(Path::new(name), 0o644, 1, &mut &b"x"[..]).expect("packed");
        let (bytes, _) = pack.end().expect("ended");
        assert!(refused(&bytes).contains("no path below"), "{name}");
    }
    // Through a link that it brings itself.
    let mut pack = Pack::begin(Vec::new(), head()).expect("begun");
    pack.link(Path::new("way"), outside.path()).expect("packed");
    pack.file(Path::new("way/out"), 0o644, 1, &mut &b"x"[..]).expect("packed");
    let (bytes, _) = pack.end().expect("ended");
    assert!(restored(&bytes).expect_err("refused").to_string().contains("in the way"));
    assert_eq!(fs::read_dir(outside.path()).expect("the folder").count(), 0);
}

#[tokio::test]
async fn a_database_is_copied_at_one_moment_while_it_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("from.db"), folder.path().join("to.db"));
    let records = Records::open(&from).expect("a store");
    for n in 0..200 {
        records.put("one", &format!("{n:03}"), vec![1]).await.expect("written");
    }
    let others = records.clone();
    let mut writing = tokio::task::JoinSet::new();
    writing.spawn(async move {
        for n in 0..200 {
            others.put("two", &format!("{n:03}"), vec![2]).await.expect("written");
        }
    });
    let (source, target) = (from.clone(), to.clone());
    tokio::task::spawn_blocking(move || database(&source, &target)).await.expect("a task").expect("copied");
    writing.join_next().await.expect("a task").expect("written");
    let copy = Records::open(&to).expect("a store");
    let count = async |namespace| copy.scan(namespace, "", None, 1_000).await.expect("read").records.len();
    assert_eq!(count("one").await, 200, "all that was acknowledged before");
    let before = copy.revision().await.expect("a revision");
    assert_eq!(before.0, 200 + count("two").await as u64);
    assert_eq!(copy.put("one", "next", vec![3]).await.expect("written").0, before.0 + 1);
}
