//! The words of `rouse events` and `rouse queue`.

use clap::{Args, Subcommand};
use rouse_types::{FunctionName, InvocationId};

/// What `rouse events` takes.
#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// List events that wait, run or were given up.
    List(EventsArgs),
    /// Show an event with its body.
    Show {
        /// Its id.
        id: InvocationId,
    },
    /// Have events that were given up tried again.
    Redrive(EventsArgs),
    /// Cancel an event that waits or runs.
    Cancel {
        /// Its id.
        id: InvocationId,
    },
    /// Delete events that wait or were given up, for good.
    Purge(EventsArgs),
}

/// What `rouse queue` takes.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List the queues that have messages.
    List,
    /// Send a message.
    Send {
        /// The queue: there once something is sent to it. One that ends in .fifo keeps the order of each group.
        queue: String,
        /// The message: text, `@file`, or `-` for standard input.
        #[arg(allow_hyphen_values = true)]
        body: String,
        /// Not to be received before, such as 30s.
        #[arg(long, value_name = "TIME", value_parser = rouse_types::size::parse_duration)]
        delay: Option<std::time::Duration>,
        /// The group, in a queue that ends in .fifo.
        #[arg(long)]
        group: Option<String>,
        /// A second message with this id, within five minutes, is taken for the same.
        #[arg(long, value_name = "ID")]
        deduplication: Option<String>,
    },
    /// Take messages out of a queue and print them.
    Receive {
        /// The queue.
        queue: String,
        /// At most so many.
        #[arg(long, default_value_t = 1, value_name = "N")]
        limit: u32,
    },
    /// Delete the messages of a queue, dead ones too.
    Purge {
        /// The queue.
        queue: String,
    },
}

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only this one.
    pub(crate) id: Option<InvocationId>,
    /// Only this function's.
    #[arg(long, short, value_name = "FUNCTION")]
    pub(crate) function: Option<FunctionName>,
    /// Only those that stand so.
    #[arg(long, value_name = "STATUS", value_parser = ["waiting", "running", "pending", "failed"])]
    pub(crate) status: Option<String>,
    /// Only those that failed for a reason with this text in it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Only those that are older, such as 1h.
    #[arg(long, value_name = "AGE", value_parser = rouse_types::size::parse_duration)]
    pub(crate) older_than: Option<std::time::Duration>,
    /// The most that are listed.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(crate) limit: usize,
}
