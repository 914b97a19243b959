//! Starts an instance: finds how its code is launched, makes the sandbox, waits until the code asks for work.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use rouse_contract::lambda::{self, Launch, LogSink, StartError, StartFailed, Worker, environment};
use rouse_sandbox::Driver;
use rouse_types::{Code, FunctionVersion, Refusal, Runtime};
use tokio::time::Instant;

use super::{Shared, StartFailure};
use crate::job::Milestones;

impl<D: Driver> Shared<D> {
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

pub(super) async fn start<D: Driver>(
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
            init_timeout: Duration::from_millis(version.limits.init_timeout_ms),
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
