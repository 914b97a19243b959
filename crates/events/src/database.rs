//! Database triggers: one task for each that is in force, which reads the changes of its tables from PostgreSQL's log.
//!
//! ```text
//!  table of triggers ─▶ plan (pure) ─▶ records ─┬─▶ follow: connect ─▶ prepare ─▶ stream ─▶ …   again after a pause
//!                                               └─▶ forget: connect ─▶ drop slot and publication
//! ```
//! Nothing here is on the way of a deployment: a database that is away, or wants something first, is told of in the log, in
//! metrics and by `rouse triggers`, and tried again until it works.

mod connection;
mod dial;
mod kept;
mod message;
mod prepare;
mod problem;
mod stream;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rouse_store::Records;
use rouse_triggers::{
    pattern::Pattern,
    postgres::{Lsn, address::Address, slot},
};
use rouse_types::trigger::On;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::{
    connection::Connection,
    kept::{GONE, Gone, KEPT, Kept, Wanted, all, plan, write},
    message::Maker,
    stream::{Reading, store},
};
pub(crate) use self::{
    kept::Of,
    problem::{Problem, State, Status},
};
use crate::dispatch::Events;

/// How long a change is known by its id: only those need it that a crash left between two writes, or in the middle of a
/// transaction.
const WINDOW: Duration = Duration::from_secs(3_600);
/// The pause after something went wrong: doubled from the least to the most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The same while a slot cannot be dropped.
const DROP_PAUSE_MAX: Duration = Duration::from_secs(600);
/// How long that is tried.
const DROP_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Until the server begins to send.
const REPLICATE_MAX: Duration = Duration::from_secs(120);
/// Writes of one transaction of the records.
const WRITES: usize = 1_000;

/// How each trigger's connection fares.
#[derive(Debug, Default)]
pub(crate) struct Statuses(Mutex<BTreeMap<Of, Status>>);

impl Statuses {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<Of, Status>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of them.
    pub(crate) fn all(&self) -> BTreeMap<Of, Status> {
        self.with(|all| all.clone())
    }
}

/// What a task is for: it is replaced when this changes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Job {
    Follow { wanted: Wanted, contract: rouse_types::Contract, trigger: rouse_types::Trigger },
    Forget(Gone),
}

struct Task {
    job: Job,
    stop: CancellationToken,
    handle: JoinHandle<()>,
}

/// Keeps a task for each trigger in force and each slot to be dropped, until all is to stop.
pub(crate) async fn run(events: Arc<Events>, records: Records) {
    let mut changed = events.changed.subscribe();
    let mut tasks = BTreeMap::<String, Task>::new();
    while !events.stop.is_cancelled() {
        let pulls = events.pulls();
        if pulls.is_cancelled() {
            // A slot has one reader: another node's has its turn.
            for task in std::mem::take(&mut tasks).into_values() {
                end(task).await;
            }
            events.pulls_again().await;
            continue;
        }
        let pause = match synchronise(&events, &records, &mut tasks).await {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "database triggers cannot be kept");
                Some(PAUSE_MIN)
            }
        };
        tokio::select! {
            _ = changed.changed() => {}
            () = sleep(pause) => {}
            () = pulls.cancelled() => {}
        }
    }
    for task in tasks.into_values() {
        end(task).await;
    }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

async fn end(task: Task) {
    task.stop.cancel();
    // It ends at its next wait.
    let _ = task.handle.await;
}

/// Brings records and tasks to what is in force. Can be repeated.
async fn synchronise(
    events: &Arc<Events>,
    records: &Records,
    tasks: &mut BTreeMap<String, Task>,
) -> Result<(), rouse_store::Error> {
    let (mut wanted, mut jobs) = (BTreeMap::new(), BTreeMap::new());
    let mut whole = events.table.whole();
    for (version, trigger) in events.table.triggers() {
        let On::Database(source) = &trigger.on else { continue };
        let of = Of {
            tenant: version.tenant.clone(),
            function: version.function.clone(),
            trigger: trigger.name.clone(),
        };
        if let Err(error) = Address::of(&source.url, &version.env) {
            // Control has refused it; what is kept of it stays.
            tracing::error!(trigger = of.key(), %error, "a database trigger has no address");
            whole = false;
            continue;
        }
        let url = match source.url.strip_prefix("env:") {
            Some(name) => version.env.get(name).cloned().unwrap_or_default(),
            None => source.url.clone(),
        };
        let of_database = Wanted { url, slot: slot::name(&of.tenant, &of.function, &of.trigger) };
        let job =
            Job::Follow { wanted: of_database.clone(), contract: version.contract, trigger: trigger.clone() };
        jobs.insert(of_database.slot.clone(), (of.clone(), job));
        wanted.insert(of, of_database);
    }
    let planned = async || -> Result<_, rouse_store::Error> {
        let (kept, gone) = (all::<Kept>(records, KEPT).await?, all::<Gone>(records, GONE).await?);
        Ok(plan(&wanted, &kept, &gone, whole, events.config.clock.now()))
    };
    // A task writes how far it got: before that is changed, it ends.
    let changes = planned().await?;
    let touched = |key: &str| changes.iter().any(|change| change.namespace == KEPT && change.key == key);
    let stale: Vec<String> = tasks
        .iter()
        .filter(|(key, task)| touched(key) || jobs.get(*key).is_some_and(|(_, job)| *job != task.job))
        .map(|(key, _)| key.clone())
        .collect();
    for key in stale {
        if let Some(task) = tasks.remove(&key) {
            end(task).await;
        }
    }
    for part in planned().await?.chunks(WRITES) {
        records.commit(part.to_vec()).await?;
    }
    for (key, gone) in all::<Gone>(records, GONE).await? {
        jobs.insert(key, (gone.of.clone(), Job::Forget(gone)));
    }
    let over: Vec<String> = tasks
        .iter()
        .filter(|(key, task)| {
            task.handle.is_finished() || jobs.get(*key).is_none_or(|(_, job)| *job != task.job)
        })
        .map(|(key, _)| key.clone())
        .collect();
    for key in over {
        if let Some(task) = tasks.remove(&key) {
            end(task).await;
        }
    }
    for (key, (of, job)) in jobs {
        tasks.entry(key).or_insert_with(|| start(events, records, of, job));
    }
    events.databases.with(|all| {
        all.retain(|of, status| wanted.contains_key(of) || matches!(status.state, State::Removing(_)));
    });
    Ok(())
}

fn start(events: &Arc<Events>, records: &Records, of: Of, job: Job) -> Task {
    let stop = events.stop.child_token();
    let (own, at_end, records) = (Arc::clone(events), stop.clone(), records.clone());
    let of_task = job.clone();
    let handle = events.tasks.spawn(async move {
        let work = async {
            match of_task {
                Job::Follow { wanted, contract, trigger } => {
                    follow(&own, &records, &of, &wanted, contract, &trigger).await;
                }
                Job::Forget(gone) => forget(&own, &records, gone).await,
            }
        };
        tokio::select! {
            () = Box::pin(work) => {}
            () = at_end.cancelled() => {}
        }
    });
    Task { job, stop, handle }
}

/// Says how a trigger fares: once in the log for each change of it.
fn say(events: &Events, of: &Of, state: State, position: Option<Lsn>) {
    let now = events.config.clock.now();
    let is_new = events.databases.with(|all| {
        let before = all.get(of);
        let same = before.is_some_and(|before| before.state == state);
        let since = before.filter(|_| same).map_or(now, |before| before.since);
        let position =
            position.map(|at| at.to_string()).or_else(|| before.and_then(|before| before.position.clone()));
        all.insert(of.clone(), Status { state: state.clone(), since, position });
        !same
    });
    if is_new {
        let trigger = of.key();
        match &state {
            State::Starting => tracing::info!(trigger, "connects to its database"),
            State::Streaming => tracing::info!(trigger, "reads the changes of its database"),
            State::Failing(problem) => {
                let hint = problem.hint.as_deref().unwrap_or_default();
                tracing::warn!(trigger, %problem, hint, "a database trigger does not fire; it is tried again");
            }
            State::Removing(None) => tracing::info!(trigger, "drops its slot and publication"),
            State::Removing(Some(problem)) => {
                tracing::warn!(trigger, %problem, "a slot cannot be dropped yet; it is tried again");
            }
        }
    }
    events.metrics.databases(&events.databases.all());
}

/// Reads a trigger's changes for as long as it is in force.
async fn follow(
    events: &Arc<Events>,
    records: &Records,
    of: &Of,
    wanted: &Wanted,
    contract: rouse_types::Contract,
    trigger: &rouse_types::Trigger,
) {
    let On::Database(source) = &trigger.on else { return };
    let filter = match trigger.filter.as_ref().map(Pattern::compile).transpose() {
        Ok(filter) => filter.map(Arc::new),
        // Control has refused what is no pattern; without it, the function would get what it does not want.
        Err(error) => {
            return say(events, of, State::Failing(Problem::new(format!("its filter: {error}"))), None);
        }
    };
    let maker = Maker { of: of.clone(), contract, source: source.clone(), filter, slot: wanted.slot.clone() };
    let mut pause = PAUSE_MIN;
    say(events, of, State::Starting, None);
    loop {
        let begun = tokio::time::Instant::now();
        let problem = match Box::pin(session(events, records, of, wanted, &maker)).await {
            Ok(never) => match never {},
            Err(problem) => problem,
        };
        // A stream that went well for a while is worth a quick try.
        if begun.elapsed() > PAUSE_MAX {
            pause = PAUSE_MIN;
        }
        say(events, of, State::Failing(problem), None);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// One connection, from its beginning to what ends it.
async fn session(
    events: &Arc<Events>,
    records: &Records,
    of: &Of,
    wanted: &Wanted,
    maker: &Maker,
) -> Result<std::convert::Infallible, Problem> {
    let address = Address::parse(&wanted.url).map_err(|error| Problem::new(error.to_string()))?;
    let found = records.get(KEPT, &wanted.slot).await.map_err(|error| store(&error))?;
    let kept = found.and_then(|record| serde_json::from_slice::<Kept>(&record.value).ok());
    let mut kept = kept.ok_or_else(|| Problem::new("what was kept of the trigger cannot be read"))?;
    let mut connection = Connection::open(&address, &events.config.state).await?;
    let found = prepare::prepare(&mut connection, &maker.source, &wanted.slot, &address.database).await?;
    // Places of the log mean nothing in another log, or in this one after it went back to a copy.
    let other = kept.system != found.system || found.written.0 < kept.upto;
    if let Some(lost) = missed(&kept, &found, other) {
        tracing::error!(trigger = of.key(), reason = lost, "changes between the last one and now are lost");
    }
    if found.is_new || other {
        kept = Kept { generation: kept.generation + 1, upto: 0, within: None, ..kept };
    }
    kept = Kept { made: true, system: found.system, ..kept };
    let note = vec![write(KEPT, &wanted.slot, Some(&kept))];
    records.commit(note).await.map_err(|error| store(&error))?;
    connection.replicate(&wanted.slot, Lsn(kept.upto), REPLICATE_MAX).await?;
    let upto = Lsn(kept.upto);
    say(events, of, State::Streaming, (upto > Lsn(0)).then_some(upto));
    let safe = |at: Lsn| {
        events.databases.with(|all| {
            if let Some(status) = all.get_mut(of) {
                status.position = Some(at.to_string());
            }
        });
    };
    let reading = Reading { events, records, maker, keys: &found.keys, connection, kept, safe: &safe };
    Err(Box::pin(reading.run(&address.database)).await)
}

/// Why changes may have been missed since this trigger was last here, if so.
fn missed(kept: &Kept, found: &prepare::Prepared, other: bool) -> Option<String> {
    match &found.lost {
        Some(lost) => Some(lost.clone()),
        None if kept.made && found.is_new => Some("its slot was not there any more".to_owned()),
        None if kept.made && other => {
            Some("the database is another, or went back to a copy of itself".to_owned())
        }
        None => None,
    }
}

/// Drops what a trigger left, for some days at most.
async fn forget(events: &Arc<Events>, records: &Records, gone: Gone) {
    let mut pause = PAUSE_MIN;
    // A trigger of this name may be in force again, with another database: then it is its state that is shown.
    let say = |problem: Option<Problem>| {
        let in_force = events
            .databases
            .all()
            .get(&gone.of)
            .is_some_and(|status| !matches!(status.state, State::Removing(_)));
        let wanted = events.table.triggers().iter().any(|(version, trigger)| {
            (&version.tenant, &version.function, &trigger.name)
                == (&gone.of.tenant, &gone.of.function, &gone.of.trigger)
        });
        if !(in_force && wanted) {
            say(events, &gone.of, State::Removing(problem), None);
        }
    };
    say(None);
    loop {
        let problem = match remove(events, &gone).await {
            Ok(()) => {
                break tracing::info!(
                    trigger = gone.of.key(),
                    slot = gone.slot,
                    "its slot and publication are dropped"
                );
            }
            Err(problem) => problem,
        };
        if events.config.clock.now().since(gone.since) > DROP_FOR {
            break tracing::error!(
                trigger = gone.of.key(), slot = gone.slot, %problem,
                "its slot could not be dropped for a week and is left: drop it by hand, it holds the database's log"
            );
        }
        say(Some(problem));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(DROP_PAUSE_MAX);
    }
    if let Err(error) = records.commit(vec![write::<Gone>(GONE, &gone.key(), None)]).await {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "a slot that was dropped is dropped again later"
        );
    }
    events.databases.with(|all| {
        if all.get(&gone.of).is_some_and(|status| matches!(status.state, State::Removing(_))) {
            all.remove(&gone.of);
        }
    });
    events.metrics.databases(&events.databases.all());
}

async fn remove(events: &Events, gone: &Gone) -> Result<(), Problem> {
    let address = Address::parse(&gone.url).map_err(|error| Problem::new(error.to_string()))?;
    let mut connection = Connection::open(&address, &events.config.state).await?;
    prepare::drop_all(&mut connection, &gone.slot).await
}
