//! What calls came to and what they cost: usage records, priced, rolled up per hour, reconciled.
//!
//! `audit` is the ledger as evidence: records chained by hash, hours sealed by signature, exports that prove themselves.
//!
//! Invariant: money is whole billionths, never a float; the sums of a report are the sums of its records,
//! to the last digit.

pub mod audit;
pub mod invoice;
pub mod ledger;
pub mod price;
pub mod sums;

pub use invoice::Invoice;
pub use ledger::Ledger;
pub use price::{Nanos, PriceSheet};
pub use sums::Sums;
