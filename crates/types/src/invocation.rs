//! One call on its way from a gateway or trigger to an instance, and the head of what comes back.

use serde::{Deserialize, Serialize};

use crate::{FunctionName, InvocationId, Outcome, TenantId, Timestamp, Timing, TraceContext};

/// Where an invocation comes from: decides the shape in which the code sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// An HTTP request to the function's address.
    Http,
    /// A payload, as from `rouse invoke`: given to the code as it is.
    Invoke,
}

/// One invocation, without its body: what a gateway tells a node, in the header [`INVOCATION_HEADER`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// Its id, also the request id that the code sees.
    pub id: InvocationId,
    /// Whose function.
    pub tenant: TenantId,
    /// The function.
    pub function: FunctionName,
    /// The version that was picked.
    pub version: u64,
    /// Where it comes from.
    pub source: Source,
    /// When the gateway read the request's head.
    pub received: Timestamp,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The span that called, if the caller told.
    pub caller: Option<TraceContext>,
    /// The caller's address, for HTTP.
    pub peer: Option<std::net::IpAddr>,
    /// What came with a call by AWS' Lambda API. Its errors are told in the words of that API then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda: Option<LambdaCall>,
}

/// What comes with a call by AWS' Lambda API besides its payload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LambdaCall {
    /// The name that the function was called by.
    pub arn: String,
    /// The client's context, in base64 as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_context: Option<String>,
}

impl Invocation {
    /// What the code is told of its trace, as `traceparent`: its own span.
    #[must_use]
    pub fn traceparent(&self) -> TraceContext {
        TraceContext::of(self.caller, self.id)
    }
}

/// What came of an invocation, as far as it is known when the answer's head is sent: what a node tells a
/// gateway, in the header [`OUTCOME_HEADER`] or, for streamed answers, in the trailer of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeHead {
    /// How it ended.
    pub outcome: Outcome,
    /// Its time, by part.
    pub timing: Timing,
    /// What is billed, in milliseconds.
    pub billed_ms: u64,
    /// What it costs at list prices, in billionths of the price sheet's currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_nanos: Option<u64>,
    /// Whether an instance was started for it.
    pub cold: bool,
}

/// Carries an [`Invocation`] as JSON, between our own processes only. A gateway strips it from what
/// strangers send.
pub const INVOCATION_HEADER: &str = "x-rouse-invocation";
/// Carries an [`OutcomeHead`] as JSON, between our own processes only.
pub const OUTCOME_HEADER: &str = "x-rouse-outcome";
/// Carries a [`LambdaCall`] as JSON to a gateway's own socket, between our own processes only.
pub const LAMBDA_HEADER: &str = "x-rouse-lambda";
/// On answers to a call with a [`LambdaCall`] whose handler raised: the body is what the runtime posted.
pub const FUNCTION_ERROR_HEADER: &str = "x-amz-function-error";
/// The invocation's id, on every answer.
pub const ID_HEADER: &str = "x-rouse-invocation-id";
/// Billed milliseconds, on every answer that ran code; a trailer when the answer was streamed.
pub const BILLED_HEADER: &str = "x-rouse-billed-ms";
/// The list price in billionths of the price sheet's currency, on every answer that ran code; a trailer when the answer was
/// streamed. What the invoices of its month take off for free amounts and tiers is not known before the month's end.
pub const COST_HEADER: &str = "x-rouse-cost-nanos";
/// How it ended, on every answer that ran code and did not end well.
pub const ERROR_HEADER: &str = "x-rouse-error";
/// A caller sets it to reach the same version of a weighted alias each time.
pub const AFFINITY_HEADER: &str = "x-rouse-affinity";
