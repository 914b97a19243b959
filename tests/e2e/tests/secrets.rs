//! Secrets: sealed on the disk, given to functions by name, never shown again, masked in logs.

use std::{fs, path::Path, time::Duration};

use rouse_e2e::{App, Platform, fixture, need, wait_for};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);
/// As in no other file.
const FIRST: &str = "first-Jx7pQ2vK9";
const SECOND: &str = "second-Tz4mW8bN1";

async fn set(platform: &Platform, name: &str, value: &str) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), format!("{value}\n")).expect("write it");
    let set = platform.rouse(&["secret", "set", name, "--file", &file.path().display().to_string()]).await;
    assert!(set.ok && !set.out.contains(value) && !set.err.contains(value), "{set:?}");
}

/// The files of a folder that hold a text.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(holding(&path, text));
        } else if fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn a_function_gets_its_secret_and_nobody_else_reads_it() {
    let state = rouse_e2e::state_folder();
    let platform = Platform::start_in(state.path());
    need!(platform, "a_function_gets_its_secret_and_nobody_else_reads_it", "python");
    let body =
        "print('the password is ' + os.environ['PASSWORD'])\nreturn {'password': os.environ['PASSWORD']}";
    let app = App::new("shop").python("shop", body, "secrets = { PASSWORD = \"db-password\" }\n");
    let folder = app.path().display().to_string();

    let refused = platform.rouse(&["deploy", &folder]).await;
    assert!(!refused.ok && refused.err.contains("rouse secret set db-password"), "{}", refused.err);
    set(&platform, "db-password", FIRST).await;
    platform.deploy(app.path()).await;
    assert_eq!(platform.get("shop").await.json(), json!({ "password": FIRST }));

    let listed = platform.json(&["secret", "list"]).await;
    assert_eq!((&listed[0]["name"], &listed[0]["functions"]), (&"db-password".into(), &json!(["shop"])));
    assert!(!listed.to_string().contains(FIRST));
    let logged = async || platform.rouse(&["logs", "shop"]).await.out;
    wait_for("the line is in the log", LIMIT, async || logged().await.contains("the password is")).await;
    let log = logged().await;
    assert!(log.contains("the password is ***") && !log.contains(FIRST), "{log}");
    assert_eq!(holding(state.path(), FIRST), [""; 0], "it is on the disk in no file");

    let kept = platform.rouse(&["secret", "delete", "db-password"]).await;
    assert!(!kept.ok && kept.err.contains("used by shop"), "{}", kept.err);
    // Under a new key, and with a new value, for instances that start from now on.
    let keys = fs::read(state.path().join("secrets/keys")).expect("the keys");
    assert_eq!(platform.json(&["secret", "rotate-key"]).await, json!({ "secrets": 1 }));
    assert_ne!(fs::read(state.path().join("secrets/keys")).expect("the keys"), keys);
    set(&platform, "db-password", SECOND).await;
    platform
        .deploy(App::new("other").python("other", body, "secrets = { PASSWORD = \"db-password\" }").path())
        .await;
    assert_eq!(platform.get("other").await.json(), json!({ "password": SECOND }));
    assert_eq!(holding(state.path(), SECOND), [""; 0]);

    for app in ["shop", "other"] {
        assert!(platform.rouse(&["delete", app, "--yes"]).await.ok);
    }
    assert!(platform.rouse(&["secret", "delete", "db-password"]).await.ok);
    assert_eq!(platform.json(&["secret", "list"]).await, json!([]));
}

#[tokio::test]
async fn a_webhook_may_be_signed_with_a_secret_and_wrong_names_are_refused() {
    let platform = Platform::start();
    need!(platform, "a_webhook_may_be_signed_with_a_secret_and_wrong_names_are_refused", "component");
    platform.deploy(&fixture("tells")).await;
    let wasm =
        fs::read(fixture("tells").join("target/wasm32-wasip2/release/tells.wasm")).expect("a component");
    set(&platform, "hook", FIRST).await;
    let lines = "source = \"f.wasm\"\nsecrets = { HOOK = \"hook\" }\n[[functions.f.triggers]]\nwebhook = { path = \
                 \"/hook\", signer = \"gitlab\", secrets = [\"env:HOOK\"] }\n";
    platform.deploy(App::new("f").file("f.wasm", &wasm).function("f", lines).path()).await;
    for (token, status) in [(FIRST, 202), (SECOND, 401)] {
        let mut request = platform.request("/fn/default/f/hook", Some("{}".into()));
        request.headers_mut().insert("x-gitlab-token", token.parse().expect("a header"));
        request.headers_mut().insert("x-gitlab-event-uuid", "1".parse().expect("a header"));
        let answer = platform.send(request).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    for (lines, said) in [
        ("secrets = { A = \"no such name\" }", "is not a secret's name"),
        ("secrets = { \"1A\" = \"a\" }", "is not a variable's name"),
        ("secrets = { A = \"hook\" }\nenv = { A = \"1\" }", "in `env` and in `secrets`"),
    ] {
        let app = App::new("g").python("g", "return 1", lines);
        let refused = platform.rouse(&["deploy", &app.path().display().to_string()]).await;
        assert!(!refused.ok && refused.err.contains(said), "{lines}: {}", refused.err);
    }
    let refused = platform.rouse(&["secret", "delete", "none"]).await;
    assert!(refused.err.contains("has no secret 'none'"), "{}", refused.err);
}
