//! A real PostgreSQL changes rows, and what its `pgoutput` writes is read as these changes.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may")]

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rouse_triggers::{
    postgres::{Decoder, Lsn, Said},
    shape::database::{Change, Operation},
};
use serde_json::{Value, json};

/// A server of its own, which listens on a socket in its folder alone.
struct Server {
    bin: PathBuf,
    folder: tempfile::TempDir,
}

/// The newest server that Debian installed.
fn bin() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists()).max()
}

/// PostgreSQL does not run as root.
fn as_postgres(program: &Path) -> Command {
    let root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

fn succeed(command: &mut Command) -> Output {
    let output = command.current_dir("/").output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

impl Server {
    fn start(bin: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let data = folder.path().join("data");
        succeed(
            as_postgres(&bin.join("initdb"))
                .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "-N", "-D"])
                .arg(&data),
        );
        let socket = folder.path().display();
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={socket} -c wal_level=logical -c fsync=off"
        );
        let log = folder.path().join("log");
        succeed(
            as_postgres(&bin.join("pg_ctl"))
                .args(["start", "-w", "-o", &options, "-D"])
                .arg(&data)
                .arg("-l")
                .arg(log),
        );
        Self { bin, folder }
    }

    fn sql(&self, sql: &str) -> String {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-AtXq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(self.folder.path())
            .args(["-c", sql]);
        String::from_utf8(succeed(&mut psql).stdout).unwrap()
    }

    /// What the slot gives, and no longer holds afterwards.
    fn changes(&self, decoder: &mut Decoder) -> Vec<Change> {
        let messages = self.sql(
            "SELECT lsn, encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('s', NULL, NULL, \
             'proto_version', '1', 'publication_names', 'p')",
        );
        let mut changes = Vec::new();
        let mut committed = 0;
        for line in messages.lines() {
            let (lsn, data) = line.split_once('|').unwrap();
            let (high, low) = lsn.split_once('/').unwrap();
            let lsn =
                Lsn(u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap());
            match decoder.read(lsn, &hex::decode(data).unwrap()).unwrap() {
                Said::Changes(more) => changes.extend(more),
                Said::Committed(end) => {
                    assert!(end >= lsn);
                    committed += 1;
                }
                Said::Nothing | Said::Began(_) => {}
            }
        }
        assert!(committed > 0);
        changes
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.folder.path().join("data");
        let _ = as_postgres(&self.bin.join("pg_ctl"))
            .args(["stop", "-m", "immediate", "-D"])
            .arg(data)
            .current_dir("/")
            .output();
    }
}

fn row(row: &Option<serde_json::Map<String, Value>>) -> Value {
    row.clone().map_or(Value::Null, Value::Object)
}

fn seen(changes: &[Change]) -> Vec<(Operation, Value, Value, Value)> {
    changes.iter().map(|c| (c.op, row(&c.key), row(&c.before), row(&c.after))).collect()
}

#[test]
fn what_postgresql_changes_is_read_as_it_happened() {
    let Some(bin) = bin() else {
        eprintln!(
            "SKIPPED what_postgresql_changes_is_read_as_it_happened: no PostgreSQL; run `cargo xtask setup`"
        );
        return;
    };
    let server = Server::start(bin);
    server.sql(
        "CREATE TABLE orders (id int PRIMARY KEY, state text, big text);
         ALTER TABLE orders ALTER big SET STORAGE EXTERNAL;
         CREATE TABLE whole (a int, big text);
         ALTER TABLE whole ALTER big SET STORAGE EXTERNAL;
         ALTER TABLE whole REPLICA IDENTITY FULL;
         CREATE TABLE other (a int);
         CREATE PUBLICATION p FOR TABLE orders, whole",
    );
    server.sql("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
    let mut decoder = Decoder::new("postgres");

    server.sql(
        "BEGIN; INSERT INTO orders VALUES (7, 'neu €', NULL); INSERT INTO other VALUES (1);
         UPDATE orders SET state = 'paid'; UPDATE orders SET id = 8; DELETE FROM orders; COMMIT",
    );
    let changes = server.changes(&mut decoder);
    use Operation::{Delete, Insert, Truncate, Update};
    let null = Value::Null;
    assert_eq!(
        seen(&changes),
        [
            (Insert, json!({ "id": 7 }), null.clone(), json!({ "id": 7, "state": "neu €", "big": null })),
            (Update, json!({ "id": 7 }), null.clone(), json!({ "id": 7, "state": "paid", "big": null })),
            (Update, json!({ "id": 7 }), null.clone(), json!({ "id": 8, "state": "paid", "big": null })),
            (Delete, json!({ "id": 8 }), null.clone(), null.clone()),
        ]
    );
    let source = &changes[0].source;
    assert_eq!((source.schema.as_str(), source.table.as_str()), ("public", "orders"));
    assert!(
        changes
            .iter()
            .all(|c| c.source.transaction == source.transaction
                && c.source.committed_ms == source.committed_ms)
    );
    assert!(source.committed_ms > 1_700_000_000_000, "{source:?}");

    // With its whole old row; a large value that did not change is known from there, and else left out.
    server.sql(
        "INSERT INTO whole VALUES (1, repeat('x', 10000)); UPDATE whole SET a = 2; DELETE FROM whole;
         INSERT INTO orders VALUES (1, 'a', repeat('x', 10000)); UPDATE orders SET state = 'b'",
    );
    let big = "x".repeat(10_000);
    let (one, two) = (json!({ "a": 1, "big": big }), json!({ "a": 2, "big": big }));
    assert_eq!(
        seen(&server.changes(&mut decoder)),
        [
            (Insert, null.clone(), null.clone(), one.clone()),
            (Update, null.clone(), one, two.clone()),
            (Delete, null.clone(), two, null.clone()),
            (Insert, json!({ "id": 1 }), null.clone(), json!({ "id": 1, "state": "a", "big": big })),
            (Update, json!({ "id": 1 }), null.clone(), json!({ "id": 1, "state": "b" })),
        ]
    );

    // A table that is altered is told anew; types that JSON has are JSON.
    server.sql(
        "ALTER TABLE orders DROP big, ADD f float8, ADD n numeric, ADD j jsonb, ADD b bool, ADD l int8, ADD t timestamptz, ADD a int[], ADD y bytea;
         SET timezone = 'UTC';
         INSERT INTO orders VALUES (2, '', 1.5, 12345678901234567890.10, '{\"k\": [1, null]}', true, 9223372036854775807,
            '2026-11-21 13:00+01', '{1,2}', '\\x00ff'), (3, NULL, 'NaN', 'NaN', 'null', false, -1, NULL, NULL, NULL);
         TRUNCATE orders, whole",
    );
    let changes = server.changes(&mut decoder);
    let mut after = row(&changes[0].after);
    // Written in the time zone of the session that reads.
    assert!(after["t"].take().as_str().unwrap().starts_with("2026-11-21"));
    let wanted = json!({
        "id": 2, "state": "", "f": 1.5, "n": "12345678901234567890.10", "j": { "k": [1, null] }, "b": true,
        "l": i64::MAX, "t": null, "a": "{1,2}", "y": "\\x00ff",
    });
    assert_eq!(after, wanted);
    let wanted = json!({
        "id": 3, "state": null, "f": "NaN", "n": "NaN", "j": null, "b": false, "l": -1, "t": null, "a": null, "y": null,
    });
    assert_eq!(row(&changes[1].after), wanted);
    let tables: Vec<_> = changes[2..].iter().map(|c| (c.op, c.source.table.as_str())).collect();
    assert_eq!(tables, [(Truncate, "orders"), (Truncate, "whole")]);
}
