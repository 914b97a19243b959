//! Runs one call on an instance: hands it over, watches caller, clock and code, tells how it ended.

mod account;
mod end;
mod http;
mod lambda;
mod request;
mod shares;
mod stream;
mod tunnel;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rouse_sandbox::{Sandbox, Stats};
use rouse_types::FunctionVersion;

use self::shares::Shares;
pub(crate) use self::{account::usage, end::peak};
use crate::{
    instance::Around,
    job::{Job, Milestones},
    worker::Worker,
};

/// Parts of a streamed answer that wait for the caller: then the code waits.
const PARTS_MAX: usize = 4;
/// How long a broken stream waits for the news that the code has ended, which explains it.
const EXPLAIN: Duration = Duration::from_millis(100);

/// Where calls run: an instance that is ready, with what its calls share.
pub(crate) struct Place<S> {
    pub(crate) worker: Worker<S>,
    pub(crate) version: Arc<FunctionVersion>,
    milestones: Milestones,
    around: Around,
    shares: Mutex<Shares>,
}

impl<S> Place<S> {
    pub(crate) fn new(
        worker: Worker<S>,
        version: Arc<FunctionVersion>,
        milestones: Milestones,
        around: Around,
    ) -> Self {
        Self { worker, version, milestones, around, shares: Mutex::default() }
    }
}

/// What is to become of the instance.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It can run another call.
    Reusable,
    /// Its state is unknown, or it has ended: it takes no more calls.
    Spent,
    /// It is of no use, and the code has seen nothing of this call: another instance can take it.
    NotBegun(Box<Job>),
}

/// How a call left its instance.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) fate: Fate,
    /// What the instance has used so far.
    pub(crate) stats: Stats,
}

/// Runs a job to its end.
pub(crate) async fn run<S: Sandbox>(place: &Place<S>, job: Job) -> Ended {
    match &place.worker {
        Worker::Lambda(worker) => {
            let mut ended = lambda::run(place, worker, job).await;
            // Its extensions may still be at work on the call; one that overruns the call's time ends the instance.
            if matches!(ended.fate, Fate::Reusable) && worker.settled().await.is_err() {
                ended.fate = Fate::Spent;
            }
            ended
        }
        Worker::Http(worker) => http::run(place, worker, job).await,
    }
}
