//! What to do with a call, and with an instance that has nothing to do: decided, never done.
//!
//! Invariant: no I/O, no async, no clock, no randomness. Time and counts are passed in, decisions come out;
//! the node and the gateway act on them. So every rule is tested by property over a simulated clock.

pub mod admit;
pub mod arrivals;
pub mod backoff;
pub mod evict;
pub mod keepalive;
pub mod place;
pub mod starts;

pub use admit::{Admission, Contender, Load, Reason, Turn, admit, starts_wanted, turn};
pub use arrivals::Arrivals;
pub use backoff::backoff;
pub use evict::{Candidate, GreedyDual};
pub use keepalive::{FREEZE_GRACE, keep_alive};
pub use starts::{START_HOLD, starts_max};
