//! Calls between nodes: what one cannot run another does, once; and only nodes of the cluster are let in.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use rouse_e2e::{App, Engine, Platform, need, state_folder, wait_for};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const LIMIT: Duration = Duration::from_secs(180);

/// What an operator does with a new node: gives it the key of secrets of another.
fn give_key(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("secrets")).expect("a folder");
    fs::copy(from.join("secrets/keys"), to.join("secrets/keys")).expect("copy the key");
    let owner = fs::metadata(from.join("secrets/keys")).expect("the key");
    for path in [to.join("secrets"), to.join("secrets/keys")] {
        chown(path, Some(owner.uid()), Some(owner.gid())).expect("give it");
    }
}

/// Where a node takes calls of others.
fn mesh(node: &Platform) -> String {
    let text = fs::read_to_string(node.state().join("run/cluster.json")).expect("the settings");
    let settings: serde_json::Value = serde_json::from_str(&text).expect("json");
    settings["mesh"].as_str().expect("an address").to_owned()
}

async fn has_identity(node: &Platform) {
    wait_for("it has a certificate", LIMIT, async || node.state().join("tls/node.json").is_file()).await;
}

fn echo() -> App {
    let body = "import base64
headers, body = event.get('headers') or {}, event.get('body') or ''
if event.get('isBase64Encoded'): body = base64.b64decode(body).decode()
seen = {'x-seen': headers.get('x-sent', ''), 'x-host': headers.get('host', '')}
path = event.get('rawPath', '') + '?' + event.get('rawQueryString', '')
return {'statusCode': 201, 'headers': seen, 'body': path + ' ' + body}";
    App::new("echo").python("echo", body, "")
}

#[tokio::test]
async fn what_a_node_cannot_run_another_runs_and_the_caller_does_not_notice() {
    const TEST: &str = "what_a_node_cannot_run_another_runs_and_the_caller_does_not_notice";
    let Some(engine) = Engine::start(TEST, 1) else { return };
    let folders = [state_folder(), state_folder()];
    // Too little memory for any instance.
    let mut join = engine.join("a", "one");
    join.extend(["--memory-budget", "64MiB"].map(str::to_owned));
    let a = Platform::start_with(folders[0].path(), &join);
    need!(a, TEST, "python");
    give_key(folders[0].path(), folders[1].path());
    let b = Platform::start_with(folders[1].path(), &engine.join("b", "two"));
    need!(b, TEST, "python");
    has_identity(&a).await;
    has_identity(&b).await;
    a.deploy(echo().path()).await;
    wait_for("the other node has it", LIMIT, async || b.get("echo").await.status == 201).await;

    // What one cannot run the other runs, as if it had come there.
    wait_for("it is handed over", LIMIT, async || a.get("echo").await.status == 201).await;
    let mut request = a.request("/fn/default/echo/x/y?z=1", Some(Bytes::from("hello")));
    request.headers_mut().insert("x-sent", "yes".parse().expect("a header"));
    request.headers_mut().insert("host", "shop.example".parse().expect("a header"));
    let answer = a.send(request).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (201, "/x/y?z=1 hello"));
    assert_eq!((answer.header("x-seen"), answer.header("x-host")), ("yes", "shop.example"));
    assert!(
        !answer.header("x-rouse-invocation-id").is_empty() && !answer.header("x-rouse-billed-ms").is_empty()
    );
    assert!(a.functions().is_empty(), "it has no memory for one");
    assert!(!b.functions().is_empty());
    // So are calls by the control API, and events that it pulls.
    let invoked = a.rouse(&["invoke", "echo", "--json"]).await;
    assert!(invoked.ok, "{}{}", invoked.out, invoked.err);

    // Nobody without a certificate of the cluster is let in.
    let mut stranger = TcpStream::connect(mesh(&b)).await.expect("it listens");
    stranger.write_all(b"GET /versions/default/echo/1 HTTP/1.1\r\nhost: b\r\n\r\n").await.expect("sent");
    let mut said = Vec::new();
    let closed = tokio::time::timeout(LIMIT, stranger.read_to_end(&mut said)).await.expect("it hangs up");
    assert!(closed.is_err() || !said.starts_with(b"HTTP"), "{:?}", String::from_utf8_lossy(&said));
    wait_for("the log says why", LIMIT, async || {
        b.log().contains("who came as a node of this cluster is refused")
    })
    .await;

    // With the other gone, it says what it lacks.
    drop(b);
    wait_for("it says why it cannot", LIMIT, async || {
        let answer = a.get("echo").await;
        answer.status == 503 && answer.text().contains("capacity-exhausted")
    })
    .await;
}

#[tokio::test]
async fn a_cordoned_node_has_others_run_what_reaches_it_and_runs_it_when_there_is_none() {
    const TEST: &str = "a_cordoned_node_has_others_run_what_reaches_it_and_runs_it_when_there_is_none";
    let Some(engine) = Engine::start(TEST, 1) else { return };
    let folders = [state_folder(), state_folder()];
    let a = Platform::start_with(folders[0].path(), &engine.join("a", "one"));
    need!(a, TEST, "python");
    give_key(folders[0].path(), folders[1].path());
    let b = Platform::start_with(folders[1].path(), &engine.join("b", "two"));
    need!(b, TEST, "python");
    has_identity(&a).await;
    has_identity(&b).await;
    a.deploy(echo().path()).await;
    let cordoned = a.rouse(&["node", "cordon", "b"]).await;
    assert!(cordoned.ok, "{}", cordoned.err);
    // What it knows of the others is a second old.
    wait_for("the other node runs it", LIMIT, async || {
        b.get("echo").await.status == 201 && !a.functions().is_empty()
    })
    .await;
    let before = runs(&b).await;
    for _ in 0..5 {
        assert_eq!(b.get("echo").await.status, 201);
    }
    assert_eq!(runs(&b).await, before, "each of them ran on the other node");
    // Both cordoned: each runs what reaches it.
    assert!(a.rouse(&["node", "cordon", "a"]).await.ok);
    wait_for("it runs it itself", LIMIT, async || {
        b.get("echo").await.status == 201 && runs(&b).await > before
    })
    .await;
}

/// How many calls this node has run.
async fn runs(node: &Platform) -> u64 {
    let metrics = node.metrics().await;
    let lines = metrics.lines().filter(|line| line.starts_with("rouse_node_invocations_total"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
