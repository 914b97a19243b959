//! The AWS Lambda contract: the code asks the Runtime API for its next invocation and posts its answer back.
//!
//! ```text
//!  [Worker::start] ── first GET /next ──▶ ready ── [Worker::invoke] ──▶ answer ──▶ ready …
//!         │ init error, exit, time-out                 │ exit, time-out
//!         ▼                                            ▼
//!     StartError                                    Failure: the worker must be stopped
//! ```
//!
//! Sources: the AWS Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes" and "Response
//! streaming for custom runtimes"; what real clients do, by trial.

mod api;
mod body;
pub mod environment;
mod exchange;
mod extensions;
mod failure;
pub mod http_answer;
pub mod http_event;
mod launch;
pub mod prelude;
pub mod runtime;
mod worker;

pub use crate::exit::describe;
pub use crate::logs::{Line, LogSink};
pub use body::Body;
pub use exchange::{Answer, Call, RuntimeError, StreamEnd};
pub use failure::{Failure, StartError, StartFailed};
pub use runtime::{Launch, available};
pub use worker::{Options, Ready, Worker};
