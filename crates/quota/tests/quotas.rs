//! Quotas as processes see them: columns of one table, as gateways and the node map it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;
use rouse_quota::{NODE, Quota, Table};
use rouse_types::{
    Budget, Code, FunctionVersion, InvocationId, ManualClock, Outcome, Pricing, Quotas, TenantLimits,
    Timestamp, Timing, Usage, quota::month,
};

/// 2026-11-20, and a call of 30 s and 128 MiB costs 30,000.
const NOW: Timestamp = Timestamp(1_795_132_800_000_000);
const WORST: u64 = 30_000;

fn version(function: &str) -> FunctionVersion {
    let digest = rouse_types::Digest::of(b"");
    serde_json::from_value(serde_json::json!({
        "tenant": "acme", "app": "shop", "function": function, "number": 1, "digest": digest, "code": digest,
        "runtime": "component", "contract": "component", "handler": null, "isolation": "wasm", "env": {},
        "limits": rouse_types::Limits::default(), "scaling": rouse_types::Scaling::default(), "egress": [],
    }))
    .expect("a version")
}

fn usage(billed_ms: u64, started: Timestamp) -> Usage {
    Usage {
        id: InvocationId::new(),
        tenant: "acme".parse().expect("a tenant"),
        app: "shop".parse().expect("an app"),
        function: "f".parse().expect("a function"),
        version: 1,
        started,
        timing: Timing::default(),
        billed_ms,
        memory_mib: 128,
        cpu_us: 0,
        cold: false,
        bytes_in: 0,
        bytes_out: 0,
        outcome: Outcome::Ok,
        caller: None,
    }
}

fn pricing() -> Pricing {
    Pricing::new(|usage| Some(usage.billed_ms))
}

struct Platform {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Platform {
    fn start(limits: serde_json::Value, capped: bool) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("run")).expect("a folder");
        Table::create(&dir.path().join("run/quotas")).expect("a table");
        let platform = Self { dir, clock: Arc::new(ManualClock::at(NOW)) };
        platform.set(limits, capped);
        platform
    }

    fn state(&self) -> &Path {
        self.dir.path()
    }

    fn set(&self, limits: serde_json::Value, capped: bool) {
        let limits: TenantLimits = serde_json::from_value(limits).expect("limits");
        limits.check().expect("limits that make sense");
        let functions = limits.functions.keys().cloned().zip(0..).collect();
        let quota = rouse_types::Quota { row: 3, limits, functions, capped };
        let quotas = Quotas::from([("acme".parse().expect("a tenant"), quota)]);
        rouse_quota::replace(self.state(), &quotas).expect("written");
    }

    fn process(&self, column: usize) -> Quota {
        Quota::open(self.state(), column, self.clock.clone()).expect("the table")
    }

    fn table(&self) -> Table {
        Table::open(&self.state().join("run/quotas")).expect("the table")
    }
}

#[tokio::test]
async fn what_is_not_limited_takes_nothing() {
    let platform = Platform::start(serde_json::json!({}), false);
    let gateway = platform.process(0);
    let mut held = Vec::new();
    for _ in 0..10_000 {
        gateway.rate(&version("f")).expect("no rate");
        held.push(gateway.take(&version("f"), NOW, &pricing()).await.expect("no limit"));
    }
}

#[tokio::test]
async fn a_rate_holds_over_all_processes_and_says_when_to_come_again() {
    let platform = Platform::start(serde_json::json!({ "requests_per_second": 10, "burst": 4 }), false);
    let (a, b) = (platform.process(0), platform.process(1));
    let passed = (0..5).flat_map(|_| [a.rate(&version("f")), b.rate(&version("g"))]).filter(Result::is_ok);
    assert_eq!(passed.count(), 4);
    let refusal = a.rate(&version("f")).expect_err("too soon");
    assert_eq!((refusal.code, refusal.retry_after_ms), (Code::QuotaExceeded, Some(100)));
    platform.clock.advance(Duration::from_millis(100));
    assert!(b.rate(&version("f")).is_ok());
    assert!(a.rate(&version("f")).is_err());
}

#[tokio::test]
async fn a_reserved_share_is_there_however_much_others_want() {
    let limits =
        serde_json::json!({ "concurrency": 10, "functions": { "pay": { "concurrency_reserved": 4 } } });
    let platform = Platform::start(limits, false);
    let (a, node) = (platform.process(0), platform.process(NODE));
    let mut noisy = Vec::new();
    for process in [&a, &node].into_iter().cycle().take(40) {
        noisy.extend(process.take(&version("noisy"), NOW, &pricing()).await);
    }
    assert_eq!(noisy.len(), 6, "all but the share");
    let mut pay = Vec::new();
    for process in [&a, &node].into_iter().cycle().take(40) {
        pay.extend(process.take(&version("pay"), NOW, &pricing()).await);
    }
    assert_eq!(pay.len(), 4);
    noisy.truncate(3);
    for _ in 0..40 {
        pay.extend(a.take(&version("pay"), NOW, &pricing()).await);
    }
    assert_eq!(pay.len(), 7, "beyond its share it has what others leave");
    drop((noisy, pay));
    assert!(a.take(&version("noisy"), NOW, &pricing()).await.is_ok());
}

#[tokio::test]
async fn memory_at_once_is_bounded_and_given_back() {
    let platform = Platform::start(serde_json::json!({ "memory_mib": 300 }), false);
    let gateway = platform.process(0);
    let first = gateway.take(&version("f"), NOW, &pricing()).await.expect("128 of 300");
    let second = gateway.take(&version("f"), NOW, &pricing()).await.expect("256 of 300");
    let refusal = gateway.take(&version("f"), NOW, &pricing()).await.expect_err("384 of 300");
    assert!(refusal.code == Code::QuotaExceeded && refusal.message.contains("128 MiB"), "{refusal}");
    drop((first, second));
    assert!(gateway.take(&version("f"), NOW, &pricing()).await.is_ok());
}

#[tokio::test]
async fn settings_hold_as_soon_as_they_are_read_again() {
    let platform = Platform::start(serde_json::json!({ "concurrency": 0 }), false);
    let gateway = platform.process(0);
    assert!(gateway.take(&version("f"), NOW, &pricing()).await.is_err());
    platform.set(serde_json::json!({ "concurrency": 1 }), false);
    gateway.reload().expect("read");
    assert!(gateway.take(&version("f"), NOW, &pricing()).await.is_ok());
    std::fs::write(platform.state().join(rouse_quota::FILE), "{").expect("damaged");
    assert!(gateway.reload().is_err());
    let _held = gateway.take(&version("f"), NOW, &pricing()).await.expect("what held before holds on");
    assert!(gateway.take(&version("f"), NOW, &pricing()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn until_the_month_is_known_nothing_begins_and_then_the_rest_of_it_does() {
    let platform = Platform::start(serde_json::json!({}), true);
    let (gateway, table) = (platform.process(0), platform.table());
    let refusal = gateway.take(&version("f"), NOW, &pricing()).await.expect_err("nobody knows");
    assert_eq!(refusal.code, Code::BudgetUnknown);
    let (version, pricing) = (version("f"), pricing());
    let waiting = gateway.take(&version, NOW, &pricing);
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err(), "it waits");
    table.open_month(3, month(NOW), 10_000, 0, 10_000 + WORST);
    let held = waiting.await.expect("all of the rest");
    let refusal = gateway.take(&version, NOW, &pricing).await.expect_err("it is set aside");
    assert_eq!(refusal.code, Code::BudgetReserved);
    gateway.settle(&usage(1, NOW), || Some(1));
    drop(held);
    let refusal = gateway.take(&version, NOW, &pricing).await.expect_err("it is spent");
    assert_eq!(refusal.code, Code::BudgetExhausted);
    assert!(table.set_cap(3, month(NOW), 10_001 + WORST));
    assert!(gateway.take(&version, NOW, &pricing).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_killed_gives_back_what_it_held_and_not_what_it_spent() {
    let platform = Platform::start(serde_json::json!({ "concurrency": 2 }), true);
    platform.table().open_month(3, month(NOW), 0, 0, 2 * WORST);
    let (killed, other) = (platform.process(0), platform.process(NODE));
    std::mem::forget(killed.take(&version("f"), NOW, &pricing()).await.expect("the first"));
    // Its record may not have been written: that it counts is the safe side.
    killed.settle(&usage(7, NOW), || Some(7));
    drop(killed);
    assert!(
        other.take(&version("f"), NOW, &pricing()).await.is_err(),
        "the worst case of one is left, less 7"
    );
    let again = platform.process(0);
    let balance = platform.table().balance(3, month(NOW)).expect("known");
    assert_eq!((balance.spent, balance.reserved), (7, 0));
    assert!(again.take(&version("f"), NOW, &pricing()).await.is_ok());
}

#[tokio::test]
async fn a_call_is_set_against_the_month_in_which_it_arrived() {
    let platform = Platform::start(serde_json::json!({}), true);
    let (gateway, table) = (platform.process(0), platform.table());
    let next = Timestamp(NOW.0 + 31 * 86_400_000_000);
    table.open_month(3, month(NOW), 0, 0, WORST);
    table.open_month(3, month(next), 0, table.spent(3, month(next)), WORST);
    let last = gateway.take(&version("f"), NOW, &pricing()).await.expect("the old month's");
    let first = gateway.take(&version("f"), next, &pricing()).await.expect("the new month's");
    gateway.settle(&usage(5, NOW), || Some(5));
    drop((last, first));
    assert_eq!(table.balance(3, month(NOW)).map(|balance| balance.spent), Some(5));
    assert_eq!(table.balance(3, month(next)).map(|balance| balance.spent), Some(0));
    // Two months later the same bank is used again.
    let later = Timestamp(NOW.0 + 62 * 86_400_000_000);
    table.open_month(3, month(later), 0, table.spent(3, month(later)), WORST);
    assert_eq!(table.balance(3, month(NOW)), None);
    assert_eq!(table.balance(3, month(later)).map(|balance| balance.spent), Some(0));
}

/// Callers of many processes at once, each call ending at any part of its worst case.
#[test]
fn ten_thousand_callers_overshoot_by_nothing() {
    const CAP: u64 = 40 * WORST + 17;
    let platform = Platform::start(serde_json::json!({}), true);
    platform.table().open_month(3, month(NOW), 5 * WORST, 0, CAP);
    let (billed, begun) = (AtomicU64::new(5 * WORST), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for column in [0, 1, 2, NODE] {
            let (process, billed, begun) = (platform.process(column), &billed, &begun);
            let table = platform.table();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                runtime.block_on(async {
                    let (version, pricing) = (version("f"), pricing());
                    let mut held = std::collections::VecDeque::new();
                    for call in 0..2_500u64 {
                        if let Ok(leave) = process.take(&version, NOW, &pricing).await {
                            begun.fetch_add(1, Ordering::SeqCst);
                            held.push_back(leave);
                        }
                        let seen = table.balance(3, month(NOW)).expect("known");
                        assert!(seen.spent <= CAP, "{seen:?}");
                        if held.len() > 3 || call % 3 == 0 {
                            let Some(leave) = held.pop_front() else { continue };
                            let cost = call * 7_919 % (WORST + 1);
                            process.settle(&usage(cost, NOW), || Some(cost));
                            let all = billed.fetch_add(cost, Ordering::SeqCst) + cost;
                            assert!(all <= CAP, "{all} of {CAP}");
                            drop(leave);
                        }
                    }
                    for leave in held {
                        process.settle(&usage(WORST, NOW), || Some(WORST));
                        let all = billed.fetch_add(WORST, Ordering::SeqCst) + WORST;
                        assert!(all <= CAP, "{all} of {CAP}");
                        drop(leave);
                    }
                });
            });
        }
    });
    let balance = platform.table().balance(3, month(NOW)).expect("known");
    assert_eq!((balance.spent, balance.reserved), (billed.load(Ordering::SeqCst), 0));
    assert!(begun.load(Ordering::SeqCst) > 35, "the budget was used: {begun:?}");
    assert!(CAP - balance.spent < WORST, "what is left is less than a call may cost");
}

proptest! {
    #[test]
    fn limits_and_budgets_of_any_kind_are_taken_or_refused(
        requests in prop::option::of(any::<u32>()), burst in prop::option::of(any::<u32>()),
        concurrency in prop::option::of(0u32..50), shares in prop::collection::vec(0u32..40, 0..4),
        nanos in any::<u64>(), alerts in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        let functions: serde_json::Map<_, _> = shares.iter().enumerate()
            .map(|(n, share)| (format!("f{n}"), serde_json::json!({ "concurrency_reserved": share }))).collect();
        let json = serde_json::json!({ "requests_per_second": requests, "burst": burst, "concurrency": concurrency,
            "functions": functions });
        let limits: TenantLimits = serde_json::from_value(json).expect("limits");
        if limits.check().is_ok() {
            let reserved: u32 = shares.iter().sum();
            prop_assert!(concurrency.is_none_or(|all| limits.concurrency_common() == Some(all - reserved)));
        }
        let budget = Budget { month_nanos: nanos, hard: true, alerts: alerts.clone(), webhook: None,
            topic: (!alerts.is_empty()).then(|| "t".to_owned()) };
        prop_assert_eq!(budget.check().is_ok(),
            nanos <= 1 << 62 && alerts.len() <= 10 && alerts.iter().all(|alert| (1..=100).contains(alert)));
    }
}
