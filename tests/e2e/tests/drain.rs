//! Nodes are taken out of work and put back: others take over, nothing is lost, and no caller notices who goes by `/readyz`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rouse_e2e::{App, Engine, Platform, Seen, Traffic, get, need, state_folder, tell, wait_for};

const LIMIT: Duration = Duration::from_secs(300);
/// How often the balancer asks each node whether it is ready.
const HEALTH_CHECK: Duration = Duration::from_millis(100);

async fn state_of(asked: &Platform, node: &str) -> Option<String> {
    let status = asked.json(&["cluster", "status"]).await;
    let member = status["members"].as_array()?.iter().find(|member| member["node"] == node)?;
    Some(member["state"].as_str()?.to_owned())
}

async fn are_members(asked: &Platform, nodes: &[&str]) {
    wait_for("it sees them all", LIMIT, async || {
        for node in nodes {
            if state_of(asked, node).await.is_none() {
                return false;
            }
        }
        true
    })
    .await;
}

async fn ready(node: &Platform) -> (u16, String) {
    let answer = get(node.control, "/readyz").await.expect("an answer");
    (answer.status.as_u16(), answer.text())
}

/// How many deliveries this node has made.
async fn delivered(node: &Platform) -> u64 {
    let metrics = node.metrics().await;
    let lines = metrics.lines().filter(|line| line.starts_with("rouse_events_attempts_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

async fn send_event(node: &Platform, n: usize) {
    let mut request = node.request("/fn/default/later", Some(Bytes::from(n.to_string())));
    request.headers_mut().insert("x-rouse-async", "true".parse().expect("a header"));
    let answer = node.send(request).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
}

async fn deploy(node: &Platform, seen: &Seen) {
    node.deploy(App::new("greet").python("greet", "return {'statusCode': 200, 'body': 'x'}", "").path())
        .await;
    node.deploy(App::new("later").python("later", tell::PYTHON, &tell::lines(seen.port())).path()).await;
}

async fn has_all(node: &Platform) {
    wait_for("it answers", LIMIT, async || node.get("greet").await.status == 200).await;
    wait_for("all is there", LIMIT, async || {
        let apps = std::fs::read_dir(node.state().join("apps/default"));
        apps.is_ok_and(|files| files.count() == 2)
    })
    .await;
}

async fn start(folder: &Path, join: Vec<String>) -> Platform {
    let folder: PathBuf = folder.to_owned();
    tokio::task::spawn_blocking(move || Platform::start_with(&folder, &join)).await.expect("a task")
}

async fn stop(node: Platform) {
    tokio::task::spawn_blocking(move || drop(node)).await.expect("a task");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cordoned_node_answers_and_leaves_the_work_to_others_until_it_is_put_back() {
    const TEST: &str = "a_cordoned_node_answers_and_leaves_the_work_to_others_until_it_is_put_back";
    let Some(engine) = Engine::start(TEST, 1) else { return };
    let folders = [state_folder(), state_folder()];
    let a = Platform::start_with(folders[0].path(), &engine.join("a", "one"));
    need!(a, TEST, "python");
    let b = Platform::start_with(folders[1].path(), &engine.join("b", "two"));
    need!(b, TEST, "python");
    are_members(&a, &["a", "b"]).await;
    let seen = Seen::listen().await;
    deploy(&a, &seen).await;
    has_all(&b).await;

    // A wrong name is told the right ones, by any node.
    let refused = b.rouse(&["node", "cordon", "c"]).await;
    assert!(!refused.ok && refused.err.contains("no node 'c'"), "{}", refused.err);
    assert!(refused.err.contains("a, b"), "{}", refused.err);

    // Cordoned through the other: it says so, answers, accepts events, and delivers none.
    let cordoned = a.rouse(&["node", "cordon", "b"]).await;
    assert!(cordoned.ok && cordoned.err.contains("b is cordoned"), "{cordoned:?}");
    let (status, why) = ready(&b).await;
    assert!(status == 503 && why.contains("the node 'b' is cordoned"), "{status} {why}");
    assert_eq!(ready(&a).await.0, 200);
    assert_eq!(b.get("greet").await.status, 200);
    let before = delivered(&b).await;
    for n in 0..10 {
        send_event(&b, n).await;
    }
    wait_for("all have run", LIMIT, async || seen.count() >= 10).await;
    wait_for("the other node notes them", LIMIT, async || delivered(&a).await >= 10).await;
    assert_eq!(delivered(&b).await, before, "the other node delivered them");

    // It stays so when it is started again, until it is put back.
    stop(b).await;
    let b = start(folders[1].path(), engine.join("b", "two")).await;
    assert_eq!(ready(&b).await.0, 503);
    wait_for("it is seen as cordoned", LIMIT, async || {
        state_of(&a, "b").await.as_deref() == Some("cordoned")
    })
    .await;
    send_event(&b, 10).await;
    wait_for("it has run", LIMIT, async || seen.count() >= 11).await;
    assert_eq!(delivered(&b).await, 0);
    let back = b.rouse(&["node", "uncordon", "b"]).await;
    assert!(back.ok, "{}", back.err);
    assert_eq!(ready(&b).await.0, 200);
    // And now it is the only one.
    assert!(b.rouse(&["node", "cordon", "a"]).await.ok);
    send_event(&a, 11).await;
    wait_for("it has run", LIMIT, async || seen.count() >= 12).await;
    wait_for("it notes that", LIMIT, async || delivered(&b).await > 0).await;
    assert_eq!(seen.ids().len(), seen.count(), "each event ran once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_replaced_one_after_the_other_and_no_call_fails_and_no_event_is_lost() {
    const TEST: &str = "nodes_are_replaced_one_after_the_other_and_no_call_fails_and_no_event_is_lost";
    let Some(engine) = Engine::start(TEST, 3) else { return };
    let (names, folders) = (["a", "b"], [state_folder(), state_folder()]);
    let mut nodes = Vec::new();
    for (name, folder) in names.iter().zip(&folders) {
        let node = start(folder.path(), engine.join(name, &format!("zone-{name}"))).await;
        need!(node, TEST, "python");
        nodes.push(Some(node));
    }
    let at = |nodes: &[Option<Platform>], number: usize| {
        let node = nodes[number].as_ref().expect("it runs");
        (node.gateway, node.control)
    };
    are_members(nodes[0].as_ref().expect("it runs"), &names).await;
    let seen = Seen::listen().await;
    deploy(nodes[0].as_ref().expect("it runs"), &seen).await;
    for node in nodes.iter().flatten() {
        has_all(node).await;
    }
    let load = Traffic::start(&[at(&nodes, 0).0, at(&nodes, 1).0]);
    // As a balancer does: who says that it is not ready, or nothing, gets no more calls.
    let places = Arc::new(std::sync::Mutex::new([at(&nodes, 0), at(&nodes, 1)]));
    let mut balancer = tokio::task::JoinSet::new();
    {
        let (load, places) = (Arc::clone(&load), Arc::clone(&places));
        balancer.spawn(async move {
            loop {
                let now = *places.lock().expect("the places");
                for (number, (gateway, control)) in now.into_iter().enumerate() {
                    let asked = tokio::time::timeout(Duration::from_secs(2), get(control, "/readyz")).await;
                    let ready = matches!(asked, Ok(Ok(answer)) if answer.status == 200);
                    load.set(number, ready.then_some(gateway));
                }
                tokio::time::sleep(HEALTH_CHECK).await;
            }
        });
    }
    for number in 0..names.len() {
        let name = names[number];
        let during = load
            .during(&format!("the node {name} is drained, stopped and started again"), async || {
                let other = nodes[1 - number].as_ref().expect("it runs");
                let drained = other.rouse(&["node", "drain", name]).await;
                assert!(drained.ok && drained.err.contains("it can be stopped"), "{drained:?}");
                assert_eq!(state_of(other, name).await.as_deref(), Some("drained"));
                stop(nodes[number].take().expect("it runs")).await;
                // It has left, and is not missed first.
                wait_for("it is gone", LIMIT, async || {
                    let other = nodes[1 - number].as_ref().expect("it runs");
                    state_of(other, name).await.is_none()
                })
                .await;
                let back = start(folders[number].path(), engine.join(name, &format!("zone-{name}"))).await;
                places.lock().expect("the places")[number] = (back.gateway, back.control);
                nodes[number] = Some(back);
                let other = nodes[1 - number].as_ref().expect("it runs");
                let back = other.rouse(&["node", "uncordon", name]).await;
                assert!(back.ok, "{}", back.err);
                let back = nodes[number].as_ref().expect("it runs");
                wait_for("it is ready", LIMIT, async || ready(back).await.0 == 200).await;
                has_all(back).await;
            })
            .await;
        assert!(during.calls.iter().all(|tally| tally.bad == 0), "{during:?}");
        assert!(during.events.iter().all(|tally| tally.bad == 0), "{during:?}");
    }
    // Without a word before: SIGTERM alone is noticed, too.
    let during = load
        .during("the node b is told to stop", async || {
            stop(nodes[1].take().expect("it runs")).await;
            wait_for("it is gone", LIMIT, async || {
                state_of(nodes[0].as_ref().expect("it runs"), "b").await.is_none()
            })
            .await;
        })
        .await;
    assert!(during.calls.iter().all(|tally| tally.bad == 0), "{during:?}");
    assert!(during.events.iter().all(|tally| tally.bad == 0), "{during:?}");
    balancer.shutdown().await;
    load.end(&seen).await;
}
