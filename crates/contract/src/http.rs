//! The HTTP contract: the code is a server on `$PORT`, and each invocation is a request to it.
//!
//! ```text
//!  [Worker::start] ── port open, or health 2xx ──▶ ready ⇄ [Worker::call], several at once
//!         │ exit, time-out                           │ exit
//!         ▼                                          ▼
//!     StartError                                  Failure: says whether anything had been sent
//! ```
//!
//! The platform dials the code's port inside the sandbox ([`rouse_sandbox::Sandbox::dial`]) and speaks HTTP/1.1 or,
//! where the function asks for it, HTTP/2 without TLS. Bodies stream both ways; an answer of 101 is a tunnel, taken
//! with `hyper::upgrade::on`.
//!
//! Sources: Knative "Runtime Contract"; Google Cloud "Container runtime contract"; "Functions Framework contract";
//! RFC 9110 §7.6 for what a proxy must do; what real servers do, by trial.

mod body;
mod connections;
pub mod environment;
mod failure;
mod framework;
mod headers;
mod launch;
mod ready;
mod worker;

pub use body::{AnswerBody, BodyError, RequestBody};
pub use failure::{Failure, StartError, StartFailed, Why};
pub use launch::Launch;
pub use worker::{Call, Options, Ready, Worker};

/// The port inside every sandbox: `$PORT`.
pub const PORT: u16 = 8080;
