//! Starts an instance: finds how its code is launched, makes the sandbox, waits until the code takes calls.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use rouse_contract::{http, lambda};
use rouse_sandbox::{Driver, Exit};
use rouse_store::{access_keys::FunctionKeys, secrets};
use rouse_types::{
    Code, Contract, FunctionVersion, Refusal, Runtime,
    egress::{PLATFORM_ADDRESS, PLATFORM_PORT},
};
use tokio::{task::spawn_blocking, time::Instant};

use super::{Shared, StartFailure};
use crate::{
    call::peak,
    egress::{Attached, WithEgress},
    job::Milestones,
    worker::Worker,
};

/// How the code of one version is launched.
enum Launch {
    Lambda(lambda::Launch),
    Http(http::Launch),
}

/// What every contract says of a start.
struct Ready<S> {
    worker: Worker<S>,
    start: Duration,
    init: Duration,
}

/// What every contract says of a start that failed.
struct Failed {
    why: Why,
    start: Duration,
    init: Duration,
    cpu_us: u64,
}

enum Why {
    /// No code ran.
    Sandbox(rouse_sandbox::Error),
    /// The code did not get ready: why, the next step, and whether it was for want of memory.
    Code { text: String, hint: Option<String>, out_of_memory: bool },
}

impl<D: Driver> Shared<D> {
    /// How to launch a version: for Lambda looked up once a runtime, but for images, which say it themselves.
    async fn launch(&self, version: &Arc<FunctionVersion>, code: PathBuf) -> Result<Launch, Refusal> {
        let failed = || Refusal::new(Code::Internal, "looking up a runtime failed");
        let state = self.state.clone();
        if version.contract == Contract::Http {
            let version = Arc::clone(version);
            let found = spawn_blocking(move || http::Launch::of(&version, &code, &state)).await;
            return found.unwrap_or_else(|_| Err(failed())).map(Launch::Http);
        }
        if version.runtime == Runtime::Image {
            let version = Arc::clone(version);
            let found = spawn_blocking(move || lambda::Launch::of_image(&version, &code, &state)).await;
            return found.unwrap_or_else(|_| Err(failed())).map(Launch::Lambda);
        }
        let known = || self.launches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(launch) = known().get(&version.runtime) {
            return Ok(Launch::Lambda(launch.clone()));
        }
        let wanted: Runtime = version.runtime.clone();
        let found = spawn_blocking(move || lambda::available(&wanted, &state)).await;
        let launch = found.unwrap_or_else(|_| Err(failed()))?;
        known().insert(version.runtime.clone(), launch.clone());
        Ok(Launch::Lambda(launch))
    }

    fn log(&self, version: &Arc<FunctionVersion>) -> lambda::LogSink {
        let (around, version) = (self.around.clone(), Arc::clone(version));
        Arc::new(move |line| around.line(&version, line))
    }
}

pub(super) async fn start<D: Driver>(
    shared: &Shared<D>,
    version: &Arc<FunctionVersion>,
    name: &str,
) -> Result<(Worker<Attached<D::Sandbox>>, Milestones), StartFailure> {
    let begun = Instant::now();
    let code = shared.state.join("code").join(version.code.hex());
    let not_begun = |refusal| StartFailure {
        refusal,
        milestones: Milestones { begun, made: Instant::now(), ready: Instant::now() },
        cpu_us: 0,
        ran: false,
        out_of_memory: false,
    };
    let version = &with_secrets(shared, version).map_err(not_begun)?;
    let launch = shared.launch(version, code.clone()).await.map_err(not_begun)?;
    let say = {
        let (around, version) = (shared.around.clone(), Arc::clone(version));
        Arc::new(move |line| around.say(&version, None, line))
    };
    let driver = WithEgress {
        driver: Arc::clone(&shared.driver),
        dialer: Arc::clone(&shared.dialer),
        egress: version.egress.clone(),
        say,
    };
    let mut may_retry = true;
    loop {
        let before = begun.elapsed();
        let milestones = |start, init| {
            let made = begun + before + start;
            Milestones { begun, made, ready: made + init }
        };
        let started = match &launch {
            Launch::Lambda(launch) => {
                let spec = with_platform(shared, version, launch.spec(version, &code, name));
                Box::pin(start_lambda(shared, &driver, version, spec)).await
            }
            Launch::Http(launch) => {
                let spec = with_platform(shared, version, launch.spec(version, name));
                Box::pin(start_http(shared, &driver, version, spec)).await
            }
        };
        match started {
            Ok(ready) => return Ok((ready.worker, milestones(ready.start, ready.init))),
            // No code ran, and the driver waits for a spawner that is coming back. Once: then it is not coming.
            Err(Failed { why: Why::Sandbox(rouse_sandbox::Error::Spawner(error)), .. }) if may_retry => {
                tracing::warn!(%error, version = %version.key(), "the spawner went away; the start is retried");
                may_retry = false;
            }
            Err(failed) => {
                let milestones = milestones(failed.start, failed.init);
                return Err(failure(shared, version, failed, milestones));
            }
        }
    }
}

/// The version with its secrets among its variables: as they are now.
fn with_secrets<D: Driver>(
    shared: &Shared<D>,
    version: &Arc<FunctionVersion>,
) -> Result<Arc<FunctionVersion>, Refusal> {
    let mut version = Arc::clone(version);
    secrets::tell(&shared.state, &mut version).map_err(|error| {
        Refusal::new(Code::StartFailed, format!("'{}' gets no secrets: {error}", version.function))
            .hint("`rouse secret list` shows which there are; `rouse secret set NAME` sets one")
    })?;
    Ok(version)
}

/// Tells the code where the platform is and who it is there, where it may reach it.
fn with_platform<D: Driver>(
    shared: &Shared<D>,
    version: &FunctionVersion,
    mut spec: rouse_sandbox::Spec,
) -> rouse_sandbox::Spec {
    if !version.egress.reaches_platform() {
        return spec;
    }
    let endpoint = format!("http://{PLATFORM_ADDRESS}:{PLATFORM_PORT}");
    match FunctionKeys::open(&shared.state) {
        Ok(keys) => {
            let region = lambda::environment::REGION.to_owned();
            let regions = ["AWS_REGION", "AWS_DEFAULT_REGION"].map(|name| (name.to_owned(), region.clone()));
            for (name, value) in keys.environment(version, &endpoint).into_iter().chain(regions) {
                if !spec.env.iter().any(|(known, _)| *known == name) {
                    spec.env.push((name, value));
                }
            }
        }
        Err(error) => tracing::warn!(%error, version = %version.key(), "a function gets no key of its own"),
    }
    spec
}

async fn start_lambda<D: Driver>(
    shared: &Shared<D>,
    driver: &WithEgress<D>,
    version: &Arc<FunctionVersion>,
    spec: rouse_sandbox::Spec,
) -> Result<Ready<Attached<D::Sandbox>>, Failed> {
    let options = lambda::Options {
        arn: lambda::environment::arn(version),
        init_timeout: Duration::from_millis(version.limits.init_timeout_ms),
        response_bytes_max: version.limits.response_body_bytes,
        concurrency: version.scaling.concurrency_per_instance,
        clock: Arc::clone(&shared.around.clock),
        log: shared.log(version),
    };
    match lambda::Worker::start(driver, spec, options).await {
        Ok(lambda::Ready { worker, start, init }) => {
            Ok(Ready { worker: Worker::Lambda(worker), start, init })
        }
        Err(lambda::StartFailed { error, start, init, stats }) => {
            let text = error.to_string();
            let why = match error {
                lambda::StartError::Sandbox(error) => Why::Sandbox(error),
                lambda::StartError::Timeout { .. } => {
                    let hint = "give it more time or memory, or do less while it loads";
                    Why::Code { text, hint: Some(hint.into()), out_of_memory: false }
                }
                lambda::StartError::Exited { exit, .. } => {
                    let out_of_memory = exit == Exit::OutOfMemory;
                    let used = if out_of_memory { peak(stats) } else { String::new() };
                    Why::Code { text: text + &used, hint: None, out_of_memory }
                }
                lambda::StartError::Init { .. } => Why::Code { text, hint: None, out_of_memory: false },
            };
            Err(Failed { why, start, init, cpu_us: stats.cpu_us })
        }
    }
}

async fn start_http<D: Driver>(
    shared: &Shared<D>,
    driver: &WithEgress<D>,
    version: &Arc<FunctionVersion>,
    spec: rouse_sandbox::Spec,
) -> Result<Ready<Attached<D::Sandbox>>, Failed> {
    let options = http::Options {
        settings: version.http.clone(),
        init_timeout: Duration::from_millis(version.limits.init_timeout_ms),
        response_bytes_max: version.limits.response_body_bytes,
        log: shared.log(version),
    };
    match http::Worker::start(driver, spec, options).await {
        Ok(http::Ready { worker, start, init }) => Ok(Ready { worker: Worker::Http(worker), start, init }),
        Err(http::StartFailed { error, start, init, stats }) => {
            let (text, hint) = (error.to_string(), error.hint());
            let why = match error {
                http::StartError::Sandbox(error) => Why::Sandbox(error),
                http::StartError::Exited { exit, .. } => {
                    let out_of_memory = exit == Exit::OutOfMemory;
                    let used = if out_of_memory { peak(stats) } else { String::new() };
                    Why::Code { text: text + &used, hint, out_of_memory }
                }
                _ => Why::Code { text, hint, out_of_memory: false },
            };
            Err(Failed { why, start, init, cpu_us: stats.cpu_us })
        }
    }
}

fn failure<D>(
    shared: &Shared<D>,
    version: &FunctionVersion,
    failed: Failed,
    milestones: Milestones,
) -> StartFailure {
    let (key, cpu_us) = (version.key(), failed.cpu_us);
    match failed.why {
        Why::Code { text, hint, out_of_memory } => {
            let text = format!("{key} did not start: {text}");
            shared.around.say(version, None, text.clone());
            let hint = hint.unwrap_or_else(|| format!("see its log: `rouse logs {}`", version.function));
            let code = if out_of_memory { Code::OutOfMemory } else { Code::StartFailed };
            let refusal = Refusal::new(code, text).hint(hint);
            StartFailure { refusal, milestones, cpu_us, ran: true, out_of_memory }
        }
        Why::Sandbox(error) => {
            // What the host said is for the operator; the caller learns that it was not the code.
            tracing::error!(version = %key, %error, "a sandbox cannot be made");
            let refusal = Refusal::new(Code::StartFailed, format!("the sandbox of {key} could not be made"))
                .hint("this is no fault of the function; the node's log says what the host refused");
            StartFailure { refusal, milestones, cpu_us, ran: false, out_of_memory: false }
        }
    }
}
