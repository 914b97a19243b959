//! A call to code that asks the Runtime API for it: the event that it gets, the answer that it posts.

use base64::Engine as _;
use bytes::Bytes;
use http::HeaderValue;
use rouse_contract::lambda::{
    Answer, Call, Worker, environment,
    http_answer::{self, Head, Invalid},
    http_event,
};
use rouse_sandbox::Sandbox;
use rouse_types::{FunctionVersion, Outcome, Source, invocation::FUNCTION_ERROR_HEADER};

use super::{
    Ended, Fate, Place,
    account::Account,
    end::{failed, invalid, raised, too_large},
    stream,
};
use crate::{
    instance::Around,
    job::{Job, Reply},
};

/// Runs a job to its end.
pub(super) async fn run<S: Sandbox>(place: &Place<S>, worker: &Worker<S>, job: Job) -> Ended {
    let (version, around) = (&place.version, &place.around);
    let mut account = Account::open(place, &job);
    let call = call(&job, version, around);
    let Job { invocation, mut reply, leave: _leave, .. } = job;
    let source = invocation.source;
    let by_lambda = invocation.lambda.is_some();
    let answered = tokio::select! {
        biased;
        answered = worker.invoke(call) => answered,
        () = reply.closed() => return account.close(Outcome::Cancelled).ended(Fate::Spent),
    };
    let end = match answered {
        Ok(Answer::Whole(payload)) => match whole(source, payload) {
            Ok((head, body)) => {
                account.usage.bytes_out = body.len() as u64;
                let closed = account.close(Outcome::Ok);
                drop(reply.send(Reply::Whole(head, body, closed.head.clone())));
                return closed.ended(Fate::Reusable);
            }
            Err(error) => invalid(version, &error),
        },
        Ok(Answer::Streamed { content_type, body }) => {
            return stream::answer(account, source, (content_type, body), reply).await;
        }
        Ok(Answer::Error(error)) if by_lambda => {
            account.usage.bytes_out = error.posted.len() as u64;
            let closed = account.close(Outcome::FunctionError);
            let mut head = Head::plain(HeaderValue::from_static("application/json"));
            let unhandled = HeaderValue::from_static("Unhandled");
            head.headers.insert(FUNCTION_ERROR_HEADER, unhandled);
            drop(reply.send(Reply::Whole(head, error.posted, closed.head.clone())));
            return closed.ended(Fate::Reusable);
        }
        Ok(Answer::Error(error)) => raised(version, source, &error),
        Ok(Answer::TooLarge(max)) => too_large(version, max),
        Err(failure) => failed(place, failure),
    };
    end.say(around, invocation.id, version);
    let closed = account.close(end.outcome);
    let (refusal, fate) = end.told();
    drop(reply.send(Reply::Failed(refusal, closed.head.clone())));
    closed.ended(fate)
}

/// The call as the code is to see it.
fn call(job: &Job, version: &FunctionVersion, around: &Around) -> Call {
    let invocation = &job.invocation;
    let lambda = invocation.lambda.as_ref();
    let trace = environment::xray(&invocation.traceparent());
    let request = &job.request;
    // Whoever took the request has read its body.
    let body = request.body.whole();
    let payload = match invocation.source {
        // A call without a payload gets an empty object, as from AWS' own tools.
        Source::Invoke if body.is_empty() => Bytes::from_static(b"{}"),
        Source::Invoke => body,
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
            body: &body,
            url: None,
        }),
    };
    Call {
        id: invocation.id,
        payload,
        deadline: around.clock.now() + version.limits.timeout(),
        timeout: version.limits.timeout(),
        trace,
        client_context: lambda.and_then(|lambda| client_context(lambda.client_context.as_deref()?)),
        arn: lambda.map(|lambda| lambda.arn.clone()),
        cognito_identity: None,
        tenant_id: None,
        log_bytes: version.limits.log_bytes,
    }
}

/// The client's context as the Runtime API tells it: decoded. What is no base64 of a text is left out.
fn client_context(encoded: &str) -> Option<String> {
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded).ok()?).ok()
}

fn whole(source: Source, payload: Bytes) -> Result<(Head, Bytes), Invalid> {
    match source {
        Source::Http => http_answer::read(&payload),
        Source::Invoke => Ok((Head::plain(HeaderValue::from_static("application/json")), payload)),
    }
}
