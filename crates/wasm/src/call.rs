//! One call of a component, from its request to the last byte of its answer.
//!
//! ```text
//!            instance (new, or warm)         head               body ends, guest ends
//!  Running ────────────────────────▶ handle ─────▶ Answer ─┬─▶ Whole
//!                                                          └─▶ Streaming ─▶ Running goes on ─▶ Finished
//! ```
//! A guest that ends without waiting is answered from memory, whole, with one write. A guest that waits
//! after its head streams: whoever called drives [`Running`] to its end, with a deadline, beside the body.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame};
use rouse_types::function::SharedVersion;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::{
    Error, WasiBody, WasiHttpView,
    handler::Proxy,
    p2::bindings::http::types::Scheme,
    p3::{self},
};

use crate::{component::Component, cpu::Meter, epoch::Ticking, log::LogSink, state::State, turns::Turn};

/// How much of an answer is held back while the guest still runs without waiting.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// What to call a component with.
pub struct Call {
    /// The version that the component belongs to: its environment and limits.
    pub version: SharedVersion,
    /// The request, with an absolute URI or a `host` header.
    pub request: http::Request<WasiBody>,
    /// Where its output goes.
    pub sink: LogSink,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The code trapped: an `unreachable`, a panic, an access out of bounds.
    #[error("the component trapped: {reason}")]
    Trap {
        /// What it did.
        reason: String,
        /// Where: the functions on its stack, innermost first. For its owner, not for its callers.
        backtrace: String,
    },
    /// It wanted more memory than it may have.
    #[error("the component wanted more memory than its limit")]
    OutOfMemory,
    /// It returned without an answer.
    #[error("the component returned without an answer")]
    NoAnswer,
    /// It answered with an error of `wasi:http` instead of a response.
    #[error("the component answered with the error {0}")]
    ErrorCode(String),
    /// It left by `exit`.
    #[error("the component exited with code {0}")]
    Exit(i32),
    /// All instances that this process may hold are in use.
    #[error("no instance is free")]
    Busy,
    /// Its answer's body is over the function's limit.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
    /// Its body ended before it was complete.
    #[error("the answer broke off: {0}")]
    BrokenOff(String),
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub result: Result<(), Failure>,
    /// CPU time of the code, instantiation included, in microseconds.
    pub cpu_us: u64,
    /// The most linear memory that it held, in bytes.
    pub memory_bytes: u64,
}

/// The start of an answer.
pub enum Answer {
    /// The guest has ended and all of its answer is here.
    Whole(http::Response<Bytes>, Finished),
    /// The guest goes on: await the [`Running`] to its end while the body is read.
    Streaming(http::response::Parts, Body),
    /// There is no answer.
    Failed(Finished),
}

struct GuestEnd {
    result: Result<(), Failure>,
    memory_bytes: u64,
}

/// A guest that runs. Dropping it ends it at once.
pub struct Running {
    guest: Pin<Box<dyn Future<Output = GuestEnd> + Send>>,
    meter: Meter,
    head: Option<oneshot::Receiver<Result<http::Response<WasiBody>, Failure>>>,
    instantiated: Arc<Mutex<Option<Instant>>>,
    response_bytes_max: u64,
    turn: Arc<Turn>,
    _ticking: Ticking,
}

/// An instance that has answered and may answer again.
pub(crate) struct Warm {
    store: Store<State>,
    proxy: Proxy,
    uses: u32,
    since: Instant,
}

/// Warm instances of one component in one process: more than run at once are of no use.
const WARM_MAX: usize = 64;

impl Component {
    /// Begins a call. Nothing runs until the result is polled.
    #[must_use]
    pub fn call(self: &Arc<Self>, call: Call) -> Running {
        let (head_tx, head) = oneshot::channel();
        let instantiated = Arc::new(Mutex::new(None));
        let response_bytes_max = call.version.limits.response_body_bytes;
        let _ticking = self.engine.ticker.begin();
        let turn = Arc::new(self.engine.turns.join(&call.version.tenant));
        let guest = Box::pin(run(Arc::clone(self), call, head_tx, Arc::clone(&instantiated)));
        Running {
            guest,
            meter: Meter::default(),
            head: Some(head),
            instantiated,
            response_bytes_max,
            turn,
            _ticking,
        }
    }

    /// Drops warm instances that have waited since before `then`; says how many are left.
    pub fn drop_idle(&self, then: Instant) -> usize {
        let mut warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        warm.retain(|instance| instance.since >= then);
        warm.len()
    }
}

async fn run(
    component: Arc<Component>,
    call: Call,
    head: oneshot::Sender<Result<http::Response<WasiBody>, Failure>>,
    instantiated: Arc<Mutex<Option<Instant>>>,
) -> GuestEnd {
    let instance = match take_or_make(&component, &call.version, &call.sink).await {
        Ok(instance) => instance,
        Err(failure) => return GuestEnd { result: Err(failure), memory_bytes: 0 },
    };
    let Warm { mut store, proxy, uses, .. } = instance;
    *instantiated.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    let result = match &proxy {
        Proxy::P2(proxy) => handle_p2(&mut store, proxy, call.request, head).await,
        Proxy::P3(service) => handle_p3(&mut store, service, call.request, head).await,
    };
    store.data().finish_output();
    let memory_bytes = store.data().limiter.bytes();
    let result = result.map_err(|error| classify(&error, store.data()));
    if result.is_ok() && uses < call.version.scaling.instance_reuse {
        let mut warm = component.warm.lock().unwrap_or_else(PoisonError::into_inner);
        if warm.len() < WARM_MAX {
            warm.push(Warm { store, proxy, uses, since: Instant::now() });
        }
    }
    GuestEnd { result, memory_bytes }
}

async fn take_or_make(
    component: &Component,
    version: &SharedVersion,
    sink: &LogSink,
) -> Result<Warm, Failure> {
    let taken = component.warm.lock().unwrap_or_else(PoisonError::into_inner).pop();
    if let Some(mut warm) = taken {
        warm.store.data_mut().begin(version, sink);
        warm.uses += 1;
        return Ok(warm);
    }
    let mut store =
        Store::new(&component.engine.engine, State::new(version, &component.engine.outside, sink));
    store.limiter(|state| &mut state.limiter);
    // One tick from now the guest yields, and so on with each tick: the caller's deadline ends it then.
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    match component.pre.instantiate_async(&mut store).await {
        Ok(proxy) => Ok(Warm { store, proxy, uses: 1, since: Instant::now() }),
        Err(error) => Err(classify(&error, store.data())),
    }
}

async fn handle_p2(
    store: &mut Store<State>,
    proxy: &wasmtime_wasi_http::p2::bindings::Proxy,
    request: http::Request<WasiBody>,
    head: oneshot::Sender<Result<http::Response<WasiBody>, Failure>>,
) -> wasmtime::Result<()> {
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let out = http.new_response_outparam_from_callback(move |result| {
        // The receiver is gone only when the caller is: then nobody wants the answer.
        let _ = head.send(result.map_err(|code| Failure::ErrorCode(format!("{code:?}"))));
    })?;
    proxy.wasi_http_incoming_handler().call_handle(store, request, out).await
}

async fn handle_p3(
    store: &mut Store<State>,
    service: &p3::bindings::Service,
    request: http::Request<WasiBody>,
    head: oneshot::Sender<Result<http::Response<WasiBody>, Failure>>,
) -> wasmtime::Result<()> {
    let (request, request_io) = p3::Request::from_http(store.data_mut().http().hooks, request);
    store
        .run_concurrent(async |accessor| {
            let answer = match service.handle(accessor, request).await? {
                Ok(response) => Ok(accessor.with(|store| response.into_http(store, request_io))?),
                Err(code) => Err(Failure::ErrorCode(format!("{code:?}"))),
            };
            let _ = head.send(answer);
            // The guest may go on after its head: it still writes the body, or has work after the answer.
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            Ok(())
        })
        .await?
}

fn classify(error: &wasmtime::Error, state: &State) -> Failure {
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return Failure::Exit(exit.0);
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Failure::Busy;
    }
    if state.limiter.refused {
        return Failure::OutOfMemory;
    }
    let backtrace =
        error.downcast_ref::<wasmtime::WasmBacktrace>().map(ToString::to_string).unwrap_or_default();
    // The chain ends with the trap itself, unless all there is stands at its head.
    let reason = error.root_cause().to_string();
    Failure::Trap { reason: cut(&reason, 500), backtrace: cut(&backtrace, 4_096) }
}

/// Guests choose function names, and so how long a backtrace is.
fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

impl Running {
    /// When the instance was there; `None` before.
    #[must_use]
    pub fn instantiated(&self) -> Option<Instant> {
        *self.instantiated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// CPU time so far, in microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> u64 {
        self.meter.us()
    }

    /// Runs the guest until its answer is whole, or until it waits with its head sent.
    ///
    /// Cancel-safe as far as metering goes: a caller that gives up may still ask for [`Running::cpu_us`].
    pub async fn answer(&mut self) -> Answer {
        let mut response = None;
        let mut buffered = BytesMut::new();
        let mut end = None;
        let ended = poll_fn(|cx| {
            let (mut meter, turn) = (self.meter, Arc::clone(&self.turn));
            let poll = turn
                .run(cx, |cx| meter.count(|| self.poll_answer(cx, &mut response, &mut buffered, &mut end)));
            self.meter = meter;
            poll
        })
        .await;
        match (ended, response, end) {
            (Err(failure), _, end) => {
                let memory_bytes = end.as_ref().map_or(0, |end: &GuestEnd| end.memory_bytes);
                // What the guest said of itself explains more than what its body looked like.
                let failure = end.and_then(|end| end.result.err()).unwrap_or(failure);
                Answer::Failed(Finished { result: Err(failure), cpu_us: self.cpu_us(), memory_bytes })
            }
            (Ok(()), Some((parts, None)), Some(end)) => {
                let response = http::Response::from_parts(parts, buffered.freeze());
                Answer::Whole(response, self.finished(end))
            }
            (Ok(()), Some((parts, body)), end) => {
                let left = self.response_bytes_max - buffered.len() as u64;
                let body =
                    Body { first: Some(buffered.freeze()), rest: body, left, max: self.response_bytes_max };
                if let Some(end) = end {
                    self.guest = Box::pin(std::future::ready(end));
                }
                Answer::Streaming(parts, body)
            }
            (Ok(()), None, _) => unreachable!("poll_answer ends with a head or a failure"),
        }
    }

    /// Ready when the guest has ended and its body is here, or when neither moves on without being woken.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        response: &mut Option<(http::response::Parts, Option<WasiBody>)>,
        buffered: &mut BytesMut,
        end: &mut Option<GuestEnd>,
    ) -> Poll<Result<(), Failure>> {
        let mut still = 0;
        loop {
            let mut moved = false;
            if end.is_none()
                && let Poll::Ready(ended) = self.guest.as_mut().poll(cx)
            {
                moved = true;
                let failure = ended.result.clone().err();
                *end = Some(ended);
                if let Some(failure) = failure {
                    return Poll::Ready(Err(failure));
                }
            }
            if let Some(head) = &mut self.head
                && let Poll::Ready(received) = Pin::new(head).poll(cx)
            {
                moved = true;
                self.head = None;
                match received {
                    Ok(Ok(answer)) => {
                        let (parts, body) = answer.into_parts();
                        *response = Some((parts, Some(body)));
                    }
                    Ok(Err(failure)) => return Poll::Ready(Err(failure)),
                    // The guest dropped its way to answer; how it ends says why.
                    Err(_) if end.is_none() => {}
                    Err(_) => return Poll::Ready(Err(Failure::NoAnswer)),
                }
            }
            if self.head.is_none() && response.is_none() && end.is_some() {
                return Poll::Ready(Err(Failure::NoAnswer));
            }
            if let Some((_, slot)) = response
                && let Some(body) = slot
            {
                match Pin::new(body).poll_frame(cx) {
                    Poll::Pending => {}
                    Poll::Ready(None) => {
                        *slot = None;
                        moved = true;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Err(Failure::BrokenOff(error.to_string())));
                    }
                    Poll::Ready(Some(Ok(frame))) => {
                        moved = true;
                        if let Ok(data) = frame.into_data() {
                            buffered.extend_from_slice(&data);
                        }
                        if buffered.len() as u64 > self.response_bytes_max {
                            return Poll::Ready(Err(Failure::TooLarge(self.response_bytes_max)));
                        }
                    }
                }
            }
            still = if moved { 0 } else { still + 1 };
            match response {
                // Asking for the body may be what the guest waited for: it is polled once more.
                Some((_, body)) => {
                    let whole = body.is_none() && end.is_some();
                    if whole || still > 1 || buffered.len() > BUFFER_BYTES_MAX {
                        return Poll::Ready(Ok(()));
                    }
                }
                None if moved => {}
                None => return Poll::Pending,
            }
        }
    }

    fn finished(&self, end: GuestEnd) -> Finished {
        Finished { result: end.result, cpu_us: self.cpu_us(), memory_bytes: end.memory_bytes }
    }
}

impl Future for Running {
    type Output = Finished;

    /// Drives a guest whose answer streams to its end.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Finished> {
        let this = &mut *self;
        let Self { guest, meter, turn, .. } = this;
        let polled = turn.run(cx, |cx| meter.count(|| guest.as_mut().poll(cx)));
        polled.map(|end| self.finished(end))
    }
}

/// The body of an answer that streams.
pub struct Body {
    first: Option<Bytes>,
    rest: Option<WasiBody>,
    left: u64,
    max: u64,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let frame = match std::task::ready!(Pin::new(rest).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(frame) => frame.map_err(|error: Error| Failure::BrokenOff(error.to_string()))?,
        };
        let len = frame.data_ref().map_or(0, |data| data.len() as u64);
        if len > self.left {
            self.rest = None;
            return Poll::Ready(Some(Err(Failure::TooLarge(self.max))));
        }
        self.left -= len;
        Poll::Ready(Some(Ok(frame)))
    }
}
