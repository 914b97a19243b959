//! Topics: a CloudEvent that is published goes to the queue of each function whose trigger wants it, and to nobody else.
//!
//! ```text
//!  publish ─▶ (is it wanted?) ─▶ queue of function a ─▶ …
//!                            └─▶ queue of function b ─▶ …       all on the disk before 202
//! ```
//! A topic is no thing of its own: it is there while a trigger names it. An event is known by its source and its id, so
//! one that is published again, since its publisher heard no answer, reaches nobody twice.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use rouse_api::{
    PublishedEvents, TopicSubscription, TopicSummary,
    operation::{Id, Params},
};
use rouse_store::queues::{BATCH_MAX, NewMessage};
use rouse_triggers::{
    cloud_event::{self, Event as CloudEvent},
    filter,
    shape::{self, Place},
};
use rouse_types::{
    Chain, Code, Contract, Digest, Event, EventCall, FunctionVersion, Refusal, TenantId, Timestamp,
    TraceContext, Trigger,
    chain::CHAIN_HEADER,
    trigger::{EVENT_BYTES_MAX, On, is_resource_name},
};

use crate::{
    accept::store,
    dispatch::Events,
    manage::json,
    record::{self, ACCOUNT, REGION},
};

/// How long an event is known to have been published: a publisher that tries again for longer is none.
const WINDOW: Duration = Duration::from_secs(24 * 3_600);
/// Bytes that are written at once: a large batch to many functions must not be held whole in memory.
const CHUNK_BYTES: usize = 16 << 20;

/// What led to an event that is published.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// The functions that were passed on the way to it.
    pub(crate) chain: Chain,
    /// The span that published it, if told.
    pub(crate) caller: Option<TraceContext>,
}

type Subscriber = (Arc<FunctionVersion>, Trigger);

impl Events {
    /// Answers one operation of the API on topics.
    pub(crate) async fn operate_topics(
        self: &Arc<Self>,
        id: Id,
        params: &Params,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Refusal> {
        let tenant: TenantId = params.parse("tenant")?;
        if id == Id::ListTopics {
            return Ok((StatusCode::OK, json(&self.topics(&tenant))?));
        }
        let topic = params.get("topic");
        if !is_resource_name(topic) {
            return Err(Refusal::new(Code::BadRequest, "this is no name of a topic")
                .hint("use 1 to 63 letters, digits, '-', '_' and '.'"));
        }
        if body.len() > EVENT_BYTES_MAX {
            let what = format!("what is published at once has at most {EVENT_BYTES_MAX} bytes");
            return Err(Refusal::new(Code::PayloadTooLarge, what)
                .hint("publish fewer at a time, or store what is large as an object, and publish its name"));
        }
        let events = cloud_event::read(headers, &body).map_err(|error| {
            Refusal::new(Code::BadRequest, error.to_string())
                .hint("`rouse topic publish` writes CloudEvents; docs/guides/events.md shows them in curl")
        })?;
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let origin = Origin {
            chain: Chain::read(text(CHAIN_HEADER).unwrap_or_default()),
            caller: text("traceparent").and_then(|text| text.parse().ok()),
        };
        let published =
            self.publish(&tenant, topic, &events, &origin).await.map_err(|error| match error {
                rouse_store::Error::TooDeep { messages, granted: None, .. } => Refusal::new(
                    Code::TooManyRequests,
                    format!(
                        "{messages} events of a function that wants this wait already: no more are taken"
                    ),
                )
                .hint("publish it again later: who has it already does not get it twice")
                .retry_after(Duration::from_secs(10)),
                error => store(&error),
            })?;
        Ok((StatusCode::ACCEPTED, json(&published)?))
    }

    /// The topics that triggers name, each with who wants what of it.
    fn topics(&self, tenant: &TenantId) -> Vec<TopicSummary> {
        let mut topics = BTreeMap::<String, Vec<TopicSubscription>>::new();
        for (version, trigger) in self.table.triggers() {
            let On::Topic(source) = &trigger.on else { continue };
            if version.tenant == *tenant {
                let function = version.function.clone();
                let wants = TopicSubscription { function, trigger: trigger.name, filter: trigger.filter };
                topics.entry(source.topic.clone()).or_default().push(wants);
            }
        }
        topics.into_iter().map(|(name, subscriptions)| TopicSummary { name, subscriptions }).collect()
    }

    /// Sends events to whoever wants them. Once this returns, they are on the disk; after an error some may be, and none
    /// comes twice when all are published again.
    pub(crate) async fn publish(
        self: &Arc<Self>,
        tenant: &TenantId,
        topic: &str,
        events: &[CloudEvent],
        origin: &Origin,
    ) -> Result<PublishedEvents, rouse_store::Error> {
        let subscribers: Vec<Subscriber> = self
            .table
            .triggers()
            .into_iter()
            .filter(|(version, trigger)| {
                version.tenant == *tenant && matches!(&trigger.on, On::Topic(source) if source.topic == topic)
            })
            .collect();
        let now = self.config.clock.now();
        let mut published = PublishedEvents { events: events.len() as u64, ..Default::default() };
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        for event in events {
            let seen = filter::cloud_event(event);
            for (version, trigger) in subscribers.iter().filter(|(_, trigger)| filter::wants(trigger, &seen))
            {
                let message = message(version, trigger, topic, event, origin, now);
                bytes += message.1.payload.len();
                chunk.push(message);
                if bytes >= CHUNK_BYTES || chunk.len() >= BATCH_MAX {
                    self.sent(tenant, std::mem::take(&mut chunk), &mut published).await?;
                    bytes = 0;
                }
            }
        }
        if !chunk.is_empty() {
            self.sent(tenant, chunk, &mut published).await?;
        }
        Ok(published)
    }

    async fn sent(
        self: &Arc<Self>,
        tenant: &TenantId,
        messages: Vec<(String, NewMessage)>,
        published: &mut PublishedEvents,
    ) -> Result<(), rouse_store::Error> {
        for sent in self.send_within(tenant, messages).await? {
            published.deliveries += u64::from(!sent.duplicate);
            published.duplicates += u64::from(sent.duplicate);
            self.metrics.accepted(if sent.duplicate { "duplicate" } else { "published" });
        }
        Ok(())
    }
}

/// The event of one who wants it, in the shape that code of its contract expects.
fn message(
    version: &FunctionVersion,
    trigger: &Trigger,
    topic: &str,
    published: &CloudEvent,
    origin: &Origin,
    now: Timestamp,
) -> (String, NewMessage) {
    let (call, body) = match version.contract {
        Contract::Lambda => (
            EventCall::Invoke { content_type: Some("application/json".to_owned()) },
            notification(trigger, topic, published, now),
        ),
        Contract::Component | Contract::Http => crate::shape::post(Ok(published.clone())),
    };
    let event = Event {
        caller: origin.caller,
        chain: origin.chain.clone(),
        trigger: Some(format!("topic:{}", trigger.name)),
        ..Event::new(&version.tenant, &version.function, call, now)
    };
    // A control character stands in neither of the two.
    let known = Digest::of(format!("{}\n{}", published.source(), published.id()).as_bytes());
    record::once(&event, body, format!("topic/{topic}/{}/{}", trigger.name, known.hex()), WINDOW)
}

/// A CloudEvent as Amazon SNS would tell a Lambda function of it: the data is the message, the attributes go with it.
fn notification(trigger: &Trigger, topic: &str, published: &CloudEvent, now: Timestamp) -> Vec<u8> {
    let data = published.data().unwrap_or_default();
    // SNS carries text alone: what is none goes as the whole event, whose data is in base64.
    let structured;
    let text = match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(_) => {
            structured = String::from_utf8(published.to_json()).unwrap_or_default();
            &structured
        }
    };
    let attributes: BTreeMap<String, String> = published.named_attributes().collect();
    let attribute = |value| shape::topic::Attribute { ty: "String", value };
    let message = shape::topic::Message {
        id: published.id(),
        topic,
        subscription: &trigger.name,
        subject: attributes.get("subject").map(String::as_str),
        text,
        published: now,
        attributes: attributes.iter().map(|(name, value)| (name.as_str(), attribute(value))).collect(),
    };
    let place = Place { region: REGION, account: ACCOUNT };
    serde_json::to_vec(&shape::topic::records(place, &message)).unwrap_or_default()
}
