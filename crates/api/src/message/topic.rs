//! Topics.

use rouse_types::FunctionName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A topic that triggers name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicSummary {
    /// Its name.
    pub name: String,
    /// Who gets its events.
    pub subscriptions: Vec<TopicSubscription>,
}

/// One who gets the events of a topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicSubscription {
    /// The function.
    pub function: FunctionName,
    /// Its trigger.
    pub trigger: String,
    /// Which events it wants; all when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<serde_json::Value>,
}

/// What became of events that were published: all of it is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishedEvents {
    /// Events that were read.
    pub events: u64,
    /// Deliveries that they lead to: one for each event and each trigger that wants it.
    pub deliveries: u64,
    /// Deliveries that an event of the same source and id has led to before, so that there are none now.
    pub duplicates: u64,
}
