//! Limits and budgets, through the doors that users have: what is refused starts no code, and no cap is overshot.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rouse_e2e::{App, Platform, Seen, call_on, example, need, state_folder, wait_for};
use serde_json::Value;
use tokio::task::JoinSet;

const LIMIT: Duration = Duration::from_secs(120);
/// What a call of 10 s and 128 MiB costs by the default prices: a request, and 1.25 GB-seconds at 16,666.7.
const WORST: u64 = 200 + 20_834;

/// One connection, many calls at once.
fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

fn number(value: &Value, what: &str) -> u64 {
    value[what].as_u64().unwrap_or_else(|| panic!("no {what} in {value}"))
}

#[tokio::test]
async fn ten_thousand_callers_against_a_cap_overshoot_by_nothing_while_gateways_are_killed() {
    const NAME: &str = "ten_thousand_callers_against_a_cap_overshoot_by_nothing_while_gateways_are_killed";
    const CAP: u64 = 400_000;
    let folder = state_folder();
    let platform = Arc::new(Platform::start_in(folder.path()));
    need!(platform, NAME, "component");
    platform.deploy(&example("hello-rust")).await;
    let set = platform.json(&["budget", "set", "0.0004", "--hard"]).await;
    assert_eq!((number(&set, "spent_nanos"), number(&set["budget"], "month_nanos")), (0, CAP));

    let [answered, cost, refused] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let client = client();
        for _ in 0..200 {
            let (platform, client) = (Arc::clone(&platform), client.clone());
            let (answered, cost, refused) = (Arc::clone(&answered), Arc::clone(&cost), Arc::clone(&refused));
            callers.spawn(async move {
                loop {
                    let request = platform.request("/fn/default/hello-rust", None);
                    match call_on(&client, request).await {
                        Ok(answer) if answer.status == 200 => {
                            let told: u64 = answer.header("x-rouse-cost-nanos").parse().expect("a cost");
                            cost.fetch_add(told, Ordering::SeqCst);
                            answered.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                        Ok(answer) if answer.code() == "budget-exhausted" => {
                            assert_eq!(answer.status, 402);
                            refused.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                        // No room at the moment, or a gateway that is gone: as a client that waits does.
                        Ok(answer) => {
                            assert!([429, 503].contains(&answer.status.as_u16()), "{}", answer.text());
                            assert!(!answer.header("retry-after").is_empty(), "{}", answer.text());
                        }
                        Err(_) => {}
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            });
        }
    }
    for part in [200, 600] {
        wait_for("calls are answered", LIMIT, async || answered.load(Ordering::SeqCst) >= part).await;
        platform.kill("gateway");
    }
    let done = tokio::time::timeout(LIMIT * 2, callers.join_all()).await;
    done.expect("all callers are answered or refused");
    let (answered, cost) = (answered.load(Ordering::SeqCst), cost.load(Ordering::SeqCst));
    assert_eq!(answered + refused.load(Ordering::SeqCst), 10_000);

    // What gateways that were killed held is free again, and what was spent stays.
    let status = platform.json(&["budget", "show"]).await;
    assert_eq!(number(&status, "reserved_nanos"), 0, "{status}");
    let bill = platform.json(&["usage"]).await["total"].clone();
    assert!(number(&bill, "cost_nanos") >= cost, "{bill}: answers told of {cost}");
    assert!(number(&bill, "cost_nanos") <= CAP, "{bill} is over the cap");
    assert!(number(&bill, "invocations") >= answered, "{bill}: {answered} were answered");
    assert!((number(&bill, "cost_nanos")..=CAP).contains(&number(&status, "spent_nanos")), "{status}");
    assert!(CAP - number(&status, "spent_nanos") < WORST, "the budget was used up: {status}");

    // Nothing of it is forgotten by a new start.
    Arc::into_inner(platform).expect("all callers have ended").kill_supervisor();
    let platform = Platform::start_in(folder.path());
    let refusal = platform.get("hello-rust").await;
    assert_eq!((refusal.status.as_u16(), refusal.code()), (402, "budget-exhausted"), "{}", refusal.text());
    let again = platform.json(&["budget", "show"]).await;
    assert_eq!(again["spent_nanos"], bill["cost_nanos"], "the ledger knows: {again}");
    platform.json(&["budget", "set", "1.00", "--hard"]).await;
    assert_eq!(platform.get("hello-rust").await.status, 200, "raised at once");
    platform.json(&["budget", "clear"]).await;
    assert_eq!(platform.get("hello-rust").await.status, 200);
}

#[tokio::test]
async fn a_function_in_a_sandbox_is_held_to_the_cap_and_its_time_beyond_the_limit_is_not_billed() {
    const NAME: &str =
        "a_function_in_a_sandbox_is_held_to_the_cap_and_its_time_beyond_the_limit_is_not_billed";
    let platform = Platform::start();
    need!(platform, NAME, "python");
    let sleeps = App::new("sleeps").python("sleeps", "time.sleep(60)\nreturn {}", "timeout = \"1s\"");
    platform.deploy(sleeps.path()).await;
    // A second to run and ten to start, at 128 MiB: 22,916.7, and the request. Room for one, not for two.
    platform.json(&["budget", "set", "0.000046", "--hard"]).await;
    let (first, second) = tokio::join!(platform.get("sleeps"), platform.get("sleeps"));
    let mut codes = [first.code(), second.code()];
    codes.sort_unstable();
    assert_eq!(codes, ["budget-reserved", "function-timeout"], "{} {}", first.text(), second.text());
    let third = platform.get("sleeps").await;
    assert_eq!(third.code(), "function-timeout", "the rest was given back: {}", third.text());
    let billed: u64 = third.header("x-rouse-billed-ms").parse().expect("milliseconds");
    assert!((1_000..=11_000).contains(&billed), "{billed}");

    // A node that is killed holds nothing afterwards.
    platform.json(&["budget", "set", "0.00005", "--hard"]).await;
    let lost = platform.get("sleeps");
    let kill = async {
        wait_for("it runs", LIMIT, async || {
            number(&platform.json(&["budget", "show"]).await, "reserved_nanos") > 0
        })
        .await;
        platform.kill("node");
    };
    tokio::join!(lost, kill);
    wait_for("nothing is set aside", LIMIT, async || {
        number(&platform.json(&["budget", "show"]).await, "reserved_nanos") == 0
    })
    .await;
    let bill = platform.json(&["usage"]).await["total"].clone();
    assert!(number(&bill, "cost_nanos") <= 50_000, "{bill}");
}

#[tokio::test]
async fn limits_hold_at_once_say_when_to_come_again_and_are_taken_away() {
    const NAME: &str = "limits_hold_at_once_say_when_to_come_again_and_are_taken_away";
    let platform = Platform::start();
    need!(platform, NAME, "component");
    platform.deploy(&example("hello-rust")).await;
    let file = platform.state().join("limits.toml");
    let set = async |text: &str| {
        std::fs::write(&file, text).expect("a file");
        platform.rouse(&["limits", "set", &file.display().to_string()]).await
    };
    assert!(set("requests_per_second = 1\nburst = 3\n").await.ok);
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(platform.get("hello-rust").await);
    }
    let refused: Vec<_> = statuses.iter().filter(|answer| answer.status != 200).collect();
    // A slow machine may take so long for eight calls that one more is due.
    assert!((1..=5).contains(&refused.len()), "{statuses:?}");
    for answer in refused {
        assert_eq!((answer.status.as_u16(), answer.code()), (429, "quota-exceeded"), "{}", answer.text());
        assert_eq!(answer.header("retry-after"), "1");
    }
    assert!(set("concurrency = 0\n").await.ok);
    assert_eq!(platform.get("hello-rust").await.code(), "quota-exceeded");
    let text = "concurrency = 1\n\n[functions.hello-rust]\nconcurrency_reserved = 1\n";
    assert!(set(text).await.ok);
    assert_eq!(platform.get("hello-rust").await.status, 200);
    assert_eq!(platform.rouse(&["limits", "show"]).await.out, text);

    // What is wrong is refused whole, with its place; what was in force stays.
    for (wrong, place) in [
        ("concurrency = 1\nspeed = 9\n", "line 2: unknown field `speed`"),
        ("requests_per_second = 0\n", "requests_per_second: 0 is not between"),
    ] {
        let cli = set(wrong).await;
        assert!(!cli.ok && cli.err.contains(place) && cli.err.contains("hint"), "{}", cli.err);
    }
    assert_eq!(platform.rouse(&["limits", "show"]).await.out, text);

    assert!(platform.rouse(&["limits", "clear"]).await.ok);
    for _ in 0..8 {
        assert_eq!(platform.get("hello-rust").await.status, 200);
    }
}

/// Tells the test's listener what the event was.
const TELLS: &str = "import socket
with socket.create_connection(('127.0.0.1', int(os.environ['TELL']))) as tell:
    tell.sendall(json.dumps(event).encode() + b'\\n')
    tell.recv(1)
return {}";

#[tokio::test]
async fn each_threshold_of_a_budget_rouses_a_function_and_a_webhook_once() {
    const NAME: &str = "each_threshold_of_a_budget_rouses_a_function_and_a_webhook_once";
    let platform = Platform::start();
    need!(platform, NAME, "python");
    need!(platform, NAME, "component");
    let seen = Seen::listen().await;
    let hooks = Hooks::listen().await;
    let lines = format!(
        "egress = [\"127.0.0.1:{port}\"]\nenv = {{ TELL = \"{port}\" }}\n\
         [[functions.watch.triggers]]\ntopic = \"money\"",
        port = seen.port()
    );
    platform.deploy(App::new("watch").python("watch", TELLS, &lines).path()).await;
    platform.deploy(&example("hello-rust")).await;
    // The operator's own names may lead to this machine.
    std::fs::write(platform.state().join("hosts"), "127.0.0.1 alerts.test\n").expect("the operator's hosts");
    let webhook = format!("http://alerts.test:{}/hook", hooks.port);
    let args = ["budget", "set", "0.00001", "--alert", "1", "--alert", "90", "--topic", "money", "--webhook"];
    platform.json(&[&args[..], &[&webhook]].concat()).await;

    assert_eq!(platform.get("hello-rust").await.status, 200);
    wait_for("the first threshold is told of", LIMIT, async || {
        seen.count() >= 1 && hooks.bodies().len() == 1
    })
    .await;
    // Watching costs, too: it takes few calls until the second is reached.
    wait_for("the second threshold is told of", LIMIT, async || {
        platform.get("hello-rust").await;
        hooks.bodies().len() == 2
    })
    .await;
    let told: Vec<Value> =
        hooks.bodies().iter().map(|body| serde_json::from_str(body).expect("json")).collect();
    assert_eq!(told.iter().map(|alert| number(alert, "alert")).collect::<Vec<_>>(), [1, 90]);
    assert!(number(&told[1], "spent_nanos") >= 9_000 && told[1]["tenant"] == "default", "{told:?}");
    wait_for("the function heard of both", LIMIT, async || seen.count() == 2).await;
    for _ in 0..20 {
        assert_eq!(platform.get("hello-rust").await.status, 200, "a soft budget refuses nothing");
    }
    let status = platform.json(&["budget", "show"]).await;
    assert_eq!(status["alerted"], serde_json::json!([1, 90]), "{status}");
    assert!(number(&status, "spent_nanos") > 10_000, "{status}");
    // The ledger has been looked at again by then, and nothing is told twice.
    assert_eq!((seen.count(), hooks.bodies().len()), (2, 2));
}

/// A receiver of webhooks.
struct Hooks {
    port: u16,
    bodies: Arc<std::sync::Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Hooks {
    async fn listen() -> Self {
        use http_body_util::BodyExt as _;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let bodies = Arc::<std::sync::Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&bodies);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                let service =
                    hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let noted = Arc::clone(&noted);
                        async move {
                            let body = request.into_body().collect().await?.to_bytes();
                            noted.lock().expect("no panic").push(String::from_utf8_lossy(&body).into_owned());
                            Ok::<_, hyper::Error>(http::Response::new(Full::new(Bytes::new())))
                        }
                    });
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            }
        });
        Self { port, bodies, _tasks: tasks }
    }

    fn bodies(&self) -> Vec<String> {
        self.bodies.lock().expect("no panic").clone()
    }
}
