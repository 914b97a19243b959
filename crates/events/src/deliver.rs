//! One attempt to deliver one event, and what becomes of it.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt as _;
use rouse_api::wire::{self, Answer};
use rouse_store::queues::{End, Lease, Leased, NewMessage};
use rouse_triggers::{
    cloud_event,
    retry::{self, Failure, History, Next, Reason},
};
use rouse_types::{
    Code, Delivery, Event, EventCall, EventSettings, Refusal, Source, Timestamp,
    chain::CHAIN_HEADER,
    event::{ATTEMPT_HEADER, DELIVERY_HEADER, IDEMPOTENCY_HEADER, from_latin1},
    invocation::{ERROR_HEADER, FUNCTION_ERROR_HEADER, LAMBDA_HEADER},
    trigger::CHAIN_MAX,
};

use crate::{
    consumer::{Felt, VISIBILITY},
    decide::{self, Verdict},
    dispatch::Events,
    record::{self, Told},
    topics::Origin,
};

/// The least pause when the function had no chance.
pub(crate) const PUT_OFF_MIN: Duration = Duration::from_millis(50);
/// What is kept of an answer, for the record that goes to a target.
const ANSWER_BYTES_KEPT: usize = 256 << 10;
/// The longest answer that is read: what is longer is broken off, for nobody hears it.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The pause before an end that could not be written is tried again.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How often: what is not written then is delivered again when its lease runs out.
const STORE_TRIES: u32 = 30;

/// What a function answered, as far as it is kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    /// Whether code ran at all.
    pub(crate) ran: bool,
    pub(crate) body: Bytes,
}

/// Delivers a leased event, and ends its lease as it went.
pub(crate) async fn run(events: &Arc<Events>, message: Leased) -> Felt {
    let Leased { lease, head, payload, enqueued, .. } = message;
    let event: Event = match serde_json::from_slice(&head) {
        Ok(event) => event,
        Err(error) => {
            let reason = format!("the event cannot be read by this release: {error}");
            end(events, lease, End::Dead { reason }, Vec::new()).await;
            return Felt::Room;
        }
    };
    let version = events.table.version(&event.tenant, &event.function, event.alias.as_deref());
    let mut settings = match &event.own {
        Some(own) => own.settings.clone(),
        None => version.map_or_else(EventSettings::default, |version| version.events.clone()),
    };
    let calls = matches!(event.call, EventCall::Invoke { .. } | EventCall::Http { .. });
    if !calls {
        // What tells of an end has no end of its own to tell of.
        (settings.on_success, settings.on_failure) = (None, None);
    }
    let age = || events.config.clock.now().since(enqueued);
    let mut reply = Reply::default();
    let verdict = if calls && event.chain.loops(&event.function) {
        let reason = format!("a loop: its chain of events has passed '{}' {CHAIN_MAX} times", event.function);
        tracing::warn!(tenant = %event.tenant, function = %event.function, chain = %event.chain, "a loop was stopped");
        Verdict::failed(Failure::Permanent, reason)
    } else if age() > Duration::from_millis(settings.age_max_ms) {
        let reason = format!("it waited longer than its {} s", settings.age_max_ms / 1_000);
        Verdict::failed(Failure::Throttled, reason)
    } else {
        match attempt(events, &event, &[lease], lease.attempt, payload.clone().into()).await {
            Some((verdict, told)) => {
                reply = told;
                verdict
            }
            // Cancelled: whoever did that has removed the message.
            None => return Felt::Room,
        }
    };
    let (felt, how, then) = judge(
        events,
        &event,
        lease,
        enqueued,
        verdict,
        |given_up| {
            let told =
                Told { event: &event, payload: &payload, reply: &reply, attempts: lease.attempt, given_up };
            let target = if given_up.is_some() { &settings.on_failure } else { &settings.on_success };
            let mut then = Vec::from_iter(record::message(target.as_ref(), told, events.config.clock.now()));
            then.extend(record::dead_letter(told));
            then
        },
        &settings,
    );
    end(events, lease, how, then).await;
    felt
}

/// What becomes of an event, and what its target is told.
fn judge(
    events: &Events,
    event: &Event,
    lease: Lease,
    enqueued: Timestamp,
    verdict: Verdict,
    tell: impl FnOnce(Option<Reason>) -> Vec<(String, NewMessage)>,
    settings: &EventSettings,
) -> (Felt, End, Vec<(String, NewMessage)>) {
    let Verdict::Failed { failure, reason, retry_after } = verdict else {
        events.metrics.attempt("done");
        return (Felt::Room, End::Done, tell(None));
    };
    let felt =
        if failure.is_counted() || failure == Failure::Permanent { Felt::Room } else { Felt::Throttled };
    let put_off = lease.number.saturating_sub(u64::from(lease.attempt));
    let history = History {
        accepted: enqueued,
        attempts: lease.attempt.saturating_sub(1),
        put_off: u32::try_from(put_off).unwrap_or(u32::MAX - 1),
    };
    let now = events.config.clock.now();
    let chance = decide::chance(event.id, lease.number);
    match retry::next(&decide::policy(settings), history, failure, retry_after, now, chance) {
        Next::Again { at, .. } => {
            let delay = at.since(now);
            if failure.is_counted() {
                events.metrics.attempt("retried");
                (felt, End::Failed { delay, reason }, Vec::new())
            } else {
                events.metrics.attempt("put-off");
                // Not at once: what has no room now has none in the next millisecond.
                (felt, End::Released { delay: delay.max(PUT_OFF_MIN) }, Vec::new())
            }
        }
        Next::GiveUp(why, _) => {
            let Event { id, tenant, function, .. } = event;
            tracing::warn!(%tenant, %function, %id, reason, "an event was given up");
            events.metrics.attempt("dead");
            let reason = if why == Reason::Age { format!("too old: {reason}") } else { reason };
            (felt, End::Dead { reason }, tell(Some(why)))
        }
    }
}

/// Ends a lease. A store that is full or busy is asked again: the call was made, and should not be made twice.
pub(crate) async fn end(events: &Arc<Events>, lease: Lease, how: End, then: Vec<(String, NewMessage)>) {
    for _ in 0..STORE_TRIES {
        match events.queues.end(lease, how.clone(), then.clone()).await {
            Ok(_) => {
                then.iter().for_each(|(queue, _)| events.poke(queue));
                return;
            }
            Err(error @ rouse_store::Error::TooDeep { .. }) => {
                tracing::warn!(%error, "the outcome of an event was not sent on");
                if events.queues.end(lease, how.clone(), Vec::new()).await.is_ok() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the end of a delivery cannot be written"
                );
            }
        }
        tokio::time::sleep(STORE_PAUSE).await;
    }
}

/// Makes the call, and holds on to the message meanwhile. Nothing if it was cancelled.
pub(crate) async fn attempt(
    events: &Arc<Events>,
    event: &Event,
    leases: &[Lease],
    attempt: u32,
    body: Bytes,
) -> Option<(Verdict, Reply)> {
    let running = events.begin(event.id);
    let mut call = pin!(call(events, event, attempt, body));
    loop {
        tokio::select! {
            answered = &mut call => return Some(answered),
            () = running.cancelled.cancelled() => return None,
            () = tokio::time::sleep(VISIBILITY / 3) => if !hold(events, leases).await {
                // Someone else has it, or it was cancelled: to go on would be to run it twice.
                return None;
            },
        }
    }
}

/// Calls the function, or sends an outcome to where it goes.
async fn call(events: &Arc<Events>, event: &Event, attempt: u32, body: Bytes) -> (Verdict, Reply) {
    match &event.call {
        EventCall::Topic(topic) => (publish(events, event, topic, &body).await, Reply::default()),
        EventCall::Url(url) => {
            let version = events.table.version(&event.tenant, &event.function, None);
            let egress = version.map(|version| version.egress.clone()).unwrap_or_default();
            (events.outgoing.post(url, &egress, &event.chain, &body).await, Reply::default())
        }
        EventCall::Invoke { .. } | EventCall::Http { .. } => {
            let request = match request(event, attempt, body) {
                Ok(request) => request,
                Err(error) => {
                    let reason = format!("the event is no HTTP request: {error}");
                    return (Verdict::failed(Failure::Permanent, reason), Reply::default());
                }
            };
            let by_lambda = event.lambda.is_some();
            match events.gateways.call(&request, async |answer| read(answer, by_lambda).await).await {
                Ok(answered) => answered,
                Err(error @ wire::Error::Connect { .. }) => {
                    (Verdict::failed(Failure::Platform, error.to_string()), Reply::default())
                }
                // It may have run, so it counts: what kills a gateway must not do so for ever.
                Err(error) => {
                    let reason = format!("the call broke off: {error}");
                    (Verdict::failed(Failure::Function, reason), Reply::default())
                }
            }
        }
    }
}

/// Publishes an outcome to a topic. It has an id of its own, so a second attempt reaches nobody twice.
async fn publish(events: &Arc<Events>, event: &Event, topic: &str, body: &[u8]) -> Verdict {
    let structured = HeaderValue::from_static(cloud_event::STRUCTURED_TYPE);
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, structured)]);
    let outcomes = match cloud_event::read(&headers, body) {
        Ok(outcomes) => outcomes,
        Err(error) => return Verdict::failed(Failure::Permanent, format!("it is no CloudEvent: {error}")),
    };
    let origin = Origin { chain: event.chain.clone(), caller: event.caller };
    match events.publish(&event.tenant, topic, &outcomes, &origin).await {
        Ok(_) => Verdict::Well,
        Err(error @ rouse_store::Error::TooDeep { .. }) => {
            Verdict::failed(Failure::Throttled, error.to_string())
        }
        Err(error) => Verdict::failed(Failure::Platform, error.to_string()),
    }
}

/// Holds on to messages while a call runs. Tells whether any of them is still ours.
async fn hold(events: &Events, leases: &[Lease]) -> bool {
    let mut held = false;
    for lease in leases {
        held |= events.queues.extend(*lease, VISIBILITY).await.unwrap_or_else(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "a lease was not extended");
            true
        });
    }
    held
}

/// The request that has a gateway make the call.
pub(crate) fn request(event: &Event, attempt: u32, body: Bytes) -> Result<Request<Bytes>, http::Error> {
    let mut delivery = Delivery {
        id: event.id,
        tenant: event.tenant.clone(),
        function: event.function.clone(),
        alias: event.alias.clone(),
        attempt,
        source: Source::Invoke,
        caller: event.caller,
        peer: None,
    };
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    match &event.call {
        // Not for a gateway.
        EventCall::Topic(_) | EventCall::Url(_) => {}
        EventCall::Invoke { content_type } => {
            let content_type = content_type.as_deref().unwrap_or("application/json");
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::try_from(content_type)?);
        }
        EventCall::Http { method, path, headers, peer } => {
            (delivery.source, delivery.peer) = (Source::Http, *peer);
            *request.method_mut() = Method::from_bytes(method.as_bytes())?;
            *request.uri_mut() = path.parse::<http::uri::PathAndQuery>().map(http::Uri::from)?;
            for (name, value) in headers {
                let value = HeaderValue::from_bytes(&from_latin1(value))?;
                let name = HeaderName::try_from(name)?;
                request.headers_mut().append(name, value);
            }
        }
    }
    let chain = event.chain.clone().then(&event.function);
    let headers = request.headers_mut();
    headers.insert(CHAIN_HEADER, HeaderValue::try_from(chain.to_string())?);
    headers.insert(ATTEMPT_HEADER, HeaderValue::from(attempt));
    // A webhook comes as it was sent.
    if let (Some(key), None) = (&event.idempotency_key, &event.trigger) {
        headers.insert(IDEMPOTENCY_HEADER, HeaderValue::try_from(key)?);
    }
    if let Some(lambda) = &event.lambda {
        let lambda = serde_json::to_string(lambda).unwrap_or_default();
        headers.insert(LAMBDA_HEADER, HeaderValue::try_from(lambda)?);
    }
    let delivery = serde_json::to_string(&delivery).unwrap_or_default();
    headers.insert(DELIVERY_HEADER, HeaderValue::try_from(delivery)?);
    // Without it a server may leave trailers out (RFC 9110 §6.5.1), and hyper does.
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    Ok(request)
}

/// Reads an answer to its end: only then it is known whether the function did well.
async fn read(answer: Response<Answer>, by_lambda: bool) -> Result<(Verdict, Reply), wire::Error> {
    let (head, mut body) = answer.into_parts();
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let retry_after = text("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let (mut kept, mut bytes) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        bytes += data.len();
        if bytes > ANSWER_BYTES_MAX {
            break;
        }
        kept.extend_from_slice(&data[..data.len().min(ANSWER_BYTES_KEPT - kept.len())]);
    }
    // A call by AWS' Lambda API that raised is answered as that API answers it: with the error in place of a result.
    let raised = by_lambda && head.headers.contains_key(FUNCTION_ERROR_HEADER);
    let error = text(ERROR_HEADER).or(raised.then(|| Code::FunctionError.as_str())).map(str::to_owned);
    let message = error.as_ref().map(|_| said(&kept)).unwrap_or_default();
    let verdict = decide::verdict(head.status, error.as_deref(), &message, retry_after);
    Ok((verdict, Reply { ran: true, body: kept.freeze() }))
}

/// What an answer says of why it is none: a refusal of ours, or an error as a Lambda function's runtime posts it.
fn said(body: &[u8]) -> String {
    if let Ok(refusal) = serde_json::from_slice::<Refusal>(body) {
        return refusal.message;
    }
    let posted = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
    match (posted["errorType"].as_str(), posted["errorMessage"].as_str()) {
        (Some(kind), Some(message)) => format!("{kind}: {message}"),
        (_, message) => message.unwrap_or_default().to_owned(),
    }
}
