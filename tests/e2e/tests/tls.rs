//! HTTPS: certificates by file, chosen by name, reloaded; plain HTTP sent on.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::{Command, Stdio},
    time::Duration,
};

use rouse_e2e::{
    App, Https, Platform, SelfSigned, Signal, fixture, free_address, kill, need, program, wait_for,
};

const LIMIT: Duration = Duration::from_secs(60);

fn args(list: &[&str]) -> Vec<String> {
    list.iter().map(|&arg| arg.to_owned()).collect()
}

#[tokio::test]
async fn functions_answer_by_https_and_plain_http_is_sent_there() {
    let (state, certificates) = (rouse_e2e::state_folder(), tempfile::tempdir().expect("a folder"));
    // As the operator's keys are: for root alone.
    fs::set_permissions(certificates.path(), fs::Permissions::from_mode(0o700)).expect("closed");
    let (one, other) = (SelfSigned::new(&["one.example"]), SelfSigned::new(&["*.other.example"]));
    one.write(certificates.path(), "a");
    other.write(certificates.path(), "b");
    let https = free_address();
    let folder = certificates.path().display().to_string();
    let platform = Platform::start_with(
        state.path(),
        &args(&["--tls-listen", &https.to_string(), "--tls-folder", &folder]),
    );
    need!(platform, "functions_answer_by_https_and_plain_http_is_sent_there", "component");
    platform.deploy(&fixture("tells")).await;
    let path = "/fn/default/tells/?a=b";

    for (signed, host, protocol) in
        [(&one, "one.example", "h2"), (&one, "one.example", "http/1.1"), (&other, "www.other.example", "h2")]
    {
        let client = Https::trusting(&signed.certificate);
        let secure = client.get(https, host, path, protocol).await.expect("it is trusted");
        assert_eq!((secure.answer.status.as_u16(), secure.protocol.as_str()), (200, protocol), "{host}");
        let wrong = client.get(https, "elsewhere.example", path, protocol).await;
        assert!(wrong.is_err(), "no certificate is for that name");
    }

    // Without TLS: sent on, with method and query; nobody is served.
    let redirected = platform.send(platform.request(path, Some("x".into()))).await;
    assert_eq!(redirected.status, 308);
    assert_eq!(redirected.header("location"), format!("https://127.0.0.1:{}{path}", https.port()));
    let challenge = platform.send(platform.request("/.well-known/acme-challenge/nobody-asked", None)).await;
    assert_eq!(challenge.status, 308);

    // What was handed over is for the platform's own user alone.
    let handed = fs::metadata(state.path().join("tls/files.json")).expect("handed over");
    let control = fs::metadata(state.path().join("control/token")).expect("the token");
    assert_eq!((handed.mode() & 0o777, handed.uid()), (0o600, control.uid()));

    // A certificate that is replaced is in force without a restart; a broken one never is.
    let gateways = platform.role("gateway");
    let newer = SelfSigned::new(&["one.example"]);
    let trusts = async |signed: &SelfSigned| {
        Https::trusting(&signed.certificate).get(https, "one.example", path, "h2").await.is_ok()
    };
    newer.write(certificates.path(), "a");
    kill(platform.supervisor(), Signal::HUP);
    wait_for("the newer certificate is in force", LIMIT, async || trusts(&newer).await).await;
    assert!(!trusts(&one).await);
    fs::write(certificates.path().join("a.key"), &other.key).expect("written");
    let said = "those before stay in force";
    wait_for("a broken file is told of, unasked", LIMIT, async || platform.log().contains(said)).await;
    assert!(platform.log().contains("not the one of its certificate"), "{}", platform.log());
    assert!(trusts(&newer).await);
    assert_eq!(
        platform.role("gateway").iter().map(|gateway| gateway.pid).collect::<Vec<_>>(),
        gateways.iter().map(|gateway| gateway.pid).collect::<Vec<_>>(),
    );
}

#[tokio::test]
async fn a_function_has_all_of_its_domain() {
    let (state, certificates) = (rouse_e2e::state_folder(), tempfile::tempdir().expect("a folder"));
    let signed = SelfSigned::new(&["api.example.com"]);
    signed.write(certificates.path(), "a");
    let https = free_address();
    let folder = certificates.path().display().to_string();
    let platform = Platform::start_with(
        state.path(),
        &args(&["--tls-listen", &https.to_string(), "--tls-folder", &folder]),
    );
    need!(platform, "a_function_has_all_of_its_domain", "python");
    let body = "return {'path': event['rawPath'], 'proto': event['headers']['x-forwarded-proto']}";
    let app =
        App::new("shop").python("cart", body, "domains = [\"api.example.com\"]").python("other", body, "");
    platform.deploy(app.path()).await;
    let client = Https::trusting(&signed.certificate);
    for path in ["/a/b", "/fn/default/other/x"] {
        let answer = client.get(https, "api.example.com", path, "h2").await.expect("an answer").answer;
        assert_eq!(answer.json(), serde_json::json!({ "path": path, "proto": "https" }));
    }
    let rival = App::new("rival").python("rival", body, "domains = [\"api.example.com\"]");
    let refused = platform.rouse(&["deploy", &rival.path().display().to_string()]).await;
    assert!(!refused.ok && refused.err.contains("is another function's"), "{}", refused.err);
    assert!(platform.rouse(&["delete", "shop", "--yes"]).await.ok);
    let gone = client.get(https, "api.example.com", "/a", "h2").await.expect("an answer").answer;
    assert_eq!(gone.code(), "function-not-found");
}

#[tokio::test]
async fn a_silent_handshake_holds_up_nobody_and_ends() {
    let (state, certificates) = (rouse_e2e::state_folder(), tempfile::tempdir().expect("a folder"));
    let signed = SelfSigned::new(&["one.example"]);
    signed.write(certificates.path(), "a");
    let https = free_address();
    let path = |name: &str| certificates.path().join(name).display().to_string();
    let platform = Platform::start_with(
        state.path(),
        &args(&[
            "--tls-listen",
            &https.to_string(),
            "--tls-certificate",
            &path("a.pem"),
            "--tls-key",
            &path("a.key"),
        ]),
    );
    let silent: Vec<_> = (0..50).map(|_| std::net::TcpStream::connect(https).expect("connected")).collect();
    let client = Https::trusting(&signed.certificate);
    let answered = client.get(https, "one.example", "/", "h2").await.expect("others are answered");
    assert_eq!(answered.answer.status, 404);
    let ended = |stream: &std::net::TcpStream| {
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        std::io::Read::read(&mut &*stream, &mut [0; 64]).is_ok_and(|bytes| bytes == 0)
    };
    assert!(silent.iter().all(ended), "the platform ends them");
    drop(platform);
}

fn refused(args: &[&str]) -> String {
    let state = rouse_e2e::state_folder();
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let mut command: Command = program();
    command.args(["serve", "--listen", &any.to_string(), "--control", &any.to_string(), "--aws", "off"]);
    command.arg("--state").arg(state.path()).args(args).stdin(Stdio::null());
    let output = command.output().expect("run rouse");
    assert!(!output.status.success(), "{args:?} is taken");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_wrong_with_certificates_is_said_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    SelfSigned::new(&["a.example"]).write(folder.path(), "a");
    SelfSigned::new(&["b.example"]).write(folder.path(), "b");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (a, b) = (path("a.pem"), path("b.key"));
    let listen = ["--tls-listen", "127.0.0.1:0"];
    for (given, said) in [
        (vec!["--tls-certificate", a.as_str(), "--tls-key", b.as_str()], "not the one of its certificate"),
        (vec!["--tls-certificate", a.as_str(), "--tls-key", "/nowhere.key"], "/nowhere.key cannot be read"),
        (vec!["--tls-folder", "/nowhere"], "/nowhere cannot be read"),
        (vec![], "--tls-listen needs certificates"),
    ] {
        let stderr = refused(&[&listen[..], &given].concat());
        assert!(stderr.contains(said), "{given:?}: {stderr}");
    }
    let stderr = refused(&["--tls-certificate", &a, "--tls-key", &b]);
    assert!(stderr.contains("--tls-listen"), "{stderr}");
}
