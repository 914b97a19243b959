//! What a cluster's nodes share, over NATS JetStream: the engine of a cluster.
//!
//! ```text
//!   node a: write ──▶ log (a stream, on a quorum's disks) ──▶ node a: apply ──▶ answer
//!                        │
//!                        └──────────▶ node b, node c: apply
//! ```
//!
//! Records and queues of a cluster are the tables of one machine on every node, changed by one log in one order
//! (`replica`). Blobs are in a stream, in pieces ([`blobs`]); journals are handed over to streams, each record once
//! ([`journals`]). [`tables`] are another crate's own. A lease is a key that the engine drops unless it is renewed ([`leases`]); who is a member of the
//! cluster is such a key, too ([`members`]).

pub mod blobs;
mod engine;
pub mod journals;
pub mod leases;
pub mod members;
mod replica;
pub mod seed;
pub mod settings;
mod snapshot;
pub mod standing;
mod stream;
pub mod tables;

pub use engine::{COPY_AFTER_BYTES_DEFAULT, Cluster, Options};
pub(crate) use replica::Replica;
pub use settings::Settings;
