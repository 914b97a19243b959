//! Whether a trigger wants an event: the one question that all who feed functions ask before anything is kept, started or
//! billed.
//!
//! | a filter is | it looks at |
//! |---|---|
//! | an object | the event as JSON, as patterns of Amazon EventBridge do: [`crate::pattern::Pattern`] |
//! | a list | the event's attributes, as filters of CloudEvents do: [`crate::pattern::Filter`] |
//!
//! What the JSON of an event is follows from its kind: a CloudEvent in structured form ([`cloud_event`]), a request
//! ([`crate::webhook::as_json`]), or what the handler of a Lambda function would see of one record.

use std::borrow::Cow;

use rouse_types::Trigger;
use serde_json::Value;

use crate::{
    cloud_event::Event,
    pattern::{Error, Filter, Pattern},
};

/// A filter, read and checked.
#[derive(Debug, Clone, PartialEq)]
enum Compiled {
    Pattern(Pattern),
    Attributes(Filter),
}

impl Compiled {
    fn of(filter: &Value) -> Result<Self, Error> {
        match filter {
            Value::Array(_) => Filter::compile(filter).map(Self::Attributes),
            other => Pattern::compile(other).map(Self::Pattern),
        }
    }

    fn takes(&self, event: &Value) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.matches(event),
            Self::Attributes(filter) => filter.matches(|name| match event.get(name)? {
                Value::String(text) => Some(Cow::Borrowed(text.as_str())),
                value @ (Value::Bool(_) | Value::Number(_)) => Some(Cow::Owned(value.to_string())),
                _ => None,
            }),
        }
    }
}

/// Whether a filter can be put in force.
///
/// # Errors
/// It is none, or could never take an event; with the place in it.
pub fn check(filter: &Value) -> Result<(), Error> {
    Compiled::of(filter).map(drop)
}

/// Whether a trigger wants this event. One without a filter wants all; one whose filter cannot be read wants none, since
/// what its author meant is not known.
#[must_use]
pub fn wants(trigger: &Trigger, event: &Value) -> bool {
    trigger
        .filter
        .as_ref()
        .is_none_or(|filter| Compiled::of(filter).is_ok_and(|compiled| compiled.takes(event)))
}

/// A CloudEvent as filters see it: its structured form.
#[must_use]
pub fn cloud_event(event: &Event) -> Value {
    serde_json::from_slice(&event.to_json()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rouse_types::trigger::{On, TopicSource};
    use serde_json::json;

    use super::*;

    fn trigger(filter: Option<Value>) -> Trigger {
        let on = On::Topic(TopicSource { topic: "orders".to_owned() });
        Trigger { name: "t".to_owned(), on, filter }
    }

    fn paid(total: u32) -> Value {
        let event = Event::new("1", "/shop", "paid").and_then(|event| event.with("region", "eu"));
        let data = json!({ "total": total }).to_string().into_bytes();
        cloud_event(
            &event.and_then(|event| event.with_data("application/json", data)).expect("a cloud event"),
        )
    }

    #[test]
    fn a_pattern_sees_the_data_and_a_list_the_attributes() {
        let large = json!({ "type": ["paid"], "data": { "total": [{ "numeric": [">", 100] }] } });
        assert!(wants(&trigger(Some(large.clone())), &paid(101)));
        assert!(!wants(&trigger(Some(large)), &paid(100)));
        let european = json!([{ "exact": { "region": "eu" } }]);
        assert!(wants(&trigger(Some(european)), &paid(1)));
        assert!(!wants(&trigger(Some(json!([{ "prefix": { "region": "us" } }]))), &paid(1)));
        assert!(wants(&trigger(None), &paid(1)));
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_wants_nothing() {
        let never = json!({ "type": [] });
        assert_eq!(check(&never).expect_err("it never matches").path, "type");
        assert!(!wants(&trigger(Some(never)), &paid(1)));
        assert!(check(&json!("paid")).is_err() && check(&json!([])).is_err());
    }
}
