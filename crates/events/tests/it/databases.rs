//! Database triggers against a real PostgreSQL: what it changes comes once, in order, whatever dies in between.

use std::time::Duration;

use rouse_types::{
    Contract, EventSettings, Trigger,
    trigger::{DatabaseSource, On, RowChange},
};
use serde_json::{Value, json};

use crate::{
    harness::{Answer, Call, World},
    postgres::Postgres,
};

const LIMIT: Duration = Duration::from_secs(90);
const ORDERS: &str = "CREATE TABLE orders (id int PRIMARY KEY, state text)";

/// The server, or a word on why the test is skipped.
macro_rules! server {
    ($test:literal) => {
        server!($test, Postgres::start())
    };
    ($test:literal, $start:expr) => {
        match $start {
            Some(server) => server,
            None => {
                eprintln!("SKIPPED {}: no PostgreSQL; run `cargo xtask setup`", $test);
                return;
            }
        }
    };
}

fn source(url: &str) -> DatabaseSource {
    DatabaseSource {
        url: url.to_owned(),
        tables: vec!["public.orders".to_owned()],
        operations: vec![RowChange::Insert, RowChange::Update, RowChange::Delete],
    }
}

fn trigger(source: DatabaseSource) -> Trigger {
    Trigger { name: "orders".to_owned(), on: On::Database(source), filter: None }
}

async fn deploy(world: &World, source: DatabaseSource) {
    world
        .deploy_as("notify", |version| {
            version.triggers = vec![trigger(source)];
            version.events =
                EventSettings { attempts: 3, backoff_ms: 1, backoff_max_ms: 5, ..Default::default() };
        })
        .await;
}

async fn triggers(world: &World) -> Vec<Value> {
    world.get("/v1/tenants/default/triggers").await.1.as_array().cloned().unwrap()
}

/// Waits until the triggers are as a test wants them.
async fn until(world: &World, what: &str, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let end = tokio::time::Instant::now() + LIMIT;
    loop {
        let now = triggers(world).await;
        if holds(&now) {
            return now;
        }
        assert!(tokio::time::Instant::now() < end, "{what}: not within {LIMIT:?}: {now:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn streams(world: &World) {
    until(world, "it streams", |all| all.iter().any(|one| one["state"] == "active")).await;
}

/// What the trigger says that keeps it from acting.
async fn fails(world: &World, says: &str) -> Value {
    let fails =
        |all: &[Value]| all.iter().any(|one| one["problem"].as_str().is_some_and(|text| text.contains(says)));
    until(world, says, fails).await.remove(0)
}

fn record(call: &Call) -> Value {
    serde_json::from_slice::<Value>(&call.body).unwrap()["Records"][0].clone()
}

#[tokio::test]
async fn rows_that_change_are_events_in_their_order_and_what_is_rolled_back_is_none() {
    let server = server!("rows_that_change_are_events_in_their_order_and_what_is_rolled_back_is_none");
    server.sql(ORDERS);
    server.sql("INSERT INTO orders VALUES (1, 'before')");
    let world = World::start(|_| Answer::ok()).await;
    deploy(&world, source(&server.url())).await;
    streams(&world).await;
    server.sql("INSERT INTO orders VALUES (7, 'new'); UPDATE orders SET state = 'paid' WHERE id = 7");
    server.sql("BEGIN; INSERT INTO orders VALUES (8, 'never'); ROLLBACK");
    server.sql("ALTER TABLE orders REPLICA IDENTITY FULL; DELETE FROM orders WHERE id = 7");
    let calls = world.calls(3).await;
    let seen: Vec<Value> = calls
        .iter()
        .map(record)
        .map(|one| json!([one["op"], one["key"], one["before"], one["after"]]))
        .collect();
    let paid = json!({ "id": 7, "state": "paid" });
    let wanted = [
        json!(["c", { "id": 7 }, null, { "id": 7, "state": "new" }]),
        json!(["u", { "id": 7 }, null, paid]),
        json!(["d", { "id": 7 }, paid, null]),
    ];
    assert_eq!(seen, wanted);
    let source = &record(&calls[0])["source"];
    assert_eq!((&source["db"], &source["table"]), (&"shop".into(), &"orders".into()));
    world.idle().await;
    assert_eq!(world.calls(0).await.len(), 3, "nothing twice, and nothing that was rolled back");

    // An idle slot holds no log: others write, and the server may forget it.
    let lag = || {
        let sql = "SELECT pg_current_wal_lsn() - confirmed_flush_lsn FROM pg_replication_slots";
        server.sql_in("shop", sql).trim().parse::<i64>().unwrap()
    };
    server.sql_in("shop", "CREATE TABLE other AS SELECT generate_series(1, 100000)");
    assert!(lag() > 1_000_000);
    let end = tokio::time::Instant::now() + LIMIT;
    while lag() > 100_000 {
        assert!(tokio::time::Instant::now() < end, "the slot holds {} bytes", lag());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_when_either_side_dies() {
    let server = server!("nothing_is_lost_or_doubled_when_either_side_dies");
    server.sql(ORDERS);
    let mut world = World::start(|_| Answer::ok()).await;
    deploy(&world, source(&server.url())).await;
    streams(&world).await;
    let mut next = 0;
    let mut insert = |count: i32| {
        server.sql(&format!(
            "INSERT INTO orders SELECT n, 'x' FROM generate_series({next}, {}) n",
            next + count - 1
        ));
        next += count;
        next
    };
    for round in 0..4 {
        // Of 1,200 rows of one transaction, some are on their way when it dies.
        insert(1_200);
        if round % 2 == 0 {
            world = world.restart().await;
        } else {
            server.stop(round == 1);
            fails(&world, "database").await;
            server.run();
        }
        insert(1);
    }
    let all = insert(1);
    let end = tokio::time::Instant::now() + LIMIT;
    let ids = |calls: &[Call]| -> Vec<i64> {
        calls.iter().map(|call| record(call)["after"]["id"].as_i64().unwrap()).collect()
    };
    while ids(&world.calls(0).await).iter().collect::<std::collections::BTreeSet<_>>().len() < all as usize {
        assert!(tokio::time::Instant::now() < end, "of {all}, {} came", world.calls(0).await.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.idle().await;
    // A delivery that the end of the process broke off comes again, as the same event.
    let calls = world.calls(0).await;
    let mut by_row = std::collections::BTreeMap::<i64, std::collections::BTreeSet<_>>::new();
    for call in &calls {
        by_row.entry(record(call)["after"]["id"].as_i64().unwrap()).or_default().insert(call.delivery.id);
    }
    let doubled: Vec<_> = by_row.iter().filter(|(_, events)| events.len() > 1).collect();
    assert_eq!(doubled, [], "a row was two events");
    assert_eq!(by_row.len(), all as usize);
}

#[tokio::test]
async fn servers_get_cloud_events_and_only_what_the_filter_takes() {
    let server = server!("servers_get_cloud_events_and_only_what_the_filter_takes");
    server.sql(ORDERS);
    let world = World::start(|_| Answer::ok()).await;
    let filter = json!({ "after": { "state": ["paid"] } });
    world
        .deploy_as("notify", |version| {
            version.contract = Contract::Http;
            version.triggers = vec![Trigger { filter: Some(filter), ..trigger(source("env:URL")) }];
            version.env.insert("URL".to_owned(), format!("{}?sslmode=disable", server.url()));
        })
        .await;
    streams(&world).await;
    server.sql("INSERT INTO orders VALUES (1, 'new'), (2, 'paid'), (3, 'new'); UPDATE orders SET state = 'paid' WHERE id = 3");
    let calls = world.calls(2).await;
    assert_eq!(calls[0].headers["ce-type"], "dev.rouse.database.change.v1");
    assert_eq!(calls[0].headers["ce-source"], "/databases/shop/schemas/public/tables/orders");
    let event = |call: &Call| serde_json::from_slice::<Value>(&call.body).unwrap();
    let mut seen: Vec<String> = calls.iter().map(|call| event(call)["key"]["id"].to_string()).collect();
    seen.sort();
    assert_eq!(seen, ["2", "3"]);
    world.idle().await;
    assert_eq!(world.calls(0).await.len(), 2);
}

#[tokio::test]
async fn a_trigger_that_goes_leaves_nothing_in_the_database_even_one_that_was_away() {
    let server = server!("a_trigger_that_goes_leaves_nothing_in_the_database_even_one_that_was_away");
    server.sql(ORDERS);
    let world = World::start(|_| Answer::ok()).await;
    deploy(&world, source(&server.url())).await;
    streams(&world).await;
    let slot = "rouse_default_notify_orders_";
    let left = server.left();
    assert!(left.lines().count() == 2 && left.lines().all(|name| name.starts_with(slot)), "{left}");
    world.deploy_as("notify", |_| ()).await;
    until(&world, "it is removed", <[Value]>::is_empty).await;
    assert_eq!(server.left(), "");

    // Back again; then it goes while the database is away, and the process dies too.
    deploy(&world, source(&server.url())).await;
    streams(&world).await;
    server.stop(false);
    world.deploy_as("notify", |_| ()).await;
    until(&world, "it is not removed", |all| all.iter().any(|one| one["state"] == "removing")).await;
    let world = world.restart().await;
    until(&world, "it is still known", |all| all.iter().any(|one| !one["problem"].is_null())).await;
    server.run();
    until(&world, "it is removed", <[Value]>::is_empty).await;
    assert_eq!(server.left(), "");
}

#[tokio::test]
async fn what_the_database_lacks_is_said_and_mended_without_a_deployment() {
    let server = server!("what_the_database_lacks_is_said_and_mended_without_a_deployment");
    server.sql_in("postgres", "CREATE ROLE plain LOGIN PASSWORD 'p'");
    let world = World::start(|_| Answer::ok()).await;
    let hint = |told: &Value| told["hint"].as_str().unwrap_or_default().to_owned();

    deploy(&world, source("postgres://app:s3cret@127.0.0.1:1/shop")).await;
    let told = fails(&world, "is not reached").await;
    assert!(hint(&told).contains("host and port"), "{told}");
    deploy(&world, source(&server.url_of("app:wrong"))).await;
    let told = fails(&world, "password authentication failed").await;
    assert!(hint(&told).contains("user and the password") && !told.to_string().contains("wrong\""), "{told}");
    deploy(&world, source(&server.url_of("plain:p"))).await;
    let told = fails(&world, "replication").await;
    assert!(hint(&told).contains("ALTER ROLE \"plain\" REPLICATION"), "{told}");
    deploy(&world, source(&server.url().replace("/shop", "/nowhere"))).await;
    fails(&world, "\"nowhere\" does not exist").await;

    deploy(&world, source(&server.url())).await;
    let told = fails(&world, "no table public.orders").await;
    assert!(hint(&told).contains("schema.table"), "{told}");
    server.sql("CREATE TABLE orders (id int, state text)");
    let told = fails(&world, "no primary key").await;
    assert!(hint(&told).contains("REPLICA IDENTITY FULL"), "{told}");
    // The database is as it was: nobody's updates are refused for a trigger's sake.
    server.sql("UPDATE orders SET state = 'x'");
    server.sql("ALTER TABLE orders ADD PRIMARY KEY (id)");
    for slot in 0..4 {
        server.sql_in(
            "shop",
            &format!("SELECT pg_create_logical_replication_slot('taken_{slot}', 'pgoutput')"),
        );
    }
    let told = fails(&world, "slots are in use").await;
    assert!(hint(&told).contains("max_replication_slots"), "{told}");
    server.sql_in("shop", "SELECT pg_drop_replication_slot('taken_0')");
    streams(&world).await;
    server.sql("INSERT INTO orders VALUES (1, 'new')");
    world.calls(1).await;
}

#[tokio::test]
async fn a_database_without_logical_wal_is_told_the_setting() {
    let server =
        server!("a_database_without_logical_wal_is_told_the_setting", Postgres::with("-c fsync=off"));
    server.sql(ORDERS);
    let world = World::start(|_| Answer::ok()).await;
    deploy(&world, source(&server.url())).await;
    let told = fails(&world, "wal_level = replica").await;
    let hint = told["hint"].as_str().unwrap();
    assert!(hint.contains("ALTER SYSTEM SET wal_level = logical") && hint.contains("restart"), "{told}");
}

#[tokio::test]
async fn a_connection_is_encrypted_as_its_url_asks() {
    let settings = "-c wal_level=logical -c fsync=off -c ssl=on";
    let server = server!("a_connection_is_encrypted_as_its_url_asks", Postgres::with(settings));
    server.sql(ORDERS);
    server.sql_in("shop", "SET password_encryption = md5; CREATE ROLE old LOGIN REPLICATION PASSWORD 'p'");
    let world = World::start(|_| Answer::ok()).await;
    let encrypted = || {
        let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)";
        server.sql_in("shop", sql).trim().to_owned()
    };
    // It logs in by MD5, and then it may not publish what is not its own.
    deploy(&world, source(&server.url_of("old:p"))).await;
    let told = fails(&world, "permission denied").await;
    assert!(
        told["hint"].as_str().unwrap().contains("CREATE PUBLICATION \"rouse_default_notify_orders_"),
        "{told}"
    );
    for (mode, yes) in [("require", "t"), ("disable", "f"), ("prefer", "t")] {
        deploy(&world, source(&format!("{}?sslmode={mode}", server.url()))).await;
        let end = tokio::time::Instant::now() + LIMIT;
        while encrypted() != yes {
            assert!(tokio::time::Instant::now() < end, "{mode}: {}", encrypted());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    server.sql("INSERT INTO orders VALUES (1, 'new')");
    world.calls(1).await;
    // Nobody knows who certifies it.
    deploy(&world, source(&format!("{}?sslmode=verify-full", server.url()))).await;
    fails(&world, "TLS with the database failed").await;

    let plain = Postgres::start().unwrap();
    deploy(&world, source(&format!("{}?sslmode=require", plain.url()))).await;
    fails(&world, "offers no TLS").await;
}
