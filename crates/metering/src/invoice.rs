//! A tenant's invoice of a month: what each function cost at list prices, what free amounts and tiers take off, and each
//! app's share. Pure; all sums are exact.

pub mod render;

use rouse_types::{AppName, FunctionName, TenantId};
use serde::Serialize;

use crate::{
    price::{Discounts, Month, Quantity},
    sums::Sums,
};

/// The invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Invoice {
    /// Who pays.
    pub tenant: TenantId,
    /// The month, such as `2026-11`, in UTC.
    pub month: String,
    /// Whether the month was over, and its last hour's calls had 15 minutes to be recorded.
    pub closed: bool,
    /// As ISO 4217 writes it.
    pub currency: String,
    /// A line for each function that was called.
    pub lines: Vec<Item>,
    /// All lines at list prices: the sum of what each call said it cost, in billionths.
    pub list_nanos: u64,
    /// What is taken off, by reason. None is zero.
    pub discounts: Vec<Discount>,
    /// What is to be paid: the list price less the discounts.
    pub total_nanos: u64,
    /// Each app's share: they sum to the total.
    pub apps: Vec<Share>,
}

/// A function's line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its app.
    pub app: AppName,
    /// The function.
    pub function: FunctionName,
    /// Calls, billed or not.
    pub invocations: u64,
    /// Billed time, in milliseconds.
    pub billed_ms: u64,
    /// Memory times billed time, in MiB·ms.
    pub mib_ms: u64,
    /// At list prices, in billionths.
    pub list_nanos: u64,
}

/// Something that is taken off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Discount {
    /// Why.
    pub reason: &'static str,
    /// How much, in billionths.
    pub nanos: u64,
}

/// An app's share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Share {
    /// The app.
    pub app: AppName,
    /// At list prices, in billionths.
    pub list_nanos: u64,
    /// Its part of the discounts, in proportion to its list price.
    pub discount_nanos: u64,
    /// What it is to pay.
    pub total_nanos: u64,
}

impl Invoice {
    /// Puts an invoice together. The lines come app by app. Discounts never exceed the list price: that of each call is
    /// rounded, theirs is not, and prices may have fallen within the month.
    pub(crate) fn new(
        (tenant, month, closed, currency): (TenantId, Month, bool, String),
        lines: Vec<Item>,
        total: Sums,
        discounts: Discounts,
    ) -> Self {
        let list_nanos = total.cost_nanos;
        let Discounts { free_requests, free_duration, request_tiers, duration_tiers } = discounts;
        let reasons = [
            ("free requests", free_requests),
            ("free GB-seconds", free_duration),
            ("tiers of requests", request_tiers),
            ("tiers of GB-seconds", duration_tiers),
        ];
        let mut left = list_nanos;
        let mut discounts = Vec::new();
        for (reason, nanos) in reasons {
            let nanos = nanos.min(left);
            left -= nanos;
            if nanos > 0 {
                discounts.push(Discount { reason, nanos });
            }
        }
        let apps = shares(&lines, list_nanos, list_nanos - left);
        let month = month.to_string();
        Self { tenant, month, closed, currency, lines, list_nanos, discounts, total_nanos: left, apps }
    }
}

/// Each app's part of a discount up to it, less that of those before it: they sum to the whole.
fn shares(lines: &[Item], list: u64, discount: u64) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    for line in lines {
        match shares.last_mut() {
            Some(last) if last.app == line.app => last.list_nanos += line.list_nanos,
            _ => shares.push(Share {
                app: line.app.clone(),
                list_nanos: line.list_nanos,
                discount_nanos: 0,
                total_nanos: 0,
            }),
        }
    }
    let (mut so_far, mut given) = (0_u128, 0_u64);
    for share in &mut shares {
        so_far += u128::from(share.list_nanos);
        let until = (so_far * u128::from(discount)).checked_div(u128::from(list)).unwrap_or_default();
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        share.discount_nanos = until - given;
        share.total_nanos = share.list_nanos - share.discount_nanos.min(share.list_nanos);
        given = until;
    }
    shares
}

/// What a month came to, and what was agreed for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Agreed {
    pub(crate) quantity: Quantity,
    /// A price sheet of the terms alone; none if nothing was billed.
    pub(crate) sheet: Option<String>,
}
