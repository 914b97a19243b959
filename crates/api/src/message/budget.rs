//! What a tenant may spend, and how its month stands.

use rouse_types::Budget;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A tenant's budget and how the month stands. Amounts are list prices, in billionths of the currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetStatus {
    /// What was set; nothing when the tenant has no budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The currency, as ISO 4217 writes it.
    pub currency: String,
    /// The month, such as `2026-11`, by UTC.
    pub month: String,
    /// What ended calls of the month came to.
    pub spent_nanos: u64,
    /// What is set aside for calls under way, of a hard budget.
    pub reserved_nanos: u64,
    /// Alerts that were told of this month, in hundredths of the budget.
    pub alerted: Vec<u8>,
}
