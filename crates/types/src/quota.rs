//! What an operator grants a tenant: how much at once, how much a second, how much money a month.
//!
//! Settings are kept by the tenant's name, apart from all else that is known of the tenant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{FunctionName, TenantId, Timestamp};

/// Calls a second that may be asked for: beyond it no machine of ours goes, and the time between two stays above a
/// microsecond, which is what clocks here count in.
pub const REQUESTS_PER_SECOND_MAX: u32 = 1_000_000;
/// Functions of one tenant with limits of their own: bounds the shared table.
pub const FUNCTIONS_MAX: usize = 256;
/// Thresholds of one budget.
pub const ALERTS_MAX: usize = 10;
/// The longest address of a webhook, in bytes.
const WEBHOOK_BYTES_MAX: usize = 2_048;

/// What a tenant may use. What is left out is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TenantLimits {
    /// Calls that may begin in a second, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Calls that may begin at once after a rest; as many as `requests_per_second` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Calls under way at once, of all functions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Memory of all calls under way at once, in MiB: each counts with the whole of its function's `memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Code of all versions that are kept, in bytes, as it was uploaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_bytes: Option<u64>,
    /// All objects, in bytes, and the parts of uploads that are not complete yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_bytes: Option<u64>,
    /// Messages of all queues, and events that wait for functions. Beyond it none is taken from callers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_messages: Option<u64>,
    /// Functions with limits of their own, whether or not they are deployed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub functions: BTreeMap<FunctionName, FunctionLimits>,
}

/// What one function of a tenant may use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FunctionLimits {
    /// Calls that may begin in a second, on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Calls that may begin at once after a rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Of the tenant's `concurrency`, what no other function can take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency_reserved: Option<u32>,
}

/// What a tenant may spend in a month, by UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// For a month, at list prices, in billionths of the price sheet's currency.
    pub month_nanos: u64,
    /// Whether calls are refused that could go beyond it.
    #[serde(default)]
    pub hard: bool,
    /// Hundredths of it that are told of once they are reached, each once a month.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<u8>,
    /// Where they are told of: an address that takes a POST of JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// The topic of the tenant that they are published to, which can rouse a function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

/// A setting that makes no sense: which, and why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// Where it stands, such as `functions.checkout.burst`.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

fn invalid<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid { field: field.into(), reason: reason.into() })
}

fn check_rate(place: &str, rate: Option<u32>, burst: Option<u32>) -> Result<(), Invalid> {
    match (rate, burst) {
        (Some(rate), _) if !(1..=REQUESTS_PER_SECOND_MAX).contains(&rate) => invalid(
            format!("{place}requests_per_second"),
            format!("{rate} is not between 1 and {REQUESTS_PER_SECOND_MAX}; leave it out for no limit"),
        ),
        (_, Some(0)) => invalid(format!("{place}burst"), "with 0 no call could ever begin"),
        (None, Some(_)) => {
            invalid(format!("{place}burst"), "it says nothing without `requests_per_second` beside it")
        }
        _ => Ok(()),
    }
}

impl TenantLimits {
    /// Whether the settings make sense together.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Invalid> {
        check_rate("", self.requests_per_second, self.burst)?;
        if self.functions.len() > FUNCTIONS_MAX {
            let reason = format!("{} have limits, at most {FUNCTIONS_MAX} may", self.functions.len());
            return invalid("functions", reason);
        }
        let mut reserved: u64 = 0;
        for (name, limits) in &self.functions {
            check_rate(&format!("functions.{name}."), limits.requests_per_second, limits.burst)?;
            let Some(share) = limits.concurrency_reserved else { continue };
            let field = format!("functions.{name}.concurrency_reserved");
            let Some(all) = self.concurrency else {
                return invalid(field, "it is a share of the tenant's `concurrency`, which is not set");
            };
            reserved += u64::from(share);
            if reserved > u64::from(all) {
                let reason = format!("the shares up to here come to {reserved}, `concurrency` is {all}");
                return invalid(field, reason);
            }
        }
        Ok(())
    }

    /// What of `concurrency` is for all functions: what is left of it beside the reserved shares.
    #[must_use]
    pub fn concurrency_common(&self) -> Option<u32> {
        let reserved = self.functions.values().filter_map(|limits| limits.concurrency_reserved);
        self.concurrency.map(|all| all.saturating_sub(reserved.fold(0, u32::saturating_add)))
    }
}

impl Budget {
    /// Whether the settings make sense together.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Invalid> {
        // What a database's signed integer holds, so that sums can be compared.
        if self.month_nanos > 1 << 62 {
            return invalid("month_nanos", "no month can cost that much");
        }
        if self.alerts.len() > ALERTS_MAX {
            return invalid("alerts", format!("at most {ALERTS_MAX} are told of"));
        }
        if let Some(alert) = self.alerts.iter().find(|alert| !(1..=100).contains(*alert)) {
            return invalid("alerts", format!("{alert} is not between 1 and 100 hundredths of the budget"));
        }
        let http = |url: &str| url.starts_with("http://") || url.starts_with("https://");
        match &self.webhook {
            Some(url) if !http(url) || url.len() > WEBHOOK_BYTES_MAX => {
                return invalid("webhook", "write an address, such as https://example.com/alerts");
            }
            _ => {}
        }
        let told = self.webhook.is_some() || self.topic.is_some();
        if self.alerts.is_empty() && told {
            return invalid("alerts", "none is set, so that nothing would be told: add one, such as 80");
        }
        if !self.alerts.is_empty() && !told {
            return invalid("alerts", "name a `webhook` or a `topic` that they are told to");
        }
        Ok(())
    }
}

/// What is in force of one tenant, as control hands it to who runs code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// The tenant's row in the shared table.
    pub row: u32,
    /// What it may use.
    pub limits: TenantLimits,
    /// The rows of functions with limits of their own.
    pub functions: BTreeMap<FunctionName, u32>,
    /// Whether calls are set against a hard cap, which stands in the shared table.
    pub capped: bool,
}

/// All that is in force.
pub type Quotas = BTreeMap<TenantId, Quota>;

/// Numbers months from 1970-01 on, which is 0. In UTC.
#[must_use]
pub fn month(at: Timestamp) -> u64 {
    const DAY_US: u64 = 86_400_000_000;
    // Years that begin in March end in their leap day; eras of 400 of them are all alike, and the first one that matters
    // begins 719,468 days before 1970 (RFC 3339, appendix B, has the same idea).
    let days = at.0 / DAY_US + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let months = (era * 400 + year) * 12 + from_march + 2;
    months - 1_970 * 12
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(json: serde_json::Value) -> TenantLimits {
        serde_json::from_value(json).expect("limits")
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_field() {
        let cases = [
            (serde_json::json!({ "requests_per_second": 0 }), "requests_per_second"),
            (serde_json::json!({ "burst": 5 }), "burst"),
            (serde_json::json!({ "requests_per_second": 5, "burst": 0 }), "burst"),
            (
                serde_json::json!({ "functions": { "f": { "concurrency_reserved": 1 } } }),
                "functions.f.concurrency_reserved",
            ),
            (
                serde_json::json!({ "concurrency": 5, "functions": {
                    "f": { "concurrency_reserved": 3 }, "g": { "concurrency_reserved": 3 } } }),
                "functions.g.concurrency_reserved",
            ),
        ];
        for (json, field) in cases {
            assert_eq!(limits(json).check().expect_err(field).field, field);
        }
        let fine = limits(serde_json::json!({ "concurrency": 5, "requests_per_second": 9, "functions": {
            "f": { "concurrency_reserved": 3, "requests_per_second": 1, "burst": 2 } } }));
        assert_eq!(fine.check(), Ok(()));
        assert_eq!(fine.concurrency_common(), Some(2));
    }

    #[test]
    fn a_budget_whose_alerts_nobody_hears_is_refused() {
        let of = |json| serde_json::from_value::<Budget>(json).expect("a budget").check();
        assert_eq!(of(serde_json::json!({ "month_nanos": 5, "hard": true })), Ok(()));
        for json in [
            serde_json::json!({ "month_nanos": 5, "alerts": [80] }),
            serde_json::json!({ "month_nanos": 5, "alerts": [0], "topic": "t" }),
            serde_json::json!({ "month_nanos": 5, "alerts": [101], "topic": "t" }),
            serde_json::json!({ "month_nanos": 5, "topic": "t" }),
            serde_json::json!({ "month_nanos": 5, "alerts": [80], "webhook": "ftp://x" }),
            serde_json::json!({ "month_nanos": u64::MAX }),
        ] {
            assert!(of(json.clone()).is_err(), "{json}");
        }
    }

    #[test]
    fn months_are_numbered_from_1970() {
        let at = |seconds: u64| month(Timestamp(seconds * 1_000_000));
        assert_eq!(at(0), 0);
        assert_eq!(at(31 * 86_400 - 1), 0);
        assert_eq!(at(31 * 86_400), 1);
        // 2000-02-29T23:59:59Z, 2000-03-01, and the ends of 2026.
        assert_eq!((at(951_868_799), at(951_868_800)), (361, 362));
        assert_eq!((at(1_798_761_599), at(1_798_761_600)), (56 * 12 + 11, 57 * 12));
    }
}
