//! People sign in with a real provider, by a browser and by a code, and builds by the token of their CI.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Stdio, time::Duration};

use rouse_e2e::{
    App, Authority, Browser, Cli, OidcProvider, Platform, free_address, need, program, state_folder, wait_for,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

/// How long one step may take on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(90);

/// Someone with a home of their own, who knows where the platform is and nothing else.
struct Person {
    url: String,
    home: TempDir,
    environment: Vec<(String, String)>,
}

impl Person {
    fn new(platform: &Platform) -> Self {
        Self {
            url: format!("http://{}", platform.control),
            home: tempfile::tempdir().expect("a home"),
            environment: Vec::new(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program();
        for name in ["ROUSE_TOKEN", "ROUSE_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "ROUSE_TENANT"] {
            command.env_remove(name);
        }
        command
            .args(args)
            .args(["--url", &self.url, "--tenant", "shop"])
            .arg("--state")
            .arg(self.home.path().join("no-state"))
            .env("XDG_CONFIG_HOME", self.home.path().join("config"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        command
    }

    async fn rouse(&self, args: &[&str]) -> Cli {
        let output = timeout(LIMIT, self.command(args).output()).await.expect("in time").expect("run rouse");
        Cli {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs `rouse login …`; at the address that it shows a browser signs in as this name.
    async fn login(&self, args: &[&str], name: &str) -> (Cli, String) {
        let mut child = self.command(&[&["login"], args].concat()).spawn().expect("run rouse");
        let mut lines = BufReader::new(child.stderr.take().expect("its errors")).lines();
        let mut err = String::new();
        let url = loop {
            let line = timeout(LIMIT, lines.next_line()).await.expect("in time").expect("a line");
            let line = line.unwrap_or_else(|| panic!("no address was shown: {err}"));
            err.push_str(&line);
            let found = line.split(' ').find(|word| word.starts_with("http") && word.contains('?'));
            if let Some(url) = found {
                break url.to_owned();
            }
        };
        let (_, page) = Browser::default().sign_in(&url, name).await;
        let mut out = String::new();
        let mut stdout = child.stdout.take().expect("its output");
        let ended = async {
            while let Ok(Some(line)) = lines.next_line().await {
                err.push_str(&line);
            }
            stdout.read_to_string(&mut out).await.expect("text");
            child.wait().await.expect("it ends")
        };
        let ok = timeout(LIMIT, ended).await.expect("in time").success();
        (Cli { ok, out, err }, page)
    }

    fn sessions(&self) -> std::path::PathBuf {
        self.home.path().join("config/rouse/sessions.json")
    }
}

async fn operator(platform: &Platform, args: &[&str]) -> String {
    let cli = platform.rouse(&[args, &["--tenant", "shop"]].concat()).await;
    assert!(cli.ok, "rouse {args:?}: {}{}", cli.out, cli.err);
    cli.out
}

#[tokio::test]
async fn people_sign_in_with_their_companys_provider_and_lose_all_with_their_membership() {
    let test = "people_sign_in_with_their_companys_provider_and_lose_all_with_their_membership";
    let Some(provider) = OidcProvider::start(test) else { return };
    let platform = Platform::start();
    let operator = async |args: &[&str]| operator(&platform, args).await;
    operator(&["tenant", "create", "shop"]).await;
    let scopes = ["--scope", "email", "--scope", "groups", "--scope", "offline_access"];
    let add = ["provider", "add", "corp", "--issuer", &provider.issuer, "--client-id", "rouse"];
    operator(&[&add[..], &scopes].concat()).await;
    operator(&["member", "add", "anna@acme.example", "--role", "deployer"]).await;
    operator(&["member", "add", "group=viewers", "--role", "viewer"]).await;

    // By a browser on the same machine.
    let anna = Person::new(&platform);
    let before = anna.rouse(&["list"]).await;
    assert!(!before.ok && before.err.contains("rouse login"), "{before:?}");
    let (cli, page) = anna.login(&["--no-browser"], "anna").await;
    assert!(cli.ok && cli.out.contains("anna@acme.example") && cli.out.contains("deployer"), "{cli:?}");
    assert!(page.contains("signed in"), "{page}");
    let mode = fs::metadata(anna.sessions()).expect("the session").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let who = anna.rouse(&["whoami"]).await;
    assert!(who.out.contains("signed in as anna@acme.example"), "{who:?}");
    assert!(anna.rouse(&["list"]).await.ok);
    let refused = anna.rouse(&["member", "list"]).await;
    assert!(!refused.ok && refused.err.contains("forbidden"), "{refused:?}");

    // A session that is over is renewed without the person.
    let text = fs::read_to_string(anna.sessions()).expect("the session");
    let mut saved: serde_json::Value = serde_json::from_str(&text).expect("json");
    let url = format!("http://{}", platform.control);
    let first = saved[&url]["shop"]["key"].clone();
    saved[&url]["shop"]["expires"] = 1.into();
    fs::write(anna.sessions(), saved.to_string()).expect("the session");
    // Within one second the provider signs the same token again, which is exchanged once; what is refused loses nothing.
    wait_for("the session is renewed", LIMIT, async || anna.rouse(&["list"]).await.ok).await;
    let text = fs::read_to_string(anna.sessions()).expect("the session");
    let renewed: serde_json::Value = serde_json::from_str(&text).expect("json");
    assert_ne!(renewed[&url]["shop"]["key"], first);

    // By a code, on a machine without a browser; as whom a group lets in.
    let ben = Person::new(&platform);
    let (cli, page) = ben.login(&["--device"], "ben").await;
    assert!(cli.ok && cli.out.contains("role viewer"), "{cli:?} {page}");
    assert!(ben.rouse(&["list"]).await.ok);

    // Who is no member, and whose address nobody verified, gets nothing.
    for name in ["eve", "mallory"] {
        let other = Person::new(&platform);
        operator(&["member", "add", "mallory@acme.example", "--role", "owner"]).await;
        let (cli, _) = other.login(&["--no-browser"], name).await;
        assert!(!cli.ok && cli.err.contains("unauthorized"), "{name}: {cli:?}");
        assert!(!other.sessions().exists());
    }

    // Out by themselves, and out by the owner.
    assert!(ben.rouse(&["logout"]).await.ok);
    let after = ben.rouse(&["list"]).await;
    assert!(!after.ok && after.err.contains("unauthorized"), "{after:?}");
    operator(&["member", "remove", "Anna@acme.example"]).await;
    let after = anna.rouse(&["list"]).await;
    assert!(!after.ok && after.err.contains("unauthorized"), "{after:?}");
}

#[tokio::test]
async fn a_build_deploys_by_the_token_of_its_ci_and_no_stored_secret() {
    let test = "a_build_deploys_by_the_token_of_its_ci_and_no_stored_secret";
    let Some(provider) = OidcProvider::start(test) else { return };
    let platform = Platform::start();
    need!(platform, test, "python");
    operator(&platform, &["tenant", "create", "shop"]).await;
    operator(&platform, &["provider", "add", "ci", "--issuer", &provider.issuer]).await;
    let subject = "repo:acme/shop:ref:refs/heads/main";
    let issuer = ["trust", "add", "main", "--issuer", &provider.issuer, "--subject", subject];
    let rest = ["--claim", "repository=acme/shop", "--role", "deployer"];
    operator(&platform, &[&issuer[..], &rest].concat()).await;
    let app =
        App::new("shop").python("hello", "return {'statusCode': 200, 'body': 'hi'}", "invoke = \"public\"");
    let app = app.path().display().to_string();
    let offers = |repository: &str| {
        let url = format!("{}/ci-token?sub={subject}&repository={repository}", provider.issuer);
        [
            ("ACTIONS_ID_TOKEN_REQUEST_URL", url),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-this-build".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    };

    // As GitHub does: nothing is said, and the token is asked for when it is needed.
    let mut build = Person::new(&platform);
    build.environment.extend(offers("acme/shop"));
    let cli = build.rouse(&["deploy", &app]).await;
    assert!(cli.ok, "{cli:?}");
    let called = platform.send(platform.request("/fn/shop/hello/", None)).await;
    assert_eq!(called.text(), "hi");
    // The next command has the same session: a token is exchanged once.
    let who = build.rouse(&["whoami"]).await;
    assert!(who.ok && who.out.contains(subject) && who.out.contains("role deployer"), "{who:?}");
    let keys = operator(&platform, &["key", "list"]).await;
    assert_eq!(keys.matches(subject).count(), 1, "{keys}");

    // Another repository's build is nobody.
    let mut other = Person::new(&platform);
    other.environment.extend(offers("evil/shop"));
    let cli = other.rouse(&["deploy", &app]).await;
    assert!(!cli.ok && cli.err.contains("unauthorized"), "{cli:?}");

    // As GitLab does, by a variable; and by a file. Either once.
    let url = &offers("acme/shop")[0].1;
    let token = async || {
        let request = http::Request::get(format!("{url}&audience=rouse"))
            .header("authorization", "Bearer of-this-build");
        let request = request.body(Default::default()).expect("a request");
        platform.send(request).await.json()["value"].as_str().expect("a token").to_owned()
    };
    let mut gitlab = Person::new(&platform);
    gitlab.environment.push(("ROUSE_ID_TOKEN".to_owned(), token().await));
    assert!(gitlab.rouse(&["list"]).await.ok);
    let file = gitlab.home.path().join("token");
    fs::write(&file, token().await).expect("a file");
    let by_file = Person::new(&platform);
    let args = ["login", "--token-file", &file.display().to_string()];
    assert!(by_file.rouse(&args).await.ok);
    let again = by_file.rouse(&args).await;
    assert!(!again.ok && again.err.contains("unauthorized"), "{again:?}");

    // Without the policy no build is let in, and none that was.
    operator(&platform, &["trust", "delete", "main"]).await;
    let after = build.rouse(&["list"]).await;
    assert!(!after.ok && after.err.contains("unauthorized"), "{after:?}");
}

#[tokio::test]
async fn people_sign_in_over_https_with_a_certificate_of_their_companys_own_authority() {
    let test = "people_sign_in_over_https_with_a_certificate_of_their_companys_own_authority";
    let Some(provider) = OidcProvider::start(test) else { return };
    let (state, folder) = (state_folder(), tempfile::tempdir().expect("a folder"));
    let authority = Authority::new();
    authority.sign(&["localhost"]).write(folder.path(), "a");
    let ca = folder.path().join("ca.txt").display().to_string();
    fs::write(&ca, authority.pem()).expect("written");
    let listen = free_address().to_string();
    let tls = ["--tls-listen", &listen, "--tls-folder", &folder.path().display().to_string()];
    let platform = Platform::start_with(state.path(), &tls.map(str::to_owned));
    operator(&platform, &["tenant", "create", "shop"]).await;
    let add = ["provider", "add", "corp", "--issuer", &provider.issuer, "--client-id", "rouse"];
    operator(&platform, &[&add[..], &["--scope", "email"]].concat()).await;
    operator(&platform, &["member", "add", "anna@acme.example", "--role", "deployer"]).await;

    let mut anna = Person::new(&platform);
    anna.url = format!("https://localhost:{}", platform.control.port());
    let stranger = anna.rouse(&["login", "--no-browser"]).await;
    assert!(
        !stranger.ok && stranger.err.contains("not trusted") && stranger.err.contains("ROUSE_CA"),
        "{stranger:?}"
    );
    anna.environment.push(("ROUSE_CA".to_owned(), ca));
    let (cli, _) = anna.login(&["--no-browser"], "anna").await;
    assert!(cli.ok && cli.out.contains("anna@acme.example"), "{cli:?}");
    let who = anna.rouse(&["whoami"]).await;
    assert!(who.ok && who.out.contains("role deployer"), "{who:?}");
    assert!(anna.rouse(&["logout"]).await.ok);
}
