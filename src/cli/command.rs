//! The commands, a file for each.

pub(crate) mod alias;
pub(crate) mod audit;
pub(crate) mod build;
pub(crate) mod delete;
pub(crate) mod deploy;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod init;
pub(crate) mod invoice;
pub(crate) mod invoke;
pub(crate) mod key;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod object;
pub(crate) mod prices;
pub(crate) mod ps;
pub(crate) mod queue;
pub(crate) mod rollback;
pub(crate) mod runtime;
pub(crate) mod tenant;
pub(crate) mod topic;
pub(crate) mod triggers;
pub(crate) mod usage;
pub(crate) mod versions;
