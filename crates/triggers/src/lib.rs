//! What rouses a function besides a request: schedules, and events from outside.
//!
//! Invariant: what is decided here is decided by plain functions over plain data; time is an argument.

pub mod cloud_event;
pub mod filter;
pub mod partial;
pub mod pattern;
pub mod postgres;
pub mod retry;
pub mod schedule;
pub mod shape;
pub mod signature;
pub mod target;
#[cfg(test)]
mod tools;
pub mod webhook;
