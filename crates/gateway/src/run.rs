//! Runs a component in place, within its deadline, and makes an answer of what it came to.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use http::{HeaderValue, Request, Response, Uri, header, uri::PathAndQuery};
use http_body_util::BodyExt;
use rouse_quota::Leave;
use rouse_types::{
    Code, InvocationId, LambdaCall, Outcome, OutcomeHead, Refusal, Timestamp, Timing, TraceContext, Usage,
    function::SharedVersion,
};
use rouse_wasm::{Answer, BodyError, Call, Failure, Running, Stream};
use tokio::sync::oneshot;

use crate::{
    admit::Admitted,
    answer,
    body::{self, Body, Count, RequestBody},
    handle::Gateway,
    journals,
    stream::{Sent, StreamBody},
    table::Picked,
};

/// One invocation as far as the gateway knows it before it runs.
pub(crate) struct Arrived {
    pub(crate) id: InvocationId,
    /// 1 for the first.
    pub(crate) attempt: u32,
    pub(crate) at: Timestamp,
    pub(crate) started: Instant,
    pub(crate) peer: Option<IpAddr>,
    pub(crate) caller: Option<TraceContext>,
    /// What came with a call by AWS' Lambda API.
    pub(crate) lambda: Option<LambdaCall>,
    /// The path and query that the function sees.
    pub(crate) path: PathAndQuery,
}

/// A call under way: whatever happens to it, dropping it leaves exactly one usage record.
struct Open {
    gateway: Arc<Gateway>,
    version: SharedVersion,
    id: InvocationId,
    caller: Option<TraceContext>,
    at: Timestamp,
    admitted_after_us: u64,
    admitted: Instant,
    running: Running,
    cold: bool,
    bytes_in: Count,
    sent: Arc<Sent>,
    recorded: bool,
    _leave: Admitted,
    _quota: Leave,
}

impl Open {
    fn timing(&self) -> Timing {
        let now = Instant::now();
        let us = |from: Instant, to: Instant| u64::try_from((to - from).as_micros()).unwrap_or(u64::MAX);
        let instantiated = self.running.instantiated().unwrap_or(now);
        Timing {
            queue_us: self.admitted_after_us,
            start_us: us(self.admitted, instantiated),
            init_us: 0,
            run_us: us(instantiated, now),
        }
    }

    fn record(&mut self, outcome: Outcome) -> OutcomeHead {
        self.recorded = true;
        let timing = self.timing();
        let version = &self.version;
        let usage = Usage {
            id: self.id,
            tenant: version.tenant.clone(),
            app: version.app.clone(),
            function: version.function.clone(),
            version: version.number,
            started: self.at,
            timing,
            billed_ms: version.billed_ms(&timing),
            memory_mib: version.limits.memory_mib,
            cpu_us: self.running.cpu_us(),
            cold: self.cold,
            bytes_in: self.bytes_in.get(),
            bytes_out: self.sent.bytes.load(Ordering::Relaxed),
            outcome,
            caller: self.caller,
        };
        self.gateway.metrics.ended(outcome, &timing, self.cold);
        let cost_nanos = self.gateway.config.pricing.cost_nanos(&usage);
        // First: what is on the bill must have been counted against the cap.
        self.gateway.quota.settle(&usage, || cost_nanos);
        self.gateway.journals.usage(&usage);
        OutcomeHead { outcome, timing, billed_ms: usage.billed_ms, cost_nanos, cold: self.cold }
    }

    fn say(&self, text: &str) {
        let sink = journals::sink(&self.gateway.journals, &self.gateway.config.clock, &self.version, self.id);
        sink(Stream::Platform, text);
    }

    /// Logs the stack of a trap: its owner can use it, its callers have no business with it.
    fn say_where(&self, failure: &Failure) {
        if let Failure::Trap { backtrace, .. } = failure {
            backtrace.lines().for_each(|line| self.say(line));
        }
    }

    /// Ends a call that has no answer of its own.
    fn fail(&mut self, outcome: Outcome, refusal: &Refusal) -> Response<Body> {
        self.say(&refusal.message);
        let head = self.record(outcome);
        answer::refuse(self.id, refusal, Some(&head))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.recorded {
            self.record(Outcome::Cancelled);
        }
    }
}

/// Runs the picked version of a component. The caller's going away drops the future, which ends the guest.
pub(crate) async fn run(
    gateway: &Arc<Gateway>,
    picked: Picked,
    arrived: Arrived,
    request: Request<RequestBody>,
    bytes_in: Count,
) -> Response<Body> {
    let (id, version) = (arrived.id, picked.version);
    // Before the wait for a place: what waits is bounded by what its tenant may have at once, too.
    let quota = match gateway.quota.take(&version, arrived.at, &gateway.config.pricing).await {
        Ok(quota) => quota,
        Err(refusal) => return refused(gateway, id, &refusal),
    };
    let leave = match gateway.admission.admit(picked.route.slot, &version).await {
        Ok(leave) => leave,
        Err(refusal) => return refused(gateway, id, &refusal),
    };
    let admitted = Instant::now();
    let (component, cold) = match gateway.components.get(&version) {
        Ok(found) => found,
        Err(refusal) => return refused(gateway, id, &refusal),
    };
    gateway.sweep_later();
    let sink = journals::sink(&gateway.journals, &gateway.config.clock, &version, id);
    let request = prepare(&arrived, request).map(|body| body.map_err(wasi_error).boxed_unsync());
    let running = component.call(Call { version: Arc::clone(&version), request, sink });
    let mut open = Open {
        gateway: Arc::clone(gateway),
        id,
        caller: arrived.caller,
        at: arrived.at,
        admitted_after_us: u64::try_from((admitted - arrived.started).as_micros()).unwrap_or(u64::MAX),
        admitted,
        running,
        cold,
        bytes_in,
        sent: Arc::default(),
        recorded: false,
        _leave: leave,
        _quota: quota,
        version,
    };
    let deadline = tokio::time::Instant::from_std(admitted) + open.version.limits.timeout();
    let Ok(answered) = tokio::time::timeout_at(deadline, open.running.answer()).await else {
        let refusal = timed_out(&open.version);
        return open.fail(Outcome::Timeout, &refusal);
    };
    if let Some(refusal) = open.bytes_in.failure().map(|error| request_refusal(error, &open.version)) {
        return open.fail(Outcome::FunctionError, &refusal);
    }
    match answered {
        Answer::Whole(response, _) => {
            let (mut parts, bytes) = response.into_parts();
            open.sent.bytes.store(bytes.len() as u64, Ordering::Relaxed);
            let head = open.record(Outcome::Ok);
            answer::strip(&mut parts.headers);
            answer::put_id(&mut parts.headers, id);
            answer::put_outcome(&mut parts.headers, &head);
            // Set anew by the server, from what is really sent.
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Body::full(bytes))
        }
        Answer::Failed(finished) => {
            let failure = finished.result.err().unwrap_or(Failure::NoAnswer);
            let (outcome, refusal) = explain(&failure, &open.version);
            open.say_where(&failure);
            open.fail(outcome, &refusal)
        }
        Answer::Streaming(mut parts, body) => {
            answer::strip(&mut parts.headers);
            answer::put_id(&mut parts.headers, id);
            answer::announce_trailers(&mut parts.headers);
            let (tell, ended) = oneshot::channel();
            let body = StreamBody::new(body, Arc::clone(&open.sent), ended);
            gateway.tasks.spawn(drive(open, deadline, tell));
            Response::from_parts(parts, Body::stream(body))
        }
    }
}

fn refused(gateway: &Gateway, id: InvocationId, refusal: &Refusal) -> Response<Body> {
    gateway.metrics.refused(refusal.code);
    answer::refuse(id, refusal, None)
}

/// Drives a guest whose answer streams to its end, its deadline, or its caller's leaving.
async fn drive(mut open: Open, deadline: tokio::time::Instant, mut tell: oneshot::Sender<OutcomeHead>) {
    let result = tokio::select! {
        finished = tokio::time::timeout_at(deadline, &mut open.running) => finished.map(|finished| finished.result),
        () = tell.closed() => Ok(Ok(())),
    };
    let (outcome, said) = match (open.sent.failure.get(), &result) {
        // It is we who broke the body off; that the guest then ended well means nothing.
        (Some(failure), _) | (None, Ok(Err(failure))) => {
            let (outcome, refusal) = explain(failure, &open.version);
            open.say_where(failure);
            (outcome, Some(refusal.message))
        }
        (None, Err(_)) => (Outcome::Timeout, Some(timed_out(&open.version).message)),
        (None, Ok(Ok(()))) if tell.is_closed() => (Outcome::Cancelled, None),
        (None, Ok(Ok(()))) => (Outcome::Ok, None),
    };
    if let Some(text) = said {
        open.say(&text);
    }
    let head = open.record(outcome);
    // The body's reader may have gone in the meantime; the record stands all the same.
    let _ = tell.send(head);
}

/// The request as the function sees it: its own path, who called, which trace, which invocation.
fn prepare(arrived: &Arrived, mut request: Request<RequestBody>) -> Request<RequestBody> {
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    uri.path_and_query = Some(arrived.path.clone());
    if uri.authority.is_some() && uri.scheme.is_none() {
        uri.scheme = Some(http::uri::Scheme::HTTP);
    }
    *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
    let headers = request.headers_mut();
    answer::strip(headers);
    answer::put_id(headers, arrived.id);
    let trace = HeaderValue::try_from(TraceContext::of(arrived.caller, arrived.id).to_string())
        .expect("hexadecimal digits");
    headers.insert("traceparent", trace);
    if let Some(peer) = arrived.peer {
        headers.append("x-forwarded-for", HeaderValue::try_from(peer.to_string()).expect("an address"));
    }
    headers.entry(header::HOST).or_insert(HeaderValue::from_static("localhost"));
    request
}

fn wasi_error(error: body::Error) -> BodyError {
    match error {
        body::Error::TooLarge(bytes) => BodyError::HttpRequestBodySize(Some(bytes)),
        body::Error::Timeout => BodyError::ConnectionReadTimeout,
        body::Error::Broken => BodyError::ConnectionTerminated,
    }
}

fn timed_out(version: &SharedVersion) -> Refusal {
    Refusal::new(
        Code::FunctionTimeout,
        format!("function '{}' ran over its time of {} ms", version.function, version.limits.timeout_ms),
    )
    .hint("raise `timeout` of the function, or do less in one call")
}

/// What a client hears whose own request ended the call.
pub(crate) fn request_refusal(error: body::Error, version: &SharedVersion) -> Refusal {
    match error {
        body::Error::TooLarge(bytes) => Refusal::new(
            Code::PayloadTooLarge,
            format!("function '{}' takes request bodies of at most {bytes} bytes", version.function),
        )
        .hint("send less, or raise `request_body_max` of the function"),
        body::Error::Timeout | body::Error::Broken => {
            Refusal::new(Code::RequestTimeout, "the request's body did not arrive in time")
                .hint("send the body without long pauses")
        }
    }
}

fn explain(failure: &Failure, version: &SharedVersion) -> (Outcome, Refusal) {
    let function = &version.function;
    let see_logs = || format!("`rouse logs {function}` shows what it printed");
    match failure {
        Failure::OutOfMemory => (
            Outcome::OutOfMemory,
            Refusal::new(
                Code::OutOfMemory,
                format!(
                    "function '{function}' wanted more than its {} MiB of memory",
                    version.limits.memory_mib
                ),
            )
            .hint("raise `memory` of the function"),
        ),
        Failure::Busy => (
            Outcome::PlatformError,
            Refusal::new(Code::CapacityExhausted, format!("no instance is free for function '{function}'"))
                .retry_after(std::time::Duration::from_secs(1)),
        ),
        Failure::TooLarge(bytes) => (
            Outcome::FunctionError,
            Refusal::new(
                Code::ResponseTooLarge,
                format!("the answer of function '{function}' is larger than {bytes} bytes"),
            )
            .hint("send less, or raise `response_body_max` of the function"),
        ),
        Failure::NoAnswer | Failure::ErrorCode(_) | Failure::BrokenOff(_) => (
            Outcome::FunctionError,
            Refusal::new(Code::InvalidResponse, format!("function '{function}': {failure}")).hint(see_logs()),
        ),
        Failure::Trap { .. } | Failure::Exit(_) => (
            Outcome::FunctionError,
            Refusal::new(Code::FunctionError, format!("function '{function}' failed: {failure}"))
                .hint(see_logs()),
        ),
    }
}
