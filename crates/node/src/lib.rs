//! The node: owns the instances of every sandbox but Wasm on this machine.
//!
//! ```text
//!  gateway ──HTTP, unix socket──▶ server ──Job──▶ owner ──Job──▶ instance ──▶ contract, sandbox
//!                                    ◀────────────── Reply ──────────┘
//! ```
//!
//! One task, the owner, knows every instance and every waiting call, and decides by `rouse_scheduler`'s pure
//! functions; each living instance has one task, whose control flow is its life. A function without an instance
//! has no task, no timer, no process.
//!
//! Invariant: nothing here parses what code sends, and an instance whose state is unknown is never used again.

mod apps;
mod call;
mod config;
pub mod egress;
mod instance;
mod job;
mod journals;
mod metrics;
mod owner;
mod pool;
mod reply;
mod server;
mod timers;
mod worker;

pub use config::{Config, Error};
pub use rouse_scheduler::starts_max;
pub use server::serve;
