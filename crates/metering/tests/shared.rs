//! The ledger of a cluster: each record counts once, and all nodes come to the same, seals included.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

use std::path::{Path, PathBuf};

use rouse_metering::{
    Ledger, PriceSheet,
    audit::key::Key,
    ledger::{
        By, GRACE, Query, Range, export,
        shared::{self, Begin, Seal, Take},
    },
};
use rouse_store::{
    cluster::tables::Operation,
    error::Error,
    journal::{Options, Writer},
};
use rouse_types::{Timestamp, Usage};
use rusqlite::Connection;

mod support;
use support::{HOUR_US, usage};

/// The tables of two nodes.
struct Nodes {
    folder: tempfile::TempDir,
    databases: Vec<Connection>,
}

impl Nodes {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = |node| {
            let database = Connection::open(Self::file(folder.path(), node)).unwrap();
            database.pragma_update(None, "journal_mode", "wal").unwrap();
            database.execute_batch(&shared::schema()).unwrap();
            database
        };
        let databases = (0..2).map(open).collect();
        Self { folder, databases }
    }

    fn file(folder: &Path, node: usize) -> PathBuf {
        folder.join(format!("{node}.db"))
    }

    /// An entry of the log, in its turn on both.
    fn apply<O: Operation<Output: PartialEq + std::fmt::Debug>>(
        &self,
        operation: &O,
    ) -> Result<O::Output, Error> {
        let mut all = self.databases.iter().map(|database| operation.apply(database));
        let (first, second) = (all.next().unwrap(), all.next().unwrap());
        assert_eq!(first.as_ref().ok(), second.as_ref().ok());
        first
    }

    fn begin(&self) -> Key {
        let (key, sheet) = (Key::generate().unwrap(), PriceSheet::default().to_toml());
        self.apply(&Begin { key, sheet }).unwrap();
        shared::key(&self.databases[1]).unwrap().unwrap()
    }

    fn journal(&self, node: &str) -> (PathBuf, Writer) {
        let journal = self.folder.path().join(node);
        let writer = Writer::open(&journal, Options { segment_bytes: 64 << 10, ..Options::new("gateway-0") });
        (journal, writer.unwrap())
    }

    /// What a node would hand over now.
    fn take(&self, journal: &Path, node: &str) -> Option<Take> {
        let before = shared::handed(&self.databases[0], node).unwrap();
        Take::read(journal, node, before).unwrap().0
    }

    fn invocations(&self, node: usize) -> u64 {
        let ledger = Ledger::view(&Self::file(self.folder.path(), node)).unwrap();
        ledger.query(&Query { by: By::Tenant, ..Query::default() }).unwrap().total.invocations
    }

    fn exported(&self, node: usize, key: &Key) -> Vec<String> {
        let mut lines = Vec::new();
        let range = Range {
            tenant: "acme".parse().unwrap(),
            since: Timestamp::default(),
            until: Timestamp(u64::MAX),
        };
        let file = Self::file(self.folder.path(), node);
        export(&file, key, &range, |line| {
            lines.push(line);
            true
        })
        .unwrap();
        lines
    }
}

fn append(writer: &mut Writer, hour: u64) {
    let usage = usage("f", hour, 4);
    writer.append(usage.started, usage.write(&mut [0; Usage::BYTES_MAX]).unwrap()).unwrap();
}

#[test]
fn a_batch_that_comes_twice_or_late_counts_once() {
    let nodes = Nodes::new();
    nodes.begin();
    let (journal, mut writer) = nodes.journal("a");
    append(&mut writer, 1);
    let first = nodes.take(&journal, "a").unwrap();
    append(&mut writer, 1);
    // Read again before the first came to its turn: a process that was killed and started again.
    let both = nodes.take(&journal, "a").unwrap();
    assert!(nodes.apply(&first).unwrap());
    assert!(!nodes.apply(&first).unwrap());
    assert!(!nodes.apply(&both).unwrap());
    assert_eq!((nodes.invocations(0), nodes.invocations(1)), (1, 1));
    let rest = nodes.take(&journal, "a").unwrap();
    assert!(nodes.apply(&rest).unwrap());
    assert!(nodes.take(&journal, "a").is_none());
    assert_eq!((nodes.invocations(0), nodes.invocations(1)), (2, 2));
}

#[test]
fn all_nodes_seal_alike_also_what_came_late() {
    let nodes = Nodes::new();
    let key = nodes.begin();
    let ((one, mut first), (two, mut second)) = (nodes.journal("a"), nodes.journal("b"));
    append(&mut first, 1);
    append(&mut second, 1);
    nodes.apply(&nodes.take(&one, "a").unwrap()).unwrap();
    let grace = u64::try_from(GRACE.as_micros()).unwrap();
    let now = Timestamp(2 * HOUR_US + grace);
    assert!(shared::is_due(&nodes.databases[0], now).unwrap());
    assert_eq!(nodes.apply(&Seal { now }).unwrap(), 1);
    assert_eq!(nodes.apply(&Seal { now }).unwrap(), 0);
    // The other node's record of that hour is in a supplement.
    nodes.apply(&nodes.take(&two, "b").unwrap()).unwrap();
    nodes.apply(&Seal { now }).unwrap();
    assert_eq!(nodes.apply(&Seal { now: Timestamp(now.0 + grace) }).unwrap(), 1);
    assert!(!shared::is_due(&nodes.databases[0], Timestamp(now.0 + grace)).unwrap());
    let exported = nodes.exported(0, &key);
    assert_eq!(exported, nodes.exported(1, &key));
    assert!(exported.iter().any(|line| line.contains("b.gateway-0")));
}

#[test]
fn prices_of_another_currency_are_refused_and_a_second_key_is_not_taken() {
    let nodes = Nodes::new();
    let key = nodes.begin();
    let other = PriceSheet::default().to_toml().replace("USD", "EUR");
    let refused = nodes.apply(&Begin { key: Key::generate().unwrap(), sheet: other });
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    assert_eq!(nodes.begin().public(), key.public());
}
