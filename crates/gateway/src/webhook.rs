//! Webhooks: requests that another service signs. Checked here, kept by the process of events, answered once they are on
//! the disk, and delivered later as they were sent.
//!
//! ```text
//!  is it signed? ─▶ read the body ─▶ is the signature right? ─▶ is it wanted? ─▶ keep it ─▶ 202
//!        └── 401 ──────────────────────────┘                        └── 200
//! ```
//! What is refused or not wanted starts nothing and is billed nothing.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use rouse_triggers::{
    filter,
    signature::{Rejected, Verified},
    webhook,
};
use rouse_types::{
    Code, Event, FunctionVersion, Refusal, Trigger,
    trigger::{Signer, WebhookSource},
};

use crate::{
    answer,
    asynchronous::{answered, arrived_event, http_call},
    body::{Body, Count, RequestBody},
    handle::Gateway,
    run::{Arrived, request_refusal},
    table::Picked,
};

/// The webhook that a request came to.
pub(crate) struct Webhook {
    /// Whose trigger and secrets count.
    version: Arc<FunctionVersion>,
    trigger: Trigger,
    source: WebhookSource,
}

/// The webhook at this path: one of the version that the request gets, or of the one whose triggers are in force. So the
/// path is as closed by way of an alias as by itself.
pub(crate) fn of(picked: &Picked, path: &str) -> Option<Webhook> {
    let versions = [Some(&picked.version), picked.route.in_force()];
    versions.into_iter().flatten().find_map(|version| {
        let (trigger, source) = webhook::find(&version.triggers, path)?;
        Some(Webhook { version: Arc::clone(version), trigger: trigger.clone(), source: source.clone() })
    })
}

impl Webhook {
    /// Answers a request to it.
    pub(crate) async fn take(
        self,
        gateway: &Gateway,
        alias: Option<&str>,
        arrived: &Arrived,
        request: Request<RequestBody>,
        bytes_in: &Count,
    ) -> Response<Body> {
        let taken = Box::pin(self.taken(gateway, alias, arrived, request, bytes_in)).await;
        taken.unwrap_or_else(|refusal| {
            gateway.metrics.refused(refusal.code);
            answer::refuse(arrived.id, &refusal, None)
        })
    }

    async fn taken(
        &self,
        gateway: &Gateway,
        alias: Option<&str>,
        arrived: &Arrived,
        request: Request<RequestBody>,
        bytes_in: &Count,
    ) -> Result<Response<Body>, Refusal> {
        let (parts, body) = request.into_parts();
        let verifier = webhook::verifier(&self.source, &self.version.env).map_err(|error| {
            // The deploy has checked it, so this is a fault of ours; whoever sends is told nothing of it.
            let FunctionVersion { tenant, function, .. } = &*self.version;
            tracing::error!(%tenant, %function, %error, "a webhook cannot be checked");
            Refusal::new(Code::Internal, "this webhook cannot be checked")
        })?;
        let header = |name: &str| single(&parts.headers, name);
        if let Err(rejected) = verifier.is_signed(header) {
            // Strangers do not make us hold what they send.
            body.refuse().await;
            return Err(self.rejected(&rejected));
        }
        let body = body.collect().await.map_err(|_| {
            let error = bytes_in.failure().unwrap_or(crate::body::Error::Broken);
            request_refusal(error, &self.version)
        })?;
        let body = body.to_bytes();
        let now = gateway.config.clock.now();
        let Verified { id, .. } =
            verifier.verify(header, &body, now).map_err(|rejected| self.rejected(&rejected))?;
        if let Some(challenge) = self.challenge(&body) {
            return Ok(plain("text/plain; charset=utf-8", challenge));
        }
        let (path, query) = (arrived.path.path(), arrived.path.query());
        let wanted = self.trigger.filter.is_none() || {
            let seen = webhook::as_json(parts.method.as_str(), path, query, &parts.headers, &body);
            filter::wants(&self.trigger, &seen)
        };
        if !wanted {
            let mut response = plain("application/json", "{\"filtered\":true}\n".to_owned());
            answer::put_id(response.headers_mut(), arrived.id);
            return Ok(response);
        }
        let event = Event {
            alias: alias.map(str::to_owned),
            idempotency_key: Some(id),
            trigger: Some(format!("webhook:{}", self.trigger.name)),
            ..arrived_event(&self.version, arrived, &parts.headers, http_call(&parts, arrived))
        };
        Ok(answered(&gateway.events.hand_over(&event, &body).await?))
    }

    fn rejected(&self, rejected: &Rejected) -> Refusal {
        let (name, function) = (&self.trigger.name, &self.version.function);
        let what = format!("the webhook '{name}' of function '{function}' does not take this: {rejected}");
        Refusal::new(Code::SignatureInvalid, what)
            .hint("sign the body with the secret that the trigger names")
    }

    /// What Slack wants to hear back before it sends anything to a new address.
    fn challenge(&self, body: &[u8]) -> Option<String> {
        if self.source.signer != Signer::Slack {
            return None;
        }
        let body: serde_json::Value = serde_json::from_slice(body).ok()?;
        let asked = body.get("type")?.as_str()? == "url_verification";
        asked.then(|| body.get("challenge")?.as_str().map(str::to_owned)).flatten()
    }
}

/// A header that is there once: of two, who checks and who reads could each take another.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let (first, None) = (values.next()?, values.next()) else { return None };
    first.to_str().ok()
}

fn plain(content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(body)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
