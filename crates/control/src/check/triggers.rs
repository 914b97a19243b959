//! Whether the triggers of a function can be put in force here.

use std::collections::BTreeSet;

use rouse_api::DeployFunction;
use rouse_triggers::{pattern::Pattern, schedule::Schedule};
use rouse_types::{
    EventTarget, Timestamp, Trigger,
    object::is_bucket_name,
    trigger::{ObjectSource, On, TRIGGERS_MAX, is_resource_name},
};

/// Checks all of them.
pub(super) fn check(function: &DeployFunction) -> Result<(), String> {
    let count = function.triggers.len();
    if count > TRIGGERS_MAX {
        return Err(format!("it has {count} triggers; at most {TRIGGERS_MAX} are allowed"));
    }
    let mut names = BTreeSet::new();
    for trigger in &function.triggers {
        let name = &trigger.name;
        if !is_resource_name(name) || !names.insert(name) {
            return Err(format!("'{name}' is no name for a trigger, or is there twice"));
        }
        one(trigger).map_err(|what| format!("its trigger '{name}': {what}"))?;
    }
    for target in function.events.on_success.iter().chain(&function.events.on_failure) {
        if let EventTarget::Topic(_) | EventTarget::Url(_) = target {
            return Err(format!(
                "outcomes of its events cannot be sent to '{target}' yet: name a function or a queue"
            ));
        }
    }
    Ok(())
}

fn one(trigger: &Trigger) -> Result<(), String> {
    match &trigger.on {
        On::Schedule(schedule) => {
            // The time of the deployment changes nothing of whether it is one.
            Schedule::of(schedule, Timestamp::default()).map_err(|error| error.to_string())?;
            match &trigger.filter {
                Some(_) => Err("a schedule has nothing to filter".to_owned()),
                None => Ok(()),
            }
        }
        On::Queue(_) => match &trigger.filter {
            Some(_) => Err("messages of a queue are not filtered".to_owned()),
            None => Ok(()),
        },
        On::Object(source) => object(source, trigger),
        on => Err(format!("this platform does not offer triggers of the kind {} yet", on.kind())),
    }
}

fn object(source: &ObjectSource, trigger: &Trigger) -> Result<(), String> {
    let bucket = &source.bucket;
    if !is_bucket_name(bucket) {
        return Err(format!(
            "'{bucket}' is no bucket's name: use 3 to 63 of a-z, 0-9, '-' and '.', with a letter or digit at the ends"
        ));
    }
    if source.events.is_empty() {
        return Err("it names no events: write events = [\"created\"]".to_owned());
    }
    match trigger.filter.as_ref().map(Pattern::compile) {
        Some(Err(error)) => Err(format!("its filter: {error}")),
        _ => Ok(()),
    }
}
