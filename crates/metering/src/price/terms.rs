//! The terms of a month: list prices, free amounts, tiers; and what the latter two take off.
//!
//! A call is charged at its list price, whatever was called before it: so the costs that calls show sum exactly. What
//! free amounts and tiers take off depends on the whole month, and stands on the invoice as lines of its own.

use rouse_types::Outcome;
use serde::Deserialize;
use toml::Spanned;

use super::{Nanos, Overflow, decimal::Decimal};

/// What holds for a tenant in a month.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    pub(super) requests: Decimal,
    pub(super) duration: Decimal,
    pub(super) free: Free,
    pub(super) request_tiers: Vec<Tier>,
    pub(super) duration_tiers: Vec<Tier>,
}

/// What is free, for each tenant and month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Free {
    #[serde(default)]
    pub(super) requests: u64,
    #[serde(default)]
    pub(super) gb_seconds: u64,
}

/// Another price for what lies above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tier {
    pub(super) above: u64,
    pub(super) price: Decimal,
}

/// What a month came to, as far as it is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quantity {
    /// Requests.
    pub requests: u64,
    /// Memory times billed time, in MiB·ms.
    pub mib_ms: u64,
}

/// What is taken off the list price, in billionths of the currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Discounts {
    /// For free requests.
    pub free_requests: u64,
    /// For free GB-seconds.
    pub free_duration: u64,
    /// For requests above the tiers' bounds.
    pub request_tiers: u64,
    /// For GB-seconds above the tiers' bounds.
    pub duration_tiers: u64,
}

/// Billionths in a unit of a price: decimals are in 10^-18.
const NANO: u128 = 1_000_000_000;
/// MiB·ms in a GB-second.
const MIB_MS: u128 = 1_024 * 1_000;

impl Terms {
    /// What an invocation of this outcome, billed time and memory costs.
    ///
    /// # Errors
    /// [`Overflow`], for figures that no invocation can come to.
    pub fn cost_of(&self, outcome: Outcome, billed_ms: u64, memory_mib: u32) -> Result<Nanos, Overflow> {
        const MILLION: u128 = 1_000_000;
        /// The least common multiple of the two.
        const COMMON: u128 = 128_000_000;
        /// Decimals are in 10^-18, nanos in 10^-9.
        const DENOMINATOR: u128 = COMMON * 1_000_000_000;
        if billed_ms == 0 || outcome == Outcome::PlatformError {
            return Ok(Nanos(0));
        }
        let mib_ms = u128::from(billed_ms) * u128::from(memory_mib);
        let request = self.requests.0.checked_mul(COMMON / MILLION);
        let duration = self.duration.0.checked_mul(COMMON / MIB_MS).and_then(|p| p.checked_mul(mib_ms));
        let sum = request.zip(duration).and_then(|(request, duration)| request.checked_add(duration));
        let rounded = sum.and_then(|sum| sum.checked_add(DENOMINATOR / 2)).map(|sum| sum / DENOMINATOR);
        rounded.and_then(|nanos| u64::try_from(nanos).ok()).map(Nanos).ok_or(Overflow)
    }
    /// The terms as a sheet has them.
    pub(super) fn to_toml(&self) -> String {
        let mut text = format!(
            "requests_per_million = \"{}\"\nduration_per_gb_second = \"{}\"\nfree = {{ requests = {}, gb_seconds = {} }}\n",
            self.requests, self.duration, self.free.requests, self.free.gb_seconds
        );
        for (name, tiers) in [("request", &self.request_tiers), ("duration", &self.duration_tiers)] {
            let tiers: Vec<_> = tiers
                .iter()
                .map(|Tier { above, price }| format!("{{ above = {above}, price = \"{price}\" }}"))
                .collect();
            text += &format!("{name}_tiers = [{}]\n", tiers.join(", "));
        }
        text
    }

    /// What a month's free amounts and tiers take off. Free are the first units of the month, and tiers count from
    /// the month's begin, the free units too. Each line is the exact amount up to it less that up to the one before,
    /// both rounded to whole billionths, halves up: the lines sum to the rounded whole.
    ///
    /// # Errors
    /// [`Overflow`], for figures that no month can come to.
    pub fn discounts(&self, of: Quantity) -> Result<Discounts, Overflow> {
        let (requests, mib_ms) = (u128::from(of.requests), u128::from(of.mib_ms));
        let requests =
            take_off(self.requests, &self.request_tiers, self.free.requests, requests, 1, 1_000_000)?;
        let duration =
            take_off(self.duration, &self.duration_tiers, self.free.gb_seconds, mib_ms, MIB_MS, MIB_MS)?;
        Ok(Discounts {
            free_requests: requests.0,
            request_tiers: requests.1,
            free_duration: duration.0,
            duration_tiers: duration.1,
        })
    }
}

/// For free units and for tiers. Bounds are in `unit`s of the quantity, prices for `per` of it.
fn take_off(
    list: Decimal,
    tiers: &[Tier],
    free: u64,
    quantity: u128,
    unit: u128,
    per: u128,
) -> Result<(u64, u64), Overflow> {
    let free = u128::from(free) * unit;
    let exact = |units: u128, price: u128| units.checked_mul(price).ok_or(Overflow);
    let for_free = exact(quantity.min(free), list.0)?;
    let mut for_tiers = 0_u128;
    for (n, tier) in tiers.iter().enumerate() {
        let from = (u128::from(tier.above) * unit).max(free);
        let until = tiers.get(n + 1).map_or(quantity, |next| quantity.min(u128::from(next.above) * unit));
        let saved = exact(until.saturating_sub(from), list.0.saturating_sub(tier.price.0))?;
        for_tiers = for_tiers.checked_add(saved).ok_or(Overflow)?;
    }
    let round = |exact: u128| {
        let nanos = exact.checked_add(per * NANO / 2).map(|exact| exact / (per * NANO));
        nanos.and_then(|nanos| u64::try_from(nanos).ok()).ok_or(Overflow)
    };
    let free = round(for_free)?;
    Ok((free, round(for_free.checked_add(for_tiers).ok_or(Overflow)?)? - free))
}

/// Terms as they stand in a sheet, and where.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) requests: Decimal,
    pub(super) duration: Decimal,
    pub(super) free: Free,
    pub(super) request_tiers: Vec<Spanned<Tier>>,
    pub(super) duration_tiers: Vec<Spanned<Tier>>,
}

impl Written {
    /// Checks the tiers.
    pub(super) fn check(self) -> Result<Terms, (usize, &'static str)> {
        Ok(Terms {
            requests: self.requests,
            duration: self.duration,
            free: self.free,
            request_tiers: falling(self.requests, self.request_tiers)?,
            duration_tiers: falling(self.duration, self.duration_tiers)?,
        })
    }
}

fn falling(list: Decimal, tiers: Vec<Spanned<Tier>>) -> Result<Vec<Tier>, (usize, &'static str)> {
    let mut before: Option<Tier> = None;
    for tier in &tiers {
        let (at, tier) = (tier.span().start, *tier.get_ref());
        if before.is_some_and(|before| tier.above <= before.above) {
            return Err((at, "a tier begins above the one before it"));
        }
        if tier.price.0 > before.map_or(list, |before| before.price).0 {
            return Err((at, "a tier's price is no higher than the one before it"));
        }
        before = Some(tier);
    }
    Ok(tiers.into_iter().map(Spanned::into_inner).collect())
}
