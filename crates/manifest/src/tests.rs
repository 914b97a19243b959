//! The manifest as a whole: what is read, what is refused and how that is told.

use proptest::prelude::*;
use rouse_types::{Isolation, Runtime};

use crate::{Manifest, parse};

const FULL: &str = r#"
[app]
name = "shop"

[functions.thumbnail]
source = "functions/thumbnail"
runtime = "python3.11"
handler = "app.handler"
memory = "256MiB"
timeout = "30s"
isolation = "container"
egress = ["api.example.com:443"]
concurrency_max = 7
preload = true
env = { TABLE = "photos" }

[functions.hello]
source = "hello.wasm"
[functions.hello.build]
command = "make"
output = "out/hello.wasm"
watch = ["src"]
"#;

fn messages(text: &str) -> String {
    parse(text).expect_err("must be refused").render("rouse.toml", text)
}

fn function(line: &str) -> String {
    format!("[app]\nname = \"a\"\n[functions.f]\nsource = \".\"\n{line}\n")
}

#[test]
fn a_full_manifest_is_read_and_the_rest_has_the_platforms_defaults() {
    let manifest: Manifest = parse(FULL).expect("a manifest");
    let thumbnail = &manifest.functions["thumbnail"];
    assert_eq!(thumbnail.runtime, Some(Runtime::Python { minor: 11 }));
    assert_eq!(thumbnail.limits().memory_mib, 256);
    assert_eq!(thumbnail.limits().timeout_ms, 30_000);
    assert_eq!(thumbnail.limits().request_body_bytes, rouse_types::Limits::default().request_body_bytes);
    assert_eq!(thumbnail.scaling().concurrency_max, 7);
    assert!(thumbnail.scaling().preload);
    assert_eq!(thumbnail.egress.destinations()[0].to_string(), "api.example.com:443");
    assert_eq!(thumbnail.env["TABLE"], "photos");
    let build = manifest.functions["hello"].build.as_ref().expect("a build");
    assert_eq!((build.command.as_str(), build.watch.len()), ("make", 1));
}

#[test]
fn domains_are_full_names_and_each_is_there_once() {
    let line = |list: &str| function(&format!("domains = [{list}]"));
    let manifest = parse(&line("\"api.example.com\", \"example.org\"")).expect("a manifest");
    assert_eq!(manifest.functions["f"].domains[1].as_str(), "example.org");
    for (list, said) in [
        ("\"https://API.example.com/\"", "did you mean \"api.example.com\"?"),
        ("\"a.example\", \"a.example\"", "is there twice"),
        ("\"localhost\"", "it has no dot"),
        ("\"*.example.com\"", "name each host"),
    ] {
        let told = messages(&line(list));
        assert!(told.contains(said), "{told}");
    }
}

#[test]
fn a_typing_error_is_shown_with_its_line_a_caret_and_the_key_that_was_meant() {
    assert_eq!(
        messages(&function("timout = \"3s\"")),
        "rouse.toml:5:1: [functions.f] has no key `timout`\n  |\n5 | timout = \"3s\"\n  | ^^^^^^\n  \
         hint: did you mean `timeout`?\n"
    );
}

#[test]
fn all_errors_are_told_at_once_in_the_order_of_the_text() {
    let text = "[app]\nname = \"Shop\"\n[functions.a_b]\nmemory = \"1TB\"\nport = 3\n[functions.c]\nsource = \"/etc\"\n";
    let errors = parse(text).expect_err("must be refused");
    let lines: Vec<_> = errors.all.iter().map(|error| error.line).collect();
    assert_eq!(lines, [2, 3, 3, 4, 5, 7], "{errors}");
}

#[test]
fn what_is_wrong_is_named_and_the_next_step_is_given() {
    for (line, message, hint) in [
        ("memory = 256", "`memory` must be a text, not a whole number", "put it in quotes"),
        ("memory = \"8MiB\"", "'8MiB' is not from 16MiB to 10240MiB", ""),
        ("memory = \"17000KiB\"", "not a whole number of MiB", "17MiB"),
        ("timeout = \"2h\"", "is not from 1ms to 1h", ""),
        ("timeout = \"0s\"", "is not from 1ms to 1h", ""),
        ("isolation = \"wsam\"", "is not an isolation", "did you mean \"wasm\"?"),
        ("isolation = \"vm\"", "is not an isolation", "known are `wasm`, `container`"),
        ("runtime = \"node20\"", "is not a runtime", "did you mean \"nodejs20\"?"),
        ("runtime = \"python-3.12\"", "is not a runtime", "did you mean \"python3.12\"?"),
        ("runtime = \"wasm\"", "is not a runtime", "did you mean \"component\"?"),
        (
            "runtime = \"component\"\nisolation = \"container\"",
            "runs with isolation \"wasm\"",
            "leave `isolation` out",
        ),
        (
            "egress = [\"https://api.example.com/x\"]",
            "is not a destination",
            "did you mean \"api.example.com:443\"?",
        ),
        ("egress = \"a:1\"", "`egress` must be a list of texts, or \"*\"", "write egress = [\"a:1\"]"),
        ("egress = 1", "`egress` must be a list of texts, not a whole number", ""),
        ("egress = [\"*:443\"]", "`*` stands for the first part of a name", ""),
        ("egress = [\"169.254.169.254:80\"]", "functions never reach link-local addresses", ""),
        ("env = { A = 1 }", "`A` must be a text", "put it in quotes"),
        ("env = { \"A-B\" = \"1\" }", "is not a variable's name", "letters, digits"),
        ("env = { AWS_LAMBDA_RUNTIME_API = \"x\" }", "is set by the platform", "another name"),
        ("handler = \"app\"", "is not a handler", "file.function"),
        ("preload = 1", "`preload` must be true or false", ""),
        ("runtime = \"nodejs20\"\npreload = true", "is for Lambda functions in Python", "leave it out"),
        (
            "runtime = \"python3.11\"\ncontract = \"http\"\npreload = true",
            "is for Lambda functions",
            "leave it",
        ),
        ("concurrency_per_instance = 2\npreload = true", "several calls at once", "one of the two"),
        ("concurrency_max = 0", "must be a whole number from 1", ""),
        ("queue_max = -1", "must be a whole number from 0", ""),
        ("triggers = 1", "`triggers` must be a list of tables", "[[functions.f.triggers]]"),
        ("triggers = [{}]", "must say what it waits for", "one of schedule"),
        ("triggers = [{ queue = \"a\", topic = \"b\" }]", "waits for one thing", "for each"),
        ("triggers = [{ queue = \"a b\" }]", "'a b' is no name", "letters"),
        ("triggers = [{ queue = { name = \"a\", size = 1 } }]", "has no key `size`", "known keys are `name`"),
        ("triggers = [{ schedule = { timezone = \"UTC\" } }]", "exactly one of `cron`", "every"),
        ("triggers = [{ schedule = { every = \"10ms\" } }]", "'10ms' is not from 1s", ""),
        (
            "triggers = [{ object = { bucket = \"a\", events = [\"create\"] } }]",
            "'create' is not",
            "\"created\"?",
        ),
        (
            "triggers = [{ database = { url = \"mysql://a\", tables = [\"a.b\"] } }]",
            "no address",
            "postgres://",
        ),
        ("triggers = [{ database = { url = \"env:A\", tables = [\"a\"] } }]", "'a' is no table", "public.a"),
        (
            "triggers = [{ webhook = { path = \"/a\", signer = \"github\" } }]",
            "needs `secrets`",
            "env:GITHUB",
        ),
        (
            "triggers = [{ topic = \"a\" }, { name = \"topic-1\", topic = \"b\" }]",
            "named 'topic-1'",
            "another `name`",
        ),
        ("events = { attempts = 0 }", "must be a whole number from 1", ""),
        ("events = { on_failure = \"orders\" }", "'orders' is no destination", ""),
        ("image = \"a:b\"", "`source` does not go with `image`", "leave one of"),
        ("image = \"oci:../x\"", "leads out of the app's folder", "without '..'"),
        ("image = \"http://a/b\"", "is not an image", "registry/name:tag"),
        ("image_secret = \"a b\"", "'a b' is not a secret's name", "rouse secret set"),
        ("image_secret = \"a\"", "`image_secret` needs an `image`", "registry/name:tag"),
        ("image = \"oci:./x\"\nimage_secret = \"a\"", "`image_secret` needs an `image`", "leave it out"),
        ("build = \"make\"", "must be a table, not a text", ""),
        ("build = { output = \"x\" }", "needs `command`", "say how"),
        ("build = { command = \"x\", output = \"../y\" }", "leads out", "without '..'"),
        ("database = \"x\"", "has no key `database`", "known keys are `source`"),
    ] {
        let told = messages(&function(line));
        assert!(told.contains(message) && told.contains(hint), "{line}:\n{told}");
    }
}

#[test]
fn an_image_is_a_server_unless_it_says_otherwise() {
    let text = "[app]\nname = \"a\"\n[functions.f]\nimage = \"r.example.com/a:1\"\ncommand = [\"/x\"]\n";
    let read = |more: &str| parse(&format!("{text}{more}"));
    let manifest = read("health = \"/ok\"\n").expect("a server");
    let function = manifest.functions.values().next().expect("a function");
    assert_eq!((&function.runtime, function.source.as_str()), (&Some(Runtime::Image), ""));
    read("contract = \"lambda\"\n").expect("a command goes with every image");
    assert!(read("contract = \"lambda\"\nhealth = \"/ok\"\n").is_err());
    assert!(read("contract = \"component\"\n").is_err());
}

#[test]
fn a_source_outside_the_apps_folder_is_refused() {
    for path in ["../x", "a/../../x", "/etc", "", "a\\\\b"] {
        let text = format!("[app]\nname = \"a\"\n[functions.f]\nsource = \"{path}\"\n");
        assert!(messages(&text).contains("`source`"), "{path}");
    }
}

#[test]
fn a_text_that_is_no_toml_is_told_with_its_place() {
    let told = messages("[app]\nname = \"a\nx = 1\n");
    assert!(told.starts_with("rouse.toml:2:"), "{told}");
    assert!(messages("[app]\nname='a'\nname='b'\n").contains("rouse.toml:3:1"));
}

#[test]
fn an_empty_manifest_is_told_what_to_begin_with() {
    let told = messages("");
    assert!(told.contains("needs `app`") && told.contains("needs `functions`"), "{told}");
    assert!(told.contains("[functions.hello]"), "{told}");
}

#[test]
fn isolation_follows_the_runtime() {
    let manifest = parse(&function("")).expect("a manifest");
    let function = &manifest.functions["f"];
    assert_eq!(function.isolation_for(&Runtime::Component), Ok(Isolation::Wasm));
    assert_eq!(function.isolation_for(&Runtime::Node { major: 20 }), Ok(Isolation::Container));
}

#[test]
fn the_reader_knows_the_keys_of_the_schema_and_no_more() {
    let schema = crate::json_schema();
    for (definition, header) in [("Function", "functions.f"), ("Build", "functions.f.build"), ("App", "app")]
    {
        let told = messages(&format!("[{header}]\nzzzzzzzzzzzz = 1\n"));
        let known = told.lines().find_map(|line| line.split_once("known keys are ")).expect("known keys").1;
        let mut read: Vec<&str> = known.split(", ").map(|key| key.trim_matches('`')).collect();
        read.sort_unstable();
        let properties = schema["definitions"][definition]["properties"].as_object().expect(definition);
        let mut written: Vec<&str> = properties.keys().map(String::as_str).collect();
        written.sort_unstable();
        assert_eq!(read, written, "{definition}");
    }
}

#[test]
fn the_committed_schema_is_current() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rouse.schema.json");
    let current = serde_json::to_string_pretty(&crate::json_schema()).expect("json") + "\n";
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&path, &current).expect("write the schema");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "docs/rouse.schema.json is not current: UPDATE_EXPECTED=1 cargo test -p rouse-manifest"
    );
}

#[test]
fn a_file_of_nothing_but_errors_is_refused_without_much_work() {
    let keys: String = (0..80_000).map(|key| format!("k{key} = 1\n")).collect();
    let errors = parse(&keys).expect_err("must be refused");
    assert!(errors.all.len() <= 200, "{}", errors.all.len());
    assert!(errors.render("rouse.toml", &keys).contains("more"));
    let junk = "[[[\n".repeat(200_000);
    assert!(parse(&junk).expect_err("must be refused").all.len() <= 200);
    let deep = format!("a = {}", "[".repeat(500_000));
    assert!(parse(&deep).is_err());
    assert!(parse(&"#".repeat(2 << 20)).expect_err("must be refused").to_string().contains("at most"));
}

mod detecting {
    use rouse_types::Runtime;

    use crate::detect::{Contents, Host, handler, runtime};

    const HOST: Host = Host { python_minor: Some(11), node_major: Some(20) };

    fn folder(names: &[&str]) -> Contents {
        Contents::Folder(names.iter().map(|&name| name.to_owned()).collect())
    }

    #[test]
    fn files_tell_the_runtime() {
        assert_eq!(runtime(&Contents::File("x.wasm".into()), HOST), Ok(Runtime::Component));
        assert_eq!(runtime(&folder(&["app.py", "README.md"]), HOST), Ok(Runtime::Python { minor: 11 }));
        assert_eq!(runtime(&folder(&["package.json", "lib"]), HOST), Ok(Runtime::Node { major: 20 }));
        assert_eq!(runtime(&folder(&["bootstrap", "x.py"]), HOST), Ok(Runtime::Provided));
    }

    #[test]
    fn what_does_not_tell_is_asked_for() {
        for contents in [folder(&[]), folder(&["a.py", "package.json"]), Contents::File("x.zip".into())] {
            let unclear = runtime(&contents, HOST).expect_err("unclear");
            assert!(unclear.hint.contains("runtime = "), "{unclear:?}");
        }
        assert!(runtime(&folder(&["app.py"]), Host::default()).is_err());
    }

    #[test]
    fn the_usual_file_holds_the_handler() {
        let python = Runtime::Python { minor: 11 };
        let found = |names: &[&str], runtime: &Runtime| handler(&folder(names), runtime).ok().flatten();
        assert_eq!(found(&["app.py", "util.py"], &python).as_deref(), Some("app.handler"));
        assert_eq!(
            found(&["lambda_function.py"], &python).as_deref(),
            Some("lambda_function.lambda_handler")
        );
        assert_eq!(found(&["resize.py"], &python).as_deref(), Some("resize.handler"));
        assert_eq!(found(&["index.mjs"], &Runtime::Node { major: 20 }).as_deref(), Some("index.handler"));
        assert_eq!(found(&["a.py", "b.py"], &python), None);
        assert_eq!(handler(&folder(&[]), &Runtime::Component), Ok(None));
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC*") {
        if let Err(errors) = parse(&text) {
            prop_assert!(!errors.render("rouse.toml", &text).is_empty());
        }
    }

    #[test]
    fn a_manifest_with_a_hole_or_a_stray_text_does_not_make_it_panic(
        at in 0..FULL.len(), cut in 0..40usize, stray in "[\\[\\]{}\"'=.,a-zA-Z0-9\u{e4}\u{1f980}\n\r\t -]{0,12}",
    ) {
        let mut text = FULL.to_owned();
        text.replace_range(at..(at + cut).min(FULL.len()), &stray);
        if let Err(errors) = parse(&text) {
            prop_assert!(!errors.all.is_empty());
            prop_assert!(!errors.render("rouse.toml", &text).is_empty());
            prop_assert!(errors.all.iter().all(|error| error.line >= 1 && error.column >= 1));
        }
    }
}

#[test]
fn each_kind_of_trigger_is_read_with_its_defaults() {
    let text = r#"
        [app]
        name = "a"
        [functions.f]
        source = "."
        [[functions.f.triggers]]
        name = "nightly"
        schedule = { cron = "0 3 * * *", timezone = "Europe/Berlin", jitter = "30s", catch_up = "all", input = { a = [1, 2.5, true] } }
        [[functions.f.triggers]]
        schedule = "*/5 * * * *"
        [[functions.f.triggers]]
        queue = { name = "orders.fifo", batch_size = 5, batch_window = "2s", concurrency_max = 3 }
        [[functions.f.triggers]]
        topic = "orders"
        filter = { detail = { price = [{ numeric = [">", 10] }] } }
        [[functions.f.triggers]]
        object = { bucket = "photos", suffix = ".jpg" }
        [[functions.f.triggers]]
        database = { url = "env:DATABASE_URL", tables = ["public.orders"], operations = ["insert"] }
        [[functions.f.triggers]]
        webhook = { path = "/hooks/", signer = "hmac", header = "x-signature", secrets = ["env:SECRET"] }
        [functions.f.events]
        attempts = 5
        backoff = "10m"
        on_failure = "queue:failed"
    "#;
    let manifest = parse(text).expect("a manifest");
    let function = manifest.functions.values().next().expect("a function");
    let told = serde_json::to_value(&function.triggers).expect("json");
    assert_eq!(
        told,
        serde_json::json!([
            { "name": "nightly", "on": { "schedule": {
                "when": { "cron": "0 3 * * *" }, "timezone": "Europe/Berlin", "jitter_ms": 30_000, "catch_up": "all",
                "input": { "a": [1, 2.5, true] },
            } } },
            { "name": "schedule-2", "on": { "schedule": {
                "when": { "cron": "*/5 * * * *" }, "timezone": "UTC", "jitter_ms": 0, "catch_up": "once",
            } } },
            { "name": "queue-3", "on": { "queue": {
                "queue": "orders.fifo", "batch_size": 5, "batch_window_ms": 2_000, "concurrency_max": 3,
            } } },
            { "name": "topic-4", "on": { "topic": { "topic": "orders" } },
              "filter": { "detail": { "price": [{ "numeric": [">", 10] }] } } },
            { "name": "object-5", "on": { "object": {
                "bucket": "photos", "events": ["created"], "suffix": ".jpg",
            } } },
            { "name": "database-6", "on": { "database": {
                "url": "env:DATABASE_URL", "tables": ["public.orders"], "operations": ["insert"],
            } } },
            { "name": "webhook-7", "on": { "webhook": {
                "path": "/hooks", "secrets": ["env:SECRET"], "tolerance_ms": 300_000,
                "signer": { "hmac": { "header": "x-signature", "algorithm": "sha256", "encoding": "hex" } },
            } } },
        ])
    );
    // The longest wait is never shorter than the first.
    assert_eq!((function.events.attempts, function.events.backoff_max_ms), (5, 600_000));
    assert_eq!(function.events.on_failure.as_ref().map(ToString::to_string).as_deref(), Some("queue:failed"));
}
