//! A call to a server: the request goes through as it comes, and so does the answer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use rouse_contract::{
    http::{self, AnswerBody, BodyError, Failure, Why},
    lambda::{self, http_answer::Head},
};
use rouse_sandbox::Sandbox;
use rouse_types::{Code, Outcome, Refusal};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    EXPLAIN, Ended, Fate, PARTS_MAX, Place,
    account::Account,
    end::{End, broke_off, failed, too_large},
    request::{Broken, Passed, Passing},
    tunnel,
};
use crate::job::{Job, Reply, Request};

/// How often a call goes to another instance because the one before was found gone: each costs a start, and code
/// whose server is gone each time is broken.
const TRIES_MAX: u32 = 3;
/// An answer up to this size that is there at once goes out in one piece, with its outcome in its head.
const WHOLE_BYTES_MAX: u64 = 64 << 10;
/// What is at once: the head and the body of most answers are written together.
const AT_ONCE: Duration = Duration::from_millis(2);

/// Runs a job to its end, or gives it back if the code has seen nothing of it.
pub(super) async fn run<S: Sandbox>(place: &Place<S>, worker: &http::Worker<S>, job: Job) -> Ended {
    let version = &place.version;
    let mut account = Account::open(place, &job);
    let Job { invocation, request, arrived, before, tries, leave, mut reply } = job;
    let Request { method, uri, version: protocol, headers, body, upgrade } = request;
    let (passing, passed) = Passing::new(body, version.limits.request_body_bytes);
    let mut sent = ::http::Request::new(passing.map_err(Into::into).boxed_unsync());
    (*sent.method_mut(), *sent.uri_mut(), *sent.version_mut()) = (method.clone(), uri.clone(), protocol);
    *sent.headers_mut() = headers.clone();
    let deadline = Instant::now() + version.limits.timeout();
    let call = http::Call {
        id: invocation.id,
        trace: invocation.traceparent(),
        peer: invocation.peer,
        timeout: version.limits.timeout(),
        log_bytes: version.limits.log_bytes,
    };
    let answered = tokio::select! {
        biased;
        answered = worker.call(call, sent) => answered,
        () = reply.closed() => {
            account.usage.bytes_in = passed.bytes();
            return account.close(Outcome::Cancelled).ended(Fate::Reusable);
        }
    };
    let failure = match answered {
        Ok(response) if response.status() == ::http::StatusCode::SWITCHING_PROTOCOLS => {
            return tunnel::run(account, response, upgrade, reply, deadline).await;
        }
        Ok(response) => {
            let (head, body) = response.into_parts();
            let head = Head { status: head.status, headers: head.headers };
            return answer(account, &passed, (head, body), reply, deadline).await;
        }
        Err(failure) => failure,
    };
    if !failure.sent
        && tries + 1 < TRIES_MAX
        && let Some(body) = passed.back()
    {
        tracing::debug!(version = %version.key(), %failure, "a call goes to another instance");
        account.forget();
        let request = Request { method, uri, version: protocol, headers, body, upgrade };
        let job = Job { invocation, request, arrived, before, tries: tries + 1, leave, reply };
        return Ended { fate: Fate::NotBegun(Box::new(job)), stats: worker.sandbox().stats() };
    }
    let end = unanswered(place, failure, &passed);
    end.say(&place.around, invocation.id, version);
    account.usage.bytes_in = passed.bytes();
    let closed = account.close(end.outcome);
    let (refusal, fate) = end.told();
    drop(reply.send(Reply::Failed(refusal, closed.head.clone())));
    closed.ended(fate)
}

/// Why there is no answer.
fn unanswered<S: Sandbox>(place: &Place<S>, failure: Failure, passed: &Passed) -> End {
    let (version, key) = (&place.version, place.version.key());
    let fate = if failure.is_over() { Fate::Spent } else { Fate::Reusable };
    let end = match failure.why {
        Why::Timeout => failed(place, lambda::Failure::Timeout),
        Why::Exited(exit) => failed(place, lambda::Failure::Exited(exit)),
        Why::TooLarge(max) => too_large(version, max),
        Why::Caller(_) => {
            let refusal = match passed.broken() {
                Some(Broken::TooLarge(most)) => {
                    let text = format!("{key} takes a body of {most} bytes at most");
                    Refusal::new(Code::PayloadTooLarge, text).hint("send less, or raise its limit")
                }
                _ => Refusal::new(Code::BadRequest, "the body broke off"),
            };
            End { outcome: Outcome::Cancelled, refusal: Some(refusal), fate: Fate::Reusable }
        }
        why @ (Why::NotListening | Why::Closed) => {
            End::error(Code::FunctionError, format!("{key} did not answer: {why}"))
                .hint("let the server run on and answer every request; see its log")
        }
        why @ Why::Invalid(_) => {
            End::error(Code::InvalidResponse, format!("{key} gave no HTTP answer: {why}"))
        }
        Why::Host(why) => {
            // For the operator alone.
            tracing::error!(version = %key, why, "an instance cannot be reached");
            let refusal = Refusal::new(Code::Internal, format!("an instance of {key} could not be reached"));
            End { outcome: Outcome::PlatformError, refusal: Some(refusal), fate: Fate::Spent }
        }
    };
    End { fate, ..end }
}

/// Passes an answer on: whole if it is there, else as it comes.
async fn answer<S: Sandbox>(
    mut account: Account<'_, S>,
    passed: &Passed,
    (head, mut body): (Head, AnswerBody),
    mut reply: oneshot::Sender<Reply>,
    deadline: Instant,
) -> Ended {
    let place = account.place;
    let first = tokio::select! {
        biased;
        first = first(&mut body) => first,
        () = reply.closed() => Err(None),
    };
    let first = match first {
        Ok(First::Whole(data)) => {
            (account.usage.bytes_in, account.usage.bytes_out) = (passed.bytes(), data.len() as u64);
            let closed = account.close(Outcome::Ok);
            drop(reply.send(Reply::Whole(head, data, closed.head.clone())));
            return closed.ended(Fate::Reusable);
        }
        Ok(First::Part(data)) => data,
        Err(error) => {
            let end = match error {
                Some(error) => broken(place, error).await,
                None => End { fate: Fate::Reusable, ..End::CANCELLED },
            };
            end.say(&place.around, account.usage.id, &place.version);
            account.usage.bytes_in = passed.bytes();
            let closed = account.close(end.outcome);
            let (refusal, fate) = end.told();
            drop(reply.send(Reply::Failed(refusal, closed.head.clone())));
            return closed.ended(fate);
        }
    };
    let (parts, receiver) = mpsc::channel(PARTS_MAX);
    let (tell, told) = oneshot::channel();
    let end = if reply.send(Reply::Streamed(head, receiver, told)).is_ok() {
        pass(place, &mut body, first, &parts, &mut account.usage.bytes_out, deadline).await
    } else {
        End { fate: Fate::Reusable, ..End::CANCELLED }
    };
    if let Some(refusal) = &end.refusal {
        place.around.say(&place.version, Some(account.usage.id), refusal.message.clone());
    }
    account.usage.bytes_in = passed.bytes();
    let closed = account.close(end.outcome);
    drop(tell.send(closed.head.clone()));
    closed.ended(end.fate)
}

enum First {
    Whole(Bytes),
    Part(Bytes),
}

/// What of an answer is there at once.
async fn first(body: &mut AnswerBody) -> Result<First, Option<BodyError>> {
    let mut data = BytesMut::new();
    let small = body.size_hint().upper().is_some_and(|bytes| bytes <= WHOLE_BYTES_MAX);
    let until = Instant::now() + AT_ONCE;
    while small && !body.is_end_stream() {
        match timeout_at(until, body.frame()).await {
            Ok(Some(Ok(frame))) => data.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Ok(Some(Err(error))) => return Err(Some(error)),
            Ok(None) => return Ok(First::Whole(data.freeze())),
            Err(_) => return Ok(First::Part(data.freeze())),
        }
    }
    let whole = body.is_end_stream();
    Ok(if whole { First::Whole(data.freeze()) } else { First::Part(data.freeze()) })
}

/// Passes parts on until the end, the caller's going, or the end of the time. A part waits for the caller, and so
/// does the code.
async fn pass<S: Sandbox>(
    place: &Place<S>,
    body: &mut AnswerBody,
    first: Bytes,
    parts: &mpsc::Sender<Frame<Bytes>>,
    bytes_out: &mut u64,
    deadline: Instant,
) -> End {
    let cancelled = End { fate: Fate::Reusable, ..End::CANCELLED };
    let mut frame = Frame::data(first);
    loop {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        if bytes > 0 || frame.is_trailers() {
            tokio::select! {
                biased;
                sent = parts.send(frame) => if sent.is_err() { return cancelled },
                () = sleep_until(deadline) => return failed(place, lambda::Failure::Timeout),
            }
            *bytes_out += bytes;
        }
        let next = tokio::select! {
            biased;
            next = body.frame() => next,
            () = parts.closed() => return cancelled,
        };
        frame = match next {
            Some(Ok(next)) => next,
            Some(Err(error)) => return broken(place, error).await,
            None => return End::OK,
        };
    }
}

async fn broken<S: Sandbox>(place: &Place<S>, error: BodyError) -> End {
    match error {
        BodyError::Timeout => failed(place, lambda::Failure::Timeout),
        BodyError::TooLarge(max) => too_large(&place.version, max),
        BodyError::Broken => match timeout(EXPLAIN, place.worker.exited()).await {
            Ok(exit) => failed(place, lambda::Failure::Exited(exit)),
            // A connection of its own broke: others are as they were.
            Err(_) => End { fate: Fate::Reusable, ..broke_off(&place.version) },
        },
    }
}
