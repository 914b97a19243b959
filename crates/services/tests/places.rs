//! Where the bytes lie makes no difference: one contract over the local disk and over a bucket of a real S3 server. And
//! what a bucket adds: it can be away, a process can be killed while it sends, and it belongs to one platform.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]
#![expect(clippy::print_stderr, reason = "a test says there that it was skipped")]

#[path = "support/service.rs"]
mod service;
#[path = "support/tools.rs"]
mod tools;
#[path = "support/weed.rs"]
mod weed;

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use object_store::ObjectStoreExt as _;
use rouse_services::objects::{
    Algorithm, Attributes, CompletedPart, Completion, Condition, Config, Copy, Credentials, Error, Expected,
    Objects, Place, Put, S3Place,
};
use rouse_store::Records;
use rouse_types::SystemClock;
use service::{Closed, Service, body, caller, collect, read};
use weed::Weed;

const MIB: usize = 1 << 20;
const CHILD_DIR: &str = "ROUSE_OBJECTS_PLACES_TEST_DIR";
const CHILD_ENDPOINT: &str = "ROUSE_OBJECTS_PLACES_TEST_ENDPOINT";

/// Where the bytes of a service lie, as a test sees it.
#[derive(Clone, Copy)]
enum Lie<'a> {
    Local,
    Bucket(&'a Weed, &'a str),
}

fn at(endpoint: &str, prefix: &str) -> Place {
    Place::S3(S3Place::parse(&format!("s3://{}/{prefix}", weed::BUCKET), Some(endpoint), None).unwrap())
}

fn credentials() -> Credentials {
    Credentials {
        access_key_id: weed::ACCESS_KEY_ID.to_owned(),
        secret_access_key: weed::SECRET_ACCESS_KEY.to_owned(),
        session_token: None,
    }
}

fn set(place: Place) -> impl FnOnce(&mut Config) {
    move |config| {
        config.place = place;
        config.credentials = Some(credentials());
    }
}

impl Lie<'_> {
    async fn service(self) -> Service {
        match self {
            Self::Local => Service::new().await,
            Self::Bucket(weed, prefix) => Service::with(set(at(&weed.endpoint(), prefix))).await,
        }
    }

    /// The files that are there.
    async fn files(self, service: &Service) -> Vec<String> {
        match self {
            Self::Local => service.names(),
            Self::Bucket(weed, prefix) => weed.keys(&format!("{prefix}/data")).await,
        }
    }

    /// Removes one behind the service's back.
    async fn lose(self, name: &str) {
        match self {
            Self::Local => std::fs::remove_file(name).unwrap(),
            Self::Bucket(weed, _) => weed.store().delete(&name.into()).await.unwrap(),
        }
    }

    /// Adds a file that no record names, of the age of this one.
    async fn stray(self, like: &str) {
        // The last digits but two are chance.
        let (head, tail) = like.split_at(like.len() - 6);
        let stray = format!("{head}{}{}", if tail.starts_with("0000") { "1111" } else { "0000" }, &tail[4..]);
        match self {
            Self::Local => std::fs::write(stray, "stray").unwrap(),
            Self::Bucket(weed, _) => {
                weed.store().put(&stray.into(), "stray".into()).await.unwrap();
            }
        }
    }

    /// Waits until there are so many.
    async fn until(self, service: &Service, count: usize) {
        for _ in 0..300 {
            if self.files(service).await.len() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("{count} files were waited for, not {:?}", self.files(service).await);
    }

    /// No upload is under way, neither by our notes nor by the store's own.
    async fn until_no_uploads(self, service: &Service) {
        let Self::Bucket(weed, _) = self else { return assert_eq!(service.incoming(), 0) };
        for _ in 0..300 {
            if service.notes() == 0 && weed.uploads().await == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("{} notes, {} uploads", service.notes(), weed.uploads().await);
    }
}

/// Bytes of which each is another than its neighbours.
fn pattern(length: usize) -> Vec<u8> {
    (0_usize..length).map(|at| (at / 251 + at) as u8).collect()
}

fn streamed(bytes: &[u8]) -> impl Stream<Item = Result<Bytes, Error>> + Send + Unpin + use<> {
    let chunks: Vec<_> = bytes.chunks(300_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks)
}

fn copy_of(key: &str) -> Copy {
    Copy {
        from_bucket: "bbb".to_owned(),
        from_key: key.to_owned(),
        from_condition: Condition::default(),
        attributes: None,
        tags: None,
    }
}

async fn contract(place: Lie<'_>) {
    let mut service = place.service().await;
    let alice = caller("alice");
    let nothing = Condition::default;
    {
        let objects = &service.objects;
        objects.create_bucket(&alice, "bbb").await.unwrap();

        // Whole and by range, also where parts of a large one meet; and the empty one.
        let large = pattern(20 * MIB + 7);
        objects.put(&alice, "bbb", "large", Put::default(), streamed(&large)).await.unwrap();
        objects.put(&alice, "bbb", "small", Put::default(), body(&["hello ", "world"])).await.unwrap();
        objects.put(&alice, "bbb", "empty", Put::default(), body(&[])).await.unwrap();
        assert_eq!(read(objects, &alice, "bbb", "small").await, b"hello world");
        assert_eq!(read(objects, &alice, "bbb", "empty").await, b"");
        assert!(read(objects, &alice, "bbb", "large").await == large);
        for range in [0..1, 8 * MIB - 3..8 * MIB + 3, 5 * MIB..17 * MIB, 20 * MIB..20 * MIB + 7] {
            let wanted = range.start as u64..range.end as u64;
            let part = objects.get(&alice, "bbb", "large", &nothing(), |_| Ok(wanted.clone())).await.unwrap();
            assert!(collect(part.body).await == large[range]);
        }
        assert_eq!(place.files(&service).await.len(), 3);

        // What is abandoned, or is not what was announced, leaves nothing.
        let broken = streamed(&large).chain(stream::iter([Err(Error::IncompleteBody("gone".to_owned()))]));
        let refused = objects.put(&alice, "bbb", "small", Put::default(), broken).await;
        assert!(matches!(refused, Err(Error::IncompleteBody(_))), "{refused:?}");
        let expected = Expected { md5: Some("AAAAAAAAAAAAAAAAAAAAAA==".to_owned()), ..Expected::default() };
        let put = Put { expected, ..Put::default() };
        let refused = objects.put(&alice, "bbb", "small", put, streamed(&large)).await;
        assert!(matches!(refused, Err(Error::BadDigest { .. })), "{refused:?}");
        place.until_no_uploads(&service).await;
        place.until(&service, 3).await;
        assert_eq!(read(objects, &alice, "bbb", "small").await, b"hello world");

        // The parts of a multipart upload, one behind the other, with a checksum of the whole.
        let checksum = Some((Algorithm::Crc32, rouse_services::objects::ChecksumKind::Full));
        let upload =
            objects.begin_upload(&alice, "bbb", "parts", Attributes::default(), checksum).await.unwrap();
        let names = ("bbb", "parts", &*upload.id);
        let mut parts = Vec::new();
        for (number, bytes) in [(1, &large[..9 * MIB]), (2, &large[9 * MIB..])] {
            let part = objects.put_part(&alice, names, number, Expected::default(), streamed(bytes)).await;
            parts.push(CompletedPart { number, etag: part.unwrap().etag, checksum: None });
        }
        let completion = Completion { parts, ..Completion::default() };
        objects.complete_upload(&alice, names, completion).await.unwrap();
        assert!(read(objects, &alice, "bbb", "parts").await == large);
        assert_eq!(place.files(&service).await.len(), 5);

        // A copy stays when what it was made of is gone.
        for key in ["large", "parts"] {
            objects.copy(&alice, "bbb", &format!("{key}-copy"), copy_of(key)).await.unwrap();
            objects.delete(&alice, "bbb", key, nothing()).await.unwrap().unwrap();
            assert!(read(objects, &alice, "bbb", &format!("{key}-copy")).await == large);
        }
        place.until(&service, 5).await;

        // A read goes on when its object is deleted; then the bytes go.
        let begun = objects.get(&alice, "bbb", "large-copy", &nothing(), |size| Ok(0..size)).await.unwrap();
        objects.delete(&alice, "bbb", "large-copy", nothing()).await.unwrap().unwrap();
        assert!(collect(begun.body).await == large);
        objects.delete(&alice, "bbb", "parts-copy", nothing()).await.unwrap().unwrap();
        objects.delete(&alice, "bbb", "empty", nothing()).await.unwrap().unwrap();
        place.until(&service, 1).await;

        // What nothing names is swept, but not while it may be about to be named.
        let named = place.files(&service).await.remove(0);
        place.stray(&named).await;
        assert_eq!(objects.sweep().await.unwrap().files, 0);
        assert_eq!(place.files(&service).await.len(), 2);
        service.clock.advance(Duration::from_secs(2 * 3_600));
        assert_eq!(objects.sweep().await.unwrap().files, 1);
        assert_eq!(place.files(&service).await, [named]);
    }
    // All of that outlives the process.
    service = match place {
        Lie::Local => service.reopen().await,
        Lie::Bucket(weed, prefix) => service.reopen_with(set(at(&weed.endpoint(), prefix))).await,
    };
    assert_eq!(read(&service.objects, &alice, "bbb", "small").await, b"hello world");

    // Bytes that are lost are told as that.
    let named = place.files(&service).await.remove(0);
    place.lose(&named).await;
    let lost = service.objects.get(&alice, "bbb", "small", &nothing(), |size| Ok(0..size)).await;
    assert!(matches!(lost, Err(Error::Missing(_))), "{lost:?}");
    let lost = service.objects.copy(&alice, "bbb", "copy", copy_of("small")).await;
    assert!(matches!(lost, Err(Error::Missing(_))), "{lost:?}");
}

#[tokio::test]
async fn the_local_disk_keeps_the_contract() {
    contract(Lie::Local).await;
}

#[tokio::test]
async fn a_bucket_keeps_the_contract() {
    let Some(weed) = Weed::start(tools::weed("a_bucket_keeps_the_contract")).await else { return };
    contract(Lie::Bucket(&weed, "tests/contract")).await;
}

#[tokio::test]
async fn while_the_store_is_away_that_is_said_and_nothing_is_lost_or_half_there() {
    let test = "while_the_store_is_away_that_is_said_and_nothing_is_lost_or_half_there";
    let Some(mut weed) = Weed::start(tools::weed(test)).await else { return };
    let service = Lie::Bucket(&weed, "away").service().await;
    let (objects, alice) = (&service.objects, caller("alice"));
    objects.create_bucket(&alice, "bbb").await.unwrap();
    for key in ["kept", "deleted"] {
        objects.put(&alice, "bbb", key, Put::default(), body(&[key])).await.unwrap();
    }
    // It goes in the middle of a body.
    let large = pattern(30 * MIB);
    let (mut pieces, mut count) = (streamed(&large), 0);
    let (reached, mut halfway) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, mut may_go_on) = tokio::sync::mpsc::unbounded_channel::<()>();
    let paused = Box::pin(stream::poll_fn(move |context| {
        if count == 60 {
            let _ = reached.send(());
            std::task::ready!(may_go_on.poll_recv(context));
        }
        count += 1;
        pieces.poll_next_unpin(context)
    }));
    let put = objects.put(&alice, "bbb", "large", Put::default(), paused);
    let away = async {
        halfway.recv().await.unwrap();
        weed.kill();
        go_on.send(()).unwrap();
    };
    let (put, ()) = tokio::join!(put, away);
    assert!(matches!(put, Err(Error::Away { .. })), "{put:?}");
    let got = objects.get(&alice, "bbb", "kept", &Condition::default(), |size| Ok(0..size)).await;
    assert!(matches!(got, Err(Error::Away { .. })), "{got:?}");
    let put = objects.put(&alice, "bbb", "kept", Put::default(), body(&["new"])).await;
    assert!(matches!(put, Err(Error::Away { .. })), "{put:?}");
    let copied = objects.copy(&alice, "bbb", "copy", copy_of("kept")).await;
    assert!(matches!(copied, Err(Error::Away { .. })), "{copied:?}");
    assert!(matches!(objects.sweep().await, Err(Error::Away { .. })));
    // Records are here: what is deleted is gone at once, its bytes when the store is back.
    objects.delete(&alice, "bbb", "deleted", Condition::default()).await.unwrap().unwrap();
    assert!(matches!(objects.head(&alice, "bbb", "large").await, Err(Error::NoSuchKey(_))));
    // A process that starts meanwhile does not wait for the store.
    let service = service.reopen_with(set(at(&weed.endpoint(), "away"))).await;
    let objects = &service.objects;

    weed.run().await;
    assert_eq!(read(objects, &alice, "bbb", "kept").await, b"kept");
    objects.put(&alice, "bbb", "large", Put::default(), streamed(&large)).await.unwrap();
    assert!(read(objects, &alice, "bbb", "large").await == large);
    service.clock.advance(Duration::from_secs(2 * 3_600));
    objects.sweep().await.unwrap();
    let place = Lie::Bucket(&weed, "away");
    assert_eq!(place.files(&service).await.len(), 2);
    place.until_no_uploads(&service).await;
}

/// In the child: sends a body that does not end, until it is killed.
async fn send_for_ever(dir: &std::path::Path, endpoint: &str) {
    let mut config = Config::new(dir.join("objects"));
    set(at(endpoint, "killed"))(&mut config);
    let records = Records::open(&dir.join("objects.db")).unwrap();
    let objects = Objects::open(config, records, Arc::new(SystemClock)).await.unwrap();
    let alice = caller("alice");
    objects.create_bucket(&alice, "bbb").await.unwrap();
    let endless = stream::iter(std::iter::repeat_with(|| Ok(Bytes::from_static(&[7; 65_536])))).take(1_000);
    let endless = endless.chain(stream::pending());
    objects.put(&alice, "bbb", "endless", Put::default(), endless).await.unwrap();
}

#[tokio::test]
async fn an_upload_of_a_killed_process_is_aborted_by_the_next() {
    let test = "an_upload_of_a_killed_process_is_aborted_by_the_next";
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        let endpoint = std::env::var(CHILD_ENDPOINT).unwrap();
        return send_for_ever(dir.as_ref(), &endpoint).await;
    }
    let Some(weed) = Weed::start(tools::weed(test)).await else { return };
    let place = Lie::Bucket(&weed, "killed");
    let service = place.service().await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test]).env(CHILD_DIR, service.dir()).env(CHILD_ENDPOINT, weed.endpoint());
    // One process at a time has the records.
    let service = service.close();
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for _ in 0..600 {
        if service.notes() == 1 && weed.uploads().await == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((service.notes(), weed.uploads().await), (1, 1));

    let service = service.open_with(set(at(&weed.endpoint(), "killed"))).await;
    service.objects.sweep().await.unwrap();
    assert_eq!((service.notes(), weed.uploads().await), (0, 0));
    assert_eq!(place.files(&service).await, [""; 0]);
}

#[tokio::test]
async fn a_store_is_spoken_to_over_tls_if_the_host_trusts_its_certificate() {
    let test = "a_store_is_spoken_to_over_tls_if_the_host_trusts_its_certificate";
    // The child trusts what its environment says.
    if let Ok(endpoint) = std::env::var(CHILD_ENDPOINT) {
        let service = Service::new().await.close();
        let refused = refusal(&service, at(&endpoint, "tls"), credentials(), true).await;
        assert_eq!(refused, None);
        let service = service.open_with(set(at(&endpoint, "tls"))).await;
        let (objects, alice, large) = (&service.objects, caller("alice"), pattern(20 * MIB));
        objects.create_bucket(&alice, "bbb").await.unwrap();
        objects.put(&alice, "bbb", "large", Put::default(), streamed(&large)).await.unwrap();
        assert!(read(objects, &alice, "bbb", "large").await == large);
        return;
    }
    let Some(weed) = Weed::start_with_tls(tools::weed(test)).await else { return };
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test]).env(CHILD_ENDPOINT, weed.tls_endpoint());
    let output = child.env("SSL_CERT_FILE", weed.certificate()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(weed.keys("tls/data").await.len(), 1);
    // And else it is not.
    let service = Service::new().await.close();
    let what = refusal(&service, at(&weed.tls_endpoint(), "tls"), credentials(), true).await.unwrap();
    assert!(what.contains("cannot be used") && what.to_lowercase().contains("certificate"), "{what}");
}

/// Opens a service over this folder; gives what is wrong.
async fn refusal(service: &Closed, place: Place, credentials: Credentials, check: bool) -> Option<String> {
    let mut config = Config::new(service.dir().join("objects"));
    (config.place, config.credentials) = (place, Some(credentials));
    let records = Records::open(&service.dir().join("objects.db")).unwrap();
    let opened = match check {
        true => Objects::check(&config, &records).await,
        false => Objects::open(config, records, Arc::new(SystemClock)).await.map(drop),
    };
    match opened {
        Ok(()) => None,
        Err(Error::Place(what)) => Some(what),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn objects_are_looked_for_where_they_are_and_a_prefix_belongs_to_one_platform() {
    let test = "objects_are_looked_for_where_they_are_and_a_prefix_belongs_to_one_platform";
    let Some(mut weed) = Weed::start(tools::weed(test)).await else { return };
    let alice = caller("alice");
    let (first, other) = (at(&weed.endpoint(), "first"), at(&weed.endpoint(), "other"));
    let renamed = at(&format!("http://localhost:{}", weed.address().port()), "first");

    // While there are no objects, any place may be taken, and left again.
    let service = Service::new().await.close();
    for place in [&other, &first, &Place::Local, &first] {
        assert_eq!(refusal(&service, place.clone(), credentials(), false).await, None, "{place}");
    }
    let service = service.open_with(set(first.clone())).await;
    service.objects.create_bucket(&alice, "bbb").await.unwrap();
    service.objects.put(&alice, "bbb", "k", Put::default(), body(&["v"])).await.unwrap();
    let service = service.close();
    for place in [&Place::Local, &other] {
        let what = refusal(&service, place.clone(), credentials(), false).await.unwrap();
        assert!(what.contains("--objects s3://bytes/first --objects-endpoint http://"), "{what}");
    }
    for check in [true, false] {
        assert_eq!(refusal(&service, first.clone(), credentials(), check).await, None);
    }
    // The same bucket by another name is the same: it says so itself.
    assert_eq!(refusal(&service, renamed.clone(), credentials(), false).await, None);

    // Objects on the disk stay there.
    let local = Service::new().await;
    local.objects.create_bucket(&alice, "bbb").await.unwrap();
    local.objects.put(&alice, "bbb", "k", Put::default(), body(&["v"])).await.unwrap();
    let local = local.close();
    let what = refusal(&local, other.clone(), credentials(), true).await.unwrap();
    assert!(what.contains("start without --objects"), "{what}");

    // Another platform gets no prefix that is taken: its sweep would remove what it does not know.
    let another = Service::new().await.close();
    let what = refusal(&another, first.clone(), credentials(), false).await.unwrap();
    assert!(what.contains("belongs to another platform"), "{what}");

    // A wrong secret, no bucket, and no store are told before anything serves, without the secret.
    let mut wrong = credentials();
    wrong.secret_access_key = "guessed".to_owned();
    let what = refusal(&service, renamed.clone(), wrong, true).await.unwrap();
    assert!(what.contains("cannot be used") && what.contains("access key may put"), "{what}");
    assert!(!what.contains("guessed"), "{what}");
    weed.kill();
    let what = refusal(&service, renamed.clone(), credentials(), true).await.unwrap();
    assert!(what.contains("cannot be used"), "{what}");
    assert_eq!(refusal(&service, renamed, credentials(), false).await, None);
}
