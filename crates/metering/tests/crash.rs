//! `kill -9` while records are written and rolled up: each counts once. The test runs itself as a child.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rouse_metering::{
    Ledger, PriceSheet,
    ledger::{By, Query},
};
use rouse_store::journal::{Options, Writer};
use rouse_types::{InvocationId, Outcome, Timestamp, Timing, Usage};

const ROUNDS: usize = 10;
const CHILD_DIR: &str = "ROUSE_METERING_CRASH_TEST_DIR";

fn usage(number: u64) -> Usage {
    Usage {
        id: InvocationId::new(),
        tenant: "acme".parse().unwrap(),
        app: "shop".parse().unwrap(),
        function: format!("f{}", number % 7).parse().unwrap(),
        version: 1,
        started: Timestamp(number * 1_000_000),
        timing: Timing::default(),
        billed_ms: 1,
        memory_mib: 128,
        cpu_us: 5,
        cold: false,
        bytes_in: 0,
        bytes_out: 0,
        outcome: Outcome::Ok,
        caller: None,
    }
}

fn open(dir: &Path) -> (Ledger, PathBuf) {
    (Ledger::open(&dir.join("usage.db"), PriceSheet::default()).unwrap(), dir.join("journal"))
}

fn append_and_ingest(dir: &Path) {
    let (mut ledger, journal) = open(dir);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let options = Options { segment_bytes: 64 << 10, ..Options::new("gateway-0") };
            let mut writer = Writer::open(&journal, options).unwrap();
            for number in 0.. {
                let usage = usage(number);
                writer.append(usage.started, usage.write(&mut [0; Usage::BYTES_MAX]).unwrap()).unwrap();
                std::io::stdout().write_all(b"@\n").unwrap();
            }
        });
        loop {
            ledger.ingest(&journal).unwrap();
        }
    });
}

#[test]
fn a_kill_between_any_two_steps_loses_and_doubles_no_record() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        append_and_ingest(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_kill_between_any_two_steps_loses_and_doubles_no_record", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            told += u64::from(line.unwrap().contains('@'));
            if told == 100 + 733 * round as u64 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        acknowledged += told;
        let (mut ledger, journal) = open(dir.path());
        assert!(ledger.ingest(&journal).unwrap().caught_up);
        let counted = ledger.query(&Query { by: By::Tenant, ..Query::default() }).unwrap().total.invocations;
        // The child may have appended one record more than it could tell, each round.
        assert!(
            (acknowledged..=acknowledged + 1 + round as u64).contains(&counted),
            "{counted} {acknowledged}"
        );
        let found = ledger.reconcile(&journal).unwrap();
        assert!(found.is_exact(), "{found:?}");
        assert_eq!(found.records, counted);
    }
}
