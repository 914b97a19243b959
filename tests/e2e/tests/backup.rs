//! Backups that are made while the platform works, and platforms that begin from them after everything was lost.

use std::{
    collections::HashSet,
    fs,
    path::Path,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rouse_e2e::{
    App, Load, Platform, Seen, credentials_file, example, need, program, state_folder, tell, wait_for,
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(180);

/// Runs `rouse`, which needs no platform for this.
async fn rouse(args: &[&str]) -> (bool, String) {
    let mut command = program();
    command.args(args);
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || command.output()).await.expect("a task").expect("run rouse");
    (status.success(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

async fn billed(platform: &Platform, function: &str) -> Value {
    let usage = platform.json(&["usage"]).await;
    let rows = usage["rows"].as_array().expect("rows");
    rows.iter().find(|row| row["function"] == function).map(|row| row["sums"].clone()).unwrap_or_default()
}

fn invocations(sums: &Value) -> u64 {
    sums["invocations"].as_u64().unwrap_or_default()
}

/// Puts objects and deletes those before, until told to stop.
fn churn(platform: &Arc<Platform>, folder: &Path) -> (Arc<AtomicBool>, tokio::task::JoinSet<()>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (told, platform, file) = (Arc::clone(&stop), Arc::clone(platform), folder.join("churn"));
    let mut churning = tokio::task::JoinSet::new();
    churning.spawn(async move {
        let mut number = 0;
        while !told.load(Ordering::Relaxed) {
            fs::write(&file, format!("object {number}")).expect("a file");
            // The platform is killed amid this.
            platform
                .rouse(&["object", "put", "churn", &format!("n{number}"), &file.display().to_string()])
                .await;
            if number >= 3 {
                platform.rouse(&["object", "rm", "churn", &format!("n{}", number - 3)]).await;
            }
            number += 1;
        }
    });
    (stop, churning)
}

#[tokio::test]
async fn what_was_acknowledged_before_a_backup_under_load_is_there_after_everything_was_lost() {
    const TEST: &str = "what_was_acknowledged_before_a_backup_under_load_is_there_after_everything_was_lost";
    let first = state_folder();
    let platform = Arc::new(Platform::start_in(first.path()));
    need!(platform, TEST, "component");
    need!(platform, TEST, "python");
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();

    // What there is: a component, handlers, a secret, calls on the bill, messages, objects.
    platform.deploy(&example("hello-rust")).await;
    fs::write(path("secret"), "swordfish").expect("a file");
    assert!(platform.rouse(&["secret", "set", "word", "--file", &path("secret")]).await.ok);
    let fixed = "print('a line of the log')\nreturn {'statusCode': 200, 'body': os.environ['WORD']}";
    platform.deploy(App::new("fixed").python("fixed", fixed, "secrets = { WORD = \"word\" }\n").path()).await;
    for _ in 0..12 {
        assert_eq!(platform.get("fixed").await.text(), "swordfish");
    }
    let seen = Seen::listen().await;
    let slow = format!("time.sleep(0.3)\n{}", tell::PYTHON);
    platform.deploy(App::new("later").python("later", &slow, &tell::lines(seen.port())).path()).await;
    assert!(platform.rouse(&["queue", "create", "jobs"]).await.ok);
    for n in 0..5 {
        assert!(platform.rouse(&["queue", "send", "jobs", &format!("job {n}")]).await.ok);
    }
    let photo: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
    fs::write(path("photo"), &photo).expect("a file");
    for bucket in ["photos", "churn"] {
        assert!(platform.rouse(&["bucket", "create", bucket]).await.ok);
    }
    assert!(platform.rouse(&["object", "put", "photos", "a/b.jpg", &path("photo")]).await.ok);
    let key = platform.rouse(&["key", "create", "--role", "owner"]).await.out.trim().to_owned();
    let public = platform.rouse(&["audit", "key"]).await.out.trim().to_owned();
    wait_for("the calls are on the bill", LIMIT, async || {
        invocations(&billed(&platform, "fixed").await) == 12
    })
    .await;
    let bill = billed(&platform, "fixed").await;

    // Under load: calls, events that take their time, objects that come and go.
    let load = Load::start(&platform, 2, "/fn/default/hello-rust", |answer| answer.status == 200);
    let (stop, mut churning) = churn(&platform, folder.path());
    let mut accepted = HashSet::new();
    for n in 0..40 {
        let mut request = platform.request("/fn/default/later", Some(Bytes::from(n.to_string())));
        request.headers_mut().insert("x-rouse-async", "true".parse().expect("a header"));
        let answer = platform.send(request).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        accepted.insert(answer.header("x-rouse-invocation-id").to_owned());
    }
    load.answer_more(50).await;
    let answered = load.answered();
    let made = platform.json(&["backup", &path("backup"), "--with-secret-keys"]).await;
    // The log of the platform is the tests' own: all else of the state folder is known.
    assert_eq!(made["unknown"], serde_json::json!(["serve.log"]));
    assert_eq!(made["gone"], 0);

    // Everything is lost.
    platform.kill_supervisor();
    stop.store(true, Ordering::Relaxed);
    churning.join_next().await.expect("a task").expect("it stops");
    let _ = load.stop().await;
    drop(platform);
    drop(first);
    let executed = seen.ids();
    assert!(executed.len() < accepted.len(), "some waited: {} of {}", executed.len(), accepted.len());

    // A backup that was changed is refused with the place, and a folder that is used, too.
    let (ok, said) = rouse(&["restore", &path("backup"), "--check"]).await;
    assert!(ok && said.contains("objects"), "{said}");
    let mut bytes = fs::read(path("backup")).expect("the backup");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path("changed"), &bytes).expect("a file");
    let second = state_folder();
    let state = second.path().join("state").display().to_string();
    let (ok, said) = rouse(&["restore", &path("changed"), "--state", &state]).await;
    assert!(!ok && said.contains("is not what was written") && said.contains("at byte"), "{said}");
    assert!(!Path::new(&state).exists());
    let (ok, said) = rouse(&["restore", &path("backup"), "--state", &path("")]).await;
    assert!(!ok && said.contains("is not empty") && said.contains("hint"), "{said}");

    let (ok, said) = rouse(&["restore", &path("backup"), "--state", &state]).await;
    assert!(ok, "{said}");
    let platform = Platform::start_in(Path::new(&state));
    assert_eq!(billed(&platform, "fixed").await, bill, "to the billionth");
    wait_for("the component answers", LIMIT, async || platform.get("hello-rust").await.status == 200).await;
    wait_for("the handler answers, with its secret", LIMIT, async || {
        platform.get("fixed").await.text() == "swordfish"
    })
    .await;
    wait_for("each event that was accepted has run", LIMIT, async || accepted.is_subset(&seen.ids())).await;
    let jobs = platform.json(&["queue", "receive", "jobs", "--limit", "10"]).await;
    for n in 0..5 {
        assert!(jobs.to_string().contains(&format!("job {n}")), "{jobs}");
    }
    assert!(platform.rouse(&["object", "get", "photos", "a/b.jpg", &path("again")]).await.ok);
    assert!(fs::read(path("again")).expect("read") == photo);
    for object in platform.json(&["object", "ls", "churn"]).await.as_array().expect("a list") {
        let name = object["key"].as_str().expect("a key");
        let got = platform.rouse(&["object", "get", "churn", name]).await;
        assert_eq!((got.ok, got.out), (true, name.replace('n', "object ")), "{}", got.err);
    }
    assert!(platform.rouse(&["whoami", "--token", &key]).await.ok, "keys are as before");
    assert!(platform.rouse(&["logs", "fixed"]).await.out.contains("a line of the log"));

    // What was answered before the backup is on the bill.
    wait_for("the load is on the bill", LIMIT, async || {
        invocations(&billed(&platform, "hello-rust").await) >= answered as u64
    })
    .await;

    // The ledger is proven by the key that it had.
    let export = platform.rouse(&["audit", "export"]).await;
    assert!(export.ok && !export.out.is_empty(), "{}", export.err);
    fs::write(path("export"), export.out).expect("a file");
    let (ok, said) = rouse(&["audit", "verify", &path("export"), "--key", &public]).await;
    assert!(ok, "{said}");
    let log = platform.rouse(&["audit", "log", "--json"]).await;
    assert!(log.ok && log.out.contains("secret") && log.out.contains("fixed"), "{}", log.out);
    fs::write(path("log"), log.out).expect("a file");
    let (ok, said) = rouse(&["audit", "verify", &path("log"), "--key", &public]).await;
    assert!(ok, "{said}");
}

#[tokio::test]
async fn a_backup_lies_in_a_bucket_whole_or_not_at_all() {
    const TEST: &str = "a_backup_lies_in_a_bucket_whole_or_not_at_all";
    let there = Platform::start();
    wait_for("its objects are there", LIMIT, async || there.rouse(&["bucket", "create", "backups"]).await.ok)
        .await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    credentials_file(&there, &folder.path().join("credentials")).await;
    let (endpoint, credentials) = (there.aws(), path("credentials"));
    let at = |args: &[&str]| {
        let with = ["--s3-endpoint", &endpoint, "--s3-credentials", &credentials];
        args.iter().chain(&with).map(|arg| (*arg).to_owned()).collect::<Vec<_>>()
    };
    let here = Platform::start();
    need!(here, TEST, "python");
    here.deploy(App::new("one").python("one", "return {'statusCode': 200, 'body': 'one'}", "").path()).await;
    // More than two pieces.
    let photo: Vec<u8> = (0..18_000_000_u32).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
    fs::write(path("photo"), &photo).expect("a file");
    assert!(here.rouse(&["bucket", "create", "photos"]).await.ok);
    assert!(here.rouse(&["object", "put", "photos", "large", &path("photo")]).await.ok);

    let args = at(&["backup", "s3://backups/of/one"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let made = here.rouse(&args).await;
    assert!(made.ok && made.err.contains("secrets/keys is not in it"), "{}{}", made.out, made.err);
    let again = here.rouse(&args).await;
    assert!(!again.ok && again.err.contains("there is a backup already"), "{}", again.err);
    drop(here);

    let restore = async |more: &[&str]| {
        let args = at(&[&["restore", "s3://backups/of/one"], more].concat());
        rouse(&args.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let (ok, said) = restore(&["--check"]).await;
    assert!(ok, "{said}");
    let second = state_folder();
    let state = second.path().join("state").display().to_string();
    let (ok, said) = restore(&["--state", &state]).await;
    assert!(ok, "{said}");
    let platform = Platform::start_in(Path::new(&state));
    wait_for("the handler answers", LIMIT, async || platform.get("one").await.text() == "one").await;
    assert!(platform.rouse(&["object", "get", "photos", "large", &path("again")]).await.ok);
    assert!(fs::read(path("again")).expect("read") == photo);

    // Without all of its pieces it is none, nor without its end.
    let third = second.path().join("third").display().to_string();
    for (gone, said) in
        [("piece-00000001", "piece-00000001 is not there"), ("backup.json", "no whole backup")]
    {
        assert!(there.rouse(&["object", "rm", "backups", &format!("of/one/{gone}")]).await.ok);
        let (ok, text) = restore(&["--state", &third]).await;
        assert!(!ok && text.contains(said), "{text}");
        assert!(!Path::new(&third).exists());
    }
}
