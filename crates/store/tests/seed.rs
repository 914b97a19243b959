//! Tables of one machine that become a cluster's: also when that is cut off and begun again.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

#[path = "support/nats.rs"]
mod nats;

use std::path::Path;

use rouse_store::{
    Cluster, Error, Records,
    backup::database,
    cluster::seed::{self, Begun},
    contents::contents,
};
use rouse_types::Digest;

use self::nats::Engine;

const OWN: [&str; 2] = ["replica", "replica_parts"];

async fn join(cluster: &Cluster, folder: &Path) -> Result<Records, Error> {
    Records::join(cluster, "control", folder).await
}

#[tokio::test]
async fn nodes_begin_from_the_tables_of_one_machine_once_all_of_them_were_moved() {
    let Some(engine) = Engine::start("the tables of one machine", 1) else { return };
    let cluster = engine.join().await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let alone = Records::open(&path("alone.db")).unwrap();
    for n in 0..300 {
        alone.put("apps", &format!("{n:03}"), vec![1; 900]).await.unwrap();
    }
    let last = alone.put("apps", "007", b"changed".into()).await.unwrap();
    drop(alone);
    let copy = |name: &str| {
        database(&path("alone.db"), &path(name)).unwrap();
        path(name)
    };
    let (source, other) = (Digest::of(b"one"), Digest::of(b"other"));

    // Cut off after a store: nodes are refused, another machine, too, and the same goes on.
    assert_eq!(seed::begin(&cluster, source).await.unwrap(), Begun::Now);
    seed::tables(&cluster, "control", &copy("first.db")).await.unwrap();
    let said = join(&cluster, &path("early")).await.unwrap_err().to_string();
    assert!(said.contains("run `rouse migrate` to its end"), "{said}");
    let said = seed::begin(&cluster, other).await.unwrap_err().to_string();
    assert!(said.contains("has state already") && said.contains("another machine"), "{said}");
    assert_eq!(seed::begin(&cluster, source).await.unwrap(), Begun::Now);
    seed::tables(&cluster, "control", &copy("second.db")).await.unwrap();
    seed::fetch(&cluster, "control", &path("there.db")).await.unwrap();
    let before = contents(&path("alone.db"), &OWN).unwrap();
    assert_eq!(contents(&path("there.db"), &OWN).unwrap(), before);
    assert_eq!(before["records apps"].rows, 300);
    seed::end(&cluster, source).await.unwrap();
    assert_eq!(seed::begin(&cluster, source).await.unwrap(), Begun::Before);

    // Every node has the same, and goes on from the same revision.
    let (a, b) = (join(&cluster, &path("a")).await.unwrap(), join(&cluster, &path("b")).await.unwrap());
    assert_eq!(b.get("apps", "007").await.unwrap().unwrap().value, b"changed");
    assert_eq!(a.put("apps", "new", b"n".into()).await.unwrap().0, last.0 + 1);
    b.catch_up().await.unwrap();
    assert_eq!(b.get("apps", "new").await.unwrap().unwrap().revision.0, last.0 + 1);

    // It is in use now.
    let said = seed::begin(&cluster, source).await.unwrap_err().to_string();
    assert!(said.contains("nodes have changed since"), "{said}");
    assert!(matches!(seed::tables(&cluster, "control", &copy("third.db")).await, Err(Error::Invalid(_))));

    // And back: the tables of a node are those of one machine.
    let of_node = std::fs::read_dir(path("a")).unwrap().map(|entry| entry.unwrap().path());
    let of_node = of_node.filter(|path| path.extension().is_some_and(|end| end == "db")).max().unwrap();
    assert!(seed::applied(&of_node).unwrap() >= seed::written(&cluster, "control").await.unwrap());
    database(&of_node, &path("back.db")).unwrap();
    seed::alone(&path("back.db")).unwrap();
    let back = Records::open(&path("back.db")).unwrap();
    assert_eq!(back.revision().await.unwrap().0, last.0 + 1);
}

#[tokio::test]
async fn a_cluster_that_nodes_have_used_takes_no_machines_tables() {
    let Some(engine) = Engine::start("a cluster in use", 1) else { return };
    let cluster = engine.join().await;
    let dir = tempfile::tempdir().unwrap();
    drop(join(&cluster, dir.path()).await.unwrap());
    let said = seed::begin(&cluster, Digest::of(b"one")).await.unwrap_err().to_string();
    assert!(said.contains("has state already") && said.contains("ROUSE_LOG_control"), "{said}");
}
