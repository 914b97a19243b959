//! Invoices: what calls say they cost, less what free amounts and tiers take off, to the last digit.

#![expect(clippy::unwrap_used, reason = "in a test, a failure is the report")]

use std::path::Path;

use proptest::prelude::*;
use rouse_metering::{
    Invoice, Ledger, PriceSheet,
    audit::key::Key,
    price::{Month, Quantity},
};
use rouse_store::journal::{Options, Writer};
use rouse_types::{InvocationId, Outcome, TenantId, Timestamp, Timing, Usage};

/// 2026-11-01T00:00:00Z.
const NOVEMBER: u64 = 1_793_491_200_000_000;
const DAY: u64 = 24 * 3_600_000_000;

const TIERED: &str = r#"
currency = "USD"
requests_per_million = "200"
duration_per_gb_second = "0.01"
free = { requests = 10, gb_seconds = 2 }
request_tiers = [{ above = 20, price = "100" }, { above = 30, price = "50" }]
duration_tiers = [{ above = 5, price = "0.005" }]

[[changes]]
from = "2026-12"
requests_per_million = "300"
duration_per_gb_second = "0.02"

[[changes]]
tenant = "friend"
requests_per_million = "1"
duration_per_gb_second = "0"
"#;

fn usage(tenant: &str, app: &str, started: u64, billed_ms: u64) -> Usage {
    Usage {
        id: InvocationId::from_bytes([7; 16]),
        tenant: tenant.parse().unwrap(),
        app: app.parse().unwrap(),
        function: format!("{app}-f").parse().unwrap(),
        version: 1,
        started: Timestamp(started),
        timing: Timing::default(),
        billed_ms,
        memory_mib: 512,
        cpu_us: 0,
        cold: false,
        bytes_in: 0,
        bytes_out: 0,
        outcome: Outcome::Ok,
        caller: None,
    }
}

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn november() -> Month {
    "2026-11".parse().unwrap()
}

fn ingest(dir: &Path, sheet: &PriceSheet, calls: &[Usage]) -> Ledger {
    let journal = dir.join("journal");
    let mut writer = Writer::open(&journal, Options::new("gateway-0")).unwrap();
    for usage in calls {
        writer.append(usage.started, usage.write(&mut [0; Usage::BYTES_MAX]).unwrap()).unwrap();
    }
    let mut ledger = Ledger::open(&dir.join("ledger.db"), sheet.clone()).unwrap();
    assert!(ledger.ingest(&journal).unwrap().caught_up);
    ledger
}

fn invoice(ledger: &Ledger) -> Invoice {
    ledger.invoice(&acme(), november(), Timestamp(NOVEMBER + 31 * DAY)).unwrap()
}

fn agrees(invoice: &Invoice) {
    let discounts: u64 = invoice.discounts.iter().map(|discount| discount.nanos).sum();
    assert_eq!(invoice.list_nanos, invoice.lines.iter().map(|line| line.list_nanos).sum::<u64>());
    assert_eq!(invoice.list_nanos, invoice.total_nanos + discounts);
    assert_eq!(invoice.total_nanos, invoice.apps.iter().map(|app| app.total_nanos).sum::<u64>());
    assert_eq!(discounts, invoice.apps.iter().map(|app| app.discount_nanos).sum::<u64>());
}

#[test]
fn terms_hold_by_month_and_tenant() {
    let sheet = PriceSheet::parse(TIERED).unwrap();
    assert_eq!(PriceSheet::parse(&sheet.to_toml()).as_ref(), Ok(&sheet));
    let cost = |tenant: &str, started| sheet.cost(&usage(tenant, "shop", started, 2_000)).unwrap().0;
    // A request and a GB-second.
    assert_eq!(cost("acme", NOVEMBER), 200_000 + 10_000_000);
    assert_eq!(cost("acme", NOVEMBER + 30 * DAY - 1), 200_000 + 10_000_000);
    assert_eq!(cost("acme", NOVEMBER + 30 * DAY), 300_000 + 20_000_000);
    assert_eq!(cost("friend", NOVEMBER + 40 * DAY), 1_000);
}

#[test]
fn a_sheet_that_contradicts_itself_is_refused_with_line_and_reason() {
    let base = "currency = \"USD\"\nrequests_per_million = \"1\"\nduration_per_gb_second = \"1\"\n";
    let change = "[[changes]]\nrequests_per_million = \"1\"\nduration_per_gb_second = \"1\"\n";
    let cases = [
        ("request_tiers = [{ above = 5, price = \"2\" }]\n".to_owned(), 4, "no higher"),
        (
            "duration_tiers = [{ above = 5, price = \"1\" },\n{ above = 5, price = \"0\" }]\n".to_owned(),
            5,
            "above the one",
        ),
        ("free = { request = 5 }\n".to_owned(), 4, "unknown field"),
        ("free = { requests = -5 }\n".to_owned(), 4, "invalid value"),
        ("free = { requests = 0.5 }\n".to_owned(), 4, "floating point"),
        (change.to_owned(), 4, "names a month"),
        (format!("{change}from = \"2026-13\"\n"), 4, "from"),
        (format!("{change}tenant = \"a\"\n{change}tenant = \"a\"\n"), 8, "before it"),
        (format!("{change}tenant = \"A b\"\n"), 7, ""),
    ];
    for (text, line, reason) in cases {
        let error = PriceSheet::parse(&format!("{base}{text}")).expect_err(&text);
        assert!(error.line == line && error.message.contains(reason), "{error} for {text}");
    }
}

#[test]
fn free_amounts_and_tiers_are_lines_of_their_own_and_the_calls_sum_to_the_list_price() {
    let dir = tempfile::tempdir().unwrap();
    let sheet = PriceSheet::parse(TIERED).unwrap();
    // 40 requests of a quarter GB-second, in two apps, and what belongs to others or to no bill.
    let mut calls: Vec<_> =
        (0..40).map(|n| usage("acme", if n % 4 == 0 { "a" } else { "b" }, NOVEMBER + n, 500)).collect();
    let said: u64 = calls.iter().map(|usage| sheet.cost(usage).unwrap().0).sum();
    calls.push(Usage { outcome: Outcome::PlatformError, ..usage("acme", "a", NOVEMBER, 500) });
    calls.push(usage("acme", "a", NOVEMBER, 0));
    calls.push(usage("friend", "a", NOVEMBER, 500));
    calls.push(usage("acme", "a", NOVEMBER + 30 * DAY, 500));
    let ledger = ingest(dir.path(), &sheet, &calls);
    let invoice = invoice(&ledger);
    agrees(&invoice);
    assert_eq!(invoice.list_nanos, said);
    let discount =
        |reason: &str| invoice.discounts.iter().find(|found| found.reason == reason).unwrap().nanos;
    assert_eq!(discount("free requests"), 10 * 200_000);
    // Ten of the second price, ten of the third.
    assert_eq!(discount("tiers of requests"), 10 * 100_000 + 10 * 150_000);
    assert_eq!(discount("free GB-seconds"), 2 * 10_000_000);
    assert_eq!(discount("tiers of GB-seconds"), 5 * 5_000_000);
    let html = invoice.to_html();
    assert!(html.contains("2026-11") && html.contains("A4") && !html.contains("<script"));
    let csv = invoice.to_csv();
    assert_eq!(csv.lines().count(), 1 + 2 + 4 + 1);
    assert!(
        csv.contains("usage,a,a-f,12,")
            && csv.ends_with(&format!("total,,,,,,0.{:09},USD\r\n", invoice.total_nanos))
    );
    // FOCUS: the billed costs sum to the total, too.
    let focus = invoice.to_focus();
    let rows: Vec<Vec<&str>> = focus.lines().map(|row| row.split(',').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == 43), "{focus}");
    let billed = rows[0].iter().position(|column| *column == "BilledCost").unwrap();
    let nanos = |text: &str| -> i64 { text.replace('.', "").parse().unwrap() };
    let sum: i64 = rows[1..].iter().map(|row| nanos(row[billed])).sum();
    assert_eq!(sum, i64::try_from(invoice.total_nanos).unwrap());
    assert!(focus.contains("2026-11-01T00:00:00Z") && focus.contains("2026-12-01T00:00:00Z"));
    assert!(invoice.closed && !ledger.invoice(&acme(), november(), Timestamp(NOVEMBER)).unwrap().closed);
}

#[test]
fn another_sheet_changes_nothing_of_what_was_billed() {
    let dir = tempfile::tempdir().unwrap();
    let sheet = PriceSheet::parse(TIERED).unwrap();
    let calls: Vec<_> = (0..40).map(|n| usage("acme", "a", NOVEMBER + n, 500)).collect();
    let ledger = ingest(dir.path(), &sheet, &calls);
    let before = invoice(&ledger);
    drop(ledger);
    let dearer = "currency = \"USD\"\nrequests_per_million = \"9\"\nduration_per_gb_second = \"9\"\n";
    let ledger = Ledger::open(&dir.path().join("ledger.db"), PriceSheet::parse(dearer).unwrap()).unwrap();
    assert_eq!(invoice(&ledger), before);
}

#[test]
fn a_month_of_idle_functions_bills_zero_to_the_last_digit() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    // Deployed and never called: nothing is written, and control looks each hour of the month all the same.
    let mut ledger = Ledger::open(&dir.path().join("ledger.db"), PriceSheet::default()).unwrap();
    let key = Key::from_pkcs8(&Key::generate().unwrap()).unwrap();
    for hour in 0..31 * 24 {
        assert_eq!(ledger.ingest(&journal).unwrap().records, 0);
        assert_eq!(ledger.seal(Timestamp(NOVEMBER + hour * DAY / 24), &key).unwrap(), 0);
    }
    let invoice = invoice(&ledger);
    agrees(&invoice);
    assert!(invoice.closed && invoice.lines.is_empty());
    assert_eq!((invoice.list_nanos, invoice.total_nanos), (0, 0));
    assert!(invoice.to_csv().ends_with("total,,,,,,0.000000000,USD\r\n"));
}

proptest! {
    /// Against the sum over each single unit.
    #[test]
    fn discounts_are_what_each_unit_saves(
        list in 1..1_000_u64, falls in prop::collection::vec((1..30_u64, 0..300_u64), 0..4),
        free in 0..60_u64, quantity in 0..150_u64,
    ) {
        let (mut above, mut price, mut tiers) = (0, list, Vec::new());
        for (width, fall) in falls {
            above += width;
            price = u64::saturating_sub(price, fall);
            tiers.push((above, price));
        }
        // A price of N per million requests is N thousand billionths each.
        let written: Vec<_> = tiers.iter().map(|(above, price)| format!("{{ above = {above}, price = \"{price}\" }}")).collect();
        let sheet = PriceSheet::parse(&format!(
            "currency = \"USD\"\nrequests_per_million = \"{list}\"\nduration_per_gb_second = \"0\"\n\
             free = {{ requests = {free} }}\nrequest_tiers = [{}]\n", written.join(", ")
        )).unwrap();
        let found = sheet.terms(&acme(), Timestamp(0)).discounts(Quantity { requests: quantity, mib_ms: 0 }).unwrap();
        let at = |unit: u64| tiers.iter().rev().find(|(above, _)| unit >= *above).map_or(list, |(_, price)| *price);
        let saved: u64 = (0..quantity).filter(|unit| *unit >= free).map(|unit| (list - at(unit)) * 1_000).sum();
        prop_assert_eq!(found.free_requests, quantity.min(free) * list * 1_000);
        prop_assert_eq!(found.request_tiers, saved);
    }

    /// Whatever is called: lines, discounts and shares sum to the total, which is never below zero.
    #[test]
    fn the_parts_sum_to_the_whole(
        calls in prop::collection::vec((0..3_u8, 0..5_000_u64), 0..60),
        requests in "0\\.[0-9]{1,12}", duration in "0\\.[0-9]{1,12}", free in 0..40_u64,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let sheet = PriceSheet::parse(&format!(
            "currency = \"USD\"\nrequests_per_million = \"{requests}\"\nduration_per_gb_second = \"{duration}\"\n\
             free = {{ requests = {free}, gb_seconds = {free} }}\n"
        )).unwrap();
        let calls: Vec<_> =
            calls.iter().map(|(app, ms)| usage("acme", &format!("a{app}"), NOVEMBER, *ms)).collect();
        let ledger = ingest(dir.path(), &sheet, &calls);
        let invoice = invoice(&ledger);
        agrees(&invoice);
        let said: u64 = calls.iter().map(|usage| sheet.cost(usage).unwrap().0).sum();
        prop_assert_eq!(invoice.list_nanos, said);
    }
}
