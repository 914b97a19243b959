//! The `wasm` sandbox and the `component` contract in one: runs WebAssembly components that export
//! `wasi:http` (0.2 or 0.3), in the thread that calls.
//!
//! They are one crate because nothing lies between them: a component is called by a function call, not
//! through a socket, so the seam of `rouse-sandbox` has nothing to hold here.
//!
//! ```text
//!  component ──compile (a child process, at deploy)──▶ file ──load──▶ Component ──call──▶ Head, Body
//!                                                                        │ a new instance, or a warm one
//!                                                                        └▶ Finished: CPU, memory, outcome
//! ```
//!
//! Invariant: a component reaches nothing but its request, its environment, clocks, random numbers, its log
//! and the destinations that it was given. Unsafe code: only the mapping of files that we compiled.

mod call;
mod compile;
mod component;
mod cpu;
mod engine;
mod epoch;
mod log;
mod state;
mod turns;
mod way_out;

pub use call::{Answer, Body, Call, Failure, Finished, Running};
pub use compile::compile;
pub use component::Component;
pub use engine::{Engine, Pool, engine_tag};
pub use log::{LogSink, Stream};
pub use wasmtime_wasi_http::Error as BodyError;
