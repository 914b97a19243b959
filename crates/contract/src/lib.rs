//! How the platform talks to code: each contract turns a started sandbox into a worker that takes an invocation
//! and gives its answer.
//!
//! Invariant: what the code sends is hostile until it was checked here; no contract decides when an instance
//! starts, waits or ends, and none knows how its sandbox confines.

pub mod lambda;
