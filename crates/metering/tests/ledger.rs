//! The ledger against journals: exact sums, each record once, and nothing for what did not run.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

use std::{path::Path, time::Duration};

use proptest::prelude::*;
use rouse_metering::{
    Ledger, PriceSheet, Sums,
    ledger::{By, Difference, Error, Query, Report},
    price::DEFAULT_PRICES,
};
use rouse_store::journal::{Options, Policy, Writer, retain};
use rouse_types::{Outcome, Timestamp, Usage};

mod support;
use support::{HOUR_US, usage};

fn writer(dir: &Path, name: &str) -> Writer {
    Writer::open(dir, Options { segment_bytes: 64 << 10, ..Options::new(name) }).unwrap()
}

fn append(writer: &mut Writer, usage: &Usage) {
    writer.append(usage.started, usage.write(&mut [0; Usage::BYTES_MAX]).unwrap()).unwrap();
}

fn ledger(dir: &Path) -> Ledger {
    Ledger::open(&dir.join("usage.db"), PriceSheet::default()).unwrap()
}

fn report(ledger: &Ledger, by: By) -> Report {
    ledger.query(&Query { by, ..Query::default() }).unwrap()
}

/// What the same records come to, summed here and now.
fn expected(records: &[Usage]) -> Sums {
    let prices = PriceSheet::default();
    let sum = |of: fn(&Usage) -> u64| records.iter().map(of).sum::<u64>();
    Sums {
        invocations: records.len() as u64,
        errors: sum(|u| u64::from(u.outcome != Outcome::Ok)),
        cold: sum(|u| u64::from(u.cold)),
        billed_ms: sum(|u| u.billed_ms),
        mib_ms: sum(Usage::mib_ms),
        cpu_us: sum(|u| u.cpu_us),
        bytes_in: sum(|u| u.bytes_in),
        bytes_out: sum(|u| u.bytes_out),
        cost_nanos: records.iter().map(|usage| prices.cost(usage).unwrap().0).sum(),
    }
}

#[test]
fn usage_is_summed_by_function_app_hour_and_tenant_and_the_rows_sum_to_the_total() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let mut writer = writer(&journal, "gateway-0");
    let other = Usage { tenant: "zoo".parse().unwrap(), ..usage("feed", 2, 7) };
    let records = [usage("a", 1, 1), usage("a", 1, 2), usage("b", 1, 4), usage("a", 2, 8), other];
    records.iter().for_each(|usage| append(&mut writer, usage));
    let mut ledger = ledger(dir.path());
    let ingested = ledger.ingest(&journal).unwrap();
    assert_eq!((ingested.records, ingested.refused, ingested.caught_up), (5, 0, true));
    for by in [By::Function, By::App, By::Hour, By::Tenant] {
        let report = report(&ledger, by);
        assert_eq!(report.total, expected(&records));
        assert_eq!(report.currency, "USD");
    }
    let rows = report(&ledger, By::Function).rows;
    let functions: Vec<_> = rows.iter().map(|row| row.function.as_ref().unwrap().as_str()).collect();
    assert_eq!(functions, ["a", "b", "feed"]);
    assert_eq!(rows[0].sums.billed_ms, 11);
    let hours: Vec<_> =
        report(&ledger, By::Hour).rows.iter().map(|row| row.hour.unwrap().0 / HOUR_US).collect();
    assert_eq!(hours, [1, 2, 2]);
    let query = Query {
        tenant: Some("acme".parse().unwrap()),
        function: Some("a".parse().unwrap()),
        since: Some(Timestamp(HOUR_US + 1_000)),
        until: Some(Timestamp(2 * HOUR_US)),
        ..Query::default()
    };
    assert_eq!(ledger.query(&query).unwrap().total, expected(&records[..2]));
    assert!(ledger.reconcile(&journal).unwrap().is_exact());
}

#[test]
fn an_idle_platform_costs_nothing_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = ledger(dir.path());
    let journal = dir.path().join("journal");
    assert!(ledger.ingest(&journal).unwrap().caught_up);
    let _writer = writer(&journal, "gateway-0");
    assert!(ledger.ingest(&journal).unwrap().caught_up);
    let report = report(&ledger, By::Function);
    assert_eq!((report.rows.len(), report.total), (0, Sums::default()));
}

#[test]
fn what_is_read_again_counts_once_and_a_restart_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let mut writer = writer(&journal, "gateway-0");
    let records: Vec<_> = (0..500).map(|n| usage("a", n / 100, n)).collect();
    for (n, usage) in records.iter().enumerate() {
        append(&mut writer, usage);
        if n % 50 == 0 {
            let mut ledger = ledger(dir.path());
            ledger.ingest(&journal).unwrap();
            assert_eq!(ledger.ingest(&journal).unwrap().records, 0);
        }
    }
    let mut ledger = ledger(dir.path());
    ledger.ingest(&journal).unwrap();
    assert_eq!(report(&ledger, By::App).total, expected(&records));
}

#[test]
fn a_record_that_is_none_is_set_aside_and_stops_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let mut writer = writer(&journal, "gateway-0");
    let records = [usage("a", 1, 1), usage("b", 1, 2)];
    append(&mut writer, &records[0]);
    writer.append(Timestamp(1), b"not a usage record").unwrap();
    append(&mut writer, &Usage { billed_ms: u64::MAX, ..usage("a", 1, 1) });
    append(&mut writer, &Usage { bytes_out: u64::MAX, ..usage("a", 1, 1) });
    append(&mut writer, &Usage { memory_mib: u32::MAX, ..usage("a", 1, 1) });
    append(&mut writer, &Usage { started: Timestamp(u64::MAX), ..usage("a", 1, 1) });
    append(&mut writer, &records[1]);
    let mut ledger = ledger(dir.path());
    let ingested = ledger.ingest(&journal).unwrap();
    assert_eq!((ingested.records, ingested.refused), (2, 5));
    assert_eq!(report(&ledger, By::App).total, expected(&records));
    let refused = ledger.refused(10).unwrap();
    assert_eq!((refused.len(), refused[4].source.as_str()), (5, "gateway-0"));
    assert!(ledger.reconcile(&journal).unwrap().is_exact());
}

#[test]
fn a_damaged_segment_is_reported_and_reconciling_tells_what_differs() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let mut first = writer(&journal, "gateway-0");
    (0..10).for_each(|n| append(&mut first, &usage("a", 1, n)));
    drop(first);
    let mut ledger = ledger(dir.path());
    ledger.ingest(&journal).unwrap();
    let segment = journal.join("gateway-0/0000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 0xff;
    std::fs::write(&segment, bytes).unwrap();
    let found = ledger.reconcile(&journal).unwrap();
    assert!(matches!(found.differences[0], Difference::Segment { segment: 1, .. }), "{found:?}");
    assert!(found.differences.iter().any(|difference| matches!(difference, Difference::Rollup { .. })));
    // A ledger that meets the damage first says so and goes on.
    let mut late = Ledger::open(&dir.path().join("late.db"), PriceSheet::default()).unwrap();
    let ingested = late.ingest(&journal).unwrap();
    assert_eq!((ingested.corruptions.len(), ingested.caught_up), (1, true));
    assert_eq!(late.refused(10).unwrap().len(), 1);
    assert!(late.reconcile(&journal).unwrap().is_exact());
}

#[test]
fn after_retention_what_is_left_still_reconciles_and_unread_usage_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let mut writer = writer(&journal, "gateway-0");
    let records: Vec<_> = (0..4_000).map(|n| usage("a", n / 500, n % 9)).collect();
    let mut ledger = ledger(dir.path());
    let policy = Policy { bytes_max: 200 << 10, age_max: Duration::MAX };
    for (n, usage) in records.iter().enumerate() {
        append(&mut writer, usage);
        if n % 1_000 == 999 {
            // Retention first, so that it meets unread records.
            retain(&journal, &policy, Some(&ledger.cursor().unwrap()), Timestamp(0)).unwrap();
            ledger.ingest(&journal).unwrap();
        }
    }
    retain(&journal, &policy, Some(&ledger.cursor().unwrap()), Timestamp(0)).unwrap();
    assert_eq!(report(&ledger, By::App).total, expected(&records));
    let found = ledger.reconcile(&journal).unwrap();
    assert!(found.is_exact(), "{found:?}");
    assert!(found.rollups > 0 && found.rollups_without_records > 0, "{found:?}");
    assert!(found.records < 4_000);
}

#[test]
fn a_new_price_sheet_holds_from_then_on_and_old_records_keep_their_prices() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    let mut writer = writer(&journal, "gateway-0");
    append(&mut writer, &usage("a", 1, 1));
    let mut ledger = ledger(dir.path());
    ledger.ingest(&journal).unwrap();
    drop(ledger);
    append(&mut writer, &usage("a", 1, 1));
    let dearer = DEFAULT_PRICES.replace("0.20", "2000");
    let mut ledger = Ledger::open(&dir.path().join("usage.db"), PriceSheet::parse(&dearer).unwrap()).unwrap();
    ledger.ingest(&journal).unwrap();
    assert_eq!(report(&ledger, By::App).total.cost_nanos, 202 + 2_000_002);
    assert!(ledger.reconcile(&journal).unwrap().is_exact());
    let euros = DEFAULT_PRICES.replace("USD", "EUR");
    let error = Ledger::open(&dir.path().join("usage.db"), PriceSheet::parse(&euros).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Currency { .. }));
}

#[test]
fn a_file_that_is_no_ledger_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("usage.db"), vec![0x41; 9_000]).unwrap();
    let error = Ledger::open(&dir.path().join("usage.db"), PriceSheet::default()).unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
}

fn any_usage() -> impl Strategy<Value = Usage> {
    let names = (0..3_u8, 0..3_u8, 0..4_u8, 1..4_u64, 0..30_u64);
    let outcomes = prop::sample::select(vec![
        Outcome::Ok,
        Outcome::FunctionError,
        Outcome::Timeout,
        Outcome::OutOfMemory,
        Outcome::Cancelled,
        Outcome::StartFailed,
        Outcome::PlatformError,
    ]);
    let figures = (0..900_000_u64, 16..10_241_u32, 0..1_u64 << 32, 0..1_u64 << 33, any::<bool>());
    (names, outcomes, figures).prop_map(|((tenant, app, function, version, hour), outcome, figures)| {
        let (billed_ms, memory_mib, cpu_us, bytes, cold) = figures;
        Usage {
            tenant: format!("t{tenant}").parse().unwrap(),
            app: format!("a{app}").parse().unwrap(),
            version,
            outcome,
            memory_mib,
            cpu_us,
            cold,
            bytes_in: bytes / 3,
            bytes_out: bytes,
            ..usage(&format!("f{function}"), hour, billed_ms)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever the records, writers and moments of reading: reports are the sums of the records.
    #[test]
    fn sums_reconcile_with_the_records(
        records in prop::collection::vec((any_usage(), 0..3_usize, 0..20_u8), 0..150),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("journal");
        let mut writers: Vec<_> = (0..3).map(|n| writer(&journal, &format!("w{n}"))).collect();
        let mut ledger = ledger(dir.path());
        for (usage, writer, read) in &records {
            append(&mut writers[*writer], usage);
            if *read == 0 {
                ledger.ingest(&journal).unwrap();
            }
        }
        ledger.ingest(&journal).unwrap();
        let all: Vec<_> = records.into_iter().map(|(usage, ..)| usage).collect();
        for by in [By::Function, By::App, By::Hour, By::Tenant] {
            let report = report(&ledger, by);
            prop_assert_eq!(report.total, expected(&all));
            let rows = report.rows.iter().try_fold(Sums::default(), |sum, row| sum.plus(row.sums));
            prop_assert_eq!(rows, Some(report.total));
        }
        let found = ledger.reconcile(&journal).unwrap();
        prop_assert!(found.is_exact(), "{:?}", found);
        prop_assert_eq!(found.records, all.len() as u64);
    }
}
