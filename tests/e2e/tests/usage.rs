//! The bill: every call is on it, once, and its rows sum to the records and to each other.

use std::time::Duration;

use rouse_e2e::{App, Platform, example, need, wait_for};
use serde_json::Value;

fn sum(report: &Value, what: &str) -> u64 {
    let rows = report["rows"].as_array().expect("rows");
    rows.iter().map(|row| row["sums"][what].as_u64().expect("a sum")).sum()
}

#[tokio::test]
async fn every_call_is_on_the_bill_once_and_the_sums_reconcile() {
    let platform = Platform::start();
    need!(platform, "every_call_is_on_the_bill_once_and_the_sums_reconcile", "component");
    need!(platform, "every_call_is_on_the_bill_once_and_the_sums_reconcile", "python");
    platform.deploy(&example("hello-rust")).await;
    let raises = App::new("raises").python("raises", "raise ValueError('as asked')", "");
    platform.deploy(raises.path()).await;

    let (mut billed, mut cost, mut bytes_out) = (0, 0, 0);
    for call in 0..20 {
        let answer = match call % 4 {
            0 => platform.get("raises").await,
            _ => platform.post("hello-rust", "one two").await,
        };
        billed += answer.header("x-rouse-billed-ms").parse::<u64>().expect("billed milliseconds");
        cost += answer.header("x-rouse-cost-nanos").parse::<u64>().expect("a price");
        bytes_out += if answer.status == 200 { answer.body.len() as u64 } else { 0 };
    }

    // What is journalled is summed within a moment.
    wait_for("all calls are on the bill", Duration::from_secs(30), async || {
        platform.json(&["usage"]).await["total"]["invocations"] == 20
    })
    .await;
    let report = platform.json(&["usage"]).await;
    assert_eq!(report["total"]["billed_ms"], billed, "the bill says what the answers said: {report}");
    assert_eq!(report["total"]["cost_nanos"], cost, "to the billionth: {report}");
    let month = std::process::Command::new("date").args(["-u", "+%Y-%m"]).output().expect("a date");
    let month = String::from_utf8(month.stdout).expect("text");
    let invoice = platform.rouse(&["invoice", "--month", month.trim(), "--format", "json"]).await;
    let invoice: Value = serde_json::from_str(&invoice.out).expect("an invoice");
    assert_eq!(invoice["list_nanos"], cost, "the headers of a run sum to its invoice: {invoice}");
    assert_eq!(report["total"]["errors"], 5, "{report}");
    // The handler's first, and the component's first in each of the two gateways that was asked.
    let cold = report["total"]["cold"].as_u64().expect("cold calls");
    assert!((2..=3).contains(&cold), "{report}");
    for by in ["function", "hour", "tenant"] {
        let other = platform.json(&["usage", "--by", by]).await;
        assert_eq!(other["total"], report["total"], "by {by}");
        for what in ["invocations", "errors", "billed_ms", "mib_ms", "bytes_in", "bytes_out", "cost_nanos"] {
            assert_eq!(sum(&other, what), report["total"][what].as_u64().expect("a sum"), "{what} by {by}");
        }
    }
    let rows = report["rows"].as_array().expect("rows");
    let hello = rows.iter().find(|row| row["function"] == "hello-rust").expect("a row");
    assert_eq!(hello["sums"]["invocations"], 15);
    assert_eq!(hello["sums"]["bytes_in"], 15 * 7);
    assert_eq!(hello["sums"]["bytes_out"], bytes_out);
}
