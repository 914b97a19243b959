//! From one machine to a cluster, and back by a backup of a node: nothing of what was acknowledged is missing.

use std::{fs, path::Path, process::Output, time::Duration};

use rouse_e2e::{App, Engine, Platform, Seen, need, program, state_folder, tell, wait_for};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(180);
const FILES: [&str; 5] =
    ["control/rouse.db", "control/ledger.db", "control/ledger.key", "events/queues.db", "events/records.db"];

async fn rouse(args: &[&str]) -> (bool, String) {
    let mut command = program();
    command.args(args);
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output()).await.expect("a task").expect("run rouse");
    (status.success(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

async fn billed(platform: &Platform, function: &str) -> Value {
    let cli = platform.rouse(&["usage", "--json"]).await;
    let usage: Value = serde_json::from_str(&cli.out).unwrap_or_default();
    let rows = usage["rows"].as_array().cloned().unwrap_or_default();
    rows.iter().find(|row| row["function"] == function).map(|row| row["sums"].clone()).unwrap_or_default()
}

fn greeter(name: &str, text: &str) -> App {
    App::new(name).python(name, &format!("return {{'statusCode': 200, 'body': '{text}'}}"), "")
}

/// What the platform on a folder came to must be here, too.
async fn is_as_before(platform: &Platform, bill: &Value, public: &str) {
    wait_for("it has the bill", LIMIT, async || billed(platform, "one").await == *bill).await;
    wait_for("it answers", LIMIT, async || platform.get("two").await.text() == "2").await;
    assert_eq!(platform.rouse(&["audit", "key"]).await.out.trim(), public);
    let folder = tempfile::tempdir().expect("a folder");
    let export = folder.path().join("export").display().to_string();
    fs::write(&export, platform.rouse(&["audit", "export"]).await.out).expect("a file");
    let (ok, said) = rouse(&["audit", "verify", &export, "--key", public]).await;
    assert!(ok, "{said}");
}

#[tokio::test]
async fn one_machines_state_becomes_a_clusters_and_a_backup_of_a_node_becomes_one_machines() {
    const TEST: &str = "one_machines_state_becomes_a_clusters_and_a_backup_of_a_node_becomes_one_machines";
    let Some(engine) = Engine::start(TEST, 1) else { return };
    let join = engine.join("a", "one");
    let to = join[1].clone();
    let first = state_folder();
    let state = first.path().display().to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let seen = Seen::listen().await;
    let platform = Platform::start_in(first.path());
    need!(platform, TEST, "python");
    for app in [greeter("one", "1"), greeter("two", "2")] {
        platform.deploy(app.path()).await;
    }
    platform.deploy(App::new("later").python("later", tell::PYTHON, &tell::lines(seen.port())).path()).await;
    for _ in 0..7 {
        assert_eq!(platform.get("one").await.text(), "1");
    }
    assert!(platform.rouse(&["queue", "create", "jobs"]).await.ok);
    for n in 0..5 {
        assert!(platform.rouse(&["queue", "send", "jobs", &format!("job {n}")]).await.ok);
    }
    // It waits for longer than this platform lives.
    let delayed = platform.rouse(&["queue", "send", "jobs", "job later", "--delay", "10m"]).await;
    assert!(delayed.ok, "{}", delayed.err);
    let public = platform.rouse(&["audit", "key"]).await.out.trim().to_owned();
    wait_for("the calls are on the bill", LIMIT, async || {
        billed(&platform, "one").await["invocations"].as_u64() == Some(7)
    })
    .await;
    let bill = billed(&platform, "one").await;

    // A platform that runs would go on changing what is moved.
    let (ok, said) = rouse(&["migrate", "--state", &state, "--to", &to]).await;
    assert!(!ok && said.contains("a platform runs on") && said.contains("stop it"), "{said}");
    drop(platform);

    let read = || FILES.map(|name| fs::read(first.path().join(name)).expect(name));
    let before = read();
    let (ok, said) = rouse(&["migrate", "--state", &state, "--to", &to, "--json"]).await;
    assert!(ok, "{said}");
    let moved: Value = serde_json::from_str(&said[said.find('{').expect("JSON")..]).expect("JSON");
    let row = |what: &str| {
        let rows = moved["rows"].as_array().expect("rows");
        rows.iter().find(|row| row["what"] == what).cloned().unwrap_or_default()
    };
    assert_eq!((row("code")["here"].as_u64(), row("code")["cluster"].as_u64()), (Some(3), Some(3)), "{said}");
    let messages = row("queues: messages /q/default/jobs");
    let queues = moved["rows"].to_string();
    assert!(queues.contains("queues: messages") && queues.contains("control: records"), "{messages} {said}");
    assert!(moved["rows"].as_array().expect("rows").iter().all(|row| row["same"] == true), "{said}");
    assert!(read() == before, "the source is as it was");

    // Once more does no harm, as long as no node has begun.
    let (ok, said) = rouse(&["migrate", "--state", &state, "--to", &to]).await;
    assert!(ok && said.contains("It was moved before"), "{said}");

    let second = state_folder();
    let node = Platform::start_with(second.path(), &join);
    need!(node, TEST, "python");
    is_as_before(&node, &bill, &public).await;
    let (ok, said) = rouse(&["migrate", "--state", &state, "--to", &to]).await;
    assert!(!ok && said.contains("has state already"), "{said}");
    node.deploy(greeter("three", "3").path()).await;
    let jobs = node.json(&["queue", "receive", "jobs", "--limit", "2"]).await;
    assert!(jobs.to_string().contains("job 0") && jobs.to_string().contains("job 1"), "{jobs}");

    // A backup of the node is one machine's, with what the cluster has.
    let made = node.json(&["backup", &path("backup")]).await;
    assert_eq!(
        (made["head"]["node"].as_str(), &made["unknown"]),
        (Some("a"), &serde_json::json!(["serve.log"]))
    );
    drop(node);
    drop(engine);
    let third = state_folder();
    let alone = third.path().join("state").display().to_string();
    let (ok, said) = rouse(&["restore", &path("backup"), "--state", &alone]).await;
    assert!(ok, "{said}");
    let platform = Platform::start_in(Path::new(&alone));
    is_as_before(&platform, &bill, &public).await;
    wait_for("what the cluster deployed answers", LIMIT, async || platform.get("three").await.text() == "3")
        .await;
    let jobs = platform.json(&["queue", "receive", "jobs", "--limit", "10"]).await.to_string();
    assert!((2..5).all(|n| jobs.contains(&format!("job {n}"))), "{jobs}");
}
