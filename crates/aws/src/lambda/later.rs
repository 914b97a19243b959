//! Calls that nobody waits for: handed to the process that keeps events, with what their function says of attempts, age
//! and destinations. It tries them, and `rouse events` shows them.

use bytes::Bytes;
use http::Method;
use rouse_types::{
    Event, EventCall, EventSettings, EventTarget, LambdaCall, event::Accepted, event::OwnSettings,
};
use serde_json::Value;

use super::{config::platform_alias, invoke::Reached, op::Op};
use crate::{
    error::AwsError,
    names::{self, LATEST, Scope},
    state::{self, Function},
};

/// Attempts of an event, unless its function says otherwise.
const ATTEMPTS: u32 = 3;
/// How old an event may grow, unless its function says otherwise, in seconds.
const AGE_MAX: u64 = 6 * 3_600;

impl Op<'_> {
    /// Hands over a call. It is on the disk when this returns. Gives its id.
    pub(crate) async fn accept(&self, reached: &Reached, payload: &Bytes) -> Result<String, AwsError> {
        let around = self.around;
        let function =
            self.face.store.get::<Function>(state::FUNCTIONS, &around.scope.tenant, &reached.name).await?;
        let function = function.map(|at| at.value).unwrap_or_default();
        let call = EventCall::Invoke { content_type: Some("application/json".to_owned()) };
        let event = Event {
            alias: Some(platform_alias(&reached.version)),
            lambda: Some(LambdaCall {
                arn: reached.arn.clone(),
                client_context: self.text("ClientContext").map(str::to_owned),
            }),
            own: Some(own(&around.scope, &function, reached)),
            ..Event::new(&around.scope.tenant, &names::platform(&reached.name), call, around.now)
        };
        let bytes = Bytes::from(event.encode(payload));
        let answer = self.face.platform.events(Method::POST, "/accept", bytes).await;
        let answer = answer.map_err(|refusal| super::invoke::error(reached, &refusal))?;
        let accepted = serde_json::from_slice::<Accepted>(&answer);
        let accepted =
            accepted.map_err(|_| AwsError::service("The process that keeps events gave no answer"))?;
        Ok(accepted.id.to_string())
    }
}

/// What a function says of its events. Pure.
fn own(scope: &Scope, function: &Function, reached: &Reached) -> OwnSettings {
    let qualifier = reached.arn.split(':').nth(7).unwrap_or(LATEST);
    let config = function.event_invoke.get(qualifier);
    let number = |member: &str| config.and_then(|config| config.get(member)).and_then(Value::as_u64);
    let target = |side: &str| {
        let arn = config?.get("DestinationConfig")?.get(side)?.get("Destination")?.as_str()?;
        self::target(scope, arn)
    };
    let version = function.version(&reached.version);
    let dead = version.and_then(|version| version.config.get("DeadLetterConfig")?.get("TargetArn")?.as_str());
    OwnSettings {
        settings: EventSettings {
            attempts: number("MaximumRetryAttempts")
                .and_then(|retries| u32::try_from(retries + 1).ok())
                .unwrap_or(ATTEMPTS),
            age_max_ms: number("MaximumEventAgeInSeconds").unwrap_or(AGE_MAX).saturating_mul(1_000),
            on_success: target("OnSuccess"),
            on_failure: target("OnFailure"),
            ..EventSettings::default()
        },
        dead_letters: dead.and_then(|arn| scope.queue_of(arn)).map(str::to_owned),
    }
}

/// What an ARN means that outcomes go to: a queue, or a function as its callers without a version reach it.
pub(super) fn target(scope: &Scope, arn: &str) -> Option<EventTarget> {
    if let Some(queue) = scope.queue_of(arn) {
        return Some(EventTarget::Queue(queue.to_owned()));
    }
    let (name, qualifier) = arn.contains(":lambda:").then(|| scope.read(arn, None).ok())??;
    let newest = qualifier.is_none_or(|qualifier| qualifier == LATEST);
    newest.then(|| EventTarget::Function(names::platform(&name)))
}

/// Refuses an ARN that no outcome can be sent to.
pub(super) fn check(scope: &Scope, arn: &str) -> Result<(), AwsError> {
    match target(scope, arn) {
        Some(_) => Ok(()),
        None => Err(AwsError::invalid(format!(
            "The destination {arn} is not offered: name a queue, or a function of this account and region without a \
             version or alias"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_function_says_of_its_events_goes_with_them() {
        let scope = Scope {
            tenant: "default".parse().expect("a tenant"),
            account: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
        };
        let reached = |arn: &str| Reached {
            name: "f".to_owned(),
            version: LATEST.to_owned(),
            arn: arn.to_owned(),
            memory: 128,
            timeout: 3,
            reserved: false,
        };
        let (queue, other) =
            ("arn:aws:sqs:us-east-1:000000000000:failed", "arn:aws:lambda:us-east-1:000000000000:function:G");
        let mut function = Function::default();
        let dead = json!({ "TargetArn": queue });
        function.latest.config.insert("DeadLetterConfig".to_owned(), dead);
        function.event_invoke.insert(
            "live".to_owned(),
            json!({
                "MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60,
                "DestinationConfig": { "OnSuccess": { "Destination": other }, "OnFailure": { "Destination": queue } },
            }),
        );
        let arn = "arn:aws:lambda:us-east-1:000000000000:function:f";
        let usual = own(&scope, &function, &reached(arn));
        assert_eq!((usual.settings.attempts, usual.settings.on_failure), (ATTEMPTS, None));
        assert_eq!(usual.dead_letters.as_deref(), Some("failed"));
        let named = own(&scope, &function, &reached(&format!("{arn}:live"))).settings;
        assert_eq!((named.attempts, named.age_max_ms), (1, 60_000));
        assert_eq!(named.on_failure, Some(EventTarget::Queue("failed".to_owned())));
        assert_eq!(named.on_success, Some(EventTarget::Function(names::platform("G"))));
        for wrong in ["arn:aws:sns:us-east-1:000000000000:t", "arn:aws:sqs:us-east-1:111111111111:q", "x"] {
            assert!(check(&scope, wrong).is_err(), "{wrong}");
        }
    }
}
