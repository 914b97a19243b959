//! What the platform tells of itself: what it offers, logs, usage.

use rouse_types::{AppName, FunctionName, InvocationId, Isolation, Runtime, TenantId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What this platform is and offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// The release.
    pub version: String,
    /// Where functions answer, such as `http://127.0.0.1:8080`.
    pub gateway: String,
    /// The domain of host names: `<function>.<tenant>.<domain>`.
    pub domain: String,
    /// What runs code here.
    pub runtimes: Vec<RuntimeInfo>,
    /// How code is confined here.
    pub isolations: Vec<IsolationInfo>,
}

/// One runtime of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeInfo {
    /// Which.
    pub runtime: Runtime,
    /// Whether functions can use it now.
    pub available: bool,
    /// Its exact version, or how to make it available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// One way of confinement of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IsolationInfo {
    /// Which.
    pub isolation: Isolation,
    /// Whether functions can use it now.
    pub available: bool,
    /// What of it this host cannot enforce, and why: one sentence each.
    pub unenforced: Vec<String>,
}

/// Which lines of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogsQuery {
    /// Only this function's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionName>,
    /// Only this invocation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<InvocationId>,
    /// Only lines from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The newest so many lines of what there is. 1,000 when left out; at most 100,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Go on with lines as they are written, without end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follow: bool,
}

/// What usage is summed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UsageBy {
    /// One row for each function.
    #[default]
    Function,
    /// One row for each app.
    App,
    /// One row for each hour.
    Hour,
    /// One row for the whole tenant.
    Tenant,
}

/// Which usage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageQuery {
    /// What it is summed by; functions when left out.
    #[serde(default)]
    pub by: UsageBy,
    /// From the hour of this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Up to the hour of this time, that hour left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What was used and what it costs. The rows sum to the total, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageReport {
    /// What it is summed by.
    pub by: UsageBy,
    /// The currency of the costs, as ISO 4217 writes it.
    pub currency: String,
    /// The rows.
    pub rows: Vec<UsageRow>,
    /// All rows together.
    pub total: UsageSums,
}

/// One row: only the names that it was summed by are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageRow {
    /// Who pays.
    pub tenant: TenantId,
    /// The app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// The function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionName>,
    /// The hour's begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour: Option<Timestamp>,
    /// What it came to.
    pub sums: UsageSums,
}

/// Sums over invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsageSums {
    /// How many.
    pub invocations: u64,
    /// How many of them did not end well.
    pub errors: u64,
    /// How many of them started an instance.
    pub cold: u64,
    /// Billed time, in milliseconds.
    pub billed_ms: u64,
    /// Memory times billed time, in MiB·ms.
    pub mib_ms: u64,
    /// CPU time of the code, in microseconds.
    pub cpu_us: u64,
    /// Bytes of the requests' bodies.
    pub bytes_in: u64,
    /// Bytes of the answers' bodies.
    pub bytes_out: u64,
    /// The price, in billionths of the report's currency.
    pub cost_nanos: u64,
}

/// Which hours of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// From the hour of this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Up to the hour of this time, that hour left out. Without it, all there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What the ledger's seals are signed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditKey {
    /// The algorithm: `ed25519`.
    pub algorithm: String,
    /// The public key, in hexadecimal.
    pub key: String,
}

/// How an invoice is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InvoiceFormat {
    /// All of it, amounts in billionths.
    #[default]
    Json,
    /// A row for each function and discount, and the total.
    Csv,
    /// A page to be printed.
    Html,
    /// The columns of FinOps FOCUS 1.0, as CSV.
    Focus,
}

/// How an invoice is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InvoiceQuery {
    /// How it is written; JSON when left out.
    #[serde(default)]
    pub format: InvoiceFormat,
}
