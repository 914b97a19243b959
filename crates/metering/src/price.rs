//! The price sheet, and the cost of one invocation.
//!
//! **Rounding.** An invocation's cost is its request's price plus its duration's, computed exactly and then
//! rounded once to whole billionths of the currency, halves up. Bills sum these rounded costs, so the costs
//! shown with the calls sum to the bill exactly. The rounding is at most half a billionth per invocation,
//! either way.
//!
//! An invocation that ran no code (nothing is billed of it) or failed by the platform's fault costs nothing.

mod decimal;

use std::fmt;

use rouse_types::{Outcome, Usage};
use serde::{Deserialize, Serialize};

use decimal::Decimal;

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

/// What things cost.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceSheet {
    /// The currency, as ISO 4217 writes it.
    currency: Currency,
    requests_per_million: Decimal,
    duration_per_gb_second: Decimal,
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
        let free = || Decimal::default();
        // A test holds that the text which comes with the crate is a price sheet.
        Self::parse(DEFAULT_PRICES).unwrap_or_else(|_| Self {
            currency: Currency("USD".to_owned()),
            requests_per_million: free(),
            duration_per_gb_second: free(),
        })
    }
}

impl PriceSheet {
    /// Reads a price sheet in TOML.
    ///
    /// # Errors
    /// Where it is wrong, and how.
    pub fn parse(text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let before = text.get(..at).unwrap_or_default();
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            Error {
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                message: error.message().to_owned(),
            }
        })
    }

    /// The sheet as TOML, which reads back the same.
    #[must_use]
    pub fn to_toml(&self) -> String {
        format!(
            "currency = \"{}\"\nrequests_per_million = \"{}\"\nduration_per_gb_second = \"{}\"\n",
            self.currency.0, self.requests_per_million, self.duration_per_gb_second
        )
    }

    /// The currency, as ISO 4217 writes it.
    #[must_use]
    pub fn currency(&self) -> &str {
        &self.currency.0
    }

    /// What this invocation costs.
    ///
    /// # Errors
    /// [`Overflow`], for figures that no invocation can come to.
    pub fn cost(&self, usage: &Usage) -> Result<Nanos, Overflow> {
        self.cost_of(usage.outcome, usage.billed_ms, usage.memory_mib)
    }

    /// What an invocation of this outcome, billed time and memory costs.
    ///
    /// # Errors
    /// [`Overflow`], for figures that no invocation can come to.
    pub fn cost_of(&self, outcome: Outcome, billed_ms: u64, memory_mib: u32) -> Result<Nanos, Overflow> {
        /// MiB·ms in a GB-second.
        const MIB_MS: u128 = 1_024 * 1_000;
        const MILLION: u128 = 1_000_000;
        /// The least common multiple of the two.
        const COMMON: u128 = 128_000_000;
        /// Decimals are in 10^-18, nanos in 10^-9.
        const DENOMINATOR: u128 = COMMON * 1_000_000_000;
        if billed_ms == 0 || outcome == Outcome::PlatformError {
            return Ok(Nanos(0));
        }
        let mib_ms = u128::from(billed_ms) * u128::from(memory_mib);
        let request = self.requests_per_million.0.checked_mul(COMMON / MILLION);
        let duration =
            self.duration_per_gb_second.0.checked_mul(COMMON / MIB_MS).and_then(|p| p.checked_mul(mib_ms));
        let sum = request.zip(duration).and_then(|(request, duration)| request.checked_add(duration));
        let rounded = sum.and_then(|sum| sum.checked_add(DENOMINATOR / 2)).map(|sum| sum / DENOMINATOR);
        rounded.and_then(|nanos| u64::try_from(nanos).ok()).map(Nanos).ok_or(Overflow)
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
