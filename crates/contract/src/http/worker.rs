//! One instance, from the platform's side: started, called (several times at once), stopped.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{Request, Response, StatusCode, header};
use http_body::Body as _;
use rouse_sandbox::{Driver, Exit, Sandbox, Spec, Started, Stats};
use rouse_types::{HttpSettings, InvocationId, TraceContext};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    AnswerBody, Failure, RequestBody, StartError, StartFailed, Why, connections::Connections, headers,
    ready::Progress,
};
use crate::{logs::LogSink, running::Running};

/// How long a connection that broke waits for the news that the code has ended, which explains it.
const EXPLAIN: Duration = Duration::from_millis(100);

/// What a worker is started with, beside its spec.
pub struct Options {
    /// What the server speaks, and how it says that it is ready.
    pub settings: HttpSettings,
    /// How long the code may take until it is ready.
    pub init_timeout: Duration,
    /// Bytes of an answer.
    pub response_bytes_max: u64,
    /// Takes what the code writes.
    pub log: LogSink,
}

/// A started instance and how long that took.
pub struct Ready<S> {
    /// The instance, which takes calls.
    pub worker: Worker<S>,
    /// Making the sandbox.
    pub start: Duration,
    /// From then until the server was ready.
    pub init: Duration,
}

/// One invocation, beside its request.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its id.
    pub id: InvocationId,
    /// Its span, told to the code as `traceparent`.
    pub trace: TraceContext,
    /// The caller's address.
    pub peer: Option<IpAddr>,
    /// How long it may take, the whole of the answer's body included, from the moment that it is handed over.
    pub timeout: Duration,
    /// Bytes that it may write to the log.
    pub log_bytes: u64,
}

/// An instance whose server is ready. Dropping it kills it.
pub struct Worker<S> {
    // Before what it runs on: its connections are closed first.
    connections: Connections<S>,
    running: Running<S>,
    response_bytes_max: u64,
}

impl<S: Sandbox> Worker<S> {
    /// Starts a sandbox and waits until its server is ready. On an error, or when the future is dropped, nothing stays
    /// behind.
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
        let Options { settings, init_timeout, response_bytes_max, log } = options;
        let Started { sandbox, stdout, stderr, .. } = started;
        let running = Running::new(sandbox, stdout, stderr, log);
        let connections = Connections::new(Arc::clone(&running.sandbox), settings.protocol);
        let worker = Self { connections, running, response_bytes_max };
        let health = settings.health.as_deref();
        let mut progress = Progress::default();
        let failed = tokio::select! {
            biased;
            exit = worker.exited() => Some(StartError::Exited { exit, tail: Vec::new() }),
            ready = progress.ready(worker.sandbox(), &worker.connections, health) => match ready {
                Ok(()) => return Ok(Ready { worker, start, init: begun.elapsed() - start }),
                Err(error) => Some(error.into()),
            },
            () = sleep_until(begun + start + init_timeout) => None,
        };
        let init = begun.elapsed() - start;
        let failed = match failed {
            Some(failed) => failed,
            None => progress.too_slow(worker.sandbox(), health, init_timeout).await,
        };
        let logs = Arc::clone(&worker.running.logs);
        let (exit, stats) = worker.stop().await;
        let error = match failed {
            // The kernel's word comes last: an exit may turn out to be the end of the memory.
            StartError::Exited { exit: first, tail } => {
                StartError::Exited { exit: exit.unwrap_or(first), tail }
            }
            other => other,
        };
        Err(StartFailed { error: error.with_tail(logs.tail()), start, init, stats })
    }

    /// Sends a request to the server and waits for the head of its answer. May be called any number of times at once:
    /// how many the function wants is the caller's to hold. The request's path, host and headers are the caller's own,
    /// without what is the platform's.
    ///
    /// Of an answer of 101 the connection is taken with `hyper::upgrade::on`; bytes then pass both ways, without the
    /// bounds of an answer. Dropping the future, the body or the upgraded connection closes the connection to the
    /// code: that is how it learns that the caller has gone, and it can take more calls.
    ///
    /// # Errors
    /// [`Failure`]: whether the code may have seen the request, and whether the instance is of any more use.
    pub async fn call(
        &self,
        call: Call,
        mut request: Request<RequestBody>,
    ) -> Result<Response<AnswerBody>, Failure> {
        // What a call before wrote may still be in its pipe: let the pumps read it first.
        tokio::task::yield_now().await;
        self.running.logs.begin(call.id, call.log_bytes);
        let mut deadline = Box::pin(sleep(call.timeout));
        let upgrade = headers::upgrade(request.headers());
        let upgrades = upgrade.is_some();
        let over_h2 = self.connections.over_h2() && !upgrades;
        headers::to_code(&mut request, call.peer, &call.trace, upgrade, over_h2);
        let sent = tokio::select! {
            biased;
            sent = self.connections.send(request, upgrades) => sent,
            () = deadline.as_mut() => Err(Failure::sent(Why::Timeout)),
        };
        let (response, lease) = match sent {
            Ok(answered) => answered,
            Err(failure) => return Err(self.explained(failure).await),
        };
        let (mut head, body) = response.into_parts();
        headers::to_caller(head.status, &mut head.headers);
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
        if !switched && body.size_hint().lower() > self.response_bytes_max {
            return Err(Failure::sent(Why::TooLarge(self.response_bytes_max)));
        }
        if switched {
            // It has neither, and a length of nothing would end the caller's connection.
            head.headers.remove(header::CONTENT_LENGTH);
        }
        let body = AnswerBody::new(body, self.response_bytes_max, deadline, lease);
        Ok(Response::from_parts(head, body))
    }

    /// A connection breaks when the code ends, and mostly before the news of it.
    async fn explained(&self, failure: Failure) -> Failure {
        if !matches!(failure.why, Why::Closed | Why::NotListening | Why::Invalid(_)) {
            return failure;
        }
        match timeout(EXPLAIN, self.exited()).await {
            Ok(exit) => Failure { why: Why::Exited(exit), ..failure },
            Err(_) => failure,
        }
    }

    /// Ends what this call may write to the log, and says what was dropped of it. To be called once for each
    /// [`Worker::call`], after the end of its answer, its tunnel, or its failure.
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

    /// Kills it, waits (within bounds) until it is gone and its last lines are read, and says how it ended and
    /// what it had used.
    pub async fn stop(self) -> (Option<Exit>, Stats) {
        drop(self.connections);
        self.running.stop().await
    }
}
