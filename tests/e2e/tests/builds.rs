//! `rouse build`, and what deployments make of `requirements.txt` and `package.json`: real packages by real pip and
//! npm, resolved in a sandbox.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

use rouse_e2e::{App, Cli, Platform, need, program, skipped};
use serde_json::Value;
use tempfile::TempDir;

/// One that has a wheel of machine code, and one that is a single file.
const REQUIREMENTS: &str = "# what app.py imports\nMarkupSafe==3.0.2\nsix==1.17.0\n";
const PACKAGE: &str = r#"{"name":"app","version":"1.0.0","dependencies":{"ms":"2.1.3"}}"#;

/// A cache of its own, so that a test resolves what it asks for.
fn cache() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn rouse(args: &[&str], cache: &Path, more: &[(&str, &str)]) -> Cli {
    let mut command = program();
    command.args(args).env("XDG_CACHE_HOME", cache).envs(more.iter().copied());
    let output = command.output().expect("run rouse");
    Cli {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `rouse build --json` of this app.
fn build(app: &App, cache: &Path) -> Value {
    let built = rouse(&["build", "--json", "--dir", &app.path().display().to_string()], cache, &[]);
    assert!(built.ok, "{built:?}");
    serde_json::from_str(&built.out).expect("json")
}

/// What a build says that must fail.
fn refused(app: &App, more: &[(&str, &str)]) -> String {
    let cache = cache();
    let built = rouse(&["build", "--dir", &app.path().display().to_string()], cache.path(), more);
    assert!(!built.ok, "{built:?}");
    let left = fs::read_dir(cache.path().join("rouse/dependencies")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing is kept of what failed");
    built.err
}

/// Whether this machine can resolve anything, for a test that needs it.
fn can(test: &str, tool: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        skipped(test, "sandboxes need root");
        return false;
    }
    let (program, args): (_, &[&str]) = match tool {
        "pip" => ("/usr/bin/python3", &["-m", "pip", "download", "-q", "--no-deps", "six==1.17.0", "-d"]),
        _ => ("npm", &["view", "ms@2.1.3", "version", "--cache"]),
    };
    let works = Command::new(program).args(args).arg(cache().path()).output();
    if works.as_ref().is_ok_and(|output| output.status.success()) {
        return true;
    }
    skipped(test, &format!("{tool} reaches no packages: {works:?}"));
    false
}

fn python(name: &str) -> App {
    let body =
        "import markupsafe._speedups, six\nreturn str(markupsafe.escape('<' + six.ensure_str(event['x'])))";
    App::new(name).python(name, body, "").file(&format!("{name}/requirements.txt"), REQUIREMENTS)
}

/// Whether two builds of the same, in other folders and at other times, are the same.
fn same_in_other_folders(make: impl Fn() -> App) -> (App, Value, TempDir) {
    let (one, other, caches) = (make(), make(), [cache(), cache()]);
    let mut command = Command::new("find");
    let old = UNIX_EPOCH + Duration::from_secs(999_999_999);
    let found = command.arg(other.path()).args(["-type", "f"]).output().expect("find");
    for path in String::from_utf8_lossy(&found.stdout).lines() {
        fs::File::options()
            .append(true)
            .open(path)
            .and_then(|file| file.set_modified(old))
            .expect("set a time");
    }
    let first = build(&one, caches[0].path());
    let second = build(&other, caches[1].path());
    assert_eq!((&first[0]["digest"], &first[0]["bytes"]), (&second[0]["digest"], &second[0]["bytes"]));
    assert_eq!((&first[0]["cached"], &second[0]["cached"]), (&Value::Bool(false), &Value::Bool(false)));
    let [cache, _] = caches;
    (one, first, cache)
}

#[tokio::test]
async fn a_python_function_is_built_to_the_same_digest_twice_and_deployed_as_that() {
    let test = "a_python_function_is_built_to_the_same_digest_twice_and_deployed_as_that";
    let platform = Platform::shared();
    need!(platform, "a_python_function_is_built_to_the_same_digest_twice_and_deployed_as_that", "python");
    if !can(test, "pip") {
        return;
    }
    let (app, built, cache) = same_in_other_folders(|| python("wheels"));
    assert_eq!(built[0]["dependencies"].as_array().map(Vec::len), Some(2), "{built}");
    let file = fs::File::open(built[0]["file"].as_str().expect("a file")).expect("the zip");
    let zip = zip::ZipArchive::new(file).expect("a zip");
    let names: Vec<String> = zip.file_names().map(|name| name.expect("a name").into_owned()).collect();
    assert!(names.is_sorted() && names.iter().any(|name| name == "six.py"), "{names:?}");
    assert!(!names.iter().any(|name| name.contains(".pyc") || name.contains("__pycache__")), "{names:?}");

    let folder = app.path().display().to_string();
    let first = platform.rouse(&["deploy", &folder]).await;
    assert!(first.ok, "{first:?}");
    let invoked = platform.rouse(&["invoke", "wheels", r#"{"x":"b"}"#]).await;
    assert!(invoked.ok && invoked.out.contains("&lt;b"), "{invoked:?}");
    let versions = platform.json(&["versions", "wheels"]).await;
    assert_eq!(versions[0]["version"]["code"], built[0]["digest"]);
    // What did not change is neither resolved nor a version again.
    let again = platform.rouse(&["deploy", &folder]).await;
    assert!(again.ok && !again.err.contains("resolved"), "{again:?}");
    assert_eq!(platform.json(&["versions", "wheels"]).await.as_array().expect("a list").len(), 1);
    assert_eq!(build(&app, cache.path())[0]["cached"], true);
}

#[tokio::test]
async fn a_node_function_is_built_by_its_lock_file_and_deployed() {
    let test = "a_node_function_is_built_by_its_lock_file_and_deployed";
    let platform = Platform::shared();
    need!(platform, "a_node_function_is_built_by_its_lock_file_and_deployed", "node");
    if !can(test, "npm") {
        return;
    }
    let app = || {
        let source = "import ms from 'ms';\nexport const handler = async (event) => ({ ms: ms(event.x) });\n";
        App::new("modules")
            .file("modules/package.json", PACKAGE)
            .file("modules/index.mjs", source)
            .function("modules", "source = \"modules\"")
    };
    let locked = app();
    let mut lock = Command::new("npm");
    lock.args(["install", "--package-lock-only", "--ignore-scripts"])
        .current_dir(locked.path().join("modules"));
    assert!(lock.output().expect("npm").status.success());
    let lock = fs::read(locked.path().join("modules/package-lock.json")).expect("a lock file");
    let (app, built, _cache) = same_in_other_folders(|| app().file("modules/package-lock.json", &lock));
    assert_eq!(built[0]["dependencies"], serde_json::json!([{ "name": "ms", "version": "2.1.3" }]));
    platform.deploy(app.path()).await;
    let invoked = platform.rouse(&["invoke", "modules", r#"{"x":"2 days"}"#]).await;
    assert!(invoked.ok && invoked.out.contains("172800000"), "{invoked:?}");
    assert_eq!(platform.json(&["versions", "modules"]).await[0]["version"]["code"], built[0]["digest"]);

    // A lock file of other dependencies.
    let other = PACKAGE.replace("\"ms\":\"2.1.3\"", "\"ms\":\"2.1.3\",\"inherits\":\"2.0.4\"");
    let said = refused(&app.file("modules/package.json", other), &[]);
    assert!(
        said.contains("package-lock.json does not match package.json") && said.contains("inherits"),
        "{said}"
    );
}

#[test]
fn an_install_script_finds_neither_the_hosts_files_nor_another_host() {
    let test = "an_install_script_finds_neither_the_hosts_files_nor_another_host";
    if !can(test, "npm") {
        return;
    }
    // What it would find outside of a sandbox: shown below, by the same script.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let secret = tempfile::Builder::new().prefix("rouse-secret-").tempdir_in("/root").expect("a folder");
    fs::write(secret.path().join("key"), "secret").expect("write");
    let script = format!(
        "const fs = require('fs'), net = require('net'), dns = require('dns');
const out = {{}};
const tried = (name, what) => {{ try {{ out[name] = String(what()); }} catch (error) {{ out[name] = error.code; }} }};
tried('home', () => fs.readFileSync('{secret}/key'));
tried('root', () => fs.readdirSync('/root').length);
tried('shadow', () => fs.readFileSync('/etc/shadow').length);
tried('given', () => fs.writeFileSync('/build/src/x', ''));
tried('user', () => process.getuid());
const dial = (name, port, host) => new Promise((done) => {{
  const socket = net.connect({{ port, host, timeout: 20000 }}, () => {{ out[name] = 'connected'; socket.destroy(); done(); }});
  socket.on('error', (error) => {{ out[name] = error.code; done(); }});
  socket.on('timeout', () => {{ out[name] = 'timeout'; socket.destroy(); done(); }});
}});
(async () => {{
  await dial('loopback', {port}, '127.0.0.1');
  await dial('elsewhere', 443, 'files.example.com');
  fs.writeFileSync('found.json', JSON.stringify(out));
}})();
",
        secret = secret.path().display()
    );
    let package =
        PACKAGE.replace("\"version\"", "\"scripts\":{\"postinstall\":\"node probe.js\"},\"version\"");
    let app = App::new("hostile")
        .file("hostile/package.json", package)
        .file("hostile/index.mjs", "export const handler = async () => 1;\n")
        .file("hostile/probe.js", script)
        .function("hostile", "source = \"hostile\"");
    let found = |more: &[&str]| -> Value {
        let (cache, folder) = (cache(), app.path().display().to_string());
        let built = rouse(&[&["build", "--json", "--dir", &folder], more].concat(), cache.path(), &[]);
        assert!(built.ok, "{built:?}");
        let made: Value = serde_json::from_str(&built.out).expect("json");
        let file = fs::File::open(made[0]["file"].as_str().expect("a file")).expect("the zip");
        let mut zip = zip::ZipArchive::new(file).expect("a zip");
        serde_json::from_reader(zip.by_name("found.json").expect("what it found")).expect("json")
    };
    let confined = found(&[]);
    for name in ["home", "root", "shadow", "loopback", "elsewhere", "given"] {
        let code = confined[name].as_str().unwrap_or_default();
        assert!(code.starts_with('E'), "{name}: {confined}");
    }
    assert_ne!(confined["user"], "0");
    let unconfined = found(&["--unconfined"]);
    let seen = ["home", "loopback", "user"].map(|name| unconfined[name].as_str().unwrap_or_default());
    assert_eq!(seen, ["secret", "connected", "0"], "{unconfined}");
}

#[test]
fn what_cannot_be_resolved_is_told_with_its_line_and_the_next_step() {
    let test = "what_cannot_be_resolved_is_told_with_its_line_and_the_next_step";
    if !can(test, "pip") {
        return;
    }
    let with = |requirements: &str| {
        App::new("wrong").python("wrong", "return 1", "").file("wrong/requirements.txt", requirements)
    };
    let missing = refused(&with("six==1.17.0\nno-such-package-of-anybody==1.0\n"), &[]);
    assert!(missing.contains("has no package no-such-package-of-anybody==1.0"), "{missing}");
    assert!(missing.contains("requirements.txt, line 2") && missing.contains("hint:"), "{missing}");

    let version = refused(&with("six==99.0\n"), &[]);
    assert!(version.contains("no version of six fits six==99.0") && version.contains("1.17.0"), "{version}");

    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let index = format!("http://{closed}/simple");
    let more = [("PIP_INDEX_URL", index.as_str()), ("PIP_RETRIES", "1")];
    let unreachable = refused(&with("six==1.17.0\n"), &more);
    assert!(unreachable.contains(&format!("{closed} cannot be reached")), "{unreachable}");
    assert!(unreachable.contains("Connection refused"), "{unreachable}");

    let name = "x-1.0-cp38-cp38-manylinux2014_x86_64.whl";
    let wheel = with(&format!("./{name}\n")).file(&format!("wrong/{name}"), "of another Python");
    let wheel = refused(&wheel, &[]);
    assert!(wheel.contains("a wheel is made for another Python or machine"), "{wheel}");

    let outside = refused(&with("../lib\n"), &[]);
    assert!(outside.contains("line 1: ../lib is outside of the function's folder"), "{outside}");
}

#[test]
fn a_build_that_grows_too_large_is_ended_with_the_reason() {
    let test = "a_build_that_grows_too_large_is_ended_with_the_reason";
    if !can(test, "npm") {
        return;
    }
    let package = PACKAGE
        .replace("\"version\"", "\"scripts\":{\"postinstall\":\"truncate -s 600M large\"},\"version\"");
    let app = App::new("large")
        .file("large/package.json", package)
        .file("large/index.mjs", "export const handler = async () => 1;\n")
        .function("large", "source = \"large\"");
    let said = refused(&app, &[]);
    assert!(said.contains("larger than code may be: 512 MiB"), "{said}");
}

#[test]
fn without_root_nothing_of_strangers_is_run_unless_that_is_asked_for() {
    let test = "without_root_nothing_of_strangers_is_run_unless_that_is_asked_for";
    if !can(test, "pip") {
        return;
    }
    let app = python("nobody");
    // A copy that nobody can read: the tests' own may lie in a home.
    let folder = tempfile::Builder::new().prefix("rouse-nobody-").tempdir_in("/var/tmp").expect("a folder");
    let binary = folder.path().join("rouse");
    fs::copy(program().get_program(), &binary).expect("copy rouse");
    let mut open = Command::new("chmod");
    assert!(open.args(["-R", "a+rwX"]).args([folder.path(), app.path()]).status().expect("chmod").success());
    let run = |more: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
        command.args(["build", "--dir"]).arg(app.path()).args(more);
        command.env("HOME", folder.path()).env("XDG_CACHE_HOME", folder.path().join("cache"));
        command.output().expect("setpriv")
    };
    let refused = run(&[]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("only root can confine") && said.contains("--no-scripts"),
        "{said}"
    );
    let wheels = run(&["--no-scripts"]);
    assert!(wheels.status.success(), "{wheels:?}");
    assert!(String::from_utf8_lossy(&wheels.stdout).contains("six 1.17.0"), "{wheels:?}");
}

#[tokio::test]
async fn an_image_is_built_to_the_same_digest_twice_read_by_others_and_runs() {
    let test = "an_image_is_built_to_the_same_digest_twice_read_by_others_and_runs";
    let platform = Platform::shared();
    need!(platform, "an_image_is_built_to_the_same_digest_twice_read_by_others_and_runs", "python");
    need!(platform, "an_image_is_built_to_the_same_digest_twice_read_by_others_and_runs", "node");
    if !can(test, "pip") || !can(test, "npm") {
        return;
    }
    let source = "import ms from 'ms';\nexport const handler = async (event) => ({ ms: ms(event.x) });\n";
    let app = python("boxed-py")
        .file("boxed-js/package.json", PACKAGE)
        .file("boxed-js/index.mjs", source)
        .function("boxed-js", "source = \"boxed-js\"");
    let (folder, cache) = (app.path().display().to_string(), cache());
    let state = platform.state().display().to_string();
    let made = |to: &Path| -> Value {
        let out = to.display().to_string();
        let args = ["build", "--image", "--json", "--dir", &folder, "--state", &state, "--out", &out];
        let built = rouse(&args, cache.path(), &[]);
        assert!(built.ok, "{built:?}");
        serde_json::from_str(&built.out).expect("json")
    };
    let images = App::new("boxes")
        .function("boxed-py", "image = \"oci:./boxed-py\"\ncontract = \"lambda\"\nmemory = \"256MiB\"")
        .function("boxed-js", "image = \"oci:./boxed-js\"\ncontract = \"lambda\"\nmemory = \"256MiB\"");
    let other = tempfile::tempdir().expect("a folder");
    let (first, second) = (made(images.path()), made(other.path()));
    let digests = |built: &Value| [built[0]["digest"].clone(), built[1]["digest"].clone()];
    assert_eq!(digests(&first), digests(&second));

    platform.deploy(images.path()).await;
    let invoked = platform.rouse(&["invoke", "boxed-py", r#"{"x":"b"}"#]).await;
    assert!(invoked.ok && invoked.out.contains("&lt;b"), "{invoked:?}");
    let invoked = platform.rouse(&["invoke", "boxed-js", r#"{"x":"2 days"}"#]).await;
    assert!(invoked.ok && invoked.out.contains("172800000"), "{invoked:?}");

    // An edit of the code is another layer of code, and nothing else.
    let layers = |folder: &Path| -> Vec<Value> {
        let read = |name: &str| -> Value {
            serde_json::from_slice(&fs::read(folder.join("boxed-js").join(name)).expect("read"))
                .expect("json")
        };
        let digest =
            read("index.json")["manifests"][0]["digest"].as_str().expect("a digest").replace(':', "/");
        read(&format!("blobs/{digest}"))["layers"].as_array().expect("layers").clone()
    };
    let before = layers(other.path());
    fs::write(app.path().join("boxed-js/index.mjs"), source.replace("ms:", "milliseconds:")).expect("write");
    made(other.path());
    let after = layers(other.path());
    assert_eq!((before.len(), &before[..2]), (3, &after[..2]));
    assert_ne!(before[2], after[2]);

    let mut skopeo = Command::new("skopeo");
    let image = format!("oci:{}", images.path().join("boxed-py").display());
    match skopeo.args(["inspect", "--config", &image]).output() {
        Ok(told) if told.status.success() => {
            let config: Value = serde_json::from_slice(&told.stdout).expect("json");
            assert_eq!(config["config"]["Cmd"], serde_json::json!(["app.handler"]), "{config}");
            assert_eq!(config["config"]["WorkingDir"], "/var/task", "{config}");
        }
        other => skipped(test, &format!("skopeo does not work, run `cargo xtask setup`: {other:?}")),
    }
}
