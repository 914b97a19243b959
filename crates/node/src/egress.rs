//! What code in a sandbox reaches: the platform listens inside it in place of each allowed destination, and dials the
//! real one from outside.
//!
//! ```text
//!  sandbox                                    node
//!    "db.internal"? ─ /etc/hosts, resolver ──▶ 127.7.0.1            plan, names, resolver
//!    connect 127.7.0.1:5432 ──── listener ───▶ which name is it?    way
//!                                              resolve, check, dial dial
//!    bytes ◀──────────────────────────────────────────────▶ bytes   pipe
//! ```
//!
//! The code speaks with the real destination under its real name, so TLS, its names and its certificates are as they
//! would be without a sandbox. [`Attached`] wraps a driver, so that every contract has it and none knows of it.
//!
//! Invariant: where a connection goes is decided by the name that was allowed and what it resolves to at that moment,
//! never by anything that the code sent.

mod attach;
mod dial;
mod dns;
mod names;
mod pipe;
mod plan;
mod resolver;
mod way;

#[cfg(test)]
mod tests;

pub use attach::{Attached, WithEgress};
pub use dial::Dialer;
