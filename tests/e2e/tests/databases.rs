//! Rows that change in a real PostgreSQL rouse functions of each contract, which have no process before and none after.

use std::time::Duration;

use rouse_e2e::{App, Platform, Postgres, Seen, example, need, skipped, tell, wait_for};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);
const ORDERS: &str = "CREATE TABLE orders (id int PRIMARY KEY, state text)";

/// A server, or a word on why the test is skipped.
fn server(test: &str) -> Option<Postgres> {
    let server = Postgres::start();
    if server.is_none() {
        skipped(test, "no PostgreSQL; run `cargo xtask setup`");
    }
    server
}

fn trigger(function: &str, server: &Postgres) -> String {
    let url = server.url();
    format!(
        "[[functions.{function}.triggers]]\ndatabase = {{ url = \"{url}\", tables = [\"public.orders\"] }}"
    )
}

async fn is_active(platform: &Platform) {
    is_active_named(platform, "database-1").await;
}

#[tokio::test]
async fn a_handler_sees_each_change_though_the_platform_and_the_database_die() {
    const TEST: &str = "a_handler_sees_each_change_though_the_platform_and_the_database_die";
    let state = rouse_e2e::state_folder();
    let mut platform = Platform::start_in(state.path());
    need!(platform, "a_handler_sees_each_change_though_the_platform_and_the_database_die", "python");
    let Some(server) = server(TEST) else { return };
    server.sql(ORDERS);
    let seen = Seen::listen().await;
    let lines = format!("{}{}", tell::lines(seen.port()), trigger("notify", &server));
    platform.deploy(App::new("notify").python("notify", tell::PYTHON, &lines).path()).await;
    is_active(&platform).await;
    assert_eq!(platform.functions(), [], "nothing runs before the first change");

    server.sql("INSERT INTO orders VALUES (1, 'new')");
    wait_for("the first change is seen", LIMIT, async || seen.count() > 0).await;
    let change = &seen.lines()[0]["event"]["Records"][0];
    assert_eq!((&change["op"], &change["after"]), (&"c".into(), &json!({ "id": 1, "state": "new" })));

    // The process that reads, the whole platform, the database: each dies among changes.
    server.sql("INSERT INTO orders SELECT n, 'x' FROM generate_series(2, 40) n");
    platform.kill("events");
    server.sql("INSERT INTO orders SELECT n, 'x' FROM generate_series(41, 50) n");
    platform.kill_supervisor();
    drop(platform);
    server.sql("INSERT INTO orders VALUES (51, 'while it is away')");
    platform = Platform::start_in(state.path());
    server.stop(true);
    server.run();
    server.sql("ALTER TABLE orders REPLICA IDENTITY FULL; UPDATE orders SET state = 'last' WHERE id = 51");
    server.sql("DELETE FROM orders WHERE id = 51");
    let deleted = |line: &Value| line["event"]["Records"][0]["op"] == "d";
    wait_for("the last change is seen", LIMIT, async || seen.lines().iter().any(deleted)).await;
    wait_for("each row is seen", LIMIT, async || {
        let lines = seen.lines();
        let inserted = lines.iter().filter_map(|line| line["event"]["Records"][0]["after"]["id"].as_i64());
        inserted.collect::<std::collections::BTreeSet<_>>().len() == 51
    })
    .await;
    let of_last: Vec<Value> = seen
        .lines()
        .iter()
        .map(|line| line["event"]["Records"][0].clone())
        .filter(|change| change["key"]["id"] == 51)
        .map(|change| json!([change["op"], change["before"]["state"], change["after"]["state"]]))
        .collect();
    let mut in_order = of_last.clone();
    in_order.dedup();
    let away = "while it is away";
    assert_eq!(in_order, [json!(["c", null, away]), json!(["u", away, "last"]), json!(["d", "last", null])]);
    // What was called twice is one event: the same id.
    assert_eq!(seen.ids().len(), 53, "51 rows that came, one that changed, one that went");

    let gone = platform.rouse(&["delete", "notify", "--yes"]).await;
    assert!(gone.ok, "{gone:?}");
    wait_for("slot and publication are gone", LIMIT, async || server.left().is_empty()).await;
    platform.goes_to_nothing().await;
}

/// What a function answered to a change, as its destination is told.
async fn outcome(platform: &Platform) -> Value {
    let received = std::cell::RefCell::new(Value::Null);
    wait_for("the outcome is in the queue", LIMIT, async || {
        let got = platform.json(&["queue", "receive", "seen"]).await;
        let body = got[0]["body"].as_str().and_then(|body| serde_json::from_str(body).ok());
        body.map(|body| *received.borrow_mut() = body).is_some()
    })
    .await;
    received.into_inner()
}

#[tokio::test]
async fn a_server_on_its_port_is_sent_the_change_as_a_cloud_event() {
    const TEST: &str = "a_server_on_its_port_is_sent_the_change_as_a_cloud_event";
    let platform = Platform::start();
    need!(platform, "a_server_on_its_port_is_sent_the_change_as_a_cloud_event", "node");
    let Some(server) = server(TEST) else { return };
    server.sql(ORDERS);
    let code = "import { createServer } from 'node:http';
createServer(async (request, response) => {
  let body = '';
  for await (const part of request) body += part;
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ type: request.headers['ce-type'], data: JSON.parse(body) }));
}).listen(process.env.PORT);
";
    let lines = format!(
        "source = \"s\"\nruntime = \"nodejs{}\"\ncontract = \"http\"\ncommand = [\"node\", \"server.mjs\"]\n\
         events = {{ on_success = \"queue:seen\" }}\n{}",
        node(),
        trigger("s", &server)
    );
    platform.deploy(App::new("s").file("s/server.mjs", code).function("s", &lines).path()).await;
    is_active(&platform).await;
    server.sql("INSERT INTO orders VALUES (7, 'new')");
    let answered = &outcome(&platform).await["responsePayload"];
    assert_eq!(answered["type"], "dev.rouse.database.change.v1", "{answered}");
    assert_eq!(answered["data"]["after"], json!({ "id": 7, "state": "new" }));
}

#[tokio::test]
async fn a_component_is_sent_the_change_as_a_cloud_event() {
    const TEST: &str = "a_component_is_sent_the_change_as_a_cloud_event";
    let platform = Platform::start();
    need!(platform, "a_component_is_sent_the_change_as_a_cloud_event", "component");
    let Some(server) = server(TEST) else { return };
    server.sql(ORDERS);
    // Built once, by the example's own deployment; it counts the words of what it is sent.
    platform.deploy(&example("hello-rust")).await;
    let wasm = std::fs::read(example("hello-rust").join("target/wasm32-wasip2/release/hello_rust.wasm"));
    let app = App::new("words").file("words.wasm", wasm.expect("the component"));
    let lines = format!(
        "source = \"words.wasm\"\nevents = {{ on_success = \"queue:seen\" }}\n{}",
        trigger("words", &server)
    );
    platform.deploy(app.function("words", &lines).path()).await;
    is_active(&platform).await;
    server.sql("INSERT INTO orders VALUES (7, 'zebra zebra zebra')");
    let answered = outcome(&platform).await["responsePayload"].clone();
    assert_eq!(answered["top"][0], json!({ "word": "zebra", "times": 3 }), "{answered}");
}

/// The version of node that the examples name.
fn node() -> u32 {
    let output = std::process::Command::new("node").arg("--version").output().expect("node");
    let version = String::from_utf8_lossy(&output.stdout).trim().trim_start_matches('v').to_owned();
    version.split('.').next().and_then(|major| major.parse().ok()).expect("a version")
}

/// An example, with the address of a test's own database in place of the one that it names.
fn with_database(name: &str, server: &Postgres, more: &[(&str, &str)]) -> App {
    let from = example(name);
    let mut app = App::new(name);
    let mut folders = vec![from.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("read the example").flatten() {
            let path = entry.path();
            if path.is_dir() {
                if entry.file_name() != "node_modules" {
                    folders.push(path);
                }
                continue;
            }
            let mut text = std::fs::read_to_string(&path).expect("text");
            if path.file_name().is_some_and(|file| file == "rouse.toml") {
                let port = server.port();
                text = text.replace(
                    "orders:orders@localhost:5432/orders",
                    &format!("app:s3cret@localhost:{port}/shop"),
                );
                text = text.replace("localhost:5432", &format!("localhost:{port}"));
                for (from, to) in more {
                    assert!(text.contains(from), "{name} has no {from}");
                    text = text.replace(from, to);
                }
            }
            app = app.file(path.strip_prefix(&from).expect("below").to_str().expect("a name"), text);
        }
    }
    app
}

fn schema(server: &Postgres, example_name: &str) {
    server.sql(&std::fs::read_to_string(example(example_name).join("schema.sql")).expect("the schema"));
}

#[tokio::test]
async fn an_order_goes_from_http_to_a_notification_through_functions_that_do_not_know_each_other() {
    const TEST: &str =
        "an_order_goes_from_http_to_a_notification_through_functions_that_do_not_know_each_other";
    let platform = Platform::start();
    need!(
        platform,
        "an_order_goes_from_http_to_a_notification_through_functions_that_do_not_know_each_other",
        "python"
    );
    need!(
        platform,
        "an_order_goes_from_http_to_a_notification_through_functions_that_do_not_know_each_other",
        "node"
    );
    let Some(server) = server(TEST) else { return };
    schema(&server, "orders");
    platform.deploy(with_database("orders", &server, &[]).path()).await;
    is_active_named(&platform, "large-orders").await;
    let order = async |body: &str| {
        let mut request = platform.request("/fn/default/accept/", Some(body.to_owned().into()));
        request.headers_mut().insert("prefer", http::HeaderValue::from_static("respond-async"));
        let answer = platform.send(request).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    };
    order(r#"{"customer": "Bob", "item": "a pen", "cents": 99}"#).await;
    order(r#"{"customer": "Eve", "item": "nothing", "cents": -1}"#).await;
    order(r#"{"customer": "Ada", "item": "tea", "cents": 1250}"#).await;
    wait_for("Ada's order is told of", LIMIT, async || {
        platform.rouse(&["logs", "notify"]).await.out.contains("Ada bought tea for 12.50 (orders)")
    })
    .await;
    wait_for("both orders are rows", LIMIT, async || {
        server.sql("SELECT customer || cents FROM orders ORDER BY cents") == "Bob99\nAda1250\n"
    })
    .await;
    let told = platform.rouse(&["logs", "notify"]).await.out;
    assert!(!told.contains("Bob"), "what the filter leaves out rouses nothing: {told}");
    wait_for("the order that is none is rejected", LIMIT, async || {
        let got = platform.json(&["queue", "receive", "rejected"]).await;
        got[0]["body"].as_str().is_some_and(|body| body.contains(r#""customer": "Eve""#))
    })
    .await;
}

#[tokio::test]
async fn a_report_is_made_when_its_time_comes_and_once_for_each_day() {
    const TEST: &str = "a_report_is_made_when_its_time_comes_and_once_for_each_day";
    let platform = Platform::start();
    need!(platform, "a_report_is_made_when_its_time_comes_and_once_for_each_day", "node");
    let Some(server) = server(TEST) else { return };
    schema(&server, "orders");
    schema(&server, "nightly-report");
    server.sql(
        "INSERT INTO orders SELECT gen_random_uuid(), 'Ada', item, cents,
            date_trunc('day', now() AT TIME ZONE 'Europe/Berlin' - interval '1 day') AT TIME ZONE 'Europe/Berlin' + interval '12 h'
         FROM (VALUES ('tea', 1250), ('tea', 1250), ('a pen', 99)) o (item, cents)",
    );
    let app = with_database("nightly-report", &server, &[("\"15 0 * * *\"", "\"* * * * * *\"")]);
    platform.deploy(app.path()).await;
    let yesterday = "(now() AT TIME ZONE 'Europe/Berlin')::date - 1";
    wait_for("the report of yesterday is there", LIMIT, async || {
        let report =
            server.sql(&format!("SELECT orders, cents, best_item FROM reports WHERE day = {yesterday}"));
        report == "3|2599|tea\n"
    })
    .await;
    // By hand, for a day of which there is nothing; and again, which changes nothing.
    for _ in 0..2 {
        let made = platform.rouse(&["invoke", "report", r#"{"day": "2020-02-29"}"#]).await;
        assert!(made.ok && made.out.contains("2020-02-29"), "{made:?}");
    }
    assert_eq!(server.sql("SELECT orders, cents FROM reports WHERE day = '2020-02-29'"), "0|0\n");
}

async fn is_active_named(platform: &Platform, name: &str) {
    wait_for("the trigger streams", LIMIT, async || {
        let triggers = platform.json(&["triggers"]).await;
        triggers
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["trigger"] == name && one["state"] == "active"))
    })
    .await;
}
