//! The words of `rouse events`, `rouse queue` and `rouse topic`.

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
    /// List the queues that are there.
    List,
    /// Make a queue.
    Create {
        /// The queue: 1 to 80 letters, digits, '-', '_' and '.'. One that ends in .fifo keeps the order of each group.
        queue: String,
        #[command(flatten)]
        settings: QueueSettingsArgs,
    },
    /// Show what is set of a queue and how many messages it has, or set it.
    Attributes {
        /// The queue.
        queue: String,
        #[command(flatten)]
        settings: QueueSettingsArgs,
    },
    /// Delete a queue with all its messages.
    Delete {
        /// The queue.
        queue: String,
    },
    /// Have dead messages received again; those that came from other queues go back there.
    Redrive {
        /// The queue.
        queue: String,
    },
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

/// What `rouse topic` takes.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// List the topics that triggers name, and who wants what of them.
    List,
    /// Publish an event to each function that wants it.
    Publish(Publish),
}

/// What `rouse topic publish` takes.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The topic.
    pub(crate) topic: String,
    /// The event's data: text, `@file`, or `-` for standard input.
    #[arg(allow_hyphen_values = true)]
    pub(crate) data: String,
    /// What kind of event it is.
    #[arg(long = "type", default_value = "dev.rouse.message", value_name = "TYPE")]
    pub(crate) ty: String,
    /// Where it comes from: a URI, or a part of one.
    #[arg(long, default_value = "/rouse/cli", value_name = "URI")]
    pub(crate) source: String,
    /// Its id: one that is published again with the same id and source, within a day, reaches nobody twice
    /// [default: a new one].
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// What it is about.
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// The data's media type.
    #[arg(long, default_value = "application/json", value_name = "TYPE")]
    pub(crate) content_type: String,
    /// An attribute of any other name, in a-z and 0-9.
    #[arg(long = "attribute", short, value_name = "NAME=VALUE")]
    pub(crate) attributes: Vec<String>,
    /// The data is a whole CloudEvent as JSON, or a list of some.
    #[arg(long, conflicts_with_all = ["ty", "source", "id", "subject", "content_type", "attributes"])]
    pub(crate) cloud_event: bool,
}

/// What is set of a queue.
#[derive(Debug, Args)]
pub(crate) struct QueueSettingsArgs {
    /// How long a received message is held for its receiver, such as 30s.
    #[arg(long, value_name = "TIME", value_parser = rouse_types::size::parse_duration)]
    pub(crate) visibility: Option<std::time::Duration>,
    /// How long before a message can be received.
    #[arg(long, value_name = "TIME", value_parser = rouse_types::size::parse_duration)]
    pub(crate) delay: Option<std::time::Duration>,
    /// How old messages grow before they are dropped, such as 4d.
    #[arg(long, value_name = "TIME", value_parser = rouse_types::size::parse_duration)]
    pub(crate) retention: Option<std::time::Duration>,
    /// How long a receiver waits for a message; at most 20s.
    #[arg(long, value_name = "TIME", value_parser = rouse_types::size::parse_duration)]
    pub(crate) wait: Option<std::time::Duration>,
    /// The queue that takes what was received too often.
    #[arg(long, value_name = "QUEUE", conflicts_with = "no_dead_letters")]
    pub(crate) dead_letters: Option<String>,
    /// How often a message is received before it goes there.
    #[arg(long, value_name = "N", default_value_t = 3, requires = "dead_letters")]
    pub(crate) receives: u32,
    /// What is received too often goes nowhere any more.
    #[arg(long)]
    pub(crate) no_dead_letters: bool,
    /// Tell messages of a FIFO queue apart by their bodies, where they have no id: true or false.
    #[arg(long, value_name = "BOOL")]
    pub(crate) content_deduplication: Option<bool>,
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
