//! Whether the triggers of a function can be put in force here.

use std::collections::BTreeSet;

use rouse_api::DeployFunction;
use rouse_triggers::{filter, postgres, schedule::Schedule, target::Address, webhook};
use rouse_types::{
    EventTarget, Timestamp, Trigger,
    object::is_bucket_name,
    trigger::{DatabaseSource, ObjectSource, On, TRIGGERS_MAX, is_resource_name},
};

/// Tables of one database trigger.
const TABLES_MAX: usize = 200;

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
        one(trigger, function).map_err(|what| format!("its trigger '{name}': {what}"))?;
    }
    paths(function)?;
    for target in function.events.on_success.iter().chain(&function.events.on_failure) {
        let EventTarget::Url(url) = target else { continue };
        let Address { host, port, .. } = Address::of(url)
            .map_err(|error| format!("outcomes of its events cannot go to '{url}': {error}"))?;
        if !function.egress.allows(&host, port) {
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            return Err(format!(
                "outcomes of its events may not go to '{url}', since it may not reach it itself: add \
                 egress = [\"{host}:{port}\"]"
            ));
        }
    }
    Ok(())
}

fn one(trigger: &Trigger, function: &DeployFunction) -> Result<(), String> {
    match &trigger.on {
        On::Schedule(schedule) => {
            // The time of the deployment changes nothing of whether it is one.
            Schedule::of(schedule, Timestamp::default()).map_err(|error| error.to_string())?;
            match &trigger.filter {
                Some(_) => Err("a schedule has nothing to filter".to_owned()),
                None => Ok(()),
            }
        }
        On::Queue(_) => {
            if trigger.filter.as_ref().is_some_and(serde_json::Value::is_array) {
                return Err(
                    "its filter: messages have no attributes of CloudEvents; write a pattern".to_owned()
                );
            }
            filter(trigger)
        }
        On::Object(source) => object(source, trigger),
        On::Database(source) => {
            database(source, function)?;
            if trigger.filter.as_ref().is_some_and(serde_json::Value::is_array) {
                return Err("its filter: changes of rows have no attributes; write a pattern".to_owned());
            }
            filter(trigger)
        }
        On::Topic(source) => {
            if !is_resource_name(&source.topic) {
                return Err(format!("'{}' is no name of a topic", source.topic));
            }
            filter(trigger)
        }
        On::Webhook(source) => {
            webhook::verifier(source, &function.env).map_err(|error| error.to_string())?;
            filter(trigger)
        }
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
    filter(trigger)
}

/// What can be known without the database: whether it is there, and what it lacks, is found out when the trigger connects.
/// A deployment does not wait for it.
fn database(source: &DatabaseSource, function: &DeployFunction) -> Result<(), String> {
    postgres::address::Address::of(&source.url, &function.env).map_err(|error| error.to_string())?;
    if source.tables.is_empty() || source.operations.is_empty() {
        return Err("it names no table or no operation, and would never fire".to_owned());
    }
    if source.tables.len() > TABLES_MAX {
        return Err(format!("it names {} tables; at most {TABLES_MAX} are allowed", source.tables.len()));
    }
    let is_table = |text: &&String| {
        let parts = text.split_once('.').filter(|(schema, table)| !schema.is_empty() && !table.is_empty());
        parts.is_some() && !text.contains('\0')
    };
    match source.tables.iter().find(|table| !is_table(table)) {
        Some(table) => Err(format!("'{}' is no table: write schema.table", table.escape_default())),
        None => Ok(()),
    }
}

fn filter(trigger: &Trigger) -> Result<(), String> {
    let Some(filter) = &trigger.filter else { return Ok(()) };
    filter::check(filter).map_err(|error| match &error.hint {
        Some(hint) => format!("its filter: {error}; {hint}"),
        None => format!("its filter: {error}"),
    })
}

/// Of two webhooks at one path the second would never be asked.
fn paths(function: &DeployFunction) -> Result<(), String> {
    for (at, trigger) in function.triggers.iter().enumerate() {
        let On::Webhook(source) = &trigger.on else { continue };
        if let Some((first, _)) = webhook::find(&function.triggers[..at], &source.path) {
            let (path, name, first) = (&source.path, &trigger.name, &first.name);
            return Err(format!("its triggers '{first}' and '{name}' are webhooks at one path, '{path}/'"));
        }
    }
    Ok(())
}
