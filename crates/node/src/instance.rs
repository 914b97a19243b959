//! The life of one instance, as one task.
//!
//! ```text
//!  start ──▶ ready ──▶ idle ⇄ busy        a job that left the code in an unknown state, an exit of the code, or
//!    │                  │ ⇅     │         the owner's wish (it drops the jobs' sender) end it
//!    ▼                  │ frozen│
//!  failed               └───────┴──▶ stopped
//! ```

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use rouse_contract::lambda::{self, Launch, LogSink, StartError, StartFailed, Worker, environment};
use rouse_sandbox::{Driver, Sandbox, Stats};
use rouse_types::{
    Clock, Code, FunctionVersion, InvocationId, LogLine, Refusal, Runtime, Usage, log::Stream,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use crate::{
    call::{self, Fate},
    job::{Job, Milestones},
    journals::Journals,
    metrics::Metrics,
};

/// Numbers the instances of one node's life.
pub(crate) type Id = u64;

/// What all instances share.
pub(crate) struct Shared<D> {
    pub(crate) driver: D,
    pub(crate) state: PathBuf,
    pub(crate) around: Around,
    launches: Mutex<HashMap<Runtime, Launch>>,
}

/// What a call needs of the node.
#[derive(Clone)]
pub(crate) struct Around {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) journals: Journals,
    pub(crate) metrics: Arc<Metrics>,
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
            text: line.text,
        });
    }

    pub(crate) fn ended(&self, usage: &Usage) {
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
    /// It has run a job and can run another.
    Done(Stats),
    /// It was frozen.
    Frozen,
    /// It ended before it could begin this job: another instance must take it.
    Returned(Box<Job>),
    /// It will run no more jobs; its memory is not free yet.
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

impl<D: Driver> Shared<D> {
    pub(crate) fn new(driver: D, state: PathBuf, around: Around) -> Self {
        Self { driver, state, around, launches: Mutex::default() }
    }

    /// How to launch a runtime, looked up once.
    async fn launch(&self, runtime: &Runtime) -> Result<Launch, Refusal> {
        let known = || self.launches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(launch) = known().get(runtime) {
            return Ok(launch.clone());
        }
        let (wanted, state) = (runtime.clone(), self.state.clone());
        let found = tokio::task::spawn_blocking(move || lambda::available(&wanted, &state)).await;
        let launch =
            found.unwrap_or_else(|_| Err(Refusal::new(Code::Internal, "looking up a runtime failed")))?;
        known().insert(runtime.clone(), launch.clone());
        Ok(launch)
    }
}

/// Lives from the start to the end. `tell` takes what the owner must know.
pub(crate) async fn live<D: Driver>(shared: Arc<Shared<D>>, order: Order, tell: mpsc::Sender<(Id, Event)>) {
    let Order { id, name, version, mut jobs } = order;
    let tell = move |event| {
        let tell = tell.clone();
        // The owner ends after all instances; if it is gone, the node is.
        async move { drop(tell.send((id, event)).await) }
    };
    let started = tokio::select! {
        started = start(&shared, &version, &name) => started,
        // No job comes before it is ready, so this is the owner's wish to end it.
        _ = jobs.recv() => return tell(Event::Gone).await,
    };
    let (worker, milestones) = match started {
        Ok(started) => started,
        Err(failure) => return tell(Event::Failed(Box::new(failure))).await,
    };
    tell(Event::Ready(milestones)).await;
    loop {
        let job = match idle(&worker, &mut jobs, || tell(Event::Frozen)).await {
            Next::Job(job) => *job,
            Next::Lost(job) => {
                tell(Event::Returned(job)).await;
                break;
            }
            Next::End => break,
        };
        let fate = Box::pin(call::run(&worker, job, &version, &milestones, &shared.around)).await;
        match fate {
            Fate::Reusable => tell(Event::Done(worker.sandbox().stats())).await,
            Fate::Spent => break,
        }
    }
    tell(Event::Ending).await;
    // A job may have been sent just when the code ended.
    jobs.close();
    while let Some(job) = jobs.recv().await {
        tell(Event::Returned(Box::new(job))).await;
    }
    worker.stop().await;
    tell(Event::Gone).await;
}

async fn start<D: Driver>(
    shared: &Shared<D>,
    version: &Arc<FunctionVersion>,
    name: &str,
) -> Result<(Worker<D::Sandbox>, Milestones), StartFailure> {
    let begun = Instant::now();
    let launch = shared.launch(&version.runtime).await.map_err(|refusal| StartFailure {
        refusal,
        milestones: Milestones { begun, made: Instant::now(), ready: Instant::now() },
        cpu_us: 0,
        ran: false,
        out_of_memory: false,
    })?;
    let code = shared.state.join("code").join(version.code.hex());
    let log: LogSink = {
        let (around, version) = (shared.around.clone(), Arc::clone(version));
        Arc::new(move |line| around.line(&version, line))
    };
    let mut may_retry = true;
    loop {
        let options = lambda::Options {
            arn: environment::arn(version),
            init_timeout: std::time::Duration::from_millis(version.limits.init_timeout_ms),
            response_bytes_max: version.limits.response_body_bytes,
            concurrency: version.scaling.concurrency_per_instance,
            log: Arc::clone(&log),
        };
        let before = begun.elapsed();
        let spec = launch.spec(version, &code, name);
        let milestones = |start, init| {
            let made = begun + before + start;
            Milestones { begun, made, ready: made + init }
        };
        match Box::pin(Worker::start(&shared.driver, spec, options)).await {
            Ok(ready) => return Ok((ready.worker, milestones(ready.start, ready.init))),
            // No code ran, and the driver waits for a spawner that is coming back. Once: then it is not coming.
            Err(StartFailed { error: StartError::Sandbox(rouse_sandbox::Error::Spawner(error)), .. })
                if may_retry =>
            {
                tracing::warn!(%error, version = %version.key(), "the spawner went away; the start is retried");
                may_retry = false;
            }
            Err(failed) => {
                return Err(failure(shared, version, &failed, milestones(failed.start, failed.init)));
            }
        }
    }
}

fn failure<D>(
    shared: &Shared<D>,
    version: &FunctionVersion,
    failed: &StartFailed,
    milestones: Milestones,
) -> StartFailure {
    let key = version.key();
    let ran = !matches!(failed.error, StartError::Sandbox(_));
    let out_of_memory =
        matches!(failed.error, StartError::Exited { exit: rouse_sandbox::Exit::OutOfMemory, .. });
    let refusal = if ran {
        let text = format!("{key} did not start: {}", failed.error);
        shared.around.say(version, None, text.clone());
        let hint = match failed.error {
            StartError::Timeout { .. } => "give it more time or memory, or do less while it loads".into(),
            _ => format!("see its log: `rouse logs {}`", version.function),
        };
        Refusal::new(if out_of_memory { Code::OutOfMemory } else { Code::StartFailed }, text).hint(hint)
    } else {
        // What the host said is for the operator; the caller learns that it was not the code.
        tracing::error!(version = %key, error = %failed.error, "a sandbox cannot be made");
        Refusal::new(Code::StartFailed, format!("the sandbox of {key} could not be made"))
            .hint("this is no fault of the function; the node's log says what the host refused")
    };
    StartFailure { refusal, milestones, cpu_us: failed.stats.cpu_us, ran, out_of_memory }
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
