//! Backend services that functions and their clients use: so far `objects`, which speaks S3.
//!
//! Invariant: a service knows its tenants and its store, and nothing of functions; what happens in it is told to
//! others by an outbox that is written in the same transaction.

pub mod objects;
