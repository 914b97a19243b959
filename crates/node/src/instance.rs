//! The life of one instance, as one task.
//!
//! ```text
//!  start ──▶ ready ──▶ idle ⇄ busy        a job that left the code in an unknown state, an exit of the code, or
//!    │                  │ ⇅     │         the owner's wish (it drops the jobs' sender) end it
//!    ▼                  │ frozen│
//!  failed               └───────┴──▶ the last jobs end ──▶ stopped
//! ```
//!
//! Busy is: with at least one job. An instance with several slots runs as many side by side.

mod start;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use rouse_contract::lambda;
use rouse_quota::Quota;
use rouse_sandbox::{Driver, Sandbox, Stats};
use rouse_types::{
    Clock, FunctionVersion, InvocationId, LogLine, OutcomeHead, Pricing, Refusal, Runtime, Usage, log::Stream,
};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::sleep,
};

use self::start::start;

use crate::{
    call::{self, Ended, Fate, Place},
    egress::Dialer,
    job::{Job, Milestones},
    journals::Journals,
    metrics::Metrics,
    worker::Worker,
};

/// Numbers the instances of one node's life.
pub(crate) type Id = u64;

/// What all instances share.
pub(crate) struct Shared<D> {
    pub(crate) driver: Arc<D>,
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) state: PathBuf,
    pub(crate) around: Around,
    launches: Mutex<HashMap<Runtime, lambda::Launch>>,
}

/// What a call needs of the node.
#[derive(Clone)]
pub(crate) struct Around {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) journals: Journals,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) pricing: Pricing,
    pub(crate) quota: Arc<Quota>,
    /// Says when even tunnels must end: nothing else would end them.
    pub(crate) over: Arc<watch::Sender<bool>>,
}

impl Around {
    /// Writes a line of the platform's own to a function's log.
    pub(crate) fn say(&self, version: &FunctionVersion, invocation: Option<InvocationId>, text: String) {
        self.line(version, lambda::Line { invocation, stream: Stream::Platform, text });
    }

    fn line(&self, version: &FunctionVersion, line: lambda::Line) {
        self.journals.log(&LogLine {
            time: self.clock.now(),
            tenant: version.tenant.clone(),
            function: version.function.clone(),
            version: version.number,
            invocation: line.invocation,
            stream: line.stream,
            text: version.masked(&line.text).into_owned(),
        });
    }

    /// What an answer tells of its call.
    pub(crate) fn head(&self, usage: &Usage) -> OutcomeHead {
        OutcomeHead {
            outcome: usage.outcome,
            timing: usage.timing,
            billed_ms: usage.billed_ms,
            cost_nanos: self.pricing.cost_nanos(usage),
            cold: usage.cold,
        }
    }

    pub(crate) fn ended(&self, usage: &Usage) {
        // First: what is on the bill must have been counted against the cap.
        self.quota.settle(usage, || self.pricing.cost_nanos(usage));
        self.journals.usage(usage);
        self.metrics.ended(usage.outcome, &usage.timing, usage.cold);
    }
}

/// What the owner decided to start.
pub(crate) struct Order {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) version: Arc<FunctionVersion>,
    pub(crate) jobs: mpsc::Receiver<Job>,
}

/// What an instance tells the owner.
#[derive(Debug)]
pub(crate) enum Event {
    /// It has asked for work.
    Ready(Milestones),
    /// It could not be started, for this reason; nothing of it is left.
    Failed(Box<StartFailure>),
    /// It has run a job; if it is not ending, it can run another.
    Done(Stats),
    /// It was frozen.
    Frozen,
    /// It ended before it could begin this job: another instance must take it.
    Returned(Box<Job>),
    /// It will begin no more jobs; its memory is not free yet.
    Ending,
    /// Nothing of it is left.
    Gone,
}

/// Why an instance could not be started.
#[derive(Debug)]
pub(crate) struct StartFailure {
    pub(crate) refusal: Refusal,
    pub(crate) milestones: Milestones,
    pub(crate) cpu_us: u64,
    /// Whether code ran, and is billed.
    pub(crate) ran: bool,
    /// Whether it was for want of memory.
    pub(crate) out_of_memory: bool,
}

impl<D> Shared<D> {
    pub(crate) fn new(driver: D, state: PathBuf, around: Around) -> Self {
        let dialer = Arc::new(Dialer::new(&state));
        Self { driver: Arc::new(driver), dialer, state, around, launches: Mutex::default() }
    }
}

/// Lives from the start to the end. `tell` takes what the owner must know.
pub(crate) async fn live<D: Driver>(shared: Arc<Shared<D>>, order: Order, tell: mpsc::Sender<(Id, Event)>) {
    let Order { id, name, version, mut jobs } = order;
    let tell = Tell { id, to: tell };
    let started = tokio::select! {
        started = start(&shared, &version, &name) => started,
        // No job comes before it is ready, so this is the owner's wish to end it.
        _ = jobs.recv() => return tell.of(Event::Gone).await,
    };
    let (worker, milestones) = match started {
        Ok(started) => started,
        Err(failure) => return tell.of(Event::Failed(Box::new(failure))).await,
    };
    tell.of(Event::Ready(milestones)).await;
    let place = Arc::new(Place::new(worker, version, milestones, shared.around.clone()));
    let mut running = JoinSet::new();
    loop {
        match idle(&place.worker, &mut jobs, || tell.of(Event::Frozen)).await {
            Next::Job(job) => run(&place, *job, &mut running),
            Next::Lost(job) => {
                tell.of(Event::Returned(job)).await;
                break;
            }
            Next::End => break,
        }
        if !busy(&place, &mut jobs, &mut running, &tell).await {
            break;
        }
    }
    tell.of(Event::Ending).await;
    // Jobs may have been sent just when the code ended.
    jobs.close();
    while let Some(job) = jobs.recv().await {
        tell.of(Event::Returned(Box::new(job))).await;
    }
    // Those that run beside the one that was the last end by themselves, within their time.
    while let Some(ended) = running.join_next().await {
        tell.ended(&place, ended).await;
    }
    match Arc::into_inner(place) {
        Some(place) => place.worker.stop().await,
        None => tracing::error!("a call outlived its task"),
    }
    tell.of(Event::Gone).await;
}

/// The way to the owner.
struct Tell {
    id: Id,
    to: mpsc::Sender<(Id, Event)>,
}

impl Tell {
    async fn of(&self, event: Event) {
        // The owner ends after all instances; if it is gone, the node is.
        drop(self.to.send((self.id, event)).await);
    }

    /// A job has ended.
    async fn ended<S: Sandbox>(&self, place: &Place<S>, ended: Result<Ended, JoinError>) {
        let event = match ended {
            Ok(Ended { fate: Fate::NotBegun(job), .. }) => Event::Returned(job),
            Ok(Ended { stats, .. }) => Event::Done(stats),
            Err(error) => {
                tracing::error!(%error, "a call's task failed");
                Event::Done(place.worker.sandbox().stats())
            }
        };
        self.of(event).await;
    }
}

fn run<S: Sandbox>(place: &Arc<Place<S>>, job: Job, running: &mut JoinSet<Ended>) {
    let place = Arc::clone(place);
    running.spawn(async move { call::run(&place, job).await });
}

/// Runs jobs side by side until none is left: whether the instance can be used again.
async fn busy<S: Sandbox>(
    place: &Arc<Place<S>>,
    jobs: &mut mpsc::Receiver<Job>,
    running: &mut JoinSet<Ended>,
    tell: &Tell,
) -> bool {
    let mut wanted = true;
    loop {
        // The owner sends no more than the instance has slots.
        tokio::select! {
            biased;
            ended = running.join_next() => match ended {
                None => return true,
                Some(ended) => {
                    let reusable = matches!(ended, Ok(Ended { fate: Fate::Reusable, .. }));
                    if !reusable {
                        // First, so that the owner does not send another.
                        tell.of(Event::Ending).await;
                    }
                    tell.ended(place, ended).await;
                    if !reusable {
                        return false;
                    }
                }
            },
            job = jobs.recv(), if wanted => match job {
                Some(job) if place.worker.has_exited() => {
                    tell.of(Event::Returned(Box::new(job))).await;
                    return false;
                }
                Some(job) => run(place, job, running),
                // It ends when those have ended.
                None => wanted = false,
            },
        }
    }
}

/// What comes after being idle.
enum Next {
    Job(Box<Job>),
    /// The instance cannot run it.
    Lost(Box<Job>),
    /// There will be no job, or the code has ended.
    End,
}

/// Waits for a job; freezes after the grace and thaws before it gives one.
async fn idle<S: Sandbox, F: Future<Output = ()>>(
    worker: &Worker<S>,
    jobs: &mut mpsc::Receiver<Job>,
    frozen: impl FnOnce() -> F,
) -> Next {
    let usable = |job: Option<Job>| match job.map(Box::new) {
        Some(job) if worker.has_exited() => Next::Lost(job),
        Some(job) => Next::Job(job),
        None => Next::End,
    };
    tokio::select! {
        biased;
        job = jobs.recv() => return usable(job),
        _ = worker.exited() => return Next::End,
        () = sleep(rouse_scheduler::FREEZE_GRACE) => {}
    }
    if let Err(error) = worker.sandbox().freeze().await {
        tracing::warn!(%error, "an idle instance cannot be frozen");
        return Next::End;
    }
    frozen().await;
    let next = tokio::select! {
        biased;
        job = jobs.recv() => usable(job),
        _ = worker.exited() => Next::End,
    };
    if let Next::Job(job) = next {
        return match worker.sandbox().thaw().await {
            Ok(()) => Next::Job(job),
            Err(error) => {
                tracing::warn!(%error, "a frozen instance cannot be thawed");
                Next::Lost(job)
            }
        };
    }
    next
}
