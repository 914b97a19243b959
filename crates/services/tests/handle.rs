//! What the service promises, through the handle: names, conditions, listings, uploads, the outbox, and that nothing
//! is left behind.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

#[path = "support/service.rs"]
mod service;

use std::{collections::BTreeMap, path::Path, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use rouse_services::objects::{
    Algorithm, Attributes, ChecksumKind, CompletedPart, Completion, Condition, Config, Copy, Entry, Error,
    EventKind, Expected, ObjectEvent, Objects, Put, Query, Swept, UploadQuery,
};
use rouse_types::{Quota, TenantLimits};
use service::{Service, body, caller, collect, read};

#[tokio::test]
async fn an_object_comes_back_as_it_was_put_and_its_event_is_in_the_outbox() {
    let service = Service::new().await;
    let (objects, alice) = (&service.objects, caller("alice"));
    objects.create_bucket(&alice, "photos").await.unwrap();
    let attributes = Attributes {
        metadata: BTreeMap::from([("colour".to_owned(), "blue".to_owned())]),
        tags: BTreeMap::from([("a".to_owned(), "1".to_owned())]),
        ..Attributes::default()
    };
    let put = Put { attributes, ..Put::default() };
    let object = objects.put(&alice, "photos", "ä/b c.jpg", put, body(&["hello ", "world"])).await.unwrap();
    assert_eq!((object.size, &*object.etag), (11, "5eb63bbbe01eeed093cb22bb8f5acdc3"));
    assert_eq!(objects.head(&alice, "photos", "ä/b c.jpg").await.unwrap(), object);
    assert_eq!(read(objects, &alice, "photos", "ä/b c.jpg").await, b"hello world");
    objects.delete(&alice, "photos", "ä/b c.jpg", Condition::default()).await.unwrap().unwrap();
    assert!(objects.delete(&alice, "photos", "ä/b c.jpg", Condition::default()).await.unwrap().is_none());
    let events = objects.outbox().pending(0, 10).await.unwrap();
    let told: Vec<_> =
        events.iter().map(|event| (event.sequence, event.kind, &*event.key, event.size)).collect();
    assert_eq!(told, [(1, EventKind::Put, "ä/b c.jpg", 11), (2, EventKind::Delete, "ä/b c.jpg", 11)]);
    assert_eq!((&*events[0].etag, &*events[0].requester), (&*object.etag, "alice"));
    assert_eq!(service.files(), 0, "a deleted object's bytes are removed");
}

/// Limits a tenant's objects, as control does.
fn limit(state: &Path, tenant: &str, object_bytes: Option<u64>) {
    std::fs::create_dir_all(state.join("control")).unwrap();
    let limits = TenantLimits { object_bytes, ..TenantLimits::default() };
    let quota = Quota { row: 0, limits, functions: BTreeMap::new(), capped: false };
    rouse_quota::replace(state, &[(tenant.parse().unwrap(), quota)].into()).unwrap();
}

#[tokio::test]
async fn a_tenants_objects_never_have_more_bytes_than_they_may() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::with(|config| config.limits = Some(state.path().to_owned())).await;
    let (objects, alice, bob) = (&service.objects, caller("alice"), caller("bob"));
    for who in [&alice, &bob] {
        objects.create_bucket(who, "photos").await.unwrap();
        objects.put(who, "photos", "before", Put::default(), body(&["12345"])).await.unwrap();
    }
    // What was there before the limit counts, too.
    limit(state.path(), "alice", Some(45));
    let puts = (0..20).map(async |n| {
        let put =
            objects.put(&alice, "photos", &format!("k{n}"), Put::default(), body(&["0123456789"])).await;
        match put {
            Ok(_) => true,
            Err(Error::QuotaExceeded { limit: 45, .. }) => false,
            Err(other) => panic!("{other}"),
        }
    });
    let taken = futures_util::future::join_all(puts).await.into_iter().filter(|taken| *taken).count();
    assert_eq!(taken, 4, "all that fit, and no more");
    let refused = objects.put(&alice, "photos", "before", Put::default(), body(&["123456"])).await;
    assert!(matches!(refused, Err(Error::QuotaExceeded { used: 45, limit: 45 })));
    assert_eq!(read(objects, &alice, "photos", "before").await, b"12345", "it is what it was");
    // What is deleted or becomes smaller makes room, of as much.
    objects.put(&alice, "photos", "before", Put::default(), body(&["1"])).await.unwrap();
    objects.put(&alice, "photos", "small", Put::default(), body(&["1234"])).await.unwrap();
    assert!(objects.put(&alice, "photos", "more", Put::default(), body(&["1"])).await.is_err());
    objects.delete(&alice, "photos", "small", Condition::default()).await.unwrap();
    objects.put(&alice, "photos", "more", Put::default(), body(&["1234"])).await.unwrap();
    // Others are not limited, and without a limit nobody is.
    objects.put(&bob, "photos", "k", Put::default(), body(&[&"x".repeat(100)])).await.unwrap();
    limit(state.path(), "alice", None);
    objects.put(&alice, "photos", "k", Put::default(), body(&["0123456789"])).await.unwrap();
    // Set again, all is counted that came meanwhile.
    limit(state.path(), "alice", Some(55));
    assert!(objects.put(&alice, "photos", "one", Put::default(), body(&["1"])).await.is_err());
    assert_eq!(service.files(), 9, "of what was refused nothing is left");
}

#[tokio::test]
async fn parts_of_an_upload_count_until_it_is_an_object_or_no_more() {
    let state = tempfile::tempdir().unwrap();
    let service = Service::with(|config| config.limits = Some(state.path().to_owned())).await;
    let (objects, alice) = (&service.objects, caller("alice"));
    objects.create_bucket(&alice, "photos").await.unwrap();
    let begin = async |key: &str| {
        objects.begin_upload(&alice, "photos", key, Attributes::default(), None).await.unwrap().id
    };
    let part = async |key: &str, id: &str, number: u32, text: &str| {
        objects.put_part(&alice, ("photos", key, id), number, Expected::default(), body(&[text])).await
    };
    let put =
        async |key: &str, text: &str| objects.put(&alice, "photos", key, Put::default(), body(&[text])).await;
    let full = |result: Result<_, Error>| matches!(result, Err(Error::QuotaExceeded { limit: 30, .. }));
    // What was there before the limit counts, parts too.
    let early = begin("early").await;
    part("early", &early, 1, "0123456789").await.unwrap();
    limit(state.path(), "alice", Some(30));
    let late = begin("late").await;
    let parts = (1..=20).map(|number| part("late", &late, number, "01234"));
    let taken = futures_util::future::join_all(parts).await;
    assert_eq!(taken.iter().filter(|part| part.is_ok()).count(), 4, "all that fit, and no more");
    assert!(full(put("k", "1").await.map(drop)));
    // In the place of an earlier one a part takes what it has more.
    let number = taken.iter().position(Result::is_ok).unwrap() as u32 + 1;
    assert!(full(part("late", &late, number, "012345").await.map(drop)));
    part("late", &late, number, "012").await.unwrap();
    put("k", "12").await.unwrap();
    // Completion needs no room beside the parts, and frees what it leaves out.
    let listed = objects.list_parts(&alice, ("photos", "early", &early)).await.unwrap().1;
    let parts = vec![CompletedPart { number: 1, etag: listed[0].etag.clone(), checksum: None }];
    let completion = Completion { parts, ..Completion::default() };
    objects.complete_upload(&alice, ("photos", "early", &early), completion).await.unwrap();
    assert!(full(put("more", "1").await.map(drop)), "the object takes what its part took");
    objects.abort_upload(&alice, ("photos", "late", &late)).await.unwrap();
    put("more", &"x".repeat(18)).await.unwrap();
    assert!(full(put("most", "1").await.map(drop)));
}

#[tokio::test]
async fn buckets_belong_to_their_tenant_and_are_deleted_only_when_empty() {
    let service = Service::new().await;
    let (objects, alice, bob) = (&service.objects, caller("alice"), caller("bob"));
    objects.create_bucket(&alice, "photos").await.unwrap();
    assert!(matches!(objects.create_bucket(&alice, "photos").await, Err(Error::BucketExists(_))));
    assert!(matches!(objects.head_bucket(&bob, "photos").await, Err(Error::NoSuchBucket(_))));
    assert!(matches!(objects.create_bucket(&bob, "Photos").await, Err(Error::InvalidBucketName(_))));
    objects.create_bucket(&bob, "photos").await.unwrap();
    objects.put(&alice, "photos", "k", Put::default(), body(&["a"])).await.unwrap();
    assert!(matches!(objects.head(&bob, "photos", "k").await, Err(Error::NoSuchKey(_))));
    let copy = copy_of("photos", "k");
    assert!(matches!(objects.copy(&bob, "photos", "k", copy).await, Err(Error::NoSuchKey(_))));
    assert!(matches!(objects.delete_bucket(&alice, "photos").await, Err(Error::BucketNotEmpty(_))));
    objects.delete(&alice, "photos", "k", Condition::default()).await.unwrap();
    let upload = objects.begin_upload(&alice, "photos", "k", Attributes::default(), None).await.unwrap();
    assert!(matches!(objects.delete_bucket(&alice, "photos").await, Err(Error::BucketNotEmpty(_))));
    objects.abort_upload(&alice, ("photos", "k", &upload.id)).await.unwrap();
    objects.delete_bucket(&alice, "photos").await.unwrap();
    assert_eq!(objects.buckets(&alice).await.unwrap(), []);
    assert_eq!(objects.buckets(&bob).await.unwrap().len(), 1);
}

fn copy_of(bucket: &str, key: &str) -> Copy {
    Copy {
        from_bucket: bucket.to_owned(),
        from_key: key.to_owned(),
        from_condition: Condition::default(),
        attributes: None,
        tags: None,
    }
}

#[tokio::test]
async fn of_many_who_create_the_same_key_one_succeeds() {
    let service = Service::new().await;
    let (objects, alice) = (&service.objects, caller("alice"));
    objects.create_bucket(&alice, "b").await.unwrap_err();
    objects.create_bucket(&alice, "bbb").await.unwrap();
    let condition = Condition { if_none_match: Some("*".to_owned()), ..Condition::default() };
    let put = || Put { condition: condition.clone(), ..Put::default() };
    let all = futures_util::future::join_all(
        (0..20).map(|_| objects.put(&alice, "bbb", "k", put(), body(&["mine"]))),
    );
    let (won, lost): (Vec<_>, Vec<_>) = all.await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(|error| matches!(error, Err(Error::PreconditionFailed("If-None-Match")))));
    assert_eq!(objects.outbox().pending(0, 100).await.unwrap().len(), 1);
    assert_eq!(service.files(), 1, "what lost left nothing behind");
    let condition = Condition { if_match: Some("0123".to_owned()), ..Condition::default() };
    let put = Put { condition: condition.clone(), ..Put::default() };
    let stale = objects.put(&alice, "bbb", "k", put, body(&["x"])).await;
    assert!(matches!(stale, Err(Error::PreconditionFailed("If-Match"))));
    assert!(objects.delete(&alice, "bbb", "k", condition).await.is_err());
}

#[tokio::test]
async fn a_body_that_is_not_what_was_announced_changes_nothing() {
    let service = Service::new().await;
    let (objects, alice) = (&service.objects, caller("alice"));
    objects.create_bucket(&alice, "bbb").await.unwrap();
    objects.put(&alice, "bbb", "k", Put::default(), body(&["old"])).await.unwrap();
    let attempts = [
        Expected { bytes: Some(9), ..Expected::default() },
        Expected { bytes: Some(2), ..Expected::default() },
        Expected { md5: Some("AAAAAAAAAAAAAAAAAAAAAA==".to_owned()), ..Expected::default() },
        Expected {
            algorithm: Some(Algorithm::Crc32),
            checksum: Some("AAAAAA==".to_owned()),
            ..Expected::default()
        },
        Expected { bytes: Some(6 << 30), ..Expected::default() },
    ];
    for expected in attempts {
        let put = Put { expected: expected.clone(), ..Put::default() };
        assert!(objects.put(&alice, "bbb", "k", put, body(&["new"])).await.is_err(), "{expected:?}");
    }
    let broken = futures_util::stream::iter([
        Ok(Bytes::from_static(b"ne")),
        Err(Error::IncompleteBody("the client went away".to_owned())),
    ]);
    assert!(objects.put(&alice, "bbb", "k", Put::default(), broken).await.is_err());
    assert_eq!(read(objects, &alice, "bbb", "k").await, b"old");
    assert_eq!((service.files(), service.incoming()), (1, 0));
    assert_eq!(objects.outbox().pending(0, 100).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_listing_rolls_up_and_goes_on_where_it_ended() {
    let service = Service::new().await;
    let (objects, alice) = (&service.objects, caller("alice"));
    objects.create_bucket(&alice, "bbb").await.unwrap();
    let mut keys: Vec<String> = (0..40).map(|n| format!("dir{}/sub/{n:03}", n % 4)).collect();
    keys.extend(["a", "a/b", "a-b", "a.b", "z", "ä", "dir1", "dir1-x", "~", " "].map(str::to_owned));
    for key in &keys {
        objects.put(&alice, "bbb", key, Put::default(), body(&["x"])).await.unwrap();
    }
    keys.sort();
    let all = |prefix: &str, delimiter: Option<&str>, limit| {
        let mut query =
            Query { prefix: prefix.to_owned(), delimiter: delimiter.map(str::to_owned), after: None, limit };
        let alice = &alice;
        async move {
            let mut names = Vec::new();
            loop {
                let listing = objects.list(alice, "bbb", &query).await.unwrap();
                assert!(listing.entries.len() <= query.limit);
                names.extend(listing.entries.iter().map(|entry| entry.name().to_owned()));
                if !listing.more {
                    return names;
                }
                query.after = listing.entries.last().map(|last| last.name().to_owned());
            }
        }
    };
    let rolled =
        [" ", "a", "a-b", "a.b", "a/", "dir0/", "dir1", "dir1-x", "dir1/", "dir2/", "dir3/", "z", "~", "ä"];
    for limit in [1, 2, 3, 7, 1_000] {
        assert_eq!(all("", None, limit).await, keys, "{limit}");
        assert_eq!(all("", Some("/"), limit).await, rolled, "{limit}");
        assert_eq!(all("dir1", Some("/"), limit).await, ["dir1", "dir1-x", "dir1/"], "{limit}");
        assert_eq!(all("dir2/", Some("/"), limit).await, ["dir2/sub/"], "{limit}");
        assert_eq!(all("dir2/sub/", Some("/"), limit).await.len(), 10, "{limit}");
        assert_eq!(all("none", Some("/"), limit).await, Vec::<String>::new());
    }
    let first = objects.list(&alice, "bbb", &Query { limit: 1, ..Query::default() }).await.unwrap();
    assert!(matches!(&first.entries[0], Entry::Object(key, object) if key == " " && object.size == 1));
}

#[tokio::test]
async fn an_upload_becomes_an_object_of_its_parts_and_can_be_read_across_them() {
    let service = Service::new().await;
    let (objects, alice) = (&service.objects, caller("alice"));
    objects.create_bucket(&alice, "bbb").await.unwrap();
    let checksum = Some((Algorithm::Crc64nvme, ChecksumKind::Full));
    let upload = objects.begin_upload(&alice, "bbb", "big", Attributes::default(), checksum).await.unwrap();
    let at = ("bbb", "big", &*upload.id);
    let (large, small) = ("a".repeat(5 << 20), "tail");
    let mut parts = Vec::new();
    for (number, text) in [(7, small), (2, "replaced"), (2, &*large), (3, &*large), (9, "unused")] {
        let part = objects.put_part(&alice, at, number, Expected::default(), body(&[text])).await.unwrap();
        parts.push(CompletedPart { number, etag: part.etag, checksum: None });
    }
    let listed = objects.list_parts(&alice, at).await.unwrap().1;
    assert_eq!(listed.iter().map(|part| part.number).collect::<Vec<_>>(), [2, 3, 7, 9]);
    let query = UploadQuery { limit: 10, ..UploadQuery::default() };
    assert_eq!(
        objects.list_uploads(&alice, "bbb", &query).await.unwrap().uploads,
        std::slice::from_ref(&upload)
    );
    let complete = |parts: &[CompletedPart]| {
        let completion = Completion { parts: parts.to_vec(), ..Completion::default() };
        objects.complete_upload(&alice, at, completion)
    };
    let [small, replaced, second, third, _] = <[CompletedPart; 5]>::try_from(parts).unwrap();
    assert!(matches!(complete(&[]).await, Err(Error::Invalid(_))));
    assert!(matches!(complete(&[replaced, third.clone()]).await, Err(Error::InvalidPart(2))));
    assert!(matches!(complete(&[third.clone(), second.clone()]).await, Err(Error::InvalidPartOrder)));
    let unknown = CompletedPart { number: 5, ..small.clone() };
    assert!(matches!(complete(&[second.clone(), unknown]).await, Err(Error::InvalidPart(5))));
    let early = CompletedPart { number: 9, ..third.clone() };
    assert!(matches!(
        complete(&[second.clone(), small.clone(), early]).await,
        Err(Error::PartTooSmall { number: 7, .. })
    ));
    let object = complete(&[second.clone(), third.clone(), small.clone()]).await.unwrap();
    assert_eq!(object.size, (10 << 20) + 4);
    assert!(object.etag.ends_with("-3"), "{}", object.etag);
    assert!(matches!(complete(&[second, third, small]).await, Err(Error::NoSuchUpload(_))));
    assert_eq!(service.files(), 3, "parts that were replaced or not used are removed");
    let whole = read(objects, &alice, "bbb", "big").await;
    assert!(whole.ends_with(b"aatail") && whole.len() as u64 == object.size);
    let put = Put {
        expected: Expected {
            algorithm: Some(Algorithm::Crc64nvme),
            checksum: object.checksum.clone().map(|checksum| checksum.value),
            ..Expected::default()
        },
        ..Put::default()
    };
    let whole = futures_util::stream::iter([Ok(Bytes::from(whole))]);
    objects
        .put(&alice, "bbb", "same", put, whole)
        .await
        .expect("the checksum of the parts is that of the whole");
    let (from, to) = ((5 << 20) - 3, (10 << 20) + 2);
    let part = objects.get(&alice, "bbb", "big", &Condition::default(), |_| Ok(from..to)).await.unwrap();
    let part = collect(part.body).await;
    assert_eq!(part.len() as u64, to - from);
    assert!(part.ends_with(b"ata"));

    let copy = objects.copy(&alice, "bbb", "copy", copy_of("bbb", "big")).await.unwrap();
    assert_eq!((copy.size, &copy.etag), (object.size, &object.etag));
    objects.delete(&alice, "bbb", "big", Condition::default()).await.unwrap();
    assert!(
        read(objects, &alice, "bbb", "copy").await.ends_with(b"aatail"),
        "a copy does not need its source"
    );
    let kinds: Vec<_> =
        objects.outbox().pending(0, 10).await.unwrap().into_iter().map(|event| event.kind).collect();
    let expected = [EventKind::CompleteMultipartUpload, EventKind::Put, EventKind::Copy, EventKind::Delete];
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn what_is_being_read_stays_though_it_is_replaced_and_deleted() {
    let service = Service::new().await;
    let (objects, alice) = (&service.objects, caller("alice"));
    objects.create_bucket(&alice, "bbb").await.unwrap();
    let old = "o".repeat(2 << 20);
    objects.put(&alice, "bbb", "one", Put::default(), body(&[&old])).await.unwrap();
    let upload = objects.begin_upload(&alice, "bbb", "many", Attributes::default(), None).await.unwrap();
    let at = ("bbb", "many", &*upload.id);
    let large = "m".repeat(5 << 20);
    let mut parts = Vec::new();
    for number in [1, 2] {
        let part = objects.put_part(&alice, at, number, Expected::default(), body(&[&large])).await.unwrap();
        parts.push(CompletedPart { number, etag: part.etag, checksum: None });
    }
    let completion = Completion { parts, ..Completion::default() };
    objects.complete_upload(&alice, at, completion).await.unwrap();
    for (key, bytes) in [("one", old.len()), ("many", 2 * large.len())] {
        let mut reading =
            objects.get(&alice, "bbb", key, &Condition::default(), |size| Ok(0..size)).await.unwrap();
        let first = reading.body.next().await.unwrap().unwrap();
        objects.put(&alice, "bbb", key, Put::default(), body(&["new"])).await.unwrap();
        objects.delete(&alice, "bbb", key, Condition::default()).await.unwrap();
        let rest = collect(reading.body).await;
        assert_eq!(first.len() + rest.len(), bytes, "{key}");
    }
    service.until("the last reader's files are removed", |service| service.files() == 0).await;
}

#[tokio::test]
async fn the_outbox_gives_each_event_until_it_is_done_and_refuses_more_than_it_holds() {
    let service = Service::with(|config| config.outbox_max = 30).await;
    let (objects, alice) = (&service.objects, caller("alice"));
    objects.create_bucket(&alice, "bbb").await.unwrap();
    let mut watch = objects.outbox().watch();
    assert_eq!(*watch.borrow_and_update(), 0);
    let puts = (0..30).map(|n| {
        let (alice, key) = (&alice, format!("k{n}"));
        async move { objects.put(alice, "bbb", &key, Put::default(), body(&["x"])).await }
    });
    for put in futures_util::future::join_all(puts).await {
        put.unwrap();
    }
    assert!(watch.has_changed().unwrap());
    assert_eq!(*watch.borrow_and_update(), 30);
    let full = objects.put(&alice, "bbb", "more", Put::default(), body(&["x"])).await;
    assert!(matches!(full, Err(Error::OutboxFull(30))), "{full:?}");
    assert!(matches!(
        objects.delete(&alice, "bbb", "k1", Condition::default()).await,
        Err(Error::OutboxFull(_))
    ));
    assert_eq!(read(objects, &alice, "bbb", "k1").await, b"x", "what is there can be read");
    let sequences = |events: Vec<ObjectEvent>| events.iter().map(|event| event.sequence).collect::<Vec<_>>();
    let outbox = objects.outbox();
    assert_eq!(sequences(outbox.pending(0, 10).await.unwrap()), (1..=10).collect::<Vec<_>>());
    assert_eq!(sequences(outbox.pending(25, 10).await.unwrap()), (26..=30).collect::<Vec<_>>());
    outbox.done(12).await.unwrap();
    outbox.done(5).await.unwrap();
    assert_eq!(sequences(outbox.pending(0, 100).await.unwrap()), (13..=30).collect::<Vec<_>>());
    assert_eq!(outbox.waiting(), 18);
    objects.put(&alice, "bbb", "more", Put::default(), body(&["x"])).await.unwrap();
    outbox.done(u64::MAX).await.unwrap();
    assert_eq!(outbox.pending(0, 100).await.unwrap(), []);
    let service = service.reopen().await;
    service.objects.put(&alice, "bbb", "again", Put::default(), body(&["x"])).await.unwrap();
    let after = service.objects.outbox().pending(0, 10).await.unwrap();
    assert_eq!(sequences(after), [32], "numbers are not given twice");
}

#[tokio::test]
async fn a_sweep_removes_what_nobody_names_and_nothing_else() {
    let service = Service::new().await;
    let (objects, alice) = (&service.objects, caller("alice"));
    objects.create_bucket(&alice, "bbb").await.unwrap();
    objects.put(&alice, "bbb", "kept", Put::default(), body(&["kept"])).await.unwrap();
    let upload = objects.begin_upload(&alice, "bbb", "up", Attributes::default(), None).await.unwrap();
    let at = ("bbb", "up", &*upload.id);
    objects.put_part(&alice, at, 1, Expected::default(), body(&["part"])).await.unwrap();
    // What a crash between a file's name and its record leaves: the same file under a second name.
    let stray = service.stray();
    assert_eq!(objects.sweep().await.unwrap(), Swept::default(), "it may belong to a put under way");
    service.clock.advance(Duration::from_secs(2 * 3_600));
    assert_eq!(objects.sweep().await.unwrap(), Swept { files: 1, ..Swept::default() });
    assert!(!stray.exists());
    assert_eq!(service.files(), 2);
    service.clock.advance(Duration::from_secs(8 * 24 * 3_600));
    assert_eq!(objects.sweep().await.unwrap().uploads, 1);
    assert!(matches!(objects.list_parts(&alice, at).await, Err(Error::NoSuchUpload(_))));
    assert_eq!(read(objects, &alice, "bbb", "kept").await, b"kept");
    assert_eq!(service.files(), 1);
    let incoming = service.dir().join("objects/incoming/half");
    std::fs::write(&incoming, "half").unwrap();
    let service = service.reopen().await;
    assert!(!incoming.exists());
    assert_eq!(read(&service.objects, &alice, "bbb", "kept").await, b"kept");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_what_is_there_stays() {
    let service = Service::new().await;
    let alice = caller("alice");
    service.objects.create_bucket(&alice, "bbb").await.unwrap();
    service.objects.put(&alice, "bbb", "k", Put::default(), body(&["old"])).await.unwrap();
    let service = service.reopen_with(|config| config.reserve_bytes = u64::MAX).await;
    let objects: &Objects = &service.objects;
    let full = objects.put(&alice, "bbb", "k", Put::default(), body(&["new"])).await;
    assert!(matches!(full, Err(Error::Full(_))), "{full:?}");
    assert_eq!(read(objects, &alice, "bbb", "k").await, b"old");
    objects.delete(&alice, "bbb", "k", Condition::default()).await.unwrap();
    assert_eq!(service.files(), 0, "what is full can be emptied");
}

#[test]
fn the_defaults_are_bounded() {
    let config = Config::new(Path::new("/nowhere"));
    assert!(config.outbox_max <= 1_000_000 && config.reserve_bytes > 0);
}
