//! Limits and budgets through the API: kept, checked, in force in the file and the table that others read.

mod support;

use std::time::Duration;

use rouse_store::journal::{Appender, Options};
use rouse_types::{
    Budget, Clock, Code, InvocationId, Outcome, Runtime, SystemClock, TenantLimits, Timing, Usage,
    quota::month,
};
use support::{Platform, component, tenant, wanted};

fn limits(json: serde_json::Value) -> TenantLimits {
    serde_json::from_value(json).expect("limits")
}

fn hard(month_nanos: u64) -> Budget {
    Budget { month_nanos, hard: true, alerts: Vec::new(), webhook: None, topic: None }
}

/// A call of a second and a GiB: 16,867 by the default prices.
fn call(platform: &Platform) {
    let usage = Usage {
        id: InvocationId::new(),
        tenant: tenant(),
        app: "shop".parse().expect("an app"),
        function: "hello".parse().expect("a function"),
        version: 1,
        started: SystemClock.now(),
        timing: Timing::default(),
        billed_ms: 1_000,
        memory_mib: 1_024,
        cpu_us: 0,
        cold: false,
        bytes_in: 0,
        bytes_out: 0,
        outcome: Outcome::Ok,
        caller: None,
    };
    let writer = format!("gateway-{}", usage.id);
    let journal = Appender::open(&platform.path("journal/usage"), Options::new(&writer)).expect("a journal");
    journal.append(usage.started, usage.write(&mut [0; Usage::BYTES_MAX]).expect("a record"));
}

#[tokio::test]
async fn limits_are_whole_checked_and_in_force_when_answered() {
    let platform = Platform::start().await;
    assert_eq!(platform.client.limits(&tenant()).await.expect("none"), TenantLimits::default());
    let wanted = limits(serde_json::json!({ "requests_per_second": 7, "concurrency": 5,
        "functions": { "pay": { "concurrency_reserved": 2 }, "list": { "requests_per_second": 3 } } }));
    platform.client.put_limits(&tenant(), &wanted).await.expect("set");
    let in_force = rouse_quota::read(platform.state.path()).expect("the file");
    let quota = &in_force[&tenant()];
    assert_eq!((&quota.limits, quota.capped), (&wanted, false));
    let rows: std::collections::BTreeSet<u32> = quota.functions.values().copied().collect();
    assert_eq!(rows.len(), 2, "a row for each function");

    let wrong = limits(serde_json::json!({ "functions": { "pay": { "concurrency_reserved": 2 } } }));
    let refusal = platform.client.put_limits(&tenant(), &wrong).await.expect_err("a share of nothing");
    assert_eq!(refusal.code, Code::BadRequest);
    assert!(refusal.message.starts_with("functions.pay.concurrency_reserved: "), "{refusal}");
    assert_eq!(platform.client.limits(&tenant()).await.expect("limits"), wanted, "nothing was changed");

    // Another's row is another one; after a start, too.
    let state = platform.kill().await;
    std::fs::remove_file(state.path().join(rouse_quota::FILE)).expect("the file is lost");
    let platform = Platform::start_in(state, Duration::from_secs(3_600)).await;
    let again = rouse_quota::read(platform.state.path()).expect("the file is there again");
    assert_eq!(again, in_force);
    let other = "other".parse().expect("a tenant");
    platform.client.create_tenant(&other).await.expect("made");
    platform.client.put_limits(&other, &wanted).await.expect("set");
    let now = rouse_quota::read(platform.state.path()).expect("the file");
    assert_ne!(now[&other].row, now[&tenant()].row);
    assert!(now[&other].functions.values().all(|row| !rows.contains(row)), "{now:?}");
    platform.stop().await;
}

#[tokio::test]
async fn a_cap_counts_what_the_ledger_has_from_the_months_begin_on() {
    let platform = Platform::start().await;
    call(&platform);
    call(&platform);
    let status = platform.client.put_budget(&tenant(), &hard(50_000)).await.expect("set");
    assert_eq!((status.spent_nanos, status.reserved_nanos), (2 * 16_867, 0));
    let row = rouse_quota::read(platform.state.path()).expect("the file")[&tenant()].row;
    let balance = |platform: &Platform| {
        let table = rouse_quota::Table::open(&platform.path("run/quotas")).expect("the table");
        table.balance(row, month(SystemClock.now()))
    };
    assert_eq!(balance(&platform).map(|of| (of.cap, of.spent)), Some((50_000, 2 * 16_867)));

    let status = platform.client.put_budget(&tenant(), &hard(70_000)).await.expect("raised");
    assert_eq!(status.budget, Some(hard(70_000)));
    assert_eq!(balance(&platform).map(|of| of.cap), Some(70_000), "in force when answered");

    // The table is made anew when the platform starts; what was spent is in the ledger.
    call(&platform);
    let state = platform.kill().await;
    let platform = Platform::start_in(state, Duration::from_secs(3_600)).await;
    support::eventually("the month is open", || balance(&platform).is_some()).await;
    assert_eq!(balance(&platform).map(|of| (of.cap, of.spent)), Some((70_000, 3 * 16_867)));

    let status = platform.client.delete_budget(&tenant()).await.expect("gone");
    assert_eq!((status.budget, status.spent_nanos), (None, 3 * 16_867));
    assert_eq!(balance(&platform), None);
    assert!(!rouse_quota::read(platform.state.path()).expect("the file")[&tenant()].capped);
    platform.stop().await;
}

#[tokio::test]
async fn code_beyond_what_is_granted_is_not_deployed_and_changes_nothing() {
    let platform = Platform::start().await;
    platform.deploy("shop", &[("hello", "1")]).await;
    // 8 bytes make a component here; with what follows them, 9 are kept.
    platform
        .client
        .put_limits(&tenant(), &limits(serde_json::json!({ "code_bytes": 20 })))
        .await
        .expect("set");
    platform.deploy("shop", &[("hello", "22")]).await;
    let more = platform.upload(component("333")).await;
    let refused = platform.try_deploy("other", vec![wanted("more", more, Runtime::Component)]).await;
    let refusal = refused.expect_err("9, 10 and 11 are 30");
    assert_eq!(refusal.code, Code::QuotaExceeded);
    assert!(refusal.message.contains("30 bytes") && refusal.message.contains("granted 20"), "{refusal}");
    assert!(platform.snapshot("other").is_none());
    // What is kept already costs nothing more.
    platform.deploy("other", &[("same", "22")]).await;
    platform.stop().await;
}
