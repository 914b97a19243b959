//! What leases, membership and the handing over of journals promise, over a real engine.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

#[path = "support/nats.rs"]
mod nats;

use std::{
    collections::BTreeMap,
    future::Future,
    time::{Duration, Instant},
};

use rouse_store::{
    Error, Records,
    cluster::{
        journals::{Collect, Handover},
        leases::{Acquired, Fence, Lease, Leases},
        members::{Changes, Member, Membership, Refused, View, members},
    },
    journal,
    records::{Expect, Write},
};
use rouse_types::{NodeState, Timestamp, Work, node::Load};

use self::nats::Engine;

/// For whatever must happen at last, on a machine that is busy.
const LONG: Duration = Duration::from_secs(120);
/// For leases that are to outlast their test.
const HOUR: Duration = Duration::from_secs(3_600);

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds().await {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn held(leases: &Leases, name: &str, value: &str, ttl: Duration) -> Lease {
    match leases.acquire(name, value.into(), ttl).await.unwrap() {
        Acquired::Held(lease) => lease,
        Acquired::Taken(holder) => panic!("{holder:?} holds it"),
    }
}

async fn taken(leases: &Leases, name: &str) -> Vec<u8> {
    match leases.acquire(name, b"x".to_vec(), HOUR).await.unwrap() {
        Acquired::Held(lease) => panic!("{lease:?} was free"),
        Acquired::Taken(holder) => holder.value,
    }
}

#[test]
fn a_lease_has_one_holder_until_it_is_released_or_not_renewed() {
    let Some(engine) = Engine::start("leases", 1) else { return };
    run(async {
        let cluster = engine.join().await;
        let leases = Leases::open(&cluster).await.unwrap();
        let first = held(&leases, "jobs", "a", HOUR).await;
        assert_eq!(taken(&leases, "jobs").await, b"a");
        assert_eq!(leases.holder("jobs").await.unwrap().unwrap().fence, first.fence());
        leases.release(first.clone()).await.unwrap();
        assert_eq!(leases.holder("jobs").await.unwrap(), None);
        let second = held(&leases, "jobs", "b", HOUR).await;
        assert!(second.fence() > first.fence());
        // What was released is over for good, also for who believes otherwise.
        let mut stale = first.clone();
        assert!(!leases.renew(&mut stale).await.unwrap());
        leases.release(first).await.unwrap();
        assert_eq!(taken(&leases, "jobs").await, b"b", "a stale release frees nothing");
        // One that is renewed outlasts its time, again and again; one that is not ends, and can be had again.
        let mut short = held(&leases, "short", "c", Duration::from_secs(2)).await;
        let (fence, from) = (short.fence(), Instant::now());
        while from.elapsed() < Duration::from_secs(5) {
            assert!(leases.renew(&mut short).await.unwrap() && short.fence() == fence);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        until("it ends", async || leases.holder("short").await.unwrap().is_none()).await;
        assert!(!short.holds(), "its holder knows by its own clock, and not later");
        assert!(!leases.renew(&mut short).await.unwrap());
        // The trap of a key that was deleted: its next lease must end, too.
        let again = held(&leases, "short", "d", Duration::from_secs(1)).await;
        assert!(again.fence() > fence);
        until("the next ends, too", async || leases.holder("short").await.unwrap().is_none()).await;
        for name in ["", ".a", "a..b", "a b", "*", ">"] {
            assert!(matches!(leases.holder(name).await, Err(Error::Invalid(_))), "{name}");
        }
        let wrong = leases.acquire("a", Vec::new(), Duration::from_millis(1_500)).await;
        assert!(matches!(wrong, Err(Error::Invalid(_))));
    });
}

#[test]
fn of_many_who_want_a_lease_at_once_one_gets_it() {
    let Some(engine) = Engine::start("a race for a lease", 1) else { return };
    run(async {
        let cluster = engine.join().await;
        let leases = Leases::open(&cluster).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..16_u8 {
            let leases = leases.clone();
            tasks.spawn(async move {
                matches!(leases.acquire("one", vec![n], HOUR).await.unwrap(), Acquired::Held(_))
            });
        }
        assert_eq!(tasks.join_all().await.into_iter().filter(|held| *held).count(), 1);
    });
}

#[test]
fn a_holder_that_was_stopped_and_comes_back_writes_nothing() {
    let Some(engine) = Engine::start("fences", 1) else { return };
    let dir = tempfile::tempdir().unwrap();
    let write = |value: &str| {
        let (namespace, key) = ("n".to_owned(), "a".to_owned());
        vec![Write { namespace, key, expect: Expect::Any, value: Some(value.into()) }]
    };
    run(async {
        let cluster = engine.join().await;
        let leases = Leases::open(&cluster).await.unwrap();
        let a = Records::join(&cluster, "records", &dir.path().join("a")).await.unwrap();
        let b = Records::join(&cluster, "records", &dir.path().join("b")).await.unwrap();
        let first = held(&leases, "schedules", "a", Duration::from_secs(1)).await;
        let mut before = Fence::raise(&a, &first).await.unwrap();
        before.commit(write("first")).await.unwrap();
        before.commit(write("again")).await.unwrap();
        // It is stopped: its lease ends, and another node's begins.
        until("it ends", async || leases.holder("schedules").await.unwrap().is_none()).await;
        let second = held(&leases, "schedules", "b", HOUR).await;
        let mut after = Fence::raise(&b, &second).await.unwrap();
        after.commit(write("second")).await.unwrap();
        let late = before.commit(write("late")).await.unwrap_err();
        assert!(matches!(&late, Error::Conflict { namespace, .. } if namespace == "fences"), "{late}");
        assert!(matches!(Fence::raise(&a, &first).await, Err(Error::Conflict { .. })));
        a.catch_up().await.unwrap();
        assert_eq!(a.get("n", "a").await.unwrap().unwrap().value, b"second");
    });
}

fn member(node: &str, version: &str) -> Member {
    Member {
        node: node.to_owned(),
        zone: "a".to_owned(),
        address: format!("{node}:8443"),
        version: version.to_owned(),
        cores: 2,
        memory_bytes: 1 << 30,
        sandboxes: vec!["wasm".to_owned(), "container".to_owned()],
        state: NodeState::Active,
        work: Work::default(),
        mesh: None,
        load: Load::default(),
    }
}

#[test]
fn nodes_join_leave_and_are_missed_and_who_may_not_is_told_why() {
    let (Some(engine), Some(other)) = (Engine::start("membership", 1), Engine::start("membership", 1)) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let folder = |node: &str| dir.path().join(node);
    run(async {
        let cluster = engine.join().await;
        let leases = Leases::open(&cluster).await.unwrap();
        let mut view = View::default();
        let mut a = Membership::join(&cluster, &folder("a"), member("a", "0.2.0")).await.unwrap();
        let b = Membership::join(&cluster, &folder("b"), member("b", "0.2.7")).await.unwrap();
        assert_eq!(view.look(&leases).await.unwrap().came, ["a", "b"]);
        assert_eq!(view.members()[0].member, member("a", "0.2.0"));

        let refused = Membership::join(&cluster, &folder("x"), member("a", "0.2.0")).await.unwrap_err();
        assert!(matches!(&refused, Refused::Duplicate { address, .. } if address == "a:8443"), "{refused}");
        let refused = Membership::join(&cluster, &folder("c"), member("c", "0.1.9")).await.unwrap_err();
        assert!(matches!(&refused, Refused::Older { found, .. } if found == "0.2.7"), "{refused}");
        let refused = Membership::join(&cluster, &folder("b"), member("c", "0.2.0")).await.unwrap_err();
        assert!(matches!(&refused, Refused::OtherNode { found, .. } if found == "b"), "{refused}");
        let foreign = other.join().await;
        let refused = Membership::join(&foreign, &folder("a"), member("a", "0.2.0")).await.unwrap_err();
        assert!(matches!(refused, Refused::OtherCluster { .. }), "{refused}");

        // What a node is now, others see with its next renewal.
        let work = Work { calls: 3, events: 1 };
        let drains = Member { state: NodeState::Draining, work, ..member("a", "0.2.0") };
        assert!(a.renew(&drains).await.unwrap());
        assert_eq!(view.look(&leases).await.unwrap(), Changes::default());
        assert_eq!(view.members()[0].member, drains);

        // Killed and started again, a node is itself at once, and what was before it is over.
        let again = Membership::join(&cluster, &folder("b"), member("b", "0.2.7")).await.unwrap();
        assert!(again.fence() > b.fence());
        let changes = view.look(&leases).await.unwrap();
        assert_eq!((changes.came, changes.gone), (vec!["b".to_owned()], vec!["b".to_owned()]));
        // One that says no more that it is there is missed; the other stays.
        let mut gone = Vec::new();
        until("b is missed", async || {
            assert!(a.renew(&member("a", "0.2.0")).await.unwrap());
            gone.extend(view.look(&leases).await.unwrap().gone);
            !gone.is_empty()
        })
        .await;
        assert_eq!(gone, ["b"]);
        assert!(!again.holds() && a.holds());
        a.leave().await.unwrap();
        assert_eq!(view.look(&leases).await.unwrap().gone, ["a"]);
        assert!(members(&leases).await.unwrap().is_empty());
    });
}

#[test]
fn each_record_of_each_nodes_journal_is_collected_once_and_in_its_order() {
    let Some(engine) = Engine::start("journals", 1) else { return };
    let dir = tempfile::tempdir().unwrap();
    let folder = |node: &str| dir.path().join(node);
    run(async {
        let cluster = engine.join().await;
        let open = async |node: &str| Handover::open(&cluster, "usage", node, &folder(node)).await.unwrap();
        let mut written: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        let mut writers = BTreeMap::new();
        for node in ["a", "b"] {
            let options = journal::Options { segment_bytes: 4 << 20, ..journal::Options::new("gateway-0") };
            writers.insert(node, journal::Writer::open(&folder(node), options).unwrap());
        }
        let mut append = |written: &mut BTreeMap<String, Vec<Vec<u8>>>, node: &'static str, bytes: usize| {
            let list = written.entry(node.to_owned()).or_default();
            let mut payload = vec![u8::try_from(list.len() % 251).unwrap(); bytes];
            payload.extend((list.len() as u64).to_be_bytes());
            writers.get_mut(node).unwrap().append(Timestamp(list.len() as u64), &payload).unwrap();
            list.push(payload);
        };
        let mut b = open("b").await;
        for round in 0..3 {
            for n in 0..40 {
                append(&mut written, "a", 100);
                // A batch that is larger than a message.
                append(&mut written, "b", if n % 10 == 0 { 200 << 10 } else { 10 });
            }
            // A node's process that dies after each step, and one that does not; of two at once, one goes on.
            let mut old = open("a").await;
            assert_eq!(open("a").await.next().await.unwrap().records, 40, "{round}");
            old.next().await.unwrap();
            assert_eq!(old.cursor(), open("a").await.cursor());
            let mut handed = 0;
            while handed < 40 {
                handed += b.next().await.unwrap().records;
            }
            assert_eq!(b.next().await.unwrap().records, 0);
        }
        let mut collected: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        let mut at = 0;
        until("all are collected", async || {
            // Begun anew after each batch, as one that is killed.
            let mut collect = Collect::open(&cluster, "usage", at).await.unwrap();
            if let Some(batch) = collect.next().await.unwrap() {
                at = batch.sequence;
                let payloads = batch.records.into_iter().map(|record| record.payload);
                collected.entry(batch.node).or_default().extend(payloads);
                collect.forget(at).await.unwrap();
            }
            collected.values().map(Vec::len).sum::<usize>() >= 240
        })
        .await;
        assert!(collected == written);
        // What was forgotten is not handed over again.
        assert_eq!(open("a").await.next().await.unwrap().records, 0);
        let mut collect = Collect::open(&cluster, "usage", at).await.unwrap();
        assert_eq!(collect.next().await.unwrap(), None);
        append(&mut written, "a", 7);
        open("a").await.next().await.unwrap();
        let mut last = None;
        until("the last is collected", async || {
            last = collect.next().await.unwrap();
            last.is_some()
        })
        .await;
        assert_eq!(last.unwrap().records[0].payload.len(), 15);
        let wrong = Handover::open(&cluster, "usage", "a.b", dir.path()).await;
        assert!(matches!(wrong, Err(Error::Invalid(_))));
    });
}
