//! One instance, from the platform's side: started, called (also several times at once), stopped.

use std::{sync::Arc, time::Duration};

use rouse_sandbox::{Driver, Exit, Sandbox, Spec, Started, Stats};
use rouse_types::{InvocationId, log::Stream};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    Answer, Body, Call, Failure, LogSink, StartError, StartFailed, api,
    exchange::{Exchange, Init, Posted, Work},
    logs::Logs,
};

/// How long an ended sandbox' outputs are read on: they end by themselves when the last process has gone.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// How long a killed sandbox may take to be gone before nobody waits for it any more; the driver still does.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// Calls that one instance may run at once, whatever was asked for.
const CONCURRENCY_MAX: usize = 1_000;

/// What a worker is started with, beside its spec.
pub struct Options {
    /// The function's name as AWS writes it, for the code's context.
    pub arn: String,
    /// How long the code may take until it asks for work.
    pub init_timeout: Duration,
    /// Bytes of an answer.
    pub response_bytes_max: u64,
    /// Calls at once: 1, unless the code was told of more in its environment. See [`super::environment`].
    pub concurrency: u32,
    /// Takes what the code writes.
    pub log: LogSink,
}

/// A started instance and how long that took.
pub struct Ready<S> {
    /// The instance, which has asked for work.
    pub worker: Worker<S>,
    /// Making the sandbox.
    pub start: Duration,
    /// From then until the code asked for work.
    pub init: Duration,
}

/// An instance that has asked for work. Dropping it kills it.
pub struct Worker<S> {
    sandbox: Arc<S>,
    work: mpsc::Sender<Work>,
    exited: watch::Receiver<Option<Exit>>,
    logs: Arc<Logs>,
    pumps: JoinSet<()>,
    /// The Runtime API, and what waits for the sandbox' end.
    tasks: JoinSet<()>,
}

impl<S: Sandbox> Worker<S> {
    /// Starts a sandbox and waits until its code asks for work. The Runtime API is served on the first of the
    /// spec's listeners. On an error, or when the future is dropped, nothing stays behind.
    ///
    /// # Errors
    /// [`StartFailed`] says why, and what it cost.
    pub async fn start<D>(driver: &D, spec: Spec, options: Options) -> Result<Ready<S>, StartFailed>
    where
        D: Driver<Sandbox = S>,
    {
        let begun = Instant::now();
        let started = driver.start(spec).await.map_err(|error| StartFailed {
            error: error.into(),
            start: begun.elapsed(),
            init: Duration::ZERO,
            stats: Stats::default(),
        })?;
        let start = begun.elapsed();
        let (init_tell, init) = oneshot::channel();
        let init_timeout = options.init_timeout;
        let worker = Self::new(started, options, init_tell);
        let exited = worker.exited();
        // The API gives up its end without a word when the sandbox is gone; how it went, its exit says.
        let init = async {
            match init.await {
                Ok(init) => init,
                Err(_) => std::future::pending().await,
            }
        };
        let error = tokio::select! {
            biased;
            init = init => match init {
                Init::Ready => return Ok(Ready { worker, start, init: begun.elapsed() - start }),
                Init::Error(error) => StartError::Init { error, tail: Vec::new() },
            },
            exit = exited => StartError::Exited { exit, tail: Vec::new() },
            () = sleep_until(begun + start + init_timeout) => {
                StartError::Timeout { after: init_timeout, tail: Vec::new() }
            }
        };
        let init = begun.elapsed() - start;
        let logs = Arc::clone(&worker.logs);
        let (exit, stats) = worker.stop().await;
        let tail = logs.tail();
        let error = match error {
            StartError::Timeout { after, .. } => StartError::Timeout { after, tail },
            StartError::Init { error, .. } => StartError::Init { error, tail },
            // The kernel's word comes last: an exit may turn out to be the end of the memory.
            StartError::Exited { exit: first, .. } => {
                StartError::Exited { exit: exit.unwrap_or(first), tail }
            }
            other @ StartError::Sandbox(_) => other,
        };
        Err(StartFailed { error, start, init, stats })
    }

    fn new(started: Started<S>, options: Options, init: oneshot::Sender<Init>) -> Self {
        let Started { sandbox, listeners, stdout, stderr, .. } = started;
        let sandbox = Arc::new(sandbox);
        // The next call may be put in as soon as one before was answered: no more than these wait for the code.
        let concurrency =
            usize::try_from(options.concurrency).unwrap_or(usize::MAX).clamp(1, CONCURRENCY_MAX);
        let (work, receiver) = mpsc::channel(concurrency);
        let exchange = Exchange::new(options.arn, options.response_bytes_max, concurrency, receiver, init);
        let exchange = Arc::new(exchange);
        let logs = Arc::new(Logs::new(options.log));
        let mut pumps = JoinSet::new();
        pumps.spawn(Arc::clone(&logs).pump(stdout, Stream::Stdout));
        pumps.spawn(Arc::clone(&logs).pump(stderr, Stream::Stderr));
        let mut tasks = JoinSet::new();
        if let Some(listener) = listeners.into_iter().next() {
            tasks.spawn(api::serve(listener, exchange));
        }
        let (exited_tell, exited) = watch::channel(None);
        tasks.spawn({
            let sandbox = Arc::clone(&sandbox);
            async move {
                let exit = sandbox.exited().await;
                exited_tell.send_replace(Some(exit));
            }
        });
        Self { sandbox, work, exited, logs, pumps, tasks }
    }

    /// Hands a call to the code and waits for what it posts. Precondition: fewer calls than
    /// [`Options::concurrency`] run; one that was answered with a stream runs until that has ended.
    ///
    /// # Errors
    /// [`Failure`]: hand it no more calls, and stop it when those that run have ended. The same when this future is
    /// dropped: the code is still running.
    pub async fn invoke(&self, call: Call) -> Result<Answer, Failure> {
        // What a call before wrote may still be in its pipe: let the pumps read it first.
        tokio::task::yield_now().await;
        self.logs.begin(call.id, call.log_bytes);
        let deadline = Instant::now() + call.timeout;
        let (posted, answer) = oneshot::channel();
        if self.work.try_send(Work { call, posted }).is_err() {
            return Err(self.failed(deadline).await);
        }
        let posted = tokio::select! {
            biased;
            posted = answer => posted,
            exit = ended(self.exited.clone()) => return Err(Failure::Exited(exit)),
            () = sleep_until(deadline) => return Err(Failure::Timeout),
        };
        Ok(match posted {
            Ok(Posted::Whole(body)) => Answer::Whole(body),
            Ok(Posted::Error(error)) => Answer::Error(error),
            Ok(Posted::TooLarge(max)) => Answer::TooLarge(max),
            Ok(Posted::Stream { content_type, pieces }) => {
                Answer::Streamed { content_type, body: Body::new(pieces, self.exited.clone(), deadline) }
            }
            Err(_) => return Err(self.failed(deadline).await),
        })
    }

    /// Ends what this call may write to the log, and says what was dropped of it.
    pub fn end_log(&self, call: InvocationId) {
        self.logs.end(call);
    }

    /// The last lines that the code wrote to its standard error.
    #[must_use]
    pub fn last_words(&self) -> Vec<String> {
        self.logs.tail()
    }

    /// The sandbox, to freeze, thaw and measure it.
    #[must_use]
    pub fn sandbox(&self) -> &S {
        &self.sandbox
    }

    /// Whether the sandbox has ended.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        self.exited.borrow().is_some()
    }

    /// Waits until the sandbox has ended by itself.
    pub fn exited(&self) -> impl Future<Output = Exit> + Send + use<S> {
        ended(self.exited.clone())
    }

    /// Kills it, waits (within bounds) until it is gone and its last lines are read, and says how it ended and
    /// what it had used.
    pub async fn stop(mut self) -> (Option<Exit>, Stats) {
        let already = *self.exited.borrow();
        self.sandbox.kill();
        let exit = timeout(KILL_WAIT, ended(self.exited.clone())).await.ok();
        if exit.is_none() {
            tracing::error!("a killed sandbox is still there");
        }
        let until = Instant::now() + LAST_WORDS;
        while let Ok(Some(_)) = timeout_at(until, self.pumps.join_next()).await {}
        self.logs.end_all();
        self.tasks.abort_all();
        (already.or(exit), self.sandbox.stats())
    }

    /// No one takes the call: the sandbox has ended, or its time is up.
    async fn failed(&self, deadline: Instant) -> Failure {
        match timeout_at(deadline, ended(self.exited.clone())).await {
            Ok(exit) => Failure::Exited(exit),
            Err(_) => Failure::Timeout,
        }
    }
}

pub(super) async fn ended(mut exited: watch::Receiver<Option<Exit>>) -> Exit {
    match exited.wait_for(Option::is_some).await {
        Ok(exit) => exit.unwrap_or(Exit::Code(0)),
        // Who tells is gone with the worker, which killed the sandbox.
        Err(_) => Exit::Signal(9),
    }
}
