//! The ledger as evidence: what was exported proves itself, and whatever was changed is found.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

use std::{path::Path, time::Duration};

use proptest::prelude::*;
use rouse_metering::{
    Ledger, PriceSheet,
    audit::{
        Entry, Line, Link,
        key::{Key, Public},
        verify::{Error, Verified, verify},
    },
    ledger::{self, GRACE, Range},
};
use rouse_store::journal::{Options, Policy, Writer};
use rouse_types::{InvocationId, Timestamp, Timing, TraceContext, Usage};

mod support;

const HOUR: Duration = Duration::from_secs(3_600);

fn hour(number: u64) -> Timestamp {
    Timestamp(number * 3_600_000_000)
}

fn usage(tenant: &str, hour: u64, number: u64) -> Usage {
    Usage {
        id: InvocationId::from_bytes([u8::try_from(number % 256).unwrap(); 16]),
        tenant: tenant.parse().unwrap(),
        started: Timestamp(hour * 3_600_000_000 + number),
        timing: Timing::default(),
        billed_ms: number + 1,
        caller: Some(TraceContext { trace_id: u128::MAX, span_id: 1, flags: 1 }),
        ..support::usage("f", hour, 0)
    }
}

struct Platform {
    dir: tempfile::TempDir,
    writers: Vec<Writer>,
    ledger: Ledger,
    key: Key,
}

fn open(dir: &Path) -> Ledger {
    Ledger::open(&dir.join("ledger.db"), PriceSheet::default()).unwrap()
}

impl Platform {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let writer = |name: &str| Writer::open(&dir.path().join("journal"), Options::new(name)).unwrap();
        let writers = vec![writer("gateway-0"), writer("node")];
        let key = Key::from_pkcs8(&Key::generate().unwrap()).unwrap();
        let ledger = open(dir.path());
        Self { dir, writers, ledger, key }
    }
    fn call(&mut self, writer: usize, usage: &Usage) {
        let mut buffer = [0; Usage::BYTES_MAX];
        self.writers[writer].append(usage.started, usage.write(&mut buffer).unwrap()).unwrap();
    }
    fn ingest(&mut self) {
        assert!(self.ledger.ingest(&self.dir.path().join("journal")).unwrap().caught_up);
    }
    fn seal(&mut self, now: Timestamp) -> usize {
        self.ledger.seal(now, &self.key).unwrap()
    }
    fn try_export(&self, since: u64, until: u64) -> Result<String, ledger::Error> {
        let range = Range { tenant: "acme".parse().unwrap(), since: hour(since), until: hour(until) };
        let mut text = String::new();
        ledger::export(&self.dir.path().join("ledger.db"), &self.key, &range, |line| {
            text += &line;
            text.push('\n');
            true
        })?;
        Ok(text)
    }
    fn export(&self, since: u64, until: u64) -> String {
        self.try_export(since, until).unwrap()
    }
}

/// Two sealed hours of two writers, a supplement of the first, a stranger, and an hour that is not over.
fn platform() -> Platform {
    let mut platform = Platform::new();
    for number in 0..3 {
        platform.call(0, &usage("acme", 10, number));
        platform.call(1, &usage("acme", 10, number + 100));
        platform.call(0, &usage("zoo", 10, number));
        platform.ingest();
    }
    assert_eq!(platform.seal(hour(11)), 0, "late records are waited for");
    assert_eq!(platform.seal(hour(11) + GRACE), 2);
    platform.call(1, &usage("acme", 11, 0));
    platform.call(0, &usage("acme", 10, 7));
    platform.ingest();
    assert_eq!(platform.seal(hour(12)), 0, "the supplement is seen");
    assert_eq!(platform.seal(hour(12) + GRACE), 2);
    platform.call(0, &usage("acme", 12, 1));
    platform.ingest();
    assert_eq!(platform.seal(hour(12) + GRACE), 0);
    platform
}

fn check(text: &str) -> Result<Verified, Error> {
    verify(text.as_bytes(), None)
}

/// The first line that is wrong.
fn wrong(text: &str) -> u64 {
    match check(text).unwrap_err() {
        Error::Wrong { line, .. } => line,
        Error::Io(error) => panic!("{error}"),
    }
}

fn lines(text: &str) -> Vec<String> {
    text.split_inclusive('\n').map(str::to_owned).collect()
}

#[test]
fn an_export_proves_itself_and_costs_what_the_ledger_says() {
    let platform = platform();
    let text = platform.export(0, 100);
    let verified = check(&text).unwrap();
    assert_eq!((verified.records, verified.unsealed, verified.seals), (9, 1, 3));
    let query = ledger::Query { tenant: Some("acme".parse().unwrap()), ..Default::default() };
    let total = platform.ledger.query(&query).unwrap().total;
    assert_eq!(verified.cost_nanos, u128::from(total.cost_nanos));
    assert_eq!(verified.begin.currency, "USD");
    assert!(!text.contains("zoo"));
    // Only the named key will do, if one is named.
    let key = platform.key.public();
    assert!(verify(text.as_bytes(), Some(&key)).is_ok());
    let other: Public = Key::from_pkcs8(&Key::generate().unwrap()).unwrap().public();
    assert!(matches!(verify(text.as_bytes(), Some(&other)), Err(Error::Wrong { line: 1, .. })));
}

#[test]
fn a_part_of_the_time_proves_itself_too() {
    let platform = platform();
    for (since, until, records, seals) in [(10, 11, 7, 2), (11, 12, 1, 1), (12, 13, 1, 0), (20, 30, 0, 0)] {
        let verified = check(&platform.export(since, until)).unwrap();
        assert_eq!((verified.records, verified.seals), (records, seals), "{since}..{until}");
    }
}

#[test]
fn a_missing_record_a_swapped_pair_and_a_cut_off_end_are_each_refused_at_their_line() {
    let text = platform().export(0, 100);
    let all = lines(&text);
    for at in 0..all.len() {
        let mut missing = all.clone();
        missing.remove(at);
        let found = wrong(&missing.concat());
        let last_of_chain = all.get(at + 1).is_none_or(|next| !next.contains("\"record\""));
        // A record that was the last of a writer is missed at what comes after its writer's others.
        assert!(found > at as u64 && (last_of_chain || found <= 5 + at as u64), "{at}: {found}");
        // Cut off after any line, and within it.
        assert!(wrong(&all[..at].concat()) == 1 + at as u64);
        let within = all[..at].concat() + &all[at][..all[at].len() / 2];
        assert_eq!(wrong(&within), 1 + at as u64);
        if at + 1 < all.len() {
            let mut swapped = all.clone();
            swapped.swap(at, at + 1);
            assert!((1 + at as u64..=2 + at as u64).contains(&wrong(&swapped.concat())), "{at}");
        }
        let mut doubled = all.clone();
        doubled.insert(at, all[at].clone());
        assert!(check(&doubled.concat()).is_err(), "{at}");
    }
    assert_eq!(wrong(&(text + "\n")), 1 + all.len() as u64);
}

#[test]
fn a_record_that_is_given_another_price_is_refused_though_its_own_link_is_made_anew() {
    let text = platform().export(0, 100);
    let mut all = lines(&text);
    let Line::Record(mut entry) = serde_json::from_str(&all[1]).unwrap() else { panic!("no record") };
    entry.cost_nanos -= 1;
    let forge = |entry: &Entry| serde_json::to_string(&Line::Record(Box::new(entry.clone()))).unwrap() + "\n";
    all[1] = forge(&entry);
    assert_eq!(wrong(&all.concat()), 2);
    let first = Link::first(&entry.usage.tenant, entry.hour, entry.part, &entry.writer);
    entry.link = first.next(entry.cost_nanos, &entry.bytes.0);
    all[1] = forge(&entry);
    // Now the next record's link is the first that does not fit.
    assert_eq!(wrong(&all.concat()), 3);
}

#[test]
fn every_flipped_byte_is_refused() {
    let mut platform = Platform::new();
    platform.call(0, &usage("acme", 1, 1));
    platform.call(0, &usage("acme", 1, 2));
    platform.ingest();
    assert_eq!(platform.seal(hour(5)), 1);
    let text = platform.export(0, 9).into_bytes();
    assert!(verify(&text[..], None).is_ok());
    for at in 0..text.len() {
        // Another case, another digit, another character, no ASCII at all.
        for mask in [0x01, 0x20, 0x08, 0x80] {
            let mut flipped = text.clone();
            flipped[at] ^= mask;
            assert!(verify(&flipped[..], None).is_err(), "byte {at} by {mask:#x}");
        }
    }
}

#[test]
fn the_same_journal_makes_the_same_chains_however_it_is_read() {
    let mut platform = platform();
    let before = platform.export(10, 12);
    // The ledger is lost, and made anew from the journal in one go.
    let lost = std::mem::replace(&mut platform.ledger, open(&platform.dir.path().join("journal")));
    drop(lost);
    for file in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let _ = std::fs::remove_file(platform.dir.path().join(file));
    }
    let seals = |text: &str| -> Vec<String> {
        lines(text)
            .into_iter()
            .filter(|line| line.starts_with("{\"seal\"") && line.contains("\"hour\":39600000000,"))
            .collect()
    };
    let heads = |text: &str| -> Vec<String> {
        lines(text)
            .into_iter()
            .filter(|line| line.contains("\"writer\":\"node\"") && line.contains("record\""))
            .collect()
    };
    platform.ledger = open(platform.dir.path());
    platform.ingest();
    platform.seal(hour(12) + GRACE);
    let after = platform.export(10, 12);
    assert!(check(&after).is_ok());
    assert_eq!(heads(&before), heads(&after), "a writer's chain is its journal's");
    assert_eq!((seals(&before).len(), seals(&after).len()), (1, 1));
}

#[test]
fn forgotten_records_are_told_and_their_seals_stay() {
    let mut platform = platform();
    let policy = Policy { bytes_max: u64::MAX, age_max: HOUR };
    assert_eq!(platform.ledger.forget(&policy, hour(12)).unwrap(), 3);
    assert!(
        matches!(platform.try_export(0, 100), Err(ledger::Error::Forgotten { hour: h }) if h == hour(10))
    );
    assert_eq!(check(&platform.export(11, 100)).unwrap().records, 2);
    // Bytes are a bound, too, but what has no seal yet is never forgotten.
    let policy = Policy { bytes_max: 0, age_max: Duration::MAX };
    platform.ledger.forget(&policy, hour(12)).unwrap();
    assert_eq!(check(&platform.export(12, 100)).unwrap().records, 1);
    // What comes late for a forgotten hour is a supplement still.
    platform.call(0, &usage("acme", 10, 9));
    platform.ingest();
    assert_eq!(platform.seal(hour(30)), 1, "the hour that ran");
    assert_eq!(platform.seal(hour(31)), 1, "the supplement");
    assert!(check(&platform.export(12, 100)).is_ok());
}

#[test]
fn a_ledger_of_the_release_before_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let db = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
    db.execute_batch(
        "DROP TABLE parts; DROP TABLE chains; DROP TABLE chunks; DROP TABLE seals; DROP TABLE months; PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(db);
    let mut platform = Platform { ledger: open(dir.path()), ..Platform::new() };
    platform.call(0, &usage("acme", 1, 1));
    platform.ingest();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Whoever writes what and whenever it is read and sealed: the export proves itself, each record once.
    #[test]
    fn any_history_exports_whole(
        calls in prop::collection::vec((0..2_usize, 0..4_u64, 0..50_u64, 0..4_u8), 0..60),
    ) {
        let mut platform = Platform::new();
        for (at, (writer, of, number, read)) in calls.iter().enumerate() {
            platform.call(*writer, &usage("acme", *of, *number));
            if *read == 0 {
                platform.ingest();
                platform.seal(hour(at as u64 / 10));
            }
        }
        platform.ingest();
        let verified = check(&platform.export(0, 100)).unwrap();
        prop_assert_eq!(verified.records, calls.len() as u64);
        platform.seal(hour(50));
        platform.seal(hour(60));
        let verified = check(&platform.export(0, 100)).unwrap();
        prop_assert_eq!((verified.records, verified.unsealed), (calls.len() as u64, 0));
    }
}
