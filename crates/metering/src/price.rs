//! The price sheet, and the cost of one invocation.
//!
//! **Rounding.** An invocation's cost is its request's price plus its duration's, computed exactly and then
//! rounded once to whole billionths of the currency, halves up. Bills sum these rounded costs, so the costs
//! shown with the calls sum to the bill exactly. The rounding is at most half a billionth per invocation,
//! either way.
//!
//! An invocation that ran no code (nothing is billed of it) or failed by the platform's fault costs nothing.

mod decimal;
mod month;
mod terms;

use std::fmt;

use rouse_types::{Outcome, TenantId, Timestamp, Usage};
use serde::{Deserialize, Serialize};
use toml::Spanned;

pub use month::Month;
pub use terms::{Discounts, Quantity, Terms};

use decimal::Decimal;
use terms::{Free, Tier, Written};

/// The price sheet that holds unless another is given: the text of `prices.toml`.
pub const DEFAULT_PRICES: &str = include_str!("../prices.toml");

/// Money: whole billionths of the price sheet's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// What things cost: terms, and from which month on they are others, for all or for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceSheet {
    currency: Currency,
    base: Terms,
    changes: Vec<Change>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    from: Option<Month>,
    tenant: Option<TenantId>,
    terms: Terms,
}

/// A sheet as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSheet {
    /// As ISO 4217 writes it.
    currency: Currency,
    requests_per_million: Decimal,
    duration_per_gb_second: Decimal,
    #[serde(default)]
    free: Free,
    #[serde(default)]
    request_tiers: Vec<Spanned<Tier>>,
    #[serde(default)]
    duration_tiers: Vec<Spanned<Tier>>,
    #[serde(default)]
    changes: Vec<Spanned<RawChange>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChange {
    from: Option<String>,
    tenant: Option<TenantId>,
    requests_per_million: Decimal,
    duration_per_gb_second: Decimal,
    #[serde(default)]
    free: Free,
    #[serde(default)]
    request_tiers: Vec<Spanned<Tier>>,
    #[serde(default)]
    duration_tiers: Vec<Spanned<Tier>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Currency(String);

impl TryFrom<String> for Currency {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase()) {
            return Ok(Self(text));
        }
        Err("expected a currency's three letters, such as \"USD\"")
    }
}

/// Why a text is not a price sheet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct Error {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// A cost that no bill can hold: more than 18 billion of any currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cost is too large to be computed")]
pub struct Overflow;

impl Default for PriceSheet {
    fn default() -> Self {
        // A test holds that the text which comes with the crate is a price sheet.
        Self::parse(DEFAULT_PRICES).unwrap_or_else(|_| Self {
            currency: Currency("USD".to_owned()),
            base: Terms::default(),
            changes: Vec::new(),
        })
    }
}

impl PriceSheet {
    /// Reads a price sheet in TOML.
    ///
    /// # Errors
    /// Where it is wrong, and how.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let place = |at: usize, message: &str| {
            let before = text.get(..at.min(text.len())).unwrap_or_default();
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            Error {
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                message: message.to_owned(),
            }
        };
        let raw: RawSheet = toml::from_str(text).map_err(|error: toml::de::Error| {
            place(error.span().map_or(0, |span| span.start), error.message())
        })?;
        let terms = |written: Written| written.check().map_err(|(at, message)| place(at, message));
        let base = terms(Written {
            requests: raw.requests_per_million,
            duration: raw.duration_per_gb_second,
            free: raw.free,
            request_tiers: raw.request_tiers,
            duration_tiers: raw.duration_tiers,
        })?;
        let mut changes: Vec<Change> = Vec::new();
        for change in raw.changes {
            let at = change.span().start;
            let raw = change.into_inner();
            let from = raw.from.map(|from| from.parse::<Month>()).transpose();
            let from = from.map_err(|error| place(at, &format!("from: {error}")))?;
            if from.is_none() && raw.tenant.is_none() {
                return Err(place(at, "a change names a month in `from`, a tenant, or both"));
            }
            if changes.iter().any(|other| (other.from, &other.tenant) == (from, &raw.tenant)) {
                return Err(place(at, "there is a change of the same month and tenant before it"));
            }
            let terms = terms(Written {
                requests: raw.requests_per_million,
                duration: raw.duration_per_gb_second,
                free: raw.free,
                request_tiers: raw.request_tiers,
                duration_tiers: raw.duration_tiers,
            })?;
            changes.push(Change { from, tenant: raw.tenant, terms });
        }
        Ok(Self { currency: raw.currency, base, changes })
    }

    /// The sheet as TOML, which reads back the same.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = format!("currency = \"{}\"\n{}", self.currency.0, self.base.to_toml());
        for Change { from, tenant, terms } in &self.changes {
            text += "[[changes]]\n";
            if let Some(from) = from {
                text += &format!("from = \"{from}\"\n");
            }
            if let Some(tenant) = tenant {
                text += &format!("tenant = \"{tenant}\"\n");
            }
            text += &terms.to_toml();
        }
        text
    }

    /// What holds for a tenant at a time: its own terms, where a change of its own has come into force; else those of
    /// all. Among several the one whose month came last.
    #[must_use]
    pub fn terms(&self, tenant: &TenantId, at: Timestamp) -> &Terms {
        if self.changes.is_empty() {
            return &self.base;
        }
        let month = Month::of(at);
        let in_force =
            |change: &&Change| change.from.is_none_or(|from| month.is_some_and(|month| from <= month));
        let last = |of: Option<&TenantId>| {
            let changes = self.changes.iter().filter(|change| change.tenant.as_ref() == of);
            changes.filter(in_force).max_by_key(|change| change.from)
        };
        last(Some(tenant)).or_else(|| last(None)).map_or(&self.base, |change| &change.terms)
    }

    /// A sheet of these terms alone.
    pub(crate) fn of_terms(&self, terms: &Terms) -> Self {
        Self { currency: self.currency.clone(), base: terms.clone(), changes: Vec::new() }
    }

    /// The terms that hold unless a change says otherwise.
    pub(crate) fn base(&self) -> &Terms {
        &self.base
    }

    /// The currency, as ISO 4217 writes it.
    #[must_use]
    pub fn currency(&self) -> &str {
        &self.currency.0
    }

    /// What this invocation costs: its list price.
    ///
    /// # Errors
    /// [`Overflow`], for figures that no invocation can come to.
    pub fn cost(&self, usage: &Usage) -> Result<Nanos, Overflow> {
        let terms = self.terms(&usage.tenant, usage.started);
        terms.cost_of(usage.outcome, usage.billed_ms, usage.memory_mib)
    }

    /// What an invocation of this outcome, billed time and memory costs, by the terms without changes.
    ///
    /// # Errors
    /// [`Overflow`], for figures that no invocation can come to.
    pub fn cost_of(&self, outcome: Outcome, billed_ms: u64, memory_mib: u32) -> Result<Nanos, Overflow> {
        self.base.cost_of(outcome, billed_ms, memory_mib)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(requests: &str, duration: &str) -> PriceSheet {
        PriceSheet::parse(&format!(
            "currency = \"EUR\"\nrequests_per_million = \"{requests}\"\nduration_per_gb_second = \"{duration}\"\n"
        ))
        .expect("a price sheet")
    }

    #[test]
    fn the_default_prices_are_those_of_the_text_that_comes_with_it() {
        let prices = PriceSheet::parse(DEFAULT_PRICES).expect("prices.toml");
        assert_eq!(prices, PriceSheet::default());
        assert_eq!(PriceSheet::parse(&prices.to_toml()).as_ref(), Ok(&prices));
        assert_eq!(prices.currency(), "USD");
        // 200 for the request; 16,666.7 for a GB-second.
        assert_eq!(prices.cost_of(Outcome::Ok, 1_000, 1_024), Ok(Nanos(16_867)));
        // 128 MiB for 1 ms: 2.083 and 200.
        assert_eq!(prices.cost_of(Outcome::Timeout, 1, 128), Ok(Nanos(202)));
    }

    #[test]
    fn a_million_calls_of_a_second_cost_what_the_list_says() {
        let nanos = PriceSheet::default().cost_of(Outcome::Ok, 1_000, 1_024).expect("a cost").0 * 1_000_000;
        // 0.20 + 16.6667 dollars, and what rounding up 16,866.7 adds.
        assert_eq!(Nanos(nanos).to_string(), "16.867000000");
    }

    #[test]
    fn what_ran_no_code_or_failed_by_our_fault_costs_nothing() {
        let prices = PriceSheet::default();
        assert_eq!(prices.cost_of(Outcome::Cancelled, 0, 1_024), Ok(Nanos(0)));
        assert_eq!(prices.cost_of(Outcome::PlatformError, 500, 1_024), Ok(Nanos(0)));
    }

    #[test]
    fn halves_are_rounded_up() {
        // A request of half a billionth.
        assert_eq!(sheet("0.0005", "0").cost_of(Outcome::Ok, 1, 1), Ok(Nanos(1)));
        assert_eq!(sheet("0.000499999999999999", "0").cost_of(Outcome::Ok, 1, 1), Ok(Nanos(0)));
    }

    #[test]
    fn figures_beyond_all_bounds_are_an_error_and_no_panic() {
        let dear = sheet("999999", "999999.999999999999999999");
        assert_eq!(dear.cost_of(Outcome::Ok, u64::MAX, u32::MAX), Err(Overflow));
        // A quarter of an hour of the largest function is within them, at the highest price there is.
        assert!(dear.cost_of(Outcome::Ok, 900_000, 10_240).is_ok());
    }

    #[test]
    fn a_sheet_with_errors_is_refused_with_the_place() {
        let cases = [
            ("currency = \"USD\"\nrequests_per_milion = \"1\"\n", 2, 1, "unknown field"),
            ("currency = \"USD\"\nrequests_per_million = 0.20\n", 2, 24, "in quotes"),
            ("currency = \"usd\"\n", 1, 12, "three letters"),
            ("currency = \"USD\"\nrequests_per_million = \"1e3\"\n", 2, 24, "decimal"),
            ("currency = \"USD\"\nrequests_per_million = \"-1\"\n", 2, 24, "decimal"),
            ("currency = \"USD\"\nrequests_per_million = \"1\"\n", 1, 1, "missing field"),
            ("# ä\nä", 2, 2, ""),
        ];
        for (text, line, column, message) in cases {
            let error = PriceSheet::parse(text).expect_err(text);
            assert!(error.message.contains(message), "{error}");
            assert_eq!((error.line, error.column), (line, column), "{error}");
        }
    }
}
