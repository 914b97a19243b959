//! Calls and events that go to every node of a cluster while faults happen, and what became of them.
//!
//! Each node has a caller and a producer of events of its own, so that one node that makes them wait holds up no others.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::task::JoinSet;

use crate::{Answer, Seen, call, wait_for};

/// How long there is load before, between and after faults, at least: counted in calls, not in time.
const CALLS_BETWEEN: u64 = 100;
const EVENTS_BETWEEN: u64 = 30;
/// For whatever must come to be, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(300);
/// A call that takes longer has failed: its node was stopped or cannot be reached.
const CALL_MAX: Duration = Duration::from_secs(20);
/// The same for handing over an event, which may wait until the engine has a leader.
const EVENT_MAX: Duration = Duration::from_secs(40);

/// What the load has come to.
#[derive(Debug)]
pub struct Traffic {
    nodes: Vec<Node>,
    stop: AtomicBool,
    accepted: Mutex<HashSet<String>>,
    tasks: Mutex<JoinSet<()>>,
}

/// One node, as a balancer sees it, which takes a node out that does not answer.
#[derive(Debug, Default)]
struct Node {
    at: Mutex<Option<SocketAddr>>,
    calls: Count,
    events: Count,
}

#[derive(Debug, Default)]
struct Count {
    good: AtomicU64,
    bad: AtomicU64,
    last_bad: Mutex<Option<(Instant, String)>>,
}

/// So many, since something began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// That were answered as they should be.
    pub good: u64,
    /// That were not.
    pub bad: u64,
}

/// What became of the load of one node, or all.
#[derive(Debug, Clone)]
pub struct During {
    /// By node.
    pub calls: Vec<Tally>,
    /// By node: those that were accepted.
    pub events: Vec<Tally>,
    /// By node: the last refusal of an event.
    pub refusals: Vec<Option<String>>,
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Count {
    fn tally(&self) -> Tally {
        Tally { good: self.good.load(Ordering::Relaxed), bad: self.bad.load(Ordering::Relaxed) }
    }

    fn add(&self, result: Result<(), String>) {
        match result {
            Ok(()) => drop(self.good.fetch_add(1, Ordering::Relaxed)),
            Err(why) => {
                self.bad.fetch_add(1, Ordering::Relaxed);
                *hold(&self.last_bad) = Some((Instant::now(), why));
            }
        }
    }
}

impl Tally {
    fn since(self, before: Self) -> Self {
        Self { good: self.good - before.good, bad: self.bad - before.bad }
    }

    /// Of all nodes.
    #[must_use]
    pub fn sum(of: &[Self]) -> Self {
        of.iter().fold(Self { good: 0, bad: 0 }, |sum, one| Self {
            good: sum.good + one.good,
            bad: sum.bad + one.bad,
        })
    }
}

impl Traffic {
    /// Begins: calls of the function `greet`, events for the function `later`.
    #[must_use]
    pub fn start(nodes: &[SocketAddr]) -> Arc<Self> {
        let node = |at: &SocketAddr| Node { at: Mutex::new(Some(*at)), ..Node::default() };
        let traffic = Arc::new(Self {
            nodes: nodes.iter().map(node).collect(),
            stop: AtomicBool::new(false),
            accepted: Mutex::default(),
            tasks: Mutex::default(),
        });
        for node in 0..nodes.len() {
            let (calls, events) = (Arc::clone(&traffic), Arc::clone(&traffic));
            let mut tasks = hold(&traffic.tasks);
            tasks.spawn(async move { calls.call(node).await });
            tasks.spawn(async move { events.send(node).await });
        }
        traffic
    }

    /// Takes a node out, or back in at an address.
    pub fn set(&self, node: usize, at: Option<SocketAddr>) {
        *hold(&self.nodes[node].at) = at;
    }

    /// Where a node is, unless it is taken out; none at the end.
    async fn at(&self, node: usize) -> Option<SocketAddr> {
        while !self.stop.load(Ordering::Relaxed) {
            if let Some(at) = *hold(&self.nodes[node].at) {
                return Some(at);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        None
    }

    async fn call(self: Arc<Self>, node: usize) {
        while let Some(at) = self.at(node).await {
            let answer = tokio::time::timeout(CALL_MAX, call::get(at, "/fn/default/greet")).await;
            self.nodes[node].calls.add(right(answer, 200).map(drop));
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    async fn send(self: Arc<Self>, node: usize) {
        while let Some(at) = self.at(node).await {
            let request = Request::post(format!("http://{at}/fn/default/later"))
                .header("x-rouse-async", "true")
                .body(Full::new(Bytes::new()))
                .expect("a request");
            let client = call::client();
            let answer = tokio::time::timeout(EVENT_MAX, call::call_on(&client, request)).await;
            let accepted = right(answer, 202).map(|answer| {
                hold(&self.accepted).insert(answer.header("x-rouse-invocation-id").to_owned());
            });
            self.nodes[node].events.add(accepted);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// The calls of all nodes until now.
    #[must_use]
    pub fn calls(&self) -> Tally {
        Tally::sum(&self.all().0)
    }

    fn all(&self) -> (Vec<Tally>, Vec<Tally>) {
        let calls = self.nodes.iter().map(|node| node.calls.tally()).collect();
        (calls, self.nodes.iter().map(|node| node.events.tally()).collect())
    }

    /// Waits until calls and events have gone on for a while, through these nodes each.
    ///
    /// # Panics
    /// When they do not.
    pub async fn goes_on(&self, nodes: &[usize]) {
        let (calls, events) = self.all();
        let each = u64::try_from(nodes.len()).unwrap_or(1);
        wait_for("calls and events go on", LIMIT, async || {
            let (calls_now, events_now) = self.all();
            nodes.iter().all(|&node| {
                calls_now[node].since(calls[node]).good >= CALLS_BETWEEN / each
                    && events_now[node].since(events[node]).good >= EVENTS_BETWEEN / each
            })
        })
        .await;
    }

    /// Waits until each of these nodes has answered so many calls more.
    ///
    /// # Panics
    /// When they do not.
    pub async fn calls_go_on(&self, nodes: &[usize]) {
        let before = self.all().0;
        wait_for("calls go on", LIMIT, async || {
            let now = self.all().0;
            nodes.iter().all(|&node| now[node].since(before[node]).good >= CALLS_BETWEEN / 3)
        })
        .await;
    }

    /// Lets a fault happen under load, waits until all nodes that are in go on, and tells what came of it.
    pub async fn during(&self, what: &str, fault: impl AsyncFnOnce()) -> During {
        self.goes_on(&self.inside()).await;
        let (calls, events) = self.all();
        let begun = Instant::now();
        fault().await;
        self.goes_on(&self.inside()).await;
        let since = |now: Vec<Tally>, before: Vec<Tally>| -> Vec<Tally> {
            now.into_iter().zip(before).map(|(now, before)| now.since(before)).collect()
        };
        let now = self.all();
        let (calls, events) = (since(now.0, calls), since(now.1, events));
        let last = |of: fn(&Node) -> &Count| {
            let last = |node| hold(&of(node).last_bad).clone().filter(|(at, _)| *at > begun);
            self.nodes.iter().map(last).collect::<Vec<_>>()
        };
        let seconds = |last: &[Option<(Instant, String)>]| {
            let last = last.iter().flatten().map(|(at, _)| *at).max();
            last.map_or(0.0, |last| (last - begun).as_secs_f64())
        };
        let (call, event) = (last(|node| &node.calls), last(|node| &node.events));
        let sum = (Tally::sum(&calls), Tally::sum(&events));
        eprintln!(
            "cluster: {what} | calls {} | failed {} ({:.2} %) | seconds until none fails {:.1} | events \
             accepted {} | refused {} | seconds until none is refused {:.1}",
            sum.0.good + sum.0.bad,
            sum.0.bad,
            sum.0.bad as f64 * 100.0 / (sum.0.good + sum.0.bad).max(1) as f64,
            seconds(&call),
            sum.1.good,
            sum.1.bad,
            seconds(&event),
        );
        for (node, (_, why)) in
            call.iter().enumerate().filter_map(|(node, last)| Some((node, last.as_ref()?)))
        {
            eprintln!("  the last call of node {node} that failed: {why}");
        }
        let refusals = event.into_iter().map(|last| last.map(|(_, why)| why)).collect();
        During { calls, events, refusals }
    }

    fn inside(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| hold(&self.nodes[*node].at).is_some()).collect()
    }

    /// Ends, and waits until each accepted event has run. Tells in how many ways.
    ///
    /// # Panics
    /// When one is lost.
    pub async fn end(&self, seen: &Seen) {
        self.stop.store(true, Ordering::Relaxed);
        let tasks = std::mem::take(&mut *hold(&self.tasks));
        tasks.join_all().await;
        let accepted = hold(&self.accepted).clone();
        // What a dead node held is given out again once its leases have run out.
        wait_for("every accepted event has run", LIMIT, async || accepted.is_subset(&seen.ids())).await;
        let mut times: HashMap<String, u32> = HashMap::new();
        for line in seen.lines() {
            *times.entry(line["id"].as_str().expect("an id").to_owned()).or_default() += 1;
        }
        let doubled = times.values().filter(|times| **times > 1).count();
        let unacknowledged = times.keys().filter(|id| !accepted.contains(*id)).count();
        eprintln!(
            "cluster: in all | accepted {} | executed {} | lost 0 | run twice {doubled} | run though their \
             acknowledgement was lost {unacknowledged}",
            accepted.len(),
            accepted.iter().filter(|id| times.contains_key(*id)).count(),
        );
    }
}

fn right(
    answer: Result<Result<Answer, String>, tokio::time::error::Elapsed>,
    status: u16,
) -> Result<Answer, String> {
    match answer {
        Err(_) => Err("no answer in time".to_owned()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(answer)) if answer.status == status => Ok(answer),
        Ok(Ok(answer)) => Err(format!("{} {}", answer.status, answer.text())),
    }
}
