//! What a cluster's stores promise beyond the contract: several nodes, an engine that is away or dies, logs that are cut.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

#[path = "support/engine.rs"]
mod engine;
#[path = "support/nats.rs"]
mod nats;

use std::{
    collections::BTreeSet,
    future::Future,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rouse_store::{
    Blobs, Cluster, Error, Queues, Records,
    cluster::{self, Options},
    queues::NewMessage,
    records::{Expect, Write},
};
use rouse_types::{Digest, SystemClock};

use self::nats::Engine;

/// For whatever must happen at last, on a machine that is busy.
const LONG: Duration = Duration::from_secs(120);

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn records(cluster: &Cluster, folder: &Path) -> Records {
    Records::join(cluster, "records", folder).await.unwrap()
}

async fn queues(cluster: &Cluster, folder: &Path) -> Queues {
    Queues::join(cluster, "queues", folder, Arc::new(SystemClock), LONG).await.unwrap()
}

fn put(key: &str, value: Vec<u8>) -> Write {
    Write { namespace: "n".to_owned(), key: key.to_owned(), expect: Expect::Any, value: Some(value) }
}

/// Waits for what must be true at last.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds().await {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn writers_on_two_nodes_race_and_one_wins_each_revision() {
    let Some(engine) = Engine::start("two nodes", 1) else { return };
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let cluster = engine.join().await;
        let nodes =
            [records(&cluster, &dir.path().join("a")).await, records(&cluster, &dir.path().join("b")).await];
        nodes[0].create("n", "counter", b"0".to_vec()).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..6 {
            let records = nodes[task % 2].clone();
            tasks.spawn(async move {
                let mut wins = 0;
                while wins < 10 {
                    // A read of this node may be old; the compare-and-set finds out.
                    let Some(now) = records.get("n", "counter").await.unwrap() else { continue };
                    let next = String::from_utf8(now.value).unwrap().parse::<u64>().unwrap() + 1;
                    match records.replace("n", "counter", next.to_string().into_bytes(), now.revision).await {
                        Ok(_) => wins += 1,
                        Err(error) => assert!(matches!(error, Error::Conflict { .. }), "{error}"),
                    }
                }
            });
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        for node in &nodes {
            node.catch_up().await.unwrap();
            assert_eq!(node.get("n", "counter").await.unwrap().unwrap().value, b"60");
        }
    });
}

#[test]
fn a_message_that_one_node_accepts_is_leased_by_one_node_alone_and_wakes_all() {
    let Some(engine) = Engine::start("queues of two nodes", 1) else { return };
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let cluster = engine.join().await;
        let (a, b) =
            (queues(&cluster, &dir.path().join("a")).await, queues(&cluster, &dir.path().join("b")).await);
        let mut changes = b.changes();
        changes.borrow_and_update();
        let messages = (0..200_u8).map(|n| NewMessage::new(vec![n])).collect();
        a.enqueue("q", messages).await.unwrap();
        tokio::time::timeout(LONG, changes.changed()).await.unwrap().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for node in [a.clone(), b.clone(), a.clone(), b] {
            tasks.spawn(async move {
                let mut taken = Vec::new();
                loop {
                    node.catch_up().await.unwrap();
                    let leased = node.lease("q", 7, LONG).await.unwrap();
                    if leased.is_empty() {
                        return taken;
                    }
                    let leases = leased.iter().map(|leased| leased.lease).collect();
                    assert!(node.ack(leases).await.unwrap().into_iter().all(|held| held));
                    taken.extend(leased.into_iter().map(|leased| leased.payload[0]));
                }
            });
        }
        let mut taken: Vec<u8> = tasks.join_all().await.concat();
        taken.sort_unstable();
        assert_eq!(taken, (0..200).collect::<Vec<u8>>());
        assert_eq!(a.depth("q").await.unwrap(), rouse_store::queues::Depth::default());
    });
}

#[test]
fn an_engine_that_is_away_is_said_reads_go_on_and_what_was_written_is_there_after() {
    let Some(mut engine) = Engine::start("an engine that is away", 1) else { return };
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let cluster = engine.join().await;
        let node = records(&cluster, &dir.path().join("a")).await;
        node.put("n", "a", b"1".to_vec()).await.unwrap();
        engine.kill(0);
        let refused = node.put("n", "b", b"2".to_vec()).await.unwrap_err();
        assert!(matches!(refused, Error::Away(_) | Error::Unknown(_)), "{refused}");
        // By now it is known that there is no connection, so nothing is sent.
        let refused = node.put("n", "c", b"2".to_vec()).await.unwrap_err();
        assert!(matches!(refused, Error::Away(_)), "{refused}");
        assert_eq!(node.get("n", "a").await.unwrap().unwrap().value, b"1");
        assert!(matches!(Cluster::join(&engine.options()).await, Err(Error::Away(_))));
        engine.start_one(0);
        until("the engine takes writes again", async || node.put("n", "d", b"4".to_vec()).await.is_ok())
            .await;
        assert_eq!(node.get("n", "a").await.unwrap().unwrap().value, b"1");
        assert_eq!(node.get("n", "c").await.unwrap(), None);
    });
}

#[test]
fn a_write_that_is_larger_than_a_message_of_the_engine_comes_whole() {
    let Some(engine) = Engine::start("large writes", 1) else { return };
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let cluster = engine.join().await;
        let (a, b) =
            (records(&cluster, &dir.path().join("a")).await, records(&cluster, &dir.path().join("b")).await);
        let value = |n: u8| vec![n; 1 << 20];
        let writes = (0..5).map(|n| put(&format!("k{n}"), value(n))).collect();
        let (large, small) = tokio::join!(a.commit(writes), b.put("n", "small", b"x".to_vec()));
        large.unwrap();
        small.unwrap();
        b.catch_up().await.unwrap();
        for n in 0..5 {
            assert!(b.get("n", &format!("k{n}")).await.unwrap().unwrap().value == value(n));
        }
        let queues = queues(&cluster, &dir.path().join("q")).await;
        queues.enqueue("q", vec![NewMessage::new(vec![7; 3 << 20])]).await.unwrap();
        assert_eq!(queues.lease("q", 1, LONG).await.unwrap()[0].payload.len(), 3 << 20);
    });
}

#[test]
fn the_log_is_cut_behind_a_copy_and_nodes_that_missed_it_begin_from_that() {
    let Some(engine) = Engine::start("copies", 1) else { return };
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let options = Options { copy_after_bytes: 64 << 10, ..engine.options() };
        let cluster = engine.join_with(options).await;
        let late = records(&cluster, &dir.path().join("late")).await;
        late.put("n", "first", b"1".to_vec()).await.unwrap();
        drop(late);
        let node = records(&cluster, &dir.path().join("a")).await;
        let mut written = 0;
        until("the log is cut", async || {
            for _ in 0..20 {
                written += 1;
                node.put("n", &format!("k{written}"), vec![7; 8 << 10]).await.unwrap();
            }
            engine.first("ROUSE_LOG_records").await > 2
        })
        .await;
        node.delete("n", "k1", Expect::Any).await.unwrap();
        // One that was off all the time, and one that is new.
        for folder in ["late", "new"] {
            let other = records(&cluster, &dir.path().join(folder)).await;
            assert_eq!(other.get("n", "first").await.unwrap().unwrap().value, b"1");
            assert_eq!(other.get("n", "k1").await.unwrap(), None);
            let page = node.scan("n", "", None, 1_000).await.unwrap();
            assert_eq!(other.scan("n", "", None, 1_000).await.unwrap(), page);
            // It goes on from there, revisions included.
            let revision = other.put("n", folder, b"x".to_vec()).await.unwrap();
            node.catch_up().await.unwrap();
            assert_eq!(node.get("n", folder).await.unwrap().unwrap().revision, revision);
        }
    });
}

#[test]
fn a_node_with_the_tables_of_another_cluster_and_one_that_the_log_does_not_reach_are_refused() {
    let (Some(engine), Some(other)) =
        (Engine::start("another cluster", 1), Engine::start("another cluster", 1))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let cluster = engine.join().await;
        records(&cluster, dir.path()).await.put("n", "a", b"1".to_vec()).await.unwrap();
        let wrong = other.join().await;
        let refused = Records::join(&wrong, "records", dir.path()).await.unwrap_err();
        assert!(matches!(&refused, Error::Log(why) if why.contains("another cluster")), "{refused}");
        // The log lost its begin, and there is no copy: who has come so far goes on, who is new cannot.
        engine.purge("ROUSE_LOG_records").await;
        assert_eq!(records(&cluster, dir.path()).await.get("n", "a").await.unwrap().unwrap().value, b"1");
        let empty = tempfile::tempdir().unwrap();
        let refused = Records::join(&cluster, "records", empty.path()).await.unwrap_err();
        assert!(matches!(&refused, Error::Log(why) if why.contains("no copy")), "{refused}");
    });
}

#[test]
fn an_engine_that_does_not_sync_what_it_acknowledges_is_refused() {
    let Some(engine) = Engine::start_as("a late engine", 1, "\"2m\"") else { return };
    run(async {
        let end = Instant::now() + LONG;
        let refused = loop {
            match Cluster::join(&engine.options()).await {
                Err(Error::Away(_)) if Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => break other.unwrap_err(),
            }
        };
        assert!(refused.to_string().contains("sync_interval: always"), "{refused}");
        let four = Options { replicas: 4, ..engine.options() };
        assert!(matches!(Cluster::join(&four).await, Err(Error::Engine(_))));
    });
}

#[test]
fn no_acknowledged_message_is_lost_or_doubled_when_servers_of_the_engine_are_killed() {
    let Some(mut engine) = Engine::start("three servers", 3) else { return };
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cluster = engine.join().await;
        let a = queues(&cluster, &dir.path().join("a")).await;
        let b = queues(&cluster, &dir.path().join("b")).await;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..4_u32 {
            let (node, stopped) = (if writer % 2 == 0 { a.clone() } else { b.clone() }, stopped.clone());
            writers.spawn(async move {
                let (mut sure, mut unsure) = (Vec::new(), Vec::new());
                for number in 0_u32.. {
                    if *stopped.borrow() {
                        break;
                    }
                    let name = format!("{writer}-{number}");
                    let message = NewMessage { name: name.clone(), ..NewMessage::new(vec![1; 200]) };
                    match node.enqueue("q", vec![message]).await {
                        Ok(_) => sure.push(name),
                        Err(Error::Away(_)) => {}
                        Err(Error::Unknown(_)) => unsure.push(name),
                        Err(error) => panic!("{error}"),
                    }
                }
                (sure, unsure)
            });
        }
        let accepted = async |node: &Queues| node.newest("q").await.unwrap().0;
        // Each server once, whichever leads, so the leader is among them.
        for server in 0..3 {
            let before = accepted(&a).await;
            until("messages come before", async || accepted(&a).await > before + 50).await;
            engine.kill(server);
            let before = accepted(&a).await;
            until("messages come without it", async || accepted(&a).await > before + 50).await;
            engine.start_one(server);
            engine.whole(server).await;
        }
        stop.send_replace(true);
        let (mut sure, mut unsure) = (BTreeSet::new(), BTreeSet::new());
        for (ones, others) in writers.join_all().await {
            sure.extend(ones);
            unsure.extend(others);
        }
        b.catch_up().await.unwrap();
        let mut found = BTreeSet::new();
        let mut after = None;
        loop {
            let page = b.list("q", false, after, 1_000).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            for listed in page {
                assert!(found.insert(listed.name.clone()), "{} is there twice", listed.name);
            }
        }
        assert!(sure.len() > 300, "too few to tell: {}", sure.len());
        let lost: Vec<_> = sure.difference(&found).collect();
        assert!(lost.is_empty(), "{} of {} acknowledged are lost: {lost:?}", lost.len(), sure.len());
        let foreign: Vec<_> =
            found.iter().filter(|name| !sure.contains(*name) && !unsure.contains(*name)).collect();
        assert!(foreign.is_empty(), "refused and there: {foreign:?}");
    });
}

#[test]
fn a_blob_that_one_node_shares_is_fetched_by_others_whole_or_not_at_all() {
    let Some(engine) = Engine::start("blobs", 1) else { return };
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let cluster = engine.join().await;
        let blobs = cluster::blobs::Blobs::open(&cluster).await.unwrap();
        let local = |node: &str| Blobs::open(&dir.path().join(node), 0).unwrap();
        let (a, b) = (local("a"), local("b"));
        let bytes: Vec<u8> = (0..1_500_000_u32).flat_map(|n| (n as u8).to_le_bytes()).collect();
        let (large, empty) = (a.put(&bytes, None).unwrap(), a.put(b"", None).unwrap());
        assert!(!blobs.fetch(&b, &large).await.unwrap(), "nobody shared it");
        for digest in [large, empty, large] {
            blobs.share(&a, &digest).await.unwrap();
        }
        assert!(matches!(blobs.share(&a, &Digest::of(b"none")).await, Err(Error::Invalid(_))));
        // Asked for twice at once, it comes once.
        let (one, two) = tokio::join!(blobs.fetch(&b, &large), blobs.fetch(&b, &large));
        assert!(one.unwrap() && two.unwrap() && blobs.fetch(&b, &empty).await.unwrap());
        assert!(b.get(&large).unwrap().unwrap() == bytes);
        let mut listed = vec![(large, bytes.len() as u64), (empty, 0)];
        listed.sort_unstable();
        assert_eq!(blobs.list().await.unwrap(), listed);
        // A piece that is not what it was.
        let c = local("c");
        engine.publish(format!("rouse.blob.{}.1", large.hex()), "other").await;
        assert!(matches!(blobs.fetch(&c, &large).await, Err(Error::Digest { .. })));
        assert_eq!(c.list().unwrap(), []);
        assert!(blobs.delete(&large).await.unwrap() && !blobs.delete(&large).await.unwrap());
        assert!(!blobs.fetch(&c, &large).await.unwrap());
        assert_eq!(blobs.list().await.unwrap(), [(empty, 0)]);
        assert!(b.path(&large).is_some(), "a node keeps what it has");
    });
}
