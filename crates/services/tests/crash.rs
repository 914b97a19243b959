//! `kill -9` at any moment: every put and deletion that was acknowledged is there with its event, exactly once, and
//! there is no event without what it tells. The test runs itself as a server process, kills it while clients write,
//! and looks; in a loop, over the same folder.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

#[path = "support/service.rs"]
mod service;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rouse_services::objects::{
    Attributes, CompletedPart, Completion, Condition, Config, EventKind, Expected, ObjectEvent, Objects, Put,
    Query, Swept,
};
use rouse_store::Records;
use rouse_types::{Clock as _, ManualClock, SystemClock};
use service::{body, caller, read};

const ROUNDS: usize = 10;
const WRITERS: usize = 8;
const CHILD_DIR: &str = "ROUSE_OBJECTS_CRASH_TEST_DIR";
const CHILD_ROUND: &str = "ROUSE_OBJECTS_CRASH_TEST_ROUND";

async fn open(dir: &Path, clock: Arc<dyn rouse_types::Clock>) -> Objects {
    let mut config = Config::new(dir.join("objects"));
    config.reserve_bytes = 0;
    Objects::open(config, Records::open(&dir.join("objects.db")).unwrap(), clock).await.unwrap()
}

/// Tells the parent what was acknowledged. Its standard output is a pipe.
fn tell(line: &str) {
    std::io::stdout().write_all(format!("@{line}\n").as_bytes()).unwrap();
}

/// In the child: writes until it is killed. Each writer has keys of its own, which it puts again and again, deletes, and
/// completes uploads under.
async fn write(dir: &Path, round: &str) {
    let objects = open(dir, Arc::new(SystemClock)).await;
    let alice = caller("alice");
    let writer = |writer: usize| {
        let (objects, alice) = (&objects, &alice);
        async move {
            for number in 0_usize.. {
                let key = format!("{writer}/{}", number % 5);
                let text = format!("{round}-{writer}-{number} ").repeat(1 + number % 300);
                match number % 7 {
                    3 => {
                        let was = objects.delete(alice, "bbb", &key, Condition::default()).await.unwrap();
                        if was.is_some() {
                            tell(&format!("delete {key} -"));
                        }
                    }
                    5 => {
                        let upload = objects
                            .begin_upload(alice, "bbb", &key, Attributes::default(), None)
                            .await
                            .unwrap();
                        let at = ("bbb", &*key, &*upload.id);
                        let part = objects
                            .put_part(alice, at, 1, Expected::default(), body(&[&text]))
                            .await
                            .unwrap();
                        let parts = vec![CompletedPart { number: 1, etag: part.etag, checksum: None }];
                        let completion = Completion { parts, ..Completion::default() };
                        let object = objects.complete_upload(alice, at, completion).await.unwrap();
                        tell(&format!("complete {key} {}", object.version));
                    }
                    _ => {
                        let object =
                            objects.put(alice, "bbb", &key, Put::default(), body(&[&text])).await.unwrap();
                        tell(&format!("put {key} {}", object.version));
                    }
                }
            }
        }
    };
    futures_util::future::join_all((0..WRITERS).map(writer)).await;
}

/// What a killed server had acknowledged: of each key, in order.
fn kill_after(dir: &Path, round: usize, lines: usize) -> Vec<[String; 3]> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "what_was_acknowledged_is_there_with_its_event_once",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD_DIR, dir)
        .env(CHILD_ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if let Some((_, line)) = line.split_once('@') {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            told.extend(<[String; 3]>::try_from(words).ok());
        }
        if told.len() == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(told.len() >= lines, "the child ended by itself after {} lines", told.len());
    told
}

#[test]
fn what_was_acknowledged_is_there_with_its_event_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let (Some(dir), Ok(round)) = (std::env::var_os(CHILD_DIR), std::env::var(CHILD_ROUND)) {
        runtime.block_on(write(Path::new(&dir), &round));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let alice = caller("alice");
    runtime.block_on(async {
        open(dir.path(), Arc::new(SystemClock)).await.create_bucket(&alice, "bbb").await.unwrap();
    });
    let (mut before, mut last) = (BTreeMap::new(), 0);
    for round in 0..ROUNDS {
        // A different moment each round, without chance, so that a failure comes again.
        let told = kill_after(dir.path(), round, 20 + round * 37 % 101);
        runtime.block_on(async {
            let clock = Arc::new(ManualClock::at(SystemClock.now()));
            let objects = open(dir.path(), clock.clone()).await;
            let events = drain(&objects, &mut last).await;
            tells_what_is_there(&objects, &mut before, &events).await;
            acknowledged_is_told(&told, &events);
            // Afterwards nothing is left over but what records name.
            clock.advance(Duration::from_secs(2 * 3_600));
            objects.sweep().await.unwrap();
            assert_eq!(objects.sweep().await.unwrap(), Swept::default());
        });
    }
}

/// All events, which must be new ones in order.
async fn drain(objects: &Objects, last: &mut u64) -> Vec<ObjectEvent> {
    let mut all = Vec::new();
    loop {
        let events = objects.outbox().pending(0, 50).await.unwrap();
        let Some(end) = events.last().map(|event| event.sequence) else { return all };
        for event in events {
            assert!(event.sequence > *last, "{event:?} comes twice");
            *last = event.sequence;
            all.push(event);
        }
        objects.outbox().done(end).await.unwrap();
    }
}

/// The events of this round, applied to what was there before it, give what is there; and its bytes can be read.
async fn tells_what_is_there(
    objects: &Objects,
    before: &mut BTreeMap<String, String>,
    events: &[ObjectEvent],
) {
    let alice = caller("alice");
    for event in events {
        match event.kind {
            EventKind::Delete => {
                assert_eq!(before.remove(&event.key).as_ref(), Some(&event.version), "{event:?}")
            }
            _ => drop(before.insert(event.key.clone(), event.version.clone())),
        }
    }
    let listing = objects.list(&alice, "bbb", &Query { limit: 1_000, ..Query::default() }).await.unwrap();
    let mut found = BTreeMap::new();
    for entry in &listing.entries {
        let object = objects.head(&alice, "bbb", entry.name()).await.unwrap();
        let bytes = read(objects, &alice, "bbb", entry.name()).await;
        assert_eq!(bytes.len() as u64, object.size);
        let (word, count) = (bytes.split_inclusive(|byte| *byte == b' ').next(), bytes.len());
        let word = word.unwrap();
        assert_eq!(bytes, word.repeat(count / word.len()), "the bytes are of one put");
        found.insert(entry.name().to_owned(), object.version.to_string());
    }
    assert_eq!(found, *before);
}

/// Each acknowledged write has its event once, in its key's order; at most one more of each writer, which was not
/// acknowledged yet, follows.
fn acknowledged_is_told(told: &[[String; 3]], events: &[ObjectEvent]) {
    for writer in 0..WRITERS {
        let prefix = format!("{writer}/");
        let told: Vec<_> = told.iter().filter(|[_, key, _]| key.starts_with(&prefix)).collect();
        let events: Vec<_> = events.iter().filter(|event| event.key.starts_with(&prefix)).collect();
        assert!((told.len()..=told.len() + 1).contains(&events.len()), "{told:?} {events:?}");
        for ([what, key, version], event) in told.iter().zip(&events) {
            let expected = match &**what {
                "put" => EventKind::Put,
                "complete" => EventKind::CompleteMultipartUpload,
                _ => EventKind::Delete,
            };
            assert_eq!((key, expected), (&event.key, event.kind));
            assert!(expected == EventKind::Delete || *version == event.version, "{version} {event:?}");
        }
    }
}
