//! Three zones, each with a node and a server of the engine in network namespaces of their own, under load, while zones are cut
//! off, links lose packets and processes are stopped: no accepted event is lost, calls go on, what cannot be agreed on is
//! refused, and what was agreed on could have been asked one after the other.
//!
//! `cargo xtask test cluster` runs the short form, with `--long` every fault in every zone.

#![expect(clippy::print_stderr, reason = "the suite shows the figures")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rouse_e2e::{
    App, Cli, Disk, Engine, Network, Platform, Seen, Traffic,
    history::{Ask, History, Verdict, check},
    need, skipped, state_folder, tell, wait_for,
};
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(300);
const ZONES: u8 = 3;
/// The node whose disk is small.
const SMALL: usize = 1;
const SMALL_MIB: usize = 640;
/// A node is missed after 5 s, and what it has leased is given to others after 120 s.
const STOPPED_SHORT: Duration = Duration::from_secs(10);
const STOPPED_LONG: Duration = Duration::from_secs(130);

/// What is dropped first is declared first: nodes leave their cluster before it goes.
struct Cluster {
    nodes: Vec<Platform>,
    engine: Mutex<Engine>,
    network: Network,
    traffic: Arc<Traffic>,
    history: History,
    /// What each deployment answers with, by its number.
    values: Mutex<HashMap<u64, String>>,
    stop: AtomicBool,
    /// Calls that were answered before the load began.
    before: u64,
    refused: AtomicU64,
}

/// Everything of a zone, and everything else: the node of zone `z` is host `z`, its server host `z + 3`.
fn sides(zone: usize) -> ([usize; 2], Vec<usize>) {
    let own = [zone, zone + usize::from(ZONES)];
    (own, (0..2 * usize::from(ZONES)).filter(|host| !own.contains(host)).collect())
}

fn register(value: &str) -> App {
    let body = "return {'statusCode': 200, 'body': os.environ['VALUE']}";
    App::new("register").python("register", body, &format!("env = {{ VALUE = \"{value}\" }}"))
}

async fn deploy(node: &Platform, app: &App) -> Cli {
    node.rouse(&["deploy", &app.path().display().to_string(), "--json"]).await
}

/// The number that an answer says is live.
fn number(cli: &Cli) -> Option<u64> {
    let answer: serde_json::Value = serde_json::from_str(&cli.out).ok().filter(|_| cli.ok)?;
    answer["deployment"]["number"].as_u64().or_else(|| answer["number"].as_u64())
}

impl Cluster {
    /// Deploys and goes back through one node, until told to stop.
    async fn operate(self: Arc<Self>, node: usize) {
        for n in 0u32.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let platform = &self.nodes[node];
            let (ask, value) = (if n % 3 == 2 { Ask::Rollback } else { Ask::Deploy }, format!("{node}-{n}"));
            let run = async {
                let cli = match ask {
                    Ask::Deploy => deploy(platform, &register(&value)).await,
                    _ => platform.rouse(&["rollback", "register", "--json"]).await,
                };
                let live = number(&cli);
                match live {
                    Some(live) if ask == Ask::Deploy => {
                        let before = self.values.lock().expect("no one panics").insert(live, value);
                        assert_eq!(before, None, "two deployments are number {live}");
                    }
                    Some(_) => {}
                    None => {
                        self.refused.fetch_add(1, Ordering::Relaxed);
                        assert!(is_clear(&cli), "node {node}: {ask:?}: {}{}", cli.out, cli.err);
                    }
                }
                live
            };
            self.history.note(ask, run).await;
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }

    async fn members(&self, of: usize) -> Vec<String> {
        let cli = self.nodes[of].rouse(&["cluster", "status", "--json"]).await;
        let status: serde_json::Value = serde_json::from_str(&cli.out).unwrap_or_default();
        let members = status["members"].as_array().into_iter().flatten();
        members.filter_map(|member| member["node"].as_str().map(str::to_owned)).collect()
    }

    /// A zone is cut off: its node is missed, answers calls, and refuses what cannot be agreed on; the others go on.
    async fn cut(&self, what: &str, zone: usize, cut: impl FnOnce(&Network, &[usize], &[usize])) {
        let (own, rest) = sides(zone);
        let others: Vec<usize> = (0..usize::from(ZONES)).filter(|other| *other != zone).collect();
        let during = self
            .traffic
            .during(what, async || {
                cut(&self.network, &own, &rest);
                let name = format!("node-{zone}");
                wait_for("the others miss it", LIMIT, async || {
                    !self.members(others[0]).await.contains(&name)
                })
                .await;
                let refused = deploy(&self.nodes[zone], &register("cut-off")).await;
                assert!(
                    !refused.ok && refused.err.contains("cluster-unavailable"),
                    "{}{}",
                    refused.out,
                    refused.err
                );
                self.traffic.calls_go_on(&[zone]).await;
                self.traffic.goes_on(&others).await;
                self.network.mend();
                wait_for("it is a member again", LIMIT, async || {
                    self.members(others[0]).await.contains(&name)
                })
                .await;
            })
            .await;
        assert!(during.calls.iter().all(|calls| calls.bad == 0), "calls failed: {:?}", during.calls);
        let refusal = during.refusals[zone].as_deref().unwrap_or("none was refused");
        let clear = ["cluster-unavailable", "is not known"].iter().any(|why| refusal.contains(why));
        assert!(clear, "events through what is cut off: {refusal}");
    }

    /// A node is stopped for long, and comes back without knowing it.
    async fn stopped(&self, zone: usize, time: Duration) {
        let what = format!("a node is stopped for {} s (SIGSTOP), and goes on", time.as_secs());
        let other = (zone + 1) % usize::from(ZONES);
        let name = format!("node-{zone}");
        self.traffic
            .during(&what, async || {
                self.nodes[zone].pause(true);
                self.traffic.set(zone, None);
                wait_for("the others miss it", LIMIT, async || !self.members(other).await.contains(&name))
                    .await;
                tokio::time::sleep(time).await;
                self.nodes[zone].pause(false);
                wait_for("it is a member again", LIMIT, async || self.members(other).await.contains(&name))
                    .await;
                self.traffic.set(zone, Some(self.nodes[zone].gateway));
            })
            .await;
    }

    /// A node's disk is full, and has room again.
    async fn full_disk(&self, disk: &Disk) {
        let others: Vec<usize> = (0..usize::from(ZONES)).filter(|other| *other != SMALL).collect();
        self.traffic
            .during("the disk of a node is full, and has room again", async || {
                disk.fill();
                self.traffic.calls_go_on(&[SMALL]).await;
                self.traffic.goes_on(&others).await;
                let refused = deploy(&self.nodes[SMALL], &register("full")).await;
                assert!(
                    !refused.ok && refused.err.contains("storage-full"),
                    "{}{}",
                    refused.out,
                    refused.err
                );
                disk.clear();
            })
            .await;
    }

    /// Links lose packets, or are slow.
    async fn bad_links(&self) {
        let all: Vec<usize> = (0..2 * usize::from(ZONES)).collect();
        self.traffic
            .during("5 % of all packets are lost", async || {
                self.network.lose(5, &all);
                self.traffic.goes_on(&[0, 1, 2]).await;
                self.network.mend();
            })
            .await;
        let how = self.network.slow(&all);
        self.traffic
            .during(&format!("all links are slow ({how:?})"), async || {
                self.traffic.goes_on(&[0, 1, 2]).await;
                self.network.mend();
            })
            .await;
    }

    /// All nodes show one bill, which has each call once: those that were answered, and those whose answer got lost at most.
    async fn bills_each_call(&self) {
        let calls = self.traffic.calls();
        for node in &self.nodes {
            wait_for("each call is on the bill", LIMIT, async || {
                let usage = node.json(&["usage"]).await;
                let rows = usage["rows"].as_array().cloned().unwrap_or_default();
                let greet = rows.iter().find(|row| row["function"] == "greet");
                let billed = greet.and_then(|row| row["sums"]["invocations"].as_u64()).unwrap_or_default();
                assert!(billed <= calls.good + calls.bad + self.before, "{billed} billed of {calls:?}");
                billed >= calls.good + self.before
            })
            .await;
        }
    }

    /// All nodes come to show the same, and the whole history could have been one after the other.
    async fn explains_itself(&self) {
        let live = Mutex::new(0);
        wait_for("all nodes show the same", LIMIT, async || {
            let mut seen = Vec::new();
            for node in &self.nodes {
                let app = node.ask("/v1/tenants/default/apps/register").await;
                seen.push(app.json()["live"].as_u64());
            }
            *live.lock().expect("no one panics") = seen[0].unwrap_or(0);
            seen.iter().all(|each| each.is_some() && *each == seen[0])
        })
        .await;
        let live = live.into_inner().expect("no one panics");
        self.history.note(Ask::Look, async { Some(live) }).await;
        let value = self.values.lock().expect("no one panics").get(&live).cloned();
        if let Some(value) = value {
            for node in &self.nodes {
                wait_for("what is live answers", LIMIT, async || node.get("register").await.text() == value)
                    .await;
            }
        }
        let operations = self.history.operations();
        let unknown = operations.iter().filter(|each| each.answer.is_none()).count();
        eprintln!(
            "cluster: history | operations {} | refused, or nobody knows {unknown} | {:?}",
            operations.len(),
            check(&operations)
        );
        assert_eq!(check(&operations), Verdict::Linearizable, "{operations:#?}");
        assert!(operations.len() > unknown + 10, "hardly anything was deployed");
    }
}

/// Whether a refusal says which it is: the engine is away, the disk is full, others were faster again and again, there is
/// nothing to go back to, or the node does not answer.
fn is_clear(cli: &Cli) -> bool {
    let reasons = [
        "cluster-unavailable",
        "storage-full",
        "others changed the same",
        "nothing-to-roll-back",
        "control-unavailable",
    ];
    reasons.iter().any(|why| cli.err.contains(why))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_is_kept_and_what_is_agreed_on_is_one_history_while_zones_are_cut_off() {
    const TEST: &str =
        "what_is_accepted_is_kept_and_what_is_agreed_on_is_one_history_while_zones_are_cut_off";
    let faults = std::env::var("ROUSE_CLUSTER_FAULTS").unwrap_or_default();
    let (more, long) = (!faults.is_empty(), faults == "long");
    let Some(network) = Network::make(TEST, 2 * ZONES) else { return };
    let (hosts, servers) = network.hosts().split_at(usize::from(ZONES));
    let Some(engine) = Engine::start_on(TEST, &servers.iter().collect::<Vec<_>>()) else { return };
    let disk = match Disk::mount(SMALL_MIB) {
        Ok(disk) => disk,
        Err(reason) => return skipped(TEST, &reason),
    };
    let folders = [state_folder(), state_folder(), state_folder()];
    let mut nodes = Vec::new();
    for (number, (host, folder)) in hosts.iter().zip(&folders).enumerate() {
        let join = engine.join(&format!("node-{number}"), &format!("zone-{number}"));
        let folder = if number == SMALL { disk.path() } else { folder.path() };
        let node = Platform::start_on(host, folder, &join);
        need!(node, TEST, "python");
        nodes.push(node);
    }
    let seen = Seen::listen_at(network.test).await;
    nodes[0]
        .deploy(App::new("greet").python("greet", "return {'statusCode': 200, 'body': 'x'}", "").path())
        .await;
    let lines = tell::lines_at(network.test, seen.port());
    nodes[0].deploy(App::new("later").python("later", tell::PYTHON, &lines).path()).await;
    let mut before = 0;
    for node in &nodes {
        wait_for("it answers everywhere", LIMIT, async || {
            let apps = std::fs::read_dir(node.state().join("apps/default"));
            apps.is_ok_and(|files| files.count() == 2) && node.get("greet").await.status == 200
        })
        .await;
        before += 1;
    }
    let addresses: Vec<_> = nodes.iter().map(|node| node.gateway).collect();
    let cluster = Arc::new(Cluster {
        nodes,
        engine: Mutex::new(engine),
        network,
        traffic: Traffic::start(&addresses),
        history: History::default(),
        values: Mutex::default(),
        stop: AtomicBool::new(false),
        before,
        refused: AtomicU64::new(0),
    });
    let mut operators = JoinSet::new();
    for node in 0..usize::from(ZONES) {
        operators.spawn(Arc::clone(&cluster).operate(node));
    }

    let both = |network: &Network, own: &[usize], rest: &[usize]| {
        network.cut(own, rest);
        network.cut(rest, own);
    };
    cluster.cut("a zone is cut off", 2, both).await;
    if more {
        cluster.cut("a zone hears nothing", 1, |network, own, rest| network.cut(rest, own)).await;
        cluster.bad_links().await;
        cluster.stopped(0, STOPPED_SHORT).await;
    }
    if long {
        cluster.cut("another zone is cut off", 0, both).await;
        cluster.cut("the third zone is cut off", 1, both).await;
        cluster.cut("a zone is not heard", 0, |network, own, rest| network.cut(own, rest)).await;
        cluster.cut("another zone is not heard", 2, |network, own, rest| network.cut(own, rest)).await;
        cluster.stopped(2, STOPPED_LONG).await;
        for server in 0..usize::from(ZONES) {
            let traffic = Arc::clone(&cluster.traffic);
            let pause = |paused| cluster.engine.lock().expect("no one panics").pause(server, paused);
            traffic
                .during(
                    &format!("a server of the engine is stopped (SIGSTOP), and goes on ({server})"),
                    async || {
                        pause(true);
                        traffic.goes_on(&[0, 1, 2]).await;
                        pause(false);
                    },
                )
                .await;
        }
        cluster.full_disk(&disk).await;
    }
    cluster.stop.store(true, Ordering::Relaxed);
    operators.join_all().await;
    cluster.traffic.end(&seen).await;
    cluster.explains_itself().await;
    cluster.bills_each_call().await;
    eprintln!("cluster: deploys and rollbacks refused {}", cluster.refused.load(Ordering::Relaxed));
}
