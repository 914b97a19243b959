//! The command line as a person meets it: wrong input first, then what each command prints, against a small
//! server that answers as the control API does.

#[path = "cli/fake.rs"]
mod fake;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use fake::{Fake, TOKEN};
use rouse_types::Timestamp;
use serde_json::Value;

/// Runs `rouse` as in a shell without a terminal.
fn rouse(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rouse"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    command.env("ROUSE_STATE", folder.join("state"));
    command.output().expect("run rouse")
}

/// Runs `rouse` against a server.
fn against(fake: &Fake, folder: &Path, arguments: &[&str]) -> Output {
    let mut all = vec!["--url", &fake.url, "--token", TOKEN];
    all.extend(arguments);
    rouse(folder, &all)
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// What it said when it failed, which must be with 1.
fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "data goes to standard output, failures do not: {output:?}");
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("create");
    std::fs::write(path, text).expect("write");
}

const APP: &str = "[app]\nname = \"shop\"\n[functions.hello]\nsource = \"hello\"\nruntime = \"python3.11\"\n";

fn app() -> tempfile::TempDir {
    let folder = folder();
    write(folder.path(), "rouse.toml", APP);
    write(folder.path(), "hello/app.py", "def handler(event, context): return 1\n");
    folder
}

#[test]
fn an_unknown_command_or_argument_ends_with_2_and_a_suggestion() {
    let output = rouse(folder().path(), &["deplyo"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("deploy"));
    let output = rouse(folder().path(), &["invoke", "Not_A_Name"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not a name"));
}

#[test]
fn a_folder_without_a_manifest_is_told_how_to_begin() {
    let told = failure(&rouse(folder().path(), &["deploy"]));
    assert_eq!(
        told,
        "error: there is no rouse.toml in .\n  hint: begin an app with `rouse init NAME`, or name the app's folder\n"
    );
}

#[test]
fn every_error_of_a_manifest_is_shown_with_its_place_before_anything_is_asked_of_the_platform() {
    let folder = app();
    write(folder.path(), "rouse.toml", &format!("{APP}timout = \"3s\"\nmemory = 256\n"));
    let told = failure(&rouse(folder.path(), &["deploy"]));
    assert_eq!(
        told,
        "rouse.toml:6:1: [functions.hello] has no key `timout`\n  |\n6 | timout = \"3s\"\n  | ^^^^^^\n  \
         hint: did you mean `timeout`?\n\n\
         rouse.toml:7:10: `memory` must be a text, not a whole number\n  |\n7 | memory = 256\n  |          ^^^\n  \
         hint: put it in quotes\nerror[manifest-invalid]: rouse.toml has 2 errors\n"
    );
}

#[test]
fn without_a_platform_the_next_step_is_told() {
    let told = failure(&rouse(app().path(), &["--url", "http://127.0.0.1:1", "deploy"]));
    assert!(told.starts_with("error[control-unavailable]: cannot connect to http://127.0.0.1:1"), "{told}");
    assert!(told.contains("`rouse serve`"), "{told}");
}

#[test]
fn a_wrong_token_is_told_where_the_right_one_is() {
    let fake = Fake::start();
    let told = failure(&rouse(folder().path(), &["--url", &fake.url, "--token", "wrong", "list"]));
    assert!(told.starts_with("error[unauthorized]:") && told.contains("hint:"), "{told}");
}

#[test]
fn the_token_is_found_in_the_state_folder() {
    let fake = Fake::start();
    let folder = folder();
    write(folder.path(), "state/control/token", &format!("{TOKEN}\n"));
    assert!(stdout(&rouse(folder.path(), &["--url", &fake.url, "list"])).contains("hello"));
}

#[test]
fn a_deploy_packs_uploads_and_shows_where_the_functions_answer() {
    let fake = Fake::start();
    let folder = app();
    let output = against(&fake, folder.path(), &["deploy", "--message", "first"]);
    assert_eq!(
        stdout(&output),
        "shop is live, deployment 7\n\
         FUNCTION  VERSION  CHANGED  URL\n\
         hello           3  yes      http://hello.default.localhost:8080/\n"
    );
    let request = fake.body_of("POST /v1/tenants/default/apps/shop/deployments");
    let request: Value = serde_json::from_slice(&request).expect("json");
    let function = &request["functions"][0];
    assert_eq!(request["message"], "first");
    assert_eq!((&function["runtime"], &function["handler"]), (&"python3.11".into(), &"app.handler".into()));
    assert_eq!(function["isolation"], "container");
    // What was uploaded is what is deployed, and holds the code.
    let digest = function["code"].as_str().expect("a digest");
    let uploaded = fake.body_of(&format!("PUT /v1/blobs/{}", digest.replace(':', "%3A")));
    assert_eq!(rouse_types::Digest::of(&uploaded).to_string(), digest);
    let archive = zip::ZipArchive::new(std::io::Cursor::new(uploaded)).expect("an archive");
    assert_eq!(
        archive.file_names().map(|name| name.expect("a name").into_owned()).collect::<Vec<_>>(),
        ["app.py"]
    );
}

#[test]
fn a_deploy_with_json_prints_one_value_and_nothing_else() {
    let fake = Fake::start();
    let printed = stdout(&against(&fake, app().path(), &["deploy", "--json"]));
    let value: Value = serde_json::from_str(&printed).expect("one JSON value");
    assert_eq!(value["number"], 7);
}

#[test]
fn a_build_that_fails_is_shown_with_what_it_printed() {
    let fake = Fake::start();
    let folder = app();
    let build = "[functions.hello.build]\ncommand = \"echo one; echo two >&2; exit 3\"\n";
    write(folder.path(), "rouse.toml", &format!("{APP}{build}"));
    let told = failure(&against(&fake, folder.path(), &["deploy"]));
    assert!(
        told.starts_with("one\ntwo\nerror: the build of function 'hello' failed (exit status: 3)"),
        "{told}"
    );
}

#[test]
fn a_build_whose_output_is_missing_or_leads_out_is_refused() {
    let fake = Fake::start();
    let folder = app();
    let build = |command: &str| {
        let table = format!("[functions.hello.build]\ncommand = \"{command}\"\noutput = \"out\"\n");
        write(folder.path(), "rouse.toml", &format!("{APP}{table}"));
        failure(&against(&fake, folder.path(), &["deploy"]))
    };
    assert!(build("true").contains("build.output"));
    assert!(build("ln -sf /etc/passwd out").contains("leads out of the app's folder"));
}

#[test]
fn a_refused_deployment_is_told_with_its_code_and_hint() {
    let fake = Fake::start();
    let folder = app();
    write(folder.path(), "rouse.toml", &APP.replace("shop", "taken"));
    let told = failure(&against(&fake, folder.path(), &["deploy"]));
    assert_eq!(
        told,
        "error[name-taken]: app 'taken' was not deployed\n  caused by: function 'hello' belongs to app 'shop'\n  \
         hint: choose another name\n"
    );
}

#[test]
fn an_invocation_prints_the_answer_and_apart_from_it_logs_time_and_cost() {
    let fake = Fake::start();
    let folder = folder();
    let output = against(&fake, folder.path(), &["invoke", "hello", "{\"a\":1}"]);
    assert_eq!(stdout(&output), "{\"hello\":\"you\"}");
    let told = String::from_utf8(output.stderr).expect("text");
    assert!(told.contains(" printed this\n"), "{told}");
    assert!(
        told.contains(
            "ok · 15.1 ms (queue 125 µs + start 2.50 ms + run 12.5 ms) · billed 13 ms · $0.000000417"
        ),
        "{told}"
    );
    assert_eq!(fake.body_of("POST /v1/tenants/default/functions/hello/invocations"), "{\"a\":1}");
}

#[test]
fn a_payload_comes_from_a_file_too() {
    let fake = Fake::start();
    let folder = folder();
    write(folder.path(), "event.json", "[7]");
    stdout(&against(&fake, folder.path(), &["invoke", "hello", "@event.json"]));
    assert_eq!(fake.body_of("POST /v1/tenants/default/functions/hello/invocations"), "[7]");
    let told = failure(&against(&fake, folder.path(), &["invoke", "hello", "@nope.json"]));
    assert!(told.contains("cannot read the payload from nope.json") && told.contains("hint:"), "{told}");
}

#[test]
fn a_function_that_fails_ends_with_1_and_says_why() {
    let fake = Fake::start();
    let told = failure(&against(&fake, folder().path(), &["invoke", "broken"]));
    assert!(told.contains("error[function-error]: function 'broken' failed: boom"), "{told}");
    assert!(told.contains("function-error · "), "{told}");
    let output = against(&fake, folder().path(), &["invoke", "broken", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let value: Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(value["outcome"], "function-error");
    assert_eq!(value["error"]["code"], "function-error");
}

#[test]
fn an_invocation_with_json_is_one_object() {
    let fake = Fake::start();
    let printed = stdout(&against(&fake, folder().path(), &["invoke", "hello", "--json"]));
    let value: Value = serde_json::from_str(&printed).expect("json");
    assert_eq!(value["body"]["hello"], "you");
    assert_eq!((&value["billed_ms"], &value["cost_nanos"]), (&13.into(), &417.into()));
    assert_eq!(value["timing"]["run_us"], 12_500);
    assert_eq!(value["logs"][0]["text"], "printed this");
}

#[test]
fn lists_are_aligned_tables_without_colours_in_a_pipe() {
    let fake = Fake::start();
    let folder = folder();
    let printed = stdout(&against(&fake, folder.path(), &["list"]));
    let head = printed.lines().next().expect("a head");
    assert!(head.starts_with("APP   FUNCTION  RUNTIME     LIVE                LATEST  DEPLOYED"), "{head}");
    assert!(printed.contains("shop  hello     python3.11  2 (90 %), 3 (10 %)       3  "), "{printed}");
    assert!(!printed.contains('\x1b'));
    let printed = stdout(&against(&fake, folder.path(), &["alias", "list", "hello"]));
    assert_eq!(printed, "ALIAS  VERSIONS\nlive   2 (90 %), 3 (10 %)\n");
    let value: Value =
        serde_json::from_str(&stdout(&against(&fake, folder.path(), &["list", "--json"]))).expect("json");
    assert_eq!(value[0]["function"], "hello");
}

#[test]
fn usage_shows_money_with_every_digit_that_counts() {
    let fake = Fake::start();
    let printed = stdout(&against(&fake, folder().path(), &["usage"]));
    assert!(printed.contains("$0.000000417"), "{printed}");
    assert!(printed.lines().last().expect("a line").starts_with("total"), "{printed}");
}

#[test]
fn logs_are_lines_for_people_and_json_lines_for_programs() {
    let fake = Fake::start();
    let folder = folder();
    let printed = stdout(&against(&fake, folder.path(), &["logs", "hello"]));
    assert!(printed.ends_with(" printed this\n"), "{printed}");
    let printed = stdout(&against(&fake, folder.path(), &["logs", "--json"]));
    for line in printed.lines() {
        assert!(serde_json::from_str::<rouse_types::LogLine>(line).is_ok(), "{line}");
    }
}

#[test]
fn nothing_is_deleted_unasked_when_nobody_can_be_asked() {
    let fake = Fake::start();
    let folder = folder();
    let told = failure(&against(&fake, folder.path(), &["delete", "shop"]));
    assert!(told.contains("--yes"), "{told}");
    assert_eq!(fake.times_asked("DELETE /v1/tenants/default/apps/shop"), 0);
    let printed = stdout(&against(&fake, folder.path(), &["delete", "shop", "--yes"]));
    assert_eq!(printed, "shop is deleted; no longer answering: hello\n");
}

#[test]
fn a_rollback_takes_the_app_of_the_folder() {
    let fake = Fake::start();
    let printed = stdout(&against(&fake, app().path(), &["rollback", "--to", "6"]));
    assert_eq!(printed, "shop is back at deployment 6: hello@2\n");
    let body = fake.body_of("POST /v1/tenants/default/apps/shop/rollback");
    assert_eq!(body, "{\"to\":6}");
}

#[test]
fn each_template_begins_an_app_and_never_writes_over_anything() {
    let folder = folder();
    for template in
        ["js-component", "rust-component", "python-lambda", "node-lambda", "http-python", "http-node"]
    {
        let printed = stdout(&rouse(folder.path(), &["init", template, "--template", template]));
        assert!(printed.contains("rouse dev"), "{printed}");
        let again = failure(&rouse(folder.path(), &["init", template, "--template", template]));
        assert!(again.contains("is not empty"), "{again}");
    }
    let manifest = std::fs::read_to_string(folder.path().join("node-lambda/rouse.toml")).expect("a manifest");
    assert!(manifest.contains("name = \"node-lambda\""), "{manifest}");
    let told = failure(&rouse(folder.path(), &["init", "another"]));
    assert!(told.contains("--template js-component | rust-component"), "{told}");
}

#[test]
fn the_manifests_of_the_examples_read() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut read = 0;
    for entry in std::fs::read_dir(examples).expect("examples") {
        let path = entry.expect("an entry").path().join("rouse.toml");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if let Err(errors) = rouse_manifest::parse(&text) {
            panic!("{}", errors.render(&path.display().to_string(), &text));
        }
        read += 1;
    }
    assert!(read > 0, "there are examples");
}

#[test]
fn documents_and_completions_are_printed_without_a_platform() {
    let folder = folder();
    let schema: Value = serde_json::from_str(&stdout(&rouse(folder.path(), &["schema"]))).expect("json");
    assert_eq!(schema["title"], "rouse.toml");
    let api: Value = serde_json::from_str(&stdout(&rouse(folder.path(), &["openapi"]))).expect("json");
    assert!(api["paths"].is_object());
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&rouse(folder.path(), &["completions", shell])).contains("rollback"), "{shell}");
    }
}

#[test]
fn prices_are_the_platforms_own_or_the_default_and_a_broken_sheet_is_told() {
    let folder = folder();
    assert!(stdout(&rouse(folder.path(), &["prices"])).contains("requests_per_million"));
    let sheet = "currency = \"EUR\"\nrequests_per_million = \"0.1\"\nduration_per_gb_second = \"0\"\n";
    write(folder.path(), "state/prices.toml", sheet);
    let value: Value =
        serde_json::from_str(&stdout(&rouse(folder.path(), &["prices", "--json"]))).expect("json");
    assert_eq!(value["currency"], "EUR");
    write(folder.path(), "state/prices.toml", "currency = 7\n");
    let told = failure(&rouse(folder.path(), &["prices"]));
    assert!(told.contains("is not a price sheet: line 1") && told.contains("hint:"), "{told}");
}

#[test]
fn an_export_is_checked_without_a_platform_and_what_is_wrong_is_told_by_its_line() {
    use rouse_metering::{
        Ledger, PriceSheet,
        audit::key::Key,
        ledger::{Range, export},
    };
    let folder = folder();
    let path = folder.path().join("ledger.db");
    drop(Ledger::open(&path, PriceSheet::default()).expect("a ledger"));
    let key = Key::from_pkcs8(&Key::generate().expect("a key")).expect("a key");
    let range =
        Range { tenant: "acme".parse().expect("a name"), since: Timestamp(0), until: Timestamp(u64::MAX) };
    let mut text = String::new();
    export(&path, &key, &range, |line| {
        text += &(line + "\n");
        true
    })
    .expect("an export");
    write(folder.path(), "usage.ndjson", &text);
    let public = key.public().to_string();
    let told = stdout(&rouse(folder.path(), &["audit", "verify", "usage.ndjson", "--key", &public]));
    assert!(told.contains("0 records of acme") && told.contains(&public), "{told}");
    write(folder.path(), "usage.ndjson", &text.replace("USD", "EUR"));
    let told = failure(&rouse(folder.path(), &["audit", "verify", "usage.ndjson"]));
    assert!(told.contains("line 2: ") && told.contains("hint:"), "{told}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure_worth_telling() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_rouse"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run rouse");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("an end");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn doctor_says_what_this_machine_offers_without_a_platform() {
    let folder = folder();
    let output = rouse(folder.path(), &["--url", "http://127.0.0.1:1", "doctor"]);
    let told = stdout(&output);
    for word in ["wasm", "container", "kernel", "limit of memory", "disk space", "python"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let json: Value =
        serde_json::from_str(&stdout(&rouse(folder.path(), &["--json", "doctor"]))).expect("json");
    assert_eq!(json["works"], true);
    let all = json["sections"].as_array().expect("sections").iter();
    for finding in all.flat_map(|section| section["findings"].as_array().expect("findings")) {
        assert_eq!(finding["state"] == "ok", finding["fix"].is_null(), "each lack has a fix: {finding}");
    }
}

#[test]
fn doctor_fails_when_no_function_could_run() {
    let folder = folder();
    let output = rouse(folder.path(), &["--state", "/dev/null/rouse", "doctor"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("state folder") && told.contains("--state"), "{told}");
}
