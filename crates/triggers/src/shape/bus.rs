//! Events of a bus, and of schedules, as Amazon EventBridge hands them over: one object for each.

use rouse_types::Timestamp;
use serde::Serialize;

use super::{Place, seconds};

/// An event.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Event<'a, D> {
    /// Always `0`.
    pub version: &'a str,
    /// A UUID, the same each time the event is delivered.
    pub id: String,
    /// What kind of event it is.
    pub detail_type: &'a str,
    /// Who sent it.
    pub source: &'a str,
    /// Twelve digits.
    pub account: &'a str,
    /// When it happened, to the second.
    pub time: String,
    /// The region.
    pub region: &'a str,
    /// ARNs of what it is about.
    pub resources: Vec<String>,
    /// What it says.
    pub detail: D,
}

/// The event of a schedule: what a function sees each time the trigger of this name is due.
#[must_use]
pub fn scheduled<'a>(
    place: Place<'a>,
    trigger: &str,
    id: uuid::Uuid,
    scheduled: Timestamp,
) -> Event<'a, serde_json::Map<String, serde_json::Value>> {
    Event {
        version: "0",
        id: id.to_string(),
        detail_type: "Scheduled Event",
        source: "aws.events",
        account: place.account,
        time: seconds(scheduled),
        region: place.region,
        resources: vec![place.arn("events", &format!("rule/{trigger}"))],
        detail: serde_json::Map::new(),
    }
}
