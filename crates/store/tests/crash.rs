//! `kill -9` at any moment loses nothing that was acknowledged. The test runs itself as a child that writes
//! and tells what was acknowledged, kills it after some of that, and looks at what is there; in a loop.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rouse_store::{
    Queues, Records,
    journal::{Cursor, Options, Reader, Writer},
    queues::{DEDUPLICATION_WINDOW_DEFAULT, NewMessage},
    records::{Expect, Write},
};
use rouse_types::{SystemClock, Timestamp};

const ROUNDS: u64 = 12;
const CHILD_DIR: &str = "ROUSE_STORE_CRASH_TEST_DIR";
const CHILD_ROUND: &str = "ROUSE_STORE_CRASH_TEST_ROUND";

/// In the child: where to write. In the parent: nothing.
fn child() -> Option<(PathBuf, u64)> {
    let dir = std::env::var_os(CHILD_DIR)?;
    Some((dir.into(), std::env::var(CHILD_ROUND).unwrap().parse().unwrap()))
}

/// Tells the parent. Standard output is a pipe that the parent reads until its end.
fn tell(word: &str, number: u64) {
    std::io::stdout().write_all(format!("@{word} {number}\n").as_bytes()).unwrap();
}

/// Runs this test in a child, kills it once it told `lines` lines, and gives all that it told.
fn kill_after(test: &str, dir: &Path, round: u64, lines: usize) -> Vec<(String, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD_DIR, dir)
        .env(CHILD_ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = Vec::new();
    // libtest's own first line has no end when the child begins to tell.
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((word, number)) = line.split_once('@').and_then(|(_, rest)| rest.split_once(' ')) {
            told.push((word.to_owned(), number.parse().unwrap()));
        }
        if told.len() == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(told.len() >= lines, "the child ended by itself: {told:?}");
    told
}

/// A different moment each round, without chance, so that a failure comes again.
fn moment(round: u64, range: usize) -> usize {
    1 + (round.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize % range
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

#[test]
fn a_journal_keeps_every_record_whose_append_returned() {
    let options = Options { segment_bytes: 64 << 10, ..Options::new("w") };
    if let Some((dir, round)) = child() {
        let mut writer = Writer::open(&dir, options).unwrap();
        for n in 0.. {
            writer.append(Timestamp(n), &[round as u8; 150][..50 + (n % 100) as usize]).unwrap();
            tell("appended", n);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut reader = Reader::open(dir.path(), Cursor::default());
    for round in 0..ROUNDS {
        let test = "a_journal_keeps_every_record_whose_append_returned";
        let told = kill_after(test, dir.path(), round, moment(round, 3_000));
        let batch = reader.read(usize::MAX).unwrap();
        assert_eq!(batch.corruptions, []);
        assert!(batch.records.len() >= told.len(), "{} < {}", batch.records.len(), told.len());
        for (n, record) in batch.records.iter().enumerate() {
            assert_eq!((record.time, record.payload[0]), (Timestamp(n as u64), round as u8));
            assert_eq!(record.payload.len(), 50 + n % 100);
        }
    }
}

#[test]
fn records_keep_every_write_that_was_answered_and_transactions_stay_whole() {
    const TASKS: u64 = 8;
    let open = |dir: &Path| Records::open(&dir.join("records.db")).unwrap();
    if let Some((dir, _)) = child() {
        let records = open(&dir);
        runtime().block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for task in 0..TASKS {
                let records = records.clone();
                tasks.spawn(async move {
                    let key = |side: &str| format!("{side}/{task}");
                    let value = records.get("n", &key("left")).await.unwrap().map_or(vec![0; 8], |r| r.value);
                    let mut n = u64::from_le_bytes(value.try_into().unwrap());
                    loop {
                        n += 1;
                        let write = |side| {
                            let (namespace, value) = ("n".to_owned(), Some(n.to_le_bytes().to_vec()));
                            Write { namespace, key: key(side), expect: Expect::Any, value }
                        };
                        records.commit(vec![write("left"), write("right")]).await.unwrap();
                        tell("committed", n * TASKS + task);
                    }
                });
            }
            tasks.join_next().await
        });
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let test = "records_keep_every_write_that_was_answered_and_transactions_stay_whole";
        let told = kill_after(test, dir.path(), round, moment(round, 200));
        let mut acknowledged = BTreeMap::<u64, u64>::new();
        for (_, number) in told {
            let last = acknowledged.entry(number % TASKS).or_default();
            *last = (*last).max(number / TASKS);
        }
        let records = open(dir.path());
        for (task, last) in acknowledged {
            let find = |side: &str| {
                let record =
                    runtime().block_on(records.get("n", &format!("{side}/{task}"))).unwrap().unwrap();
                u64::from_le_bytes(record.value.try_into().unwrap())
            };
            let (left, right) = (find("left"), find("right"));
            assert!(
                left >= last && left == right,
                "task {task}: {last} acknowledged, {left} and {right} found"
            );
        }
    }
}

#[test]
fn queues_keep_every_message_until_it_was_finished() {
    let open = |dir: &Path| {
        Queues::open(&dir.join("queues.db"), Arc::new(SystemClock), DEDUPLICATION_WINDOW_DEFAULT).unwrap()
    };
    let number = |payload: &[u8]| u64::from_le_bytes(payload[..8].try_into().unwrap());
    if let Some((dir, round)) = child() {
        let queues = open(&dir);
        runtime().block_on(async {
            let consumer = async {
                while let Ok(leased) = queues.lease("q", 4, Duration::ZERO).await {
                    for message in leased {
                        tell("finishing", number(&message.payload));
                        if queues.ack(vec![message.lease]).await.unwrap()[0] {
                            tell("finished", number(&message.payload));
                        }
                    }
                    tokio::task::yield_now().await;
                }
            };
            let producer = async {
                for batch in 0_u64.. {
                    let numbers = (0..3).map(|n| round * 1_000_000 + batch * 3 + n);
                    let message = |n: u64| NewMessage {
                        attempts_max: u32::MAX,
                        ..NewMessage::new(n.to_le_bytes().to_vec())
                    };
                    queues.enqueue("q", numbers.clone().map(message).collect()).await.unwrap();
                    numbers.for_each(|n| tell("sent", n));
                }
            };
            tokio::join!(consumer, producer)
        });
    }
    let dir = tempfile::tempdir().unwrap();
    let mut all: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for round in 0..ROUNDS {
        let test = "queues_keep_every_message_until_it_was_finished";
        for (word, n) in kill_after(test, dir.path(), round, 10 + moment(round, 200)) {
            all.entry(word).or_default().insert(n);
        }
        let (queues, runtime) = (open(dir.path()), runtime());
        let mut present = BTreeSet::new();
        // Held long enough that each is seen once, then given back for the next round.
        let mut leases = Vec::new();
        loop {
            let leased = runtime.block_on(queues.lease("q", 1_000, Duration::from_secs(3_600))).unwrap();
            if leased.is_empty() {
                break;
            }
            for message in leased {
                assert!(present.insert(number(&message.payload)), "a message was doubled");
                leases.push(message.lease);
            }
        }
        for lease in leases {
            assert!(runtime.block_on(queues.nack(lease, Duration::ZERO, "")).unwrap());
        }
        let empty = BTreeSet::new();
        let told = |word: &str| all.get(word).unwrap_or(&empty);
        let lost: Vec<_> =
            told("sent").iter().filter(|n| !present.contains(n) && !told("finishing").contains(n)).collect();
        assert!(lost.is_empty(), "accepted and nowhere: {lost:?}");
        let risen: Vec<_> = told("finished").intersection(&present).collect();
        assert!(risen.is_empty(), "finished and there again: {risen:?}");
    }
}
