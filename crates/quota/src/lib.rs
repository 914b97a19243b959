//! What tenants may use: decided in pure functions, held over all processes in shared memory.
//!
//! ```text
//!  operator ─▶ control ─▶ file of what is in force ─▶ gateways, node
//!                 │                                        │ rate, take, settle
//!                 └─▶ caps ─▶ shared table (atomics) ◀─────┘
//! ```
//!
//! Whoever runs the code of a call (a gateway for components, the node for all else) takes leave for it first, and gives
//! it back when the call has ended and its record is written. Each process writes its own columns of the table alone and
//! zeroes them when it starts: what a killed one held is free again, and its calls have died with it.
//!
//! Invariant: taking leave makes no system call, takes no lock that others hold for long, and costs nothing where
//! nothing is limited.

mod budget;
mod file;
mod leave;
mod rate;
mod table;

pub use budget::{Balance, Short, decide};
pub use file::{FILE, Limits, read, replace};
pub use leave::{Leave, Quota};
pub use rate::{Rate, next};
pub use table::{Error, FUNCTIONS_MAX, GATEWAYS_MAX, NODE, TENANTS_MAX, Table};
