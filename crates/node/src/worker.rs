//! The code of one instance, whatever contract it speaks: what all that is not a call needs of it.

use rouse_contract::{http, lambda};
use rouse_sandbox::{Exit, Sandbox};
use rouse_types::InvocationId;

/// Dropping it kills the sandbox.
pub(crate) enum Worker<S> {
    /// It asks the Runtime API for its calls.
    Lambda(lambda::Worker<S>),
    /// It is a server.
    Http(http::Worker<S>),
}

impl<S: Sandbox> Worker<S> {
    /// The sandbox, to freeze, thaw and measure it.
    pub(crate) fn sandbox(&self) -> &S {
        match self {
            Self::Lambda(worker) => worker.sandbox(),
            Self::Http(worker) => worker.sandbox(),
        }
    }

    pub(crate) fn has_exited(&self) -> bool {
        match self {
            Self::Lambda(worker) => worker.has_exited(),
            Self::Http(worker) => worker.has_exited(),
        }
    }

    /// Waits until the code has ended by itself.
    pub(crate) async fn exited(&self) -> Exit {
        match self {
            Self::Lambda(worker) => worker.exited().await,
            Self::Http(worker) => worker.exited().await,
        }
    }

    /// Ends what a call may write to the log.
    pub(crate) fn end_log(&self, call: InvocationId) {
        match self {
            Self::Lambda(worker) => worker.end_log(call),
            Self::Http(worker) => worker.end_log(call),
        }
    }

    /// Kills it, and waits (within bounds) until it is gone and its last lines are read.
    pub(crate) async fn stop(self) {
        match self {
            Self::Lambda(worker) => drop(worker.stop().await),
            Self::Http(worker) => drop(worker.stop().await),
        }
    }
}
