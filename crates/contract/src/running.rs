//! A started sandbox as every contract has it: watched to its end, its outputs read line by line, stopped within
//! bounds.

use std::{sync::Arc, time::Duration};

use rouse_sandbox::{Exit, Output, Sandbox, Stats};
use rouse_types::log::Stream;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use crate::logs::{LogSink, Logs};

/// How long an ended sandbox' outputs are read on: they end by themselves when the last process has gone.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// How long a killed sandbox may take to be gone before nobody waits for it any more; the driver still does.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// Dropping it kills the sandbox.
pub(crate) struct Running<S> {
    pub(crate) sandbox: Arc<S>,
    pub(crate) logs: Arc<Logs>,
    exited: watch::Receiver<Option<Exit>>,
    pumps: JoinSet<()>,
    /// What waits for the sandbox' end, and what the contract adds.
    pub(crate) tasks: JoinSet<()>,
}

impl<S: Sandbox> Running<S> {
    pub(crate) fn new(sandbox: S, stdout: Output, stderr: Output, log: LogSink) -> Self {
        let sandbox = Arc::new(sandbox);
        let logs = Arc::new(Logs::new(log));
        let mut pumps = JoinSet::new();
        pumps.spawn(Arc::clone(&logs).pump(stdout, Stream::Stdout));
        pumps.spawn(Arc::clone(&logs).pump(stderr, Stream::Stderr));
        let (exited_tell, exited) = watch::channel(None);
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let sandbox = Arc::clone(&sandbox);
            async move {
                let exit = sandbox.exited().await;
                exited_tell.send_replace(Some(exit));
            }
        });
        Self { sandbox, logs, exited, pumps, tasks }
    }

    /// How the sandbox ended, for whoever outlives this.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Exit>> {
        self.exited.clone()
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.exited.borrow().is_some()
    }

    /// Waits until the sandbox has ended by itself.
    pub(crate) fn exited(&self) -> impl Future<Output = Exit> + Send + use<S> {
        ended(self.exited.clone())
    }

    /// Kills it, waits (within bounds) until it is gone and its last lines are read, and says how it ended and
    /// what it had used.
    pub(crate) async fn stop(mut self) -> (Option<Exit>, Stats) {
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
}

/// Waits for the end of a sandbox that is watched.
pub(crate) async fn ended(mut exited: watch::Receiver<Option<Exit>>) -> Exit {
    match exited.wait_for(Option::is_some).await {
        Ok(exit) => exit.unwrap_or(Exit::Code(0)),
        // Who tells is gone with the worker, which killed the sandbox.
        Err(_) => Exit::Signal(9),
    }
}
