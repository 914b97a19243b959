//! The example that tests and deploys what is pushed: a real git repository, a signed webhook, an app that changes.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use ring::hmac;
use rouse_e2e::{Answer, App, Platform, example, free_address, need, skipped, wait_for};
use serde_json::{Value, json};

const SECRET: &str = "a secret of this test";
const LIMIT: Duration = Duration::from_secs(120);

/// A server of the repositories in a folder; killed when dropped.
struct GitServer(Child);

impl Drop for GitServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(folder)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Commits an app that greets so, with a test that expects `expected`, and pushes it. Gives the commit.
fn push(work: &Path, greeting: &str, expected: &str) -> String {
    let function = work.join("greet");
    fs::create_dir_all(&function).expect("a folder");
    let code = format!(
        "def greeting():\n    return {greeting:?}\n\n\ndef handler(event, context):\n    return greeting()\n"
    );
    fs::write(function.join("greet.py"), code).expect("a file");
    let test = format!(
        "import sys, unittest\nsys.path.insert(0, 'greet')\nimport greet\n\n\
         class Greets(unittest.TestCase):\n    def test_it(self):\n        self.assertEqual(greet.greeting(), {expected:?})\n"
    );
    fs::write(work.join("test_greet.py"), test).expect("a file");
    let manifest = "[app]\nname = \"greet\"\n\n[functions.greet]\ninvoke = \"public\"\nsource = \"greet\"\nhandler = \"greet.handler\"\n";
    fs::write(work.join("rouse.toml"), manifest).expect("a file");
    git(work, &["add", "--all"]);
    git(work, &["commit", "--quiet", "--message", greeting]);
    git(work, &["push", "--quiet", "origin", "main"]);
    git(work, &["rev-parse", "HEAD"])
}

/// Tells the platform of a push, as GitHub does.
async fn told(platform: &Platform, commit: &str, branch: &str) -> Answer {
    let body = json!({ "ref": format!("refs/heads/{branch}"), "after": commit }).to_string();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), body.as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut request = platform.request("/fn/default/ci-cd/hooks/github", Some(Bytes::from(body)));
    let pairs = [
        ("x-github-event", "push".to_owned()),
        ("x-github-delivery", format!("{commit}-{branch}")),
        ("x-hub-signature-256", format!("sha256={hex}")),
    ];
    for (name, value) in pairs {
        request.headers_mut().insert(name, value.parse().expect("a header"));
    }
    platform.send(request).await
}

#[tokio::test]
async fn a_push_is_tested_and_deployed_and_one_whose_tests_fail_is_not() {
    let test = "a_push_is_tested_and_deployed_and_one_whose_tests_fail_is_not";
    let platform = Platform::start();
    need!(platform, "a_push_is_tested_and_deployed_and_one_whose_tests_fail_is_not", "python");
    // Where the sandbox has it, too.
    if !Path::new("/usr/bin/git").exists() && !Path::new("/usr/local/bin/git").exists() {
        return skipped(test, "git is not there: run `cargo xtask setup`");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (bare, work) = (folder.path().join("app.git"), folder.path().join("work"));
    git(folder.path(), &["init", "--quiet", "--bare", "app.git"]);
    git(folder.path(), &["clone", "--quiet", &bare.display().to_string(), "work"]);
    git(&work, &["checkout", "--quiet", "-B", "main"]);
    let address = free_address();
    let server = Command::new("git")
        .args(["daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1"])
        .arg(format!("--port={}", address.port()))
        .arg(format!("--base-path={}", folder.path().display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("git runs");
    let _server = GitServer(server);
    wait_for("the repository is served", LIMIT, async || {
        tokio::net::TcpStream::connect(address).await.is_ok()
    })
    .await;

    // The example as it stands, with the names of this test in place of its own.
    let token = fs::read_to_string(platform.state().join("control/token")).expect("the token");
    let mut manifest = fs::read_to_string(example("ci-cd").join("rouse.toml")).expect("the manifest");
    for (of_the_example, here) in [
        ("https://github.com/you/app.git", format!("git://{address}/app.git")),
        ("github.com:443", address.to_string()),
        ("127.0.0.1:8081", platform.control.to_string()),
        ("the content of control/token in the platform's state folder", token.trim().to_owned()),
        ("what the webhook's settings at GitHub say", SECRET.to_owned()),
    ] {
        assert!(manifest.contains(of_the_example), "{of_the_example}");
        manifest = manifest.replace(of_the_example, &here);
    }
    let code = fs::read(example("ci-cd").join("app.py")).expect("the code");
    let app = App::new("ci-cd").file("app.py", code).file("rouse.toml", manifest);
    platform.deploy(app.path()).await;
    assert_eq!(platform.functions(), [], "nothing runs before the first push");

    let commit = push(&work, "hello", "hello");
    assert_eq!(told(&platform, &commit, "other").await.status, 200, "another branch is nobody's business");
    let answer = told(&platform, &commit, "main").await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let greets = async |text: &str| platform.get("greet").await.text().contains(text);
    wait_for("the first push is live", LIMIT, async || greets("hello").await).await;

    let broken = push(&work, "broken", "hello");
    assert_eq!(told(&platform, &broken, "main").await.status, 202);
    wait_for("the failed build is told of", LIMIT, async || {
        let queues = platform.json(&["queue", "list"]).await;
        queues.as_array().is_some_and(|queues| queues.iter().any(|queue| queue["name"] == "builds-failed"))
    })
    .await;
    let failed = platform.json(&["queue", "receive", "builds-failed"]).await;
    let record: Value = serde_json::from_str(failed[0]["body"].as_str().expect("a record")).expect("json");
    let told_of = (&record["requestPayload"]["after"], &record["requestContext"]["approximateInvokeCount"]);
    assert_eq!(told_of, (&broken.as_str().into(), &1.into()), "{record}");
    wait_for("its log says why", LIMIT, async || {
        platform.rouse(&["logs", "ci-cd"]).await.out.contains("AssertionError: 'broken' != 'hello'")
    })
    .await;
    assert!(greets("hello").await, "what failed its tests is not live");

    let fixed = push(&work, "good day", "good day");
    assert_eq!(told(&platform, &fixed, "main").await.status, 202);
    wait_for("the mended push is live", LIMIT, async || greets("good day").await).await;
}
