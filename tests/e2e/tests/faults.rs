//! Three nodes and three servers of the engine under load, with kills of one after the other: no accepted event is lost, and
//! calls of what is placed go on. `cargo xtask test cluster` runs this and shows the figures.

use std::time::Duration;

use rouse_e2e::{App, Engine, Platform, Seen, Traffic, need, state_folder, tell, wait_for};

const LIMIT: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_accepted_event_is_lost_and_calls_go_on_when_nodes_and_servers_of_the_engine_are_killed() {
    const TEST: &str =
        "no_accepted_event_is_lost_and_calls_go_on_when_nodes_and_servers_of_the_engine_are_killed";
    let Some(mut engine) = Engine::start(TEST, 3) else { return };
    let folders = [state_folder(), state_folder(), state_folder()];
    let mut nodes = Vec::new();
    for (number, folder) in folders.iter().enumerate() {
        let join = engine.join(&format!("node-{number}"), &format!("zone-{number}"));
        nodes.push(Some(Platform::start_with(folder.path(), &join)));
    }
    let first = nodes[0].take().expect("it runs");
    for node in nodes.iter().flatten().chain([&first]) {
        need!(node, TEST, "python");
    }
    let seen = Seen::listen().await;
    first
        .deploy(App::new("greet").python("greet", "return {'statusCode': 200, 'body': 'x'}", "").path())
        .await;
    first.deploy(App::new("later").python("later", tell::PYTHON, &tell::lines(seen.port())).path()).await;
    for node in nodes.iter().flatten() {
        wait_for("it answers everywhere", LIMIT, async || node.get("greet").await.status == 200).await;
        wait_for("all is everywhere", LIMIT, async || {
            let text = std::fs::read_dir(node.state().join("apps/default"));
            text.is_ok_and(|files| files.count() == 2)
        })
        .await;
    }
    let addresses: Vec<_> =
        [first.gateway].into_iter().chain(nodes.iter().flatten().map(|node| node.gateway)).collect();
    let load = Traffic::start(&addresses);

    // All of them by the suite `cluster` alone, one after the other: whichever leads is among them.
    let servers = if std::env::var_os("ROUSE_CLUSTER_FAULTS").is_some() { 3 } else { 1 };
    for server in 0..servers {
        load.during(&format!("kill -9 of a server of the engine ({server})"), async || {
            engine.kill(server);
            load.goes_on(&[0, 1, 2]).await;
            engine.start_again(server);
        })
        .await;
    }
    load.during("kill -9 of a node", async || {
        let dead = nodes[2].take().expect("it runs");
        dead.kill_supervisor();
        // A balancer that looks each second takes it out.
        tokio::time::sleep(Duration::from_secs(1)).await;
        load.set(2, None);
        tokio::task::spawn_blocking(move || drop(dead)).await.expect("a task");
    })
    .await;
    load.during("the node comes back", async || {
        let (folder, join) = (folders[2].path().to_owned(), engine.join("node-2", "zone-2"));
        let back =
            tokio::task::spawn_blocking(move || Platform::start_with(&folder, &join)).await.expect("a task");
        wait_for("it answers", LIMIT, async || back.get("greet").await.status == 200).await;
        load.set(2, Some(back.gateway));
        nodes[2] = Some(back);
    })
    .await;

    load.end(&seen).await;
}
