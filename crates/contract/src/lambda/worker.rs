//! One instance, from the platform's side: started, called (also several times at once), stopped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rouse_sandbox::{Driver, Exit, Sandbox, Spec, Started, Stats};
use rouse_types::{Clock, InvocationId};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    Answer, Body, Call, Failure, LogSink, StartError, StartFailed,
    api::{self, extension::Names},
    exchange::{Exchange, Init, Posted, Work},
    extensions::Extensions,
    launch,
};
use crate::running::Running;

/// How long extensions have for their last work: AWS' time.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(2);
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
    /// The wall clock: extensions are told when they must have ended.
    pub clock: Arc<dyn Clock>,
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
    /// With the Runtime API among its tasks.
    running: Running<S>,
    work: mpsc::Sender<Work>,
    extensions: Arc<Extensions>,
    clock: Arc<dyn Clock>,
    /// A call ran over its time.
    overran: AtomicBool,
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
        let launched = launch::extensions(&spec);
        let names = names(&spec);
        let started = driver.start(spec).await.map_err(|error| StartFailed {
            error: error.into(),
            start: begun.elapsed(),
            init: Duration::ZERO,
            stats: Stats::default(),
        })?;
        let start = begun.elapsed();
        let (init_tell, init) = oneshot::channel();
        let init_timeout = options.init_timeout;
        let worker = Self::new(started, options, (launched, names), init_tell);
        let exited = worker.exited();
        // The API gives up its end without a word when the sandbox is gone; how it went, its exit says.
        let asked = async {
            match init.await {
                Ok(init) => init,
                Err(_) => std::future::pending().await,
            }
        };
        let extensions = Arc::clone(&worker.extensions);
        let init = async {
            tokio::select! {
                biased;
                init = asked => match init {
                    Init::Ready => extensions.ready().await.map_or_else(Init::Error, |()| Init::Ready),
                    error @ Init::Error(_) => error,
                },
                error = extensions.failure() => Init::Error(error),
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
                let extensions = extensions.missing();
                StartError::Timeout { after: init_timeout, extensions, tail: Vec::new() }
            }
        };
        let init = begun.elapsed() - start;
        let logs = Arc::clone(&worker.running.logs);
        let (exit, stats) = worker.stop().await;
        let tail = logs.tail();
        let error = match error {
            StartError::Timeout { after, extensions, .. } => StartError::Timeout { after, extensions, tail },
            StartError::Init { error, .. } => StartError::Init { error, tail },
            // The kernel's word comes last: an exit may turn out to be the end of the memory.
            StartError::Exited { exit: first, .. } => {
                StartError::Exited { exit: exit.unwrap_or(first), tail }
            }
            other @ StartError::Sandbox(_) => other,
        };
        Err(StartFailed { error, start, init, stats })
    }

    fn new(
        started: Started<S>,
        options: Options,
        (launched, names): (Vec<String>, Names),
        init: oneshot::Sender<Init>,
    ) -> Self {
        let Started { sandbox, listeners, stdout, stderr, .. } = started;
        // The next call may be put in as soon as one before was answered: no more than these wait for the code.
        let concurrency =
            usize::try_from(options.concurrency).unwrap_or(usize::MAX).clamp(1, CONCURRENCY_MAX);
        let (work, receiver) = mpsc::channel(concurrency);
        let extensions = Extensions::new(launched, concurrency > 1, Arc::clone(&options.log));
        let extensions = Arc::new(extensions);
        let exchange = Arc::new(Exchange::new(
            (options.arn, names),
            options.response_bytes_max,
            concurrency,
            Arc::clone(&extensions),
            (receiver, init),
        ));
        let mut running = Running::new(sandbox, stdout, stderr, options.log);
        if let Some(listener) = listeners.into_iter().next() {
            running.tasks.spawn(api::serve(listener, exchange));
        }
        let (clock, overran) = (options.clock, AtomicBool::new(false));
        Self { running, work, extensions, clock, overran }
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
        self.running.logs.begin(call.id, call.log_bytes);
        let deadline = Instant::now() + call.timeout;
        self.extensions.begin(&call, deadline);
        let (posted, answer) = oneshot::channel();
        if self.work.try_send(Work { call, posted }).is_err() {
            return Err(self.failed(deadline).await);
        }
        let posted = tokio::select! {
            biased;
            posted = answer => posted,
            exit = self.running.exited() => return Err(Failure::Exited(exit)),
            () = sleep_until(deadline) => {
                self.overran.store(true, Ordering::Relaxed);
                return Err(Failure::Timeout);
            }
        };
        Ok(match posted {
            Ok(Posted::Whole(body)) => Answer::Whole(body),
            Ok(Posted::Error(error)) => Answer::Error(error),
            Ok(Posted::TooLarge(max)) => Answer::TooLarge(max),
            Ok(Posted::Stream { content_type, pieces }) => {
                Answer::Streamed { content_type, body: Body::new(pieces, self.running.watch(), deadline) }
            }
            Err(_) => return Err(self.failed(deadline).await),
        })
    }

    /// Waits until no extension is at work on the call that was answered last: until then the instance must neither
    /// be frozen nor get another call. At once where no extension wants to be told of calls.
    ///
    /// # Errors
    /// [`Failure::Timeout`] if the call's time runs out first: stop it then.
    pub async fn settled(&self) -> Result<(), Failure> {
        let settled = self.extensions.settled().await;
        self.overran.fetch_or(settled.is_err(), Ordering::Relaxed);
        settled
    }

    /// Ends what this call may write to the log, and says what was dropped of it.
    pub fn end_log(&self, call: InvocationId) {
        self.running.logs.end(call);
    }

    /// The last lines that the code wrote to its standard error.
    #[must_use]
    pub fn last_words(&self) -> Vec<String> {
        self.running.logs.tail()
    }

    /// The sandbox, to freeze, thaw and measure it.
    #[must_use]
    pub fn sandbox(&self) -> &S {
        &self.running.sandbox
    }

    /// Whether the sandbox has ended.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        self.running.has_exited()
    }

    /// Waits until the sandbox has ended by itself.
    pub fn exited(&self) -> impl Future<Output = Exit> + Send + use<S> {
        self.running.exited()
    }

    /// Gives its extensions a moment for their last work, kills it, waits (within bounds) until it is gone and its
    /// last lines are read, and says how it ended and what it had used.
    pub async fn stop(self) -> (Option<Exit>, Stats) {
        if !self.has_exited() {
            self.shut_down().await;
        }
        self.running.stop().await
    }

    async fn shut_down(&self) {
        let reason = if self.overran.load(Ordering::Relaxed) { "timeout" } else { "spindown" };
        let until = self.clock.now() + SHUTDOWN_WAIT;
        if !self.extensions.shut_down(reason, until.as_millis()) {
            return;
        }
        // It may be frozen. If it cannot go on, there is nobody to tell.
        if self.sandbox().thaw().await.is_err() {
            return;
        }
        let ended = async {
            tokio::select! {
                _ = self.exited() => {}
                () = self.extensions.at_rest() => {}
            }
        };
        drop(timeout(SHUTDOWN_WAIT, ended).await);
    }

    /// No one takes the call: the sandbox has ended, or its time is up.
    async fn failed(&self, deadline: Instant) -> Failure {
        match timeout_at(deadline, self.running.exited()).await {
            Ok(exit) => Failure::Exited(exit),
            Err(_) => Failure::Timeout,
        }
    }
}

/// What the code is called, as its own environment says.
fn names(spec: &Spec) -> Names {
    let of = |name: &str| {
        let found = spec.env.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    Names {
        function: of("AWS_LAMBDA_FUNCTION_NAME"),
        version: of("AWS_LAMBDA_FUNCTION_VERSION"),
        handler: of("_HANDLER"),
    }
}
