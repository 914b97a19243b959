//! What calls came to and what they cost: usage records, priced, rolled up per hour, reconciled.
//!
//! Invariant: money is whole billionths, never a float; the sums of a report are the sums of its records,
//! to the last digit.

pub mod ledger;
pub mod price;
pub mod sums;

pub use ledger::Ledger;
pub use price::{Nanos, PriceSheet};
pub use sums::Sums;
