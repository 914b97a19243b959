//! The one task that owns the pool: takes calls and news, does what was decided.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rouse_sandbox::Driver;
use rouse_types::{AppSnapshot, InstanceInfo, node::Load};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    instance::{self, Event, Shared, live},
    job::Job,
    metrics::Levels,
    pool::Pool,
};

/// Calls and questions on their way to the owner. It never waits while it works, so that few are ever there.
pub(crate) const COMMANDS_MAX: usize = 1_024;
/// News of instances on their way to the owner.
const EVENTS_MAX: usize = 1_024;
/// How long instances may take to be gone after the node was told to end: a little more than one is waited for.
const GONE: Duration = Duration::from_secs(6);

/// What the owner is asked.
pub(crate) enum Command {
    Call(Box<Job>),
    /// Answered when it is in force.
    Apply(Box<AppSnapshot>, oneshot::Sender<()>),
    List(oneshot::Sender<Vec<InstanceInfo>>),
    Levels(oneshot::Sender<Levels>),
    Load(oneshot::Sender<Load>),
}

/// Runs until `commands` is closed; then calls under way go on for at most `drain`.
pub(crate) async fn run<D: Driver>(
    mut pool: Pool,
    shared: Arc<Shared<D>>,
    mut commands: mpsc::Receiver<Command>,
    drain: Duration,
) {
    let (tell, mut events) = mpsc::channel::<(instance::Id, Event)>(EVENTS_MAX);
    let mut tasks = JoinSet::new();
    let mut ids = HashMap::new();
    let mut until = None;
    loop {
        for order in pool.orders() {
            let id = order.id;
            let task = tasks.spawn(live(Arc::clone(&shared), order, tell.clone()));
            ids.insert(task.id(), id);
        }
        if until.is_some_and(|until| pool.is_quiet() || Instant::now() >= until) {
            break;
        }
        let wake = pool.wake_at().into_iter().chain(until).min();
        tokio::select! {
            biased;
            Some((id, event)) = events.recv() => pool.event(id, event),
            Some(ended) = tasks.join_next_with_id(), if !tasks.is_empty() => {
                let task = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(task, ())| *task);
                let id = ids.remove(&task);
                if let (Err(error), Some(id)) = (ended, id) {
                    tracing::error!(%error, "an instance's task failed");
                    // Its sandbox went with it.
                    pool.event(id, Event::Gone);
                }
            }
            command = commands.recv(), if until.is_none() => match command {
                Some(command) => obey(&mut pool, command),
                None => {
                    pool.close();
                    until = Some(Instant::now() + drain);
                }
            },
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => pool.tick(Instant::now()),
        }
    }
    pool.end_all();
    let until = Instant::now() + GONE;
    drop(tell);
    // Their last news is of no use any more, but must not hold them up.
    while let Ok(Some(_)) = timeout_at(until, events.recv()).await {}
    while let Ok(Some(_)) = timeout_at(until, tasks.join_next()).await {}
}

fn obey(pool: &mut Pool, command: Command) {
    // Whoever asked may be gone; then the answer is dropped.
    match command {
        Command::Call(job) => pool.call(*job),
        Command::Apply(snapshot, done) => {
            pool.apply(*snapshot);
            let _ = done.send(());
        }
        Command::List(reply) => drop(reply.send(pool.list())),
        Command::Levels(reply) => drop(reply.send(pool.levels())),
        Command::Load(reply) => drop(reply.send(pool.load_told())),
    }
}
