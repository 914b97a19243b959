//! Schedules: one task and one timer for the triggers of all functions, and none while no function has one.
//!
//! How far each schedule got is a record. An occurrence is sent under its own id before that is noted, so a crash
//! between the two sends nothing twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rouse_store::{
    Records,
    queues::NewMessage,
    records::{Expect, Write},
};
use rouse_triggers::{
    schedule::{self, Occurrence},
    shape::{self, Place},
};
use rouse_types::{
    Contract, Event, EventCall, FunctionVersion, Timestamp,
    trigger::{On, Schedule},
};
use serde::{Deserialize, Serialize};

use crate::{
    dispatch::Events,
    record::{self, ACCOUNT, REGION},
};

const NAMESPACE: &str = "schedules";
/// Occurrences of one schedule that are sent at once: the rest in the next round.
const ROUND_MAX: usize = 100;
/// The longest sleep: the wall clock, by which schedules fire, may jump.
const SLEEP_MAX: Duration = Duration::from_secs(30);
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How long an occurrence is known to have been sent.
const WINDOW: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Records of one read.
const PAGE: usize = 1_000;

/// How far a schedule got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    schedule: Schedule,
    /// Since when it is there: periods count from it.
    since: Timestamp,
    /// Up to when it was acted on.
    upto: Timestamp,
}

/// A schedule in force.
struct InForce {
    version: Arc<FunctionVersion>,
    trigger: String,
    kept: Kept,
    schedule: schedule::Schedule,
}

/// Runs until all is to stop.
pub(crate) async fn run(events: Arc<Events>, records: Records) {
    let mut changed = events.changed.subscribe();
    let mut in_force = BTreeMap::new();
    let mut sync = true;
    while !events.stop.is_cancelled() {
        let pulls = events.pulls();
        if pulls.is_cancelled() {
            // Other nodes fire meanwhile, and note how far they got.
            events.pulls_again().await;
            sync = true;
            continue;
        }
        if sync {
            match synchronise(&events, &records, &mut in_force).await {
                Ok(()) => sync = false,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "schedules cannot be read");
                    pause(&events).await;
                    continue;
                }
            }
        }
        let now = events.config.clock.now();
        if let Err(error) = fire(&events, &records, &mut in_force, now).await {
            tracing::error!(error = &error as &dyn std::error::Error, "schedules cannot be kept");
            pause(&events).await;
            continue;
        }
        let next = in_force.iter().filter_map(|(key, at)| at.schedule.wakes(key, at.kept.upto)).min();
        let sleep = async {
            match next {
                Some(next) => tokio::time::sleep(next.since(events.config.clock.now()).min(SLEEP_MAX)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            _ = changed.changed() => sync = true,
            () = pulls.cancelled() => {}
        }
    }
}

async fn pause(events: &Events) {
    let _ = events.stop.run_until_cancelled(tokio::time::sleep(STORE_PAUSE)).await;
}

/// Takes up what came with the last deploys, and forgets what went.
async fn synchronise(
    events: &Events,
    records: &Records,
    in_force: &mut BTreeMap<String, InForce>,
) -> Result<(), rouse_store::Error> {
    let now = events.config.clock.now();
    let mut kept = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let page = records.scan(NAMESPACE, "", after.as_deref(), PAGE).await?;
        after = page.records.last().map(|record| record.key.clone());
        let full = page.records.len() == PAGE;
        for record in page.records {
            if let Ok(value) = serde_json::from_slice::<Kept>(&record.value) {
                kept.insert(record.key, value);
            }
        }
        if !full {
            break;
        }
    }
    in_force.clear();
    let mut writes = Vec::new();
    let mut wanted = BTreeSet::new();
    for (version, trigger) in events.table.triggers() {
        let On::Schedule(schedule) = &trigger.on else { continue };
        let key = format!("{}/{}/{}", version.tenant, version.function, trigger.name);
        wanted.insert(key.clone());
        // One that was changed is a new one: what it would have missed, it was not there for.
        let known = kept.get(&key).filter(|kept| kept.schedule == *schedule).cloned();
        let is_new = known.is_none();
        let state = known.unwrap_or_else(|| Kept { schedule: schedule.clone(), since: now, upto: now });
        match schedule::Schedule::of(schedule, state.since) {
            Ok(read) => {
                if is_new {
                    writes.push(write(&key, Some(&state)));
                }
                let trigger = trigger.name.clone();
                in_force.insert(
                    key,
                    InForce { version: Arc::clone(&version), trigger, kept: state, schedule: read },
                );
            }
            // Control has refused what can be known to be wrong; a time that has passed by now is none.
            Err(error) => tracing::warn!(trigger = key, %error, "a schedule does not fire"),
        }
    }
    // A trigger that comes back later was not there in between.
    if events.table.whole() {
        writes.extend(kept.keys().filter(|key| !wanted.contains(*key)).map(|key| write(key, None)));
    }
    for writes in writes.chunks(PAGE) {
        records.commit(writes.to_vec()).await?;
    }
    Ok(())
}

fn write(key: &str, state: Option<&Kept>) -> Write {
    let value = state.map(|state| serde_json::to_vec(state).unwrap_or_default());
    Write { namespace: NAMESPACE.to_owned(), key: key.to_owned(), expect: Expect::Any, value }
}

/// Sends what is due, and notes that it did.
async fn fire(
    events: &Arc<Events>,
    records: &Records,
    in_force: &mut BTreeMap<String, InForce>,
    now: Timestamp,
) -> Result<(), rouse_store::Error> {
    for (key, at) in in_force.iter_mut() {
        loop {
            let due = at.schedule.due(key, at.kept.upto, now, at.kept.schedule.catch_up, ROUND_MAX);
            if due.missed > 0 {
                tracing::warn!(
                    trigger = key,
                    missed = due.missed,
                    "times of a schedule passed while nobody could act"
                );
            }
            let messages = due.occurrences.iter().map(|occurrence| message(at, occurrence, now));
            let messages: Vec<_> = messages.collect();
            let some = !messages.is_empty();
            if some {
                match events.send(messages).await {
                    Ok(_) => events.metrics.accepted("scheduled"),
                    // Its queue is full: what would be added is as good as missed.
                    Err(error @ rouse_store::Error::TooDeep { .. }) => {
                        tracing::warn!(trigger = key, %error, "a schedule's events were not taken");
                    }
                    Err(error) => return Err(error),
                }
            }
            at.kept.upto = due.upto;
            if some || due.missed > 0 {
                records.commit(vec![write(key, Some(&at.kept))]).await?;
            }
            if at.kept.upto >= now || !some {
                break;
            }
        }
    }
    Ok(())
}

/// The event of an occurrence, in the shape that code of the version's contract expects.
fn message(at: &InForce, occurrence: &Occurrence, now: Timestamp) -> (String, NewMessage) {
    let version = &at.version;
    let place = Place { region: REGION, account: ACCOUNT };
    let input = at.kept.schedule.input.as_ref().map(|input| input.to_string().into_bytes());
    let (call, body) = match version.contract {
        Contract::Lambda => {
            let event = shape::bus::scheduled(place, &at.trigger, occurrence.id, occurrence.scheduled);
            let body = input.unwrap_or_else(|| serde_json::to_vec(&event).unwrap_or_default());
            (EventCall::Invoke { content_type: Some("application/json".to_owned()) }, body)
        }
        Contract::Component | Contract::Http => {
            let input = input.unwrap_or_default();
            let tenant = version.tenant.as_str();
            let event = shape::google::scheduled(
                tenant,
                REGION,
                &at.trigger,
                occurrence.id,
                occurrence.scheduled,
                &input,
            );
            crate::shape::post(event)
        }
    };
    let event = Event {
        trigger: Some(format!("schedule:{}", at.trigger)),
        ..Event::new(&version.tenant, &version.function, call, now)
    };
    record::once(&event, body, format!("schedule/{}", occurrence.id), WINDOW)
}
