//! Three nodes and three servers of the engine under load, with kills of one after the other: no accepted event is lost, and
//! calls of what is placed go on. `cargo xtask test cluster` runs this and shows the figures.

#![expect(clippy::print_stderr, reason = "the suite shows the figures")]

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rouse_e2e::{App, Engine, Platform, Seen, call_on, get, need, state_folder, tell, wait_for};
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(300);
/// How long there is load before, between and after faults, at least: counted in calls, not in time.
const CALLS_BETWEEN: u64 = 100;
const EVENTS_BETWEEN: usize = 30;

/// What the load has come to.
#[derive(Debug, Default)]
struct Load {
    /// Where the nodes that live answer: as a balancer would have it, which takes a node out that does not answer.
    nodes: Mutex<Vec<SocketAddr>>,
    stop: AtomicBool,
    calls: AtomicU64,
    failed: AtomicU64,
    last_failure: Mutex<Option<Instant>>,
    accepted: Mutex<HashSet<String>>,
    refused: AtomicU64,
    last_refusal: Mutex<Option<Instant>>,
}

impl Load {
    fn node(&self, n: u64) -> Option<SocketAddr> {
        let nodes = self.nodes.lock().expect("no one panics");
        let index = usize::try_from(n).unwrap_or(0).checked_rem(nodes.len())?;
        Some(nodes[index])
    }

    fn accepted(&self) -> usize {
        self.accepted.lock().expect("no one panics").len()
    }

    async fn call(self: Arc<Self>) {
        for n in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if let Some(node) = self.node(n) {
                let good = get(node, "/fn/default/greet").await.is_ok_and(|answer| answer.status == 200);
                self.calls.fetch_add(1, Ordering::Relaxed);
                if !good {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    *self.last_failure.lock().expect("no one panics") = Some(Instant::now());
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn send(self: Arc<Self>) {
        let client =
            hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
        for n in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if let Some(node) = self.node(n) {
                let uri = format!("http://{node}/fn/default/later");
                let request =
                    Request::post(uri).header("x-rouse-async", "true").body(Full::new(Bytes::new()));
                match call_on(&client, request.expect("a request")).await {
                    Ok(answer) if answer.status == 202 => {
                        let id = answer.header("x-rouse-invocation-id").to_owned();
                        self.accepted.lock().expect("no one panics").insert(id);
                    }
                    _ => {
                        self.refused.fetch_add(1, Ordering::Relaxed);
                        *self.last_refusal.lock().expect("no one panics") = Some(Instant::now());
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the load has gone on for a while.
    async fn goes_on(&self) {
        let (calls, failed) = (self.calls.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        let accepted = self.accepted();
        wait_for("calls and events go on", LIMIT, async || {
            let good =
                (self.calls.load(Ordering::Relaxed) - calls) - (self.failed.load(Ordering::Relaxed) - failed);
            good >= CALLS_BETWEEN && self.accepted() >= accepted + EVENTS_BETWEEN
        })
        .await;
    }

    /// Lets a fault happen under load, and tells what came of it.
    async fn during(&self, what: &str, fault: impl AsyncFnOnce()) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.goes_on().await;
        let (calls, failed, refused) = (count(&self.calls), count(&self.failed), count(&self.refused));
        let accepted = self.accepted();
        let begun = Instant::now();
        fault().await;
        self.goes_on().await;
        let seconds = |last: &Mutex<Option<Instant>>| {
            let last = last.lock().expect("no one panics").filter(|last| *last > begun);
            last.map_or(0.0, |last| (last - begun).as_secs_f64())
        };
        let (calls, failed) = (count(&self.calls) - calls, count(&self.failed) - failed);
        eprintln!(
            "cluster: {what} | calls {calls} | failed {failed} ({:.2} %) | seconds until none fails {:.1} | events \
             accepted {} | refused {} | seconds until none is refused {:.1}",
            failed as f64 * 100.0 / calls.max(1) as f64,
            seconds(&self.last_failure),
            self.accepted() - accepted,
            count(&self.refused) - refused,
            seconds(&self.last_refusal),
        );
    }
}

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
    let load = Arc::new(Load { nodes: Mutex::new(addresses.clone()), ..Load::default() });
    let mut tasks = JoinSet::new();
    for _ in 0..2 {
        tasks.spawn(Arc::clone(&load).call());
    }
    tasks.spawn(Arc::clone(&load).send());

    // All of them by the suite `cluster` alone, one after the other: whichever leads is among them.
    let servers = if std::env::var_os("ROUSE_CLUSTER_FAULTS").is_some() { 3 } else { 1 };
    for server in 0..servers {
        load.during(&format!("kill -9 of a server of the engine ({server})"), async || {
            engine.kill(server);
            load.goes_on().await;
            engine.start_again(server);
        })
        .await;
    }
    load.during("kill -9 of a node", async || {
        let dead = nodes[2].take().expect("it runs");
        dead.kill_supervisor();
        // A balancer that looks each second takes it out.
        tokio::time::sleep(Duration::from_secs(1)).await;
        *load.nodes.lock().expect("no one panics") = addresses[..2].to_vec();
        tokio::task::spawn_blocking(move || drop(dead)).await.expect("a task");
    })
    .await;
    load.during("the node comes back", async || {
        let (folder, join) = (folders[2].path().to_owned(), engine.join("node-2", "zone-2"));
        let back =
            tokio::task::spawn_blocking(move || Platform::start_with(&folder, &join)).await.expect("a task");
        wait_for("it answers", LIMIT, async || back.get("greet").await.status == 200).await;
        *load.nodes.lock().expect("no one panics") = [addresses[0], addresses[1], back.gateway].to_vec();
        nodes[2] = Some(back);
    })
    .await;

    load.stop.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    let accepted = load.accepted.lock().expect("no one panics").clone();
    // What the dead node held is given out again once its leases have run out.
    wait_for("every accepted event has run", LIMIT, async || accepted.is_subset(&seen.ids())).await;
    let mut times: HashMap<String, u32> = HashMap::new();
    for line in seen.lines() {
        *times.entry(line["id"].as_str().expect("an id").to_owned()).or_default() += 1;
    }
    let doubled = times.values().filter(|times| **times > 1).count();
    let executed = accepted.iter().filter(|id| times.contains_key(*id)).count();
    let unacknowledged = times.keys().filter(|id| !accepted.contains(*id)).count();
    eprintln!(
        "cluster: in all | accepted {} | executed {executed} | lost {} | run twice {doubled} | run though their \
         acknowledgement was lost {unacknowledged}",
        accepted.len(),
        accepted.len() - executed,
    );
}
