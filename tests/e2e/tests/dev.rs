//! From `rouse init` to a function that is worked on with `rouse dev`, or deployed.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rouse_e2e::{
    Platform, Signal, alive, descendants, free_address, get, kill, need, program, skipped, state_folder,
    wait_for,
};
use tempfile::TempDir;

/// Long enough for a platform's start and a runtime's install on a busy machine.
const LIVE_MAX: Duration = Duration::from_secs(90);

/// A new app of a template.
fn init(into: &TempDir, template: &str) -> PathBuf {
    let app = into.path().join("my-app");
    let output = program().args(["init", "--template", template]).arg(&app).output().expect("run rouse init");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    app
}

/// `rouse dev` of an app. Killed when dropped, if it has not ended.
struct Dev {
    child: Child,
    gateway: SocketAddr,
    state: TempDir,
}

impl Dev {
    fn start(app: &Path) -> Self {
        let (state, gateway) = (state_folder(), free_address());
        let said = File::create(state.path().join("said")).expect("a file");
        let child = program()
            .arg("dev")
            .arg(app)
            .args(["--listen", &gateway.to_string(), "--state"])
            .arg(state.path())
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("a file"))
            .stderr(said)
            .spawn()
            .expect("run rouse dev");
        Self { child, gateway, state }
    }

    /// All that it said so far.
    fn said(&self) -> String {
        fs::read_to_string(self.state.path().join("said")).expect("what it said")
    }

    async fn answers(&self, text: &str) {
        let mut last = String::new();
        let limit = tokio::time::Instant::now() + LIVE_MAX;
        while !last.contains(text) {
            assert!(
                tokio::time::Instant::now() < limit,
                "no '{text}' but '{last}'; it said:\n{}",
                self.said()
            );
            last = match get(self.gateway, "/fn/default/hello?name=you").await {
                Ok(answer) => answer.text(),
                Err(error) => error,
            };
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn says(&self, words: &str) {
        wait_for(&format!("it says '{words}'"), LIVE_MAX, async || self.said().contains(words)).await;
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // By itself it stops the platform too, but not when it is killed.
        let all = descendants(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        all.iter().for_each(|process| kill(process.pid, Signal::KILL));
    }
}

#[tokio::test]
async fn dev_serves_edits_keeps_what_works_and_leaves_nothing_behind() {
    let platform = Platform::shared();
    need!(platform, "dev_serves_edits_keeps_what_works_and_leaves_nothing_behind", "python");
    let folder = tempfile::tempdir().expect("a folder");
    let app = init(&folder, "python-lambda");
    let mut dev = Dev::start(&app);
    dev.answers(r#"{"hello": "you"}"#).await;

    let code = app.join("hello/app.py");
    let before = fs::read_to_string(&code).expect("the code");
    fs::write(&code, before.replace("GREETING = \"hello\"", "GREETING = \"edited\"")).expect("edit");
    dev.answers(r#"{"edited": "you"}"#).await;

    let manifest = app.join("rouse.toml");
    let right = fs::read_to_string(&manifest).expect("the manifest");
    fs::write(&manifest, right.replace("handler =", "handlr =")).expect("break it");
    dev.says("handlr").await;
    dev.says("what was live before answers on").await;
    dev.answers(r#"{"edited": "you"}"#).await;

    // Right again, with an edit that came while it was wrong.
    fs::write(&code, before.replace("GREETING = \"hello\"", "GREETING = \"again\"")).expect("edit");
    fs::write(&manifest, right).expect("mend it");
    dev.answers(r#"{"again": "you"}"#).await;

    let all = descendants(dev.child.id());
    assert!(all.iter().any(|process| process.role() == Some("gateway")), "{all:?}");
    kill(dev.child.id(), Signal::INT);
    wait_for("rouse dev ends", Duration::from_secs(60), async || {
        dev.child.try_wait().is_ok_and(|status| status.is_some())
    })
    .await;
    let status = dev.child.wait().expect("its status");
    assert!(status.success(), "{status}; it said:\n{}", dev.said());
    wait_for("no process is left", Duration::from_secs(5), async || {
        !all.iter().any(|process| alive(process.pid))
    })
    .await;
}

#[tokio::test]
async fn a_new_node_app_deploys_and_answers() {
    let platform = Platform::shared();
    need!(platform, "a_new_node_app_deploys_and_answers", "node");
    let folder = tempfile::tempdir().expect("a folder");
    platform.deploy(&init(&folder, "node-lambda")).await;
    let answer = platform.get("hello?name=you").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, serde_json::json!({ "hello": "you" })));
    let cli = platform.rouse(&["invoke", "hello", r#"{"name":"me"}"#]).await;
    assert!(cli.ok && cli.out.contains("me"), "{cli:?}");
}

#[tokio::test]
async fn dev_installs_a_dependency_that_an_edit_brings() {
    let test = "dev_installs_a_dependency_that_an_edit_brings";
    let platform = Platform::shared();
    need!(platform, "dev_installs_a_dependency_that_an_edit_brings", "node");
    let folder = tempfile::tempdir().expect("a folder");
    let mut view = Command::new("npm");
    view.args(["view", "ms@2.1.3", "version", "--cache"]).arg(folder.path().join("npm"));
    if !view.output().is_ok_and(|output| output.status.success()) {
        return skipped(test, "npm reaches no packages");
    }
    let app = init(&folder, "node-lambda");
    let dev = Dev::start(&app);
    dev.answers(r#""hello""#).await;
    // In either order of the two: what the code imports may be there a moment later than the code.
    fs::write(app.join("hello/package.json"), r#"{"type":"module","dependencies":{"ms":"2.1.3"}}"#)
        .expect("edit");
    let code = "import ms from 'ms';\nexport const handler = async () => `${ms('2 days')} ms`;\n";
    fs::write(app.join("hello/index.mjs"), code).expect("edit");
    dev.answers("172800000 ms").await;
    assert!(!app.join("hello/node_modules").exists(), "nothing is written into the folder");
}
