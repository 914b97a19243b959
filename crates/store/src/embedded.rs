//! The engine of one machine: SQLite in WAL mode with `synchronous=FULL`, one file per shape.
//!
//! One thread writes. Whatever waits when it is free goes into one transaction (group commit), each
//! operation in a savepoint of its own, so that one which fails undoes nothing of the others. An
//! operation is answered after the commit reached the disk. Reads run on connections of their own and
//! see every write that was answered before.

mod db;

pub(crate) use db::{Db, Durability};
