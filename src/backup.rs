//! Backups of a state folder, made while the platform runs, and state folders made of them.
//!
//! ```text
//!   hold ─▶ copies of the databases ─▶ journals cut ─▶ one stream ─▶ a file, or pieces in a bucket
//!           (in an order that loses nothing)                           │
//!   state folder ◀─ renamed when all was checked ◀─ DIR/.restore ◀────┘
//! ```
//!
//! `contents` says what of a state folder is in a backup, and what is not.

mod contents;
mod make;
mod migrate;
mod node;
mod pieces;
mod place;
mod restore;

pub(crate) use make::{Made, make};
pub(crate) use migrate::migrate;
pub(crate) use node::Node;
pub(crate) use place::Place;
pub(crate) use restore::{STAGING, check, restore};
