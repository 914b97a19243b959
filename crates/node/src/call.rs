//! Runs one call on an instance: hands it over, watches caller, clock and code, tells how it ended.
//!
//! The usage record is written before the answer is given, so that no answered call goes unrecorded.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use rouse_contract::lambda::{
    Answer, Body, Call, Failure, RuntimeError, StreamEnd, Worker, describe, environment,
    http_answer::{self, Head, Invalid},
    http_event, prelude,
};
use rouse_sandbox::{Exit, Sandbox};
use rouse_types::{Code, FunctionVersion, Outcome, OutcomeHead, Refusal, Source, Timing, Usage};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    instance::Around,
    job::{Job, Milestones, Reply, micros},
};

/// Parts of a streamed answer that wait for the caller: then the code waits.
const PARTS_MAX: usize = 4;
/// How long a broken stream waits for the news that the code has ended, which explains it.
const EXPLAIN: Duration = Duration::from_millis(100);

/// What is to become of the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It can run another call.
    Reusable,
    /// Its state is unknown, or it has ended.
    Spent,
}

/// How a call ended, before it is told to anyone.
struct End {
    outcome: Outcome,
    refusal: Option<Refusal>,
    fate: Fate,
}

impl End {
    const OK: Self = Self { outcome: Outcome::Ok, refusal: None, fate: Fate::Reusable };
    const CANCELLED: Self = Self { outcome: Outcome::Cancelled, refusal: None, fate: Fate::Spent };

    fn error(code: Code, text: String) -> Self {
        let refusal = Refusal::new(code, text);
        Self { outcome: Outcome::FunctionError, refusal: Some(refusal), fate: Fate::Reusable }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.refusal = self.refusal.map(|refusal| refusal.hint(hint));
        self
    }
}

/// The record of a call that runs.
struct Account<'a> {
    usage: Usage,
    handed: Instant,
    cpu_before_us: u64,
    around: &'a Around,
}

impl Account<'_> {
    /// Closes and journals it.
    fn close<S: Sandbox>(mut self, worker: &Worker<S>, outcome: Outcome) -> OutcomeHead {
        self.usage.timing.run_us = micros(self.handed.elapsed());
        self.usage.billed_ms = self.usage.timing.billed_ms();
        self.usage.cpu_us = worker.sandbox().stats().cpu_us.saturating_sub(self.cpu_before_us);
        self.usage.outcome = outcome;
        self.around.ended(&self.usage);
        head(&self.usage)
    }
}

pub(crate) fn head(usage: &Usage) -> OutcomeHead {
    OutcomeHead { outcome: usage.outcome, timing: usage.timing, billed_ms: usage.billed_ms, cold: usage.cold }
}

/// An empty record of a job.
pub(crate) fn usage(job: &Job, version: &FunctionVersion, timing: Timing) -> Usage {
    Usage {
        id: job.invocation.id,
        tenant: version.tenant.clone(),
        app: version.app.clone(),
        function: version.function.clone(),
        version: version.number,
        started: job.invocation.received,
        timing,
        billed_ms: 0,
        memory_mib: version.limits.memory_mib,
        cpu_us: 0,
        cold: timing.start_us + timing.init_us > 0,
        bytes_in: job.request.body.len() as u64,
        bytes_out: 0,
        outcome: Outcome::PlatformError,
        caller: job.invocation.caller,
    }
}

/// Runs a job to its end.
pub(crate) async fn run<S: Sandbox>(
    worker: &Worker<S>,
    job: Job,
    version: &FunctionVersion,
    milestones: &Milestones,
    around: &Around,
) -> Fate {
    let handed = Instant::now();
    let timing = milestones.timing(&job, handed);
    let usage = usage(&job, version, timing);
    // The start's CPU time belongs to the call that waited for it.
    let cpu_before_us = if usage.cold { 0 } else { worker.sandbox().stats().cpu_us };
    let mut account = Account { usage, handed, cpu_before_us, around };
    let call = call(&job, version, around);
    let Job { invocation, mut reply, .. } = job;
    let source = invocation.source;
    let answered = tokio::select! {
        biased;
        answered = worker.invoke(call) => answered,
        () = reply.closed() => {
            worker.end_log(account.usage.id);
            account.close(worker, Outcome::Cancelled);
            return Fate::Spent;
        }
    };
    let end = match answered {
        Ok(Answer::Whole(payload)) => match whole(source, payload) {
            Ok((head, body)) => {
                account.usage.bytes_out = body.len() as u64;
                worker.end_log(account.usage.id);
                let outcome = account.close(worker, Outcome::Ok);
                drop(reply.send(Reply::Whole(head, body, outcome)));
                return Fate::Reusable;
            }
            Err(error) => invalid(version, &error),
        },
        Ok(Answer::Streamed { content_type, body }) => {
            return stream(worker, account, version, source, (content_type, body), reply).await;
        }
        Ok(Answer::Error(error)) => raised(version, source, &error),
        Ok(Answer::TooLarge(max)) => too_large(version, max),
        Err(failure) => failed(version, failure),
    };
    say(around, &invocation, version, &end);
    worker.end_log(account.usage.id);
    let outcome = account.close(worker, end.outcome);
    let fate = end.fate;
    drop(reply.send(match end.refusal {
        Some(refusal) => Reply::Failed(refusal, outcome),
        None => Reply::Failed(Refusal::new(Code::Internal, "it ended without a reason"), outcome),
    }));
    fate
}

/// The call as the code is to see it.
fn call(job: &Job, version: &FunctionVersion, around: &Around) -> Call {
    let invocation = &job.invocation;
    let trace = environment::xray(&invocation.traceparent());
    let request = &job.request;
    let payload = match invocation.source {
        // A call without a payload gets an empty object, as from AWS' own tools.
        Source::Invoke if request.body.is_empty() => Bytes::from_static(b"{}"),
        Source::Invoke => request.body.clone(),
        Source::Http => http_event::write(&http_event::Input {
            tenant: &version.tenant,
            function: &version.function,
            id: invocation.id,
            received: invocation.received,
            peer: invocation.peer,
            trace: &trace,
            method: &request.method,
            uri: &request.uri,
            version: request.version,
            headers: &request.headers,
            body: &request.body,
        }),
    };
    Call {
        id: invocation.id,
        payload,
        deadline: around.clock.now() + version.limits.timeout(),
        timeout: version.limits.timeout(),
        trace,
        client_context: None,
        cognito_identity: None,
        tenant_id: None,
        log_bytes: version.limits.log_bytes,
    }
}

fn whole(source: Source, payload: Bytes) -> Result<(Head, Bytes), Invalid> {
    match source {
        Source::Http => http_answer::read(&payload),
        Source::Invoke => Ok((Head::plain(HeaderValue::from_static("application/json")), payload)),
    }
}

/// Passes a streamed answer on until it ends, the caller goes, or the time is up.
async fn stream<S: Sandbox>(
    worker: &Worker<S>,
    mut account: Account<'_>,
    version: &FunctionVersion,
    source: Source,
    (content_type, mut body): (Option<String>, Body),
    mut reply: oneshot::Sender<Reply>,
) -> Fate {
    let around = account.around;
    let begun = tokio::select! {
        begun = begin(worker, &mut body, version, source, content_type) => begun,
        () = reply.closed() => Err(End::CANCELLED),
    };
    let (head, first) = match begun {
        Ok(begun) => begun,
        Err(end) => {
            worker.end_log(account.usage.id);
            let outcome = account.close(worker, end.outcome);
            if let Some(refusal) = end.refusal {
                drop(reply.send(Reply::Failed(refusal, outcome)));
            }
            // The rest of the stream was not read.
            return Fate::Spent;
        }
    };
    let (parts, receiver) = mpsc::channel(PARTS_MAX);
    let (tell, told) = oneshot::channel();
    let end = if reply.send(Reply::Streamed(head, receiver, told)).is_ok() {
        pass(worker, &mut body, version, first, &parts, &mut account.usage.bytes_out).await
    } else {
        End::CANCELLED
    };
    if let Some(refusal) = &end.refusal {
        around.say(version, Some(account.usage.id), refusal.message.clone());
    }
    worker.end_log(account.usage.id);
    let outcome = account.close(worker, end.outcome);
    drop(tell.send(outcome));
    end.fate
}

/// The head of a streamed answer, and what came of its body with it.
async fn begin<S: Sandbox>(
    worker: &Worker<S>,
    body: &mut Body,
    version: &FunctionVersion,
    source: Source,
    content_type: Option<String>,
) -> Result<(Head, Bytes), End> {
    if source == Source::Invoke || content_type.as_deref() != Some(prelude::CONTENT_TYPE) {
        let octets = HeaderValue::from_static("application/octet-stream");
        let content_type = content_type.and_then(|text| HeaderValue::from_str(&text).ok());
        return Ok((Head::plain(content_type.unwrap_or(octets)), Bytes::new()));
    }
    let mut reader = prelude::Reader::default();
    loop {
        match body.chunk().await {
            Ok(Ok(data)) => match reader.push(&data) {
                Ok(Some(begun)) => return Ok(begun),
                Ok(None) => {}
                Err(error) => return Err(invalid(version, &error)),
            },
            Ok(Err(end)) => {
                let end = ended(worker, version, end).await;
                let headless =
                    || End::error(Code::InvalidResponse, "the stream ended before its head".into());
                return Err(if end.refusal.is_some() { end } else { headless() });
            }
            Err(failure) => return Err(failed(version, failure)),
        }
    }
}

async fn pass<S: Sandbox>(
    worker: &Worker<S>,
    body: &mut Body,
    version: &FunctionVersion,
    first: Bytes,
    parts: &mpsc::Sender<Bytes>,
    bytes_out: &mut u64,
) -> End {
    let mut data = first;
    loop {
        if !data.is_empty() {
            let bytes = data.len() as u64;
            tokio::select! {
                biased;
                sent = parts.send(data) => if sent.is_err() { return End::CANCELLED },
                () = sleep_until(body.deadline()) => return failed(version, Failure::Timeout),
            }
            *bytes_out += bytes;
        }
        data = tokio::select! {
            biased;
            chunk = body.chunk() => match chunk {
                Ok(Ok(data)) => data,
                Ok(Err(end)) => return ended(worker, version, end).await,
                Err(failure) => return failed(version, failure),
            },
            () = parts.closed() => return End::CANCELLED,
        };
    }
}

async fn ended<S: Sandbox>(worker: &Worker<S>, version: &FunctionVersion, end: StreamEnd) -> End {
    match end {
        StreamEnd::Complete => End::OK,
        StreamEnd::Error(error) => raised(version, Source::Invoke, &error),
        StreamEnd::TooLarge(max) => End { fate: Fate::Spent, ..too_large(version, max) },
        StreamEnd::Broken => match timeout(EXPLAIN, worker.exited()).await {
            Ok(exit) => failed(version, Failure::Exited(exit)),
            Err(_) => {
                let text = format!("{} broke off its answer", version.key());
                End { fate: Fate::Spent, ..End::error(Code::InvalidResponse, text) }
            }
        },
    }
}

/// What the code raised is for the developer, who calls it by `rouse invoke`; not for strangers.
fn raised(version: &FunctionVersion, source: Source, error: &RuntimeError) -> End {
    let text = match source {
        Source::Invoke => format!("{} raised {}: {}", version.key(), error.error_type, error.message),
        Source::Http => format!("{} raised an error", version.key()),
    };
    End::error(Code::FunctionError, text).hint(see_log(version))
}

fn invalid(version: &FunctionVersion, error: &Invalid) -> End {
    End::error(Code::InvalidResponse, format!("{} gave no HTTP answer: {error}", version.key()))
        .hint("return a JSON object with `statusCode`, or any other JSON as the body of a 200")
}

fn too_large(version: &FunctionVersion, max: u64) -> End {
    let text = format!("the answer of {} is larger than its {max} bytes", version.key());
    End::error(Code::ResponseTooLarge, text).hint("answer with less, or raise the function's response limit")
}

fn failed(version: &FunctionVersion, failure: Failure) -> End {
    let key = version.key();
    let (outcome, refusal) = match failure {
        Failure::Timeout => {
            let text = format!("{key} ran over its {} ms", version.limits.timeout_ms);
            let hint = "make it quicker, or raise `timeout`";
            (Outcome::Timeout, Refusal::new(Code::FunctionTimeout, text).hint(hint))
        }
        Failure::Exited(Exit::OutOfMemory) => {
            let text = format!("{key} used up its {} MiB of memory", version.limits.memory_mib);
            let hint = "use less, or raise `memory`";
            (Outcome::OutOfMemory, Refusal::new(Code::OutOfMemory, text).hint(hint))
        }
        Failure::Exited(exit) => {
            let text = format!("{key} did not answer: {}", describe(exit));
            (Outcome::FunctionError, Refusal::new(Code::FunctionError, text).hint(see_log(version)))
        }
    };
    End { outcome, refusal: Some(refusal), fate: Fate::Spent }
}

fn see_log(version: &FunctionVersion) -> String {
    format!("see its log: `rouse logs {}`", version.function)
}

/// What the code cannot write to its log itself, the platform does.
fn say(around: &Around, invocation: &rouse_types::Invocation, version: &FunctionVersion, end: &End) {
    let own_words =
        end.refusal.as_ref().filter(|refusal| refusal.code != Code::FunctionError || end.fate == Fate::Spent);
    if let Some(refusal) = own_words {
        around.say(version, Some(invocation.id), refusal.message.clone());
    }
}
