//! Every event that was acknowledged is handled or a dead letter, whatever is killed, and whenever.
//!
//! `ROUSE_CRASH_KILLS` says how often something is killed: `cargo xtask test crash` does so some dozen times.

#![expect(clippy::print_stderr, reason = "the suite tells how many duplicates there were")]

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rouse_e2e::{App, Platform, Seen, call_on, need, state_folder, wait_for};
use tokio::task::JoinSet;

const PRODUCERS: u64 = 4;
const KILLS_DEFAULT: u64 = 4;
/// Every so many events, one that never does well.
const POISON: u64 = 50;

const HANDLER: &str = "import socket
with socket.create_connection(('127.0.0.1', int(os.environ['TELL']))) as tell:
    tell.sendall(json.dumps({'id': context.aws_request_id}).encode() + b'\\n')
    tell.recv(1)
if 'poison' in event.get('body', ''):
    raise ValueError('it is poison')
return {}";

/// What the producers share.
#[derive(Debug, Default)]
struct Produced {
    gateway: Mutex<Option<SocketAddr>>,
    accepted: Mutex<HashSet<String>>,
    asked: AtomicU64,
    stop: AtomicBool,
}

async fn produce(producer: u64, all: Arc<Produced>) {
    while !all.stop.load(Ordering::Relaxed) {
        let at = *all.gateway.lock().expect("no one panics");
        let n = all.asked.fetch_add(1, Ordering::Relaxed);
        let sent = match at {
            Some(at) => send(at, producer, n).await,
            None => None,
        };
        match sent {
            Some(id) => drop(all.accepted.lock().expect("no one panics").insert(id)),
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        // Faster than events are handled, but not so that the rest takes minutes.
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

async fn send(at: SocketAddr, producer: u64, n: u64) -> Option<String> {
    let client =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let poison = if n % POISON == 7 { " poison" } else { "" };
    let request = http::Request::post(format!("http://{at}/fn/default/crash"))
        .header("x-rouse-async", "true")
        // Else the body is told to the handler in base64.
        .header("content-type", "text/plain")
        .body(http_body_util::Full::new(Bytes::from(format!("{producer}-{n}{poison}"))))
        .expect("a request");
    let answer = call_on(&client, request).await.ok()?;
    // Whatever else was answered promised nothing.
    (answer.status == 202).then(|| answer.header("x-rouse-invocation-id").to_owned())
}

/// Different moments and victims each time, without chance, so that a failure comes again.
fn chance(kill: u64, of: u64) -> u64 {
    (kill.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % of
}

async fn dead(platform: &Platform) -> HashMap<String, String> {
    let listed = platform.json(&["events", "list", "--status", "failed", "--limit", "10000"]).await;
    let listed = listed["events"].as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    listed.iter().map(|event| (text(&event["id"]), text(&event["reason"]))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_acknowledged_event_is_handled_or_a_dead_letter_whatever_is_killed() {
    let kills = std::env::var("ROUSE_CRASH_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS_DEFAULT);
    let state = state_folder();
    let mut platform = Platform::start_in(state.path());
    need!(platform, "each_acknowledged_event_is_handled_or_a_dead_letter_whatever_is_killed", "python");
    let seen = Seen::listen().await;
    let settings = "events = { attempts = 3, backoff = \"50ms\", backoff_max = \"200ms\" }";
    let lines = format!(
        "egress = [\"127.0.0.1:{port}\"]\nenv = {{ TELL = \"{port}\" }}\nconcurrency_max = 4\n{settings}",
        port = seen.port()
    );
    platform.deploy(App::new("crash").python("crash", HANDLER, &lines).path()).await;

    let all = Arc::new(Produced::default());
    let mut producers = JoinSet::new();
    for producer in 0..PRODUCERS {
        producers.spawn(produce(producer, Arc::clone(&all)));
    }
    *all.gateway.lock().expect("no one panics") = Some(platform.gateway);
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(200 + chance(kill, 1_300))).await;
        match kill % 4 {
            // The power goes, as far as processes can tell.
            0 => {
                *all.gateway.lock().expect("no one panics") = None;
                platform.kill_supervisor();
                drop(platform);
                platform = Platform::start_in(state.path());
                *all.gateway.lock().expect("no one panics") = Some(platform.gateway);
            }
            1 | 3 => platform.kill("events"),
            _ => platform.kill(["gateway", "node"][usize::try_from(chance(kill, 2)).unwrap_or(0)]),
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    all.stop.store(true, Ordering::Relaxed);
    while producers.join_next().await.is_some() {}

    let accepted = all.accepted.lock().expect("no one panics").clone();
    assert!(accepted.len() as u64 > kills, "hardly anything was accepted: {}", accepted.len());
    wait_for("nothing waits or runs any more", Duration::from_secs(300), async || {
        let left = platform.rouse(&["events", "list", "--status", "pending", "--json"]).await;
        left.ok
            && serde_json::from_str::<serde_json::Value>(&left.out)
                .is_ok_and(|left| left["events"].as_array().is_some_and(Vec::is_empty))
    })
    .await;
    let (handled, dead) = (seen.ids(), dead(&platform).await);
    let lost: Vec<_> =
        accepted.iter().filter(|id| !handled.contains(*id) && !dead.contains_key(*id)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged events are nowhere: {lost:?}",
        lost.len(),
        accepted.len()
    );
    let poisoned = dead.values().filter(|reason| reason.contains("function-error")).count();
    assert!(poisoned > 0, "no event was poison: {dead:?}");
    let attempts = seen.count();
    eprintln!(
        "crash: {kills} kills, {} events acknowledged, {} handled, {} dead ({poisoned} by their own fault), \
         {attempts} attempts: {} more than events",
        accepted.len(),
        handled.len(),
        dead.len(),
        attempts - handled.len(),
    );
}
