//! Calls that nobody waits for: kept on the disk before they are accepted, then run, a failed one again.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use rouse_store::queues::{Leased, NewMessage};
use rouse_types::{LambdaCall, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    error::AwsError,
    face::{self, Around, Face},
    lambda::invoke::{self, Reached},
    names::Scope,
    state::{self, Function},
};

/// The queue.
const QUEUE: &str = "lambda";
/// Events that run at once.
const AT_ONCE: usize = 32;
/// How long one may take: the longest function, with its start.
const LEASE: Duration = Duration::from_secs(1_200);
/// What is waited after a look that found nothing where there was something.
const LOOK: Duration = Duration::from_secs(1);
/// What is waited before the second attempt; the third waits twice as long. AWS waits for minutes.
const BACKOFF: Duration = Duration::from_secs(1);
/// Attempts of an event, unless its function says otherwise.
const ATTEMPTS: u32 = 3;
/// How old an event may grow, unless its function says otherwise, in seconds.
const AGE_MAX: u64 = 6 * 3_600;

/// One event.
#[derive(Debug, Serialize, Deserialize)]
struct Event {
    id: String,
    tenant: rouse_types::TenantId,
    region: String,
    name: String,
    /// As the caller named it.
    arn: String,
    /// In base64.
    payload: String,
    /// In milliseconds since the epoch.
    accepted: u64,
    age_max: u64,
}

/// Accepts an event: it is on the disk when this returns. Gives its id.
pub(crate) async fn accept(
    op: &crate::lambda::op::Op<'_>,
    reached: &Reached,
    payload: &Bytes,
) -> Result<String, AwsError> {
    let around = op.around;
    let settings = settings(op.face, &around.scope, reached).await?;
    let number = |member: &str| settings.get(member).and_then(Value::as_u64);
    let attempts =
        number("MaximumRetryAttempts").and_then(|n| u32::try_from(n).ok()).map_or(ATTEMPTS, |n| n + 1);
    let event = Event {
        id: face::uuid(),
        tenant: around.scope.tenant.clone(),
        region: around.scope.region.clone(),
        name: reached.name.clone(),
        arn: reached.arn.clone(),
        payload: STANDARD.encode(payload),
        accepted: around.now.as_millis(),
        age_max: number("MaximumEventAgeInSeconds").unwrap_or(AGE_MAX),
    };
    let bytes = serde_json::to_vec(&event).map_err(|error| AwsError::service(error.to_string()))?;
    let message = NewMessage { attempts_max: attempts, ..NewMessage::new(bytes) };
    op.face.queues.enqueue(QUEUE, vec![message]).await.map_err(state::failed)?;
    Ok(event.id)
}

/// What the function says of its events.
async fn settings(face: &Arc<Face>, scope: &Scope, reached: &Reached) -> Result<Value, AwsError> {
    let function = face.store.get::<Function>(state::FUNCTIONS, &scope.tenant, &reached.name).await?;
    let qualifier = reached.arn.split(':').nth(7).unwrap_or(crate::names::LATEST);
    Ok(function.and_then(|at| at.value.event_invoke.get(qualifier).cloned()).unwrap_or_default())
}

/// Runs what was accepted, until told to stop. What is under way then is run again after its lease.
pub(crate) async fn run(face: Arc<Face>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut changes = face.queues.changes();
    while !stop.is_cancelled() {
        changes.mark_unchanged();
        // Looking costs no write; an empty queue is looked at only when something is written.
        let next = face.queues.next_ready(QUEUE).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the queue of events cannot be read");
            None
        });
        let now = face.config.clock.now();
        let wait = next.map(|next| if next > now { next.since(now) } else { Duration::ZERO });
        if wait != Some(Duration::ZERO) {
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                () = stop.cancelled() => return,
            }
            continue;
        }
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = stop.cancelled() => return,
        };
        let leased = face.queues.lease(QUEUE, 1, LEASE).await.unwrap_or_default();
        if leased.is_empty() {
            // It was leased before us, or the store fails: not at once again.
            tokio::time::sleep(LOOK).await;
        }
        if let (Some(each), Ok(place)) = (leased.into_iter().next(), place) {
            let own = Arc::clone(&face);
            face.tasks.spawn(async move {
                deliver(&own, each).await;
                drop(place);
            });
        }
    }
}

async fn deliver(face: &Arc<Face>, leased: Leased) {
    let Ok(event) = serde_json::from_slice::<Event>(&leased.payload) else {
        tracing::error!("an event cannot be read; it is dropped");
        let _ = face.queues.ack(vec![leased.lease]).await;
        return;
    };
    let age = face.config.clock.now().since(Timestamp::from_millis(event.accepted));
    let result = match age > Duration::from_secs(event.age_max) {
        true => Err("it grew too old".to_owned()),
        false => attempt(face, &event).await,
    };
    let written = match result {
        Ok(()) => face.queues.ack(vec![leased.lease]).await.map(drop),
        Err(why) => {
            let attempt = leased.lease.attempt;
            tracing::info!(function = event.name, id = event.id, attempt, why, "an event failed");
            // After the last attempt it is with the dead letters, where it is kept.
            face.queues.nack(leased.lease, BACKOFF * attempt, &why).await.map(drop)
        }
    };
    if let Err(error) = written {
        tracing::error!(%error, "what an event came to cannot be written; it runs again");
    }
}

async fn attempt(face: &Arc<Face>, event: &Event) -> Result<(), String> {
    let scope = Scope {
        tenant: event.tenant.clone(),
        account: crate::names::account(&event.tenant),
        region: event.region.clone(),
    };
    let around = Around { scope, url: String::new(), now: face.config.clock.now() };
    let input = json!({ "FunctionName": event.arn });
    let op = crate::lambda::op::Op { face, around: &around, input: &input };
    let reached = op.reach().await.map_err(|error| error.message)?;
    let payload = STANDARD.decode(&event.payload).map_err(|error| error.to_string())?;
    let call = LambdaCall { arn: event.arn.clone(), client_context: None };
    let outcome =
        invoke::call_once(&op, &reached, &call, payload.into()).await.map_err(|error| error.message)?;
    if outcome.failed {
        return Err(String::from_utf8_lossy(&outcome.payload).chars().take(1_000).collect());
    }
    Ok(())
}
