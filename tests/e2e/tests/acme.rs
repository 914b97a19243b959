//! Certificates by ACME, from Debian's pebble: got for what functions have, said when not, never asked for others.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use rouse_e2e::{App, Https, Pebble, Platform, free_address, need, skipped, wait_for};

const LIMIT: Duration = Duration::from_secs(120);
const BODY: &str = "return {'path': event['rawPath'], 'proto': event['headers']['x-forwarded-proto']}";

#[tokio::test]
async fn a_functions_domain_gets_a_certificate_that_clients_believe() {
    const TEST: &str = "a_functions_domain_gets_a_certificate_that_clients_believe";
    let (listen, https, state) = (free_address(), free_address(), rouse_e2e::state_folder());
    let Some(pebble) = Pebble::start(listen.port()) else {
        skipped(TEST, "pebble is not there: run `cargo xtask setup`");
        return;
    };
    let (directory, ca) = (pebble.directory(), pebble.ca().display().to_string());
    let args = [
        "--tls-listen",
        &https.to_string(),
        "--acme",
        "--acme-directory",
        &directory,
        "--acme-ca",
        &ca,
        "--acme-contact",
        "ops@example.com",
    ];
    let args = args.map(str::to_owned);
    let platform = Platform::start_at(listen, state.path(), &args);
    need!(platform, TEST, "python");
    wait_for("pebble answers", LIMIT, async || pebble.root().await.is_some()).await;
    let client = Https::trusting(&pebble.root().await.expect("its root"));
    let answers = async |domain: &str| match client.get(https, domain, "/a", "h2").await {
        Ok(got) => got.answer.json() == serde_json::json!({ "path": "/a", "proto": "https" }),
        Err(_) => false,
    };
    let app = App::new("shop").python("cart", BODY, "domains = [\"api.example.com\"]");
    platform.deploy(app.path()).await;
    wait_for("the function answers by HTTPS", LIMIT, async || answers("api.example.com").await).await;

    // Where it is from and until when; the account's key is its owner's alone.
    let listed = platform.json(&["certificates"]).await;
    assert_eq!(
        (&listed[0]["domain"], &listed[0]["function"], &listed[0]["from"], &listed[0]["error"]),
        (&"api.example.com".into(), &"cart".into(), &directory.as_str().into(), &serde_json::Value::Null),
    );
    assert!(listed[0]["until"].as_u64().is_some_and(|until| until > 0), "{listed}");
    let account = fs::read_dir(state.path().join("control")).expect("a folder").flatten();
    let account = account.map(|entry| entry.path()).find(|path| path.to_string_lossy().contains("/acme-"));
    let mode = fs::metadata(account.expect("the account")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // A second one in another app, while a name that the authority will not have is told of and holds up nobody.
    let app =
        App::new("more").python("more", BODY, "domains = [\"www.example.com\", \"blocked.example.com\"]");
    platform.deploy(app.path()).await;
    wait_for("the second answers", LIMIT, async || answers("www.example.com").await).await;
    let failed = async || {
        let listed = platform.json(&["certificates"]).await;
        let all = listed.as_array().expect("a list").clone();
        all.into_iter().find(|one| one["domain"] == "blocked.example.com" && one["error"].is_string())
    };
    wait_for("the failure is told", LIMIT, async || failed().await.is_some()).await;
    let failed = failed().await.expect("told");
    assert!(failed["from"].is_null() && failed["next"].is_u64(), "{failed}");

    // Whoever calls a name that no function has makes the platform ask for nothing.
    assert!(client.get(https, "stranger.example.com", "/", "h2").await.is_err());
    assert!(!pebble.log().contains("stranger.example.com"), "{}", pebble.log());

    // Nothing is left of the proofs, and what was got is there after a restart, without a new order.
    let before = fs::read(state.path().join("tls/acme.json")).expect("there");
    assert_eq!(fs::read_dir(state.path().join("tls/challenges")).map_or(0, Iterator::count), 0);
    drop(platform);
    let platform = Platform::start_at(listen, state.path(), &args);
    wait_for("it answers again", LIMIT, async || answers("api.example.com").await).await;
    assert_eq!(fs::read(state.path().join("tls/acme.json")).expect("there"), before);
    drop(platform);
}
