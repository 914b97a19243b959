//! Any text as an event pattern and any as an event: compiled and matched, or refused with a place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rouse_triggers::pattern::{Filter, Pattern};

fuzz_target!(|input: (&str, &str)| {
    let (pattern, event) = input;
    let event = serde_json::from_str(event).unwrap_or(serde_json::Value::Null);
    match Pattern::parse(pattern) {
        Ok(pattern) => {
            let _ = pattern.matches(&event);
        }
        Err(error) => assert!(!error.message.is_empty()),
    }
    // Any JSON is tried as a filter too, and filters do not look at events but at attributes.
    if let Ok(value) = serde_json::from_str(pattern)
        && let Ok(filter) = Filter::compile(&value)
    {
        let _ = filter.matches(|name| Some(name.to_owned().into()));
    }
});
