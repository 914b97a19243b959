//! Runs one call on an instance: hands it over, watches caller, clock and code, tells how it ended.

mod account;
mod end;
mod shares;
mod stream;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::HeaderValue;
use rouse_contract::lambda::{
    Answer, Call, Worker, environment,
    http_answer::{self, Head, Invalid},
    http_event,
};
use rouse_sandbox::{Sandbox, Stats};
use rouse_types::{Code, FunctionVersion, Outcome, Refusal, Source};

pub(crate) use self::account::{head, usage};
use self::{
    account::Account,
    end::{failed, invalid, raised, too_large},
    shares::Shares,
};
use crate::{
    instance::Around,
    job::{Job, Milestones, Reply},
};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It can run another call.
    Reusable,
    /// Its state is unknown, or it has ended: it takes no more calls.
    Spent,
}

/// Runs a job to its end; says what is to become of the instance, and what that has used so far.
pub(crate) async fn run<S: Sandbox>(place: &Place<S>, job: Job) -> (Fate, Stats) {
    let (version, around) = (&place.version, &place.around);
    let mut account = Account::open(place, &job);
    let call = call(&job, version, around);
    let Job { invocation, mut reply, .. } = job;
    let source = invocation.source;
    let answered = tokio::select! {
        biased;
        answered = place.worker.invoke(call) => answered,
        () = reply.closed() => return (Fate::Spent, account.close(Outcome::Cancelled).stats),
    };
    let end = match answered {
        Ok(Answer::Whole(payload)) => match whole(source, payload) {
            Ok((head, body)) => {
                account.usage.bytes_out = body.len() as u64;
                let closed = account.close(Outcome::Ok);
                drop(reply.send(Reply::Whole(head, body, closed.head)));
                return (Fate::Reusable, closed.stats);
            }
            Err(error) => invalid(version, &error),
        },
        Ok(Answer::Streamed { content_type, body }) => {
            return stream::answer(place, account, source, (content_type, body), reply).await;
        }
        Ok(Answer::Error(error)) => raised(version, source, &error),
        Ok(Answer::TooLarge(max)) => too_large(version, max),
        Err(failure) => failed(version, failure),
    };
    end.say(around, invocation.id, version);
    let closed = account.close(end.outcome);
    let refusal = end.refusal.unwrap_or_else(|| Refusal::new(Code::Internal, "it ended without a reason"));
    drop(reply.send(Reply::Failed(refusal, closed.head)));
    (end.fate, closed.stats)
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
