//! Events: what waits, what runs, what was given up.

use rouse_types::{FunctionName, InvocationId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where an event stands. One that ended well is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventState {
    /// For its first attempt, its next, or its turn.
    Waiting,
    /// An attempt is under way.
    Running,
    /// It was given up, and is a dead letter.
    Failed,
}

impl EventState {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Failed => "failed",
        }
    }
}

/// Which states are of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventStates {
    /// Those that wait.
    Waiting,
    /// Those that run.
    Running,
    /// Both: what has not ended.
    Pending,
    /// Those that were given up.
    Failed,
}

impl EventStates {
    /// Whether a state is one of them.
    #[must_use]
    pub fn has(self, state: EventState) -> bool {
        match self {
            Self::Waiting => state == EventState::Waiting,
            Self::Running => state == EventState::Running,
            Self::Pending => state != EventState::Failed,
            Self::Failed => state == EventState::Failed,
        }
    }
}

/// Which events. All that is said must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventFilter {
    /// Only this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<InvocationId>,
    /// Only this function's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionName>,
    /// Only those that stand so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<EventStates>,
    /// Only those whose last attempt failed for a reason with this text in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only those that were accepted before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
}

/// Which events, and which page of them. The fields are those of [`EventFilter`]; a query is flat.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Only this function's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionName>,
    /// Only those that stand so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<EventStates>,
    /// Only those whose last attempt failed for a reason with this text in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only those that were accepted before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// So many; 100 when left out, 1,000 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl EventsQuery {
    /// What it asks for, without the page.
    #[must_use]
    pub fn filter(&self) -> EventFilter {
        let Self { function, state, reason, before, .. } = self.clone();
        EventFilter { id: None, function, state, reason, before }
    }
}

/// Some events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventPage {
    /// The events: by function, and in the order in which they were accepted.
    pub events: Vec<EventInfo>,
    /// What gives the next page as `after`; nothing when there is no more. A page may be empty and not the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventInfo {
    /// Its id, also that of its attempts' invocations.
    pub id: InvocationId,
    /// Whose event it is.
    pub function: FunctionName,
    /// The alias or version that was asked for, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Where it stands.
    pub state: EventState,
    /// What it comes from: `http`, `invoke`, or a trigger, as `schedule:nightly`.
    pub source: String,
    /// Attempts so far, one that runs included.
    pub attempts: u32,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// When it is tried (again); when it was given up, if it was.
    pub due: Timestamp,
    /// Why the last attempt failed, if one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long its body is.
    pub bytes: u64,
    /// Events of one key run one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordering_key: Option<String>,
    /// A repeat with the same key is taken for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The functions that were passed on the way to it, and how often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
}

/// One event with its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventDetail {
    /// The event.
    pub event: EventInfo,
    /// Its body, where that is text; of a long one the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The HTTP request that was accepted, if it was one: its method and path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// How many events something was done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventCount {
    /// How many.
    pub count: u64,
}
