//! Runs the contract of queues over each engine: embedded, and a cluster of two nodes, which must come to the same.

use std::{future::Future, sync::Arc};

use rouse_store::Queues;
use rouse_types::{ManualClock, Timestamp};

use super::{WINDOW, nats::Engine};

/// Runs a test over each engine, with a clock that it moves.
pub(crate) fn on_each_engine<F: Future<Output = ()>>(test: impl Fn(Queues, Arc<ManualClock>) -> F) {
    let clock = || Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let clock = clock();
        let queues = Queues::open(&dir.path().join("queues.db"), clock.clone(), WINDOW).unwrap();
        test(queues, clock).await;
    });
    let Some(engine) = Engine::start("the contract of queues, in a cluster", 1) else { return };
    runtime.block_on(async {
        let (clock, cluster) = (clock(), engine.join().await);
        let join = |node: &'static str| {
            Queues::join(
                &cluster,
                "queues",
                Box::leak(dir.path().join(node).into_boxed_path()),
                clock.clone(),
                WINDOW,
            )
        };
        // Another node, which has to come to the same.
        let (one, other) = (join("one").await.unwrap(), join("other").await.unwrap());
        test(one.clone(), clock.clone()).await;
        agree(&one, &other).await;
    });
}

/// Nodes come to the same tables.
async fn agree(one: &Queues, other: &Queues) {
    other.catch_up().await.unwrap();
    one.catch_up().await.unwrap();
    let queues = one.queues("", None, 100).await.unwrap();
    assert_eq!(other.queues("", None, 100).await.unwrap(), queues);
    for info in queues {
        for dead in [false, true] {
            let list = one.list(&info.queue, dead, None, 1_000).await.unwrap();
            assert_eq!(other.list(&info.queue, dead, None, 1_000).await.unwrap(), list);
        }
    }
}
