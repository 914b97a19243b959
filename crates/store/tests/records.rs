//! The contract of records, over each engine that implements it: the embedded one, and a cluster of two nodes.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

#[path = "support/nats.rs"]
mod nats;

use std::{collections::BTreeMap, future::Future, path::Path};

use proptest::prelude::*;
use rouse_store::{
    Error, Records,
    records::{Expect, Revision, Write},
};

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Runs a test over each engine.
fn on_each_engine<F: Future<Output = ()>>(test: impl Fn(Records) -> F) {
    let dir = tempfile::tempdir().unwrap();
    run(test(embedded(dir.path())));
    let Some(engine) = nats::Engine::start("the contract of records, in a cluster", 1) else { return };
    run(async {
        let cluster = engine.join().await;
        let join = async |node| Records::join(&cluster, "records", &dir.path().join(node)).await.unwrap();
        // Another node, which has to come to the same.
        let (one, other) = (join("one").await, join("other").await);
        test(one.clone()).await;
        agree(&one, &other).await;
    });
}

/// Nodes come to the same tables.
async fn agree(one: &Records, other: &Records) {
    other.catch_up().await.unwrap();
    for namespace in ["apps", "others", "n"] {
        let page = one.scan(namespace, "", None, 1_000).await.unwrap();
        assert_eq!(other.scan(namespace, "", None, 1_000).await.unwrap(), page);
    }
    assert_eq!(other.revision().await.unwrap(), one.revision().await.unwrap());
}

fn embedded(dir: &Path) -> Records {
    Records::open(&dir.join("records.db")).unwrap()
}

fn write(key: &str, expect: Expect, value: Option<&str>) -> Write {
    let value = value.map(|value| value.as_bytes().to_vec());
    Write { namespace: "apps".to_owned(), key: key.to_owned(), expect, value }
}

#[test]
fn a_record_is_found_as_it_was_written_and_revisions_only_grow() {
    on_each_engine(|records| async move {
        assert_eq!(records.get("apps", "a").await.unwrap(), None);
        let first = records.put("apps", "a", b"1".to_vec()).await.unwrap();
        let second = records.put("apps", "b", b"".to_vec()).await.unwrap();
        assert!(second > first);
        let found = records.get("apps", "a").await.unwrap().unwrap();
        assert_eq!((found.value.as_slice(), found.revision), (&b"1"[..], first));
        assert_eq!(records.get("others", "a").await.unwrap(), None);
        let deleted = records.delete("apps", "a", Expect::Any).await.unwrap();
        assert!(deleted > second);
        assert_eq!(records.get("apps", "a").await.unwrap(), None);
        assert_eq!(records.revision().await.unwrap(), deleted);
    });
}

#[test]
fn a_write_that_expects_something_else_changes_nothing_and_says_what_is_there() {
    on_each_engine(|records| async move {
        let first = records.create("apps", "a", b"1".to_vec()).await.unwrap();
        let again = records.create("apps", "a", b"2".to_vec()).await.unwrap_err();
        assert!(matches!(again, Error::Conflict { expected: None, found: Some(at), .. } if at == first));
        let second = records.replace("apps", "a", b"2".to_vec(), first).await.unwrap();
        assert!(records.replace("apps", "a", b"3".to_vec(), first).await.is_err());
        assert!(records.replace("apps", "none", b"3".to_vec(), first).await.is_err());
        assert!(records.delete("apps", "a", Expect::At(first)).await.is_err());
        assert_eq!(records.get("apps", "a").await.unwrap().unwrap().value, b"2");
        records.delete("apps", "a", Expect::At(second)).await.unwrap();
        records.create("apps", "a", b"3".to_vec()).await.unwrap();
    });
}

#[test]
fn a_transaction_happens_whole_or_not_at_all() {
    on_each_engine(|records| async move {
        let a = records.create("apps", "a", b"1".to_vec()).await.unwrap();
        let writes = vec![
            write("a", Expect::At(a), Some("2")),
            write("b", Expect::Absent, Some("2")),
            write("missing", Expect::At(a), Some("2")),
        ];
        let error = records.commit(writes.clone()).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { key, found: None, .. } if key == "missing"));
        assert_eq!(records.get("apps", "a").await.unwrap().unwrap().revision, a);
        assert_eq!(records.get("apps", "b").await.unwrap(), None);
        records.commit(writes[..2].to_vec()).await.unwrap();
        assert_eq!(records.get("apps", "b").await.unwrap().unwrap().value, b"2");
    });
}

#[test]
fn one_of_many_racing_writers_wins_each_revision() {
    on_each_engine(|records| async move {
        records.create("apps", "counter", b"0".to_vec()).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let records = records.clone();
            tasks.spawn(async move {
                let mut wins = 0;
                while wins < 10 {
                    let now = records.get("apps", "counter").await.unwrap().unwrap();
                    let next: u64 = String::from_utf8(now.value).unwrap().parse::<u64>().unwrap() + 1;
                    let next = next.to_string().into_bytes();
                    wins += u64::from(records.replace("apps", "counter", next, now.revision).await.is_ok());
                }
            });
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        assert_eq!(records.get("apps", "counter").await.unwrap().unwrap().value, b"80");
    });
}

#[test]
fn a_scan_gives_each_key_of_the_prefix_once_in_order_page_by_page() {
    on_each_engine(|records| async move {
        let keys = ["a", "a/1", "a/2", "a/3", "a0", "b", "A"];
        records.commit(keys.iter().map(|key| write(key, Expect::Any, Some("x"))).collect()).await.unwrap();
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = records.scan("apps", "a/", after.as_deref(), 2).await.unwrap();
            seen.extend(page.records.into_iter().map(|record| record.key));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, ["a/1", "a/2", "a/3"]);
        assert_eq!(records.scan("apps", "", None, 100).await.unwrap().records.len(), keys.len());
        assert_eq!(records.scan("apps", "zz", None, 100).await.unwrap().records.len(), 0);
    });
}

#[test]
fn a_watcher_sees_changes_of_its_prefix_from_its_revision_on_and_waits_for_more() {
    on_each_engine(|records| async move {
        records.put("apps", "a/1", b"old".to_vec()).await.unwrap();
        let from = records.revision().await.unwrap();
        let mut watch = records.watch("apps", "a/", from);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(20), watch.next()).await;
        assert!(waited.is_err(), "nothing changed yet");
        records.put("apps", "b", b"other".to_vec()).await.unwrap();
        records.put("others", "a/1", b"other".to_vec()).await.unwrap();
        let put = records.put("apps", "a/2", b"new".to_vec()).await.unwrap();
        let change = watch.next().await.unwrap();
        assert_eq!((change.key.as_str(), change.value, change.revision), ("a/2", Some(b"new".to_vec()), put));
        let writer = records.clone();
        let (change, deleted) =
            tokio::join!(watch.next(), async { writer.delete("apps", "a/1", Expect::Any).await.unwrap() });
        let change = change.unwrap();
        assert_eq!((change.key.as_str(), change.value, change.revision), ("a/1", None, deleted));
    });
}

#[test]
fn a_watcher_that_is_too_far_behind_is_told_to_scan_again() {
    on_each_engine(|records| async move {
        let mut slow = records.watch("apps", "", Revision(0));
        for _ in 0..3 {
            let writes = (0..4_000).map(|n| write(&format!("k{n}"), Expect::Any, Some("x")));
            records.commit(writes.collect()).await.unwrap();
        }
        assert!(matches!(slow.next().await, Err(Error::Rescan { .. })));
        let mut ahead = records.watch("apps", "", Revision(1_000_000));
        assert!(matches!(ahead.next().await, Err(Error::Rescan { .. })), "a cursor of another store");
    });
}

#[test]
fn what_is_out_of_bounds_is_refused_and_says_what_is_allowed() {
    on_each_engine(|records| async move {
        let long = "k".repeat(rouse_store::records::KEY_BYTES_MAX + 1);
        for (namespace, key) in
            [("", "k"), ("a.b", "k"), ("apps", ""), ("apps", "ä"), ("apps", &long), ("apps", ".k")]
        {
            let error = records.put(namespace, key, vec![]).await.unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{namespace}/{key}: {error}");
        }
        let error = records.put("apps", "large", vec![0; (1 << 20) + 1]).await.unwrap_err();
        assert!(error.to_string().contains("1048576"), "{error}");
        assert!(matches!(records.commit(vec![]).await, Err(Error::Invalid(_))));
    });
}

#[test]
fn records_are_there_after_the_store_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let revision = run(embedded(dir.path()).put("apps", "a", b"1".to_vec())).unwrap();
    let records = embedded(dir.path());
    assert_eq!(run(records.get("apps", "a")).unwrap().unwrap().revision, revision);
    assert!(run(records.put("apps", "b", b"2".to_vec())).unwrap() > revision);
}

#[test]
fn a_file_that_is_no_store_and_one_of_a_later_release_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("records.db"), vec![0x41; 9_000]).unwrap();
    assert!(matches!(Records::open(&dir.path().join("records.db")), Err(Error::Corrupt(_))));
    let later = dir.path().join("later.db");
    rusqlite::Connection::open(&later).unwrap().pragma_update(None, "user_version", 7).unwrap();
    assert!(matches!(Records::open(&later), Err(Error::Version { found: 7, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Any sequence of writes leaves what the same writes leave in a map.
    #[test]
    fn the_store_agrees_with_a_map(
        writes in prop::collection::vec((0..6_u8, prop::option::of(any::<u8>()), 0..3_u8), 1..60),
    ) {
        on_each_engine(|records| agrees_with_a_map(records, writes.clone()));
    }
}

async fn agrees_with_a_map(records: Records, writes: Vec<(u8, Option<u8>, u8)>) {
    let mut model: BTreeMap<String, (Vec<u8>, Revision)> = BTreeMap::new();
    for (key, value, expect) in writes {
        let key = format!("k{key}");
        let found = model.get(&key).map(|(_, revision)| *revision);
        let expect = match expect {
            0 => Expect::Any,
            1 => Expect::Absent,
            _ => Expect::At(found.unwrap_or(Revision(1))),
        };
        let allowed = match expect {
            Expect::Any => true,
            Expect::Absent => found.is_none(),
            Expect::At(at) => found == Some(at),
        };
        let value = value.map(|byte| vec![byte]);
        let write = Write { namespace: "n".to_owned(), key: key.clone(), expect, value: value.clone() };
        let result = records.commit(vec![write]).await;
        assert_eq!(result.is_ok(), allowed);
        match (result, value) {
            (Ok(revision), Some(value)) => drop(model.insert(key, (value, revision))),
            (Ok(_), None) => drop(model.remove(&key)),
            (Err(_), _) => {}
        }
    }
    let page = records.scan("n", "", None, 100).await.unwrap();
    let stored: BTreeMap<_, _> =
        page.records.into_iter().map(|record| (record.key, (record.value, record.revision))).collect();
    assert_eq!(stored, model);
}
