//! Queues that people made: send, receive, delete. Control has checked who asks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use rouse_api::{
    EventCount, QueueSummary, ReceiveQuery, ReceivedMessage, SendQuery, SentMessage,
    operation::{Id, Params},
    query,
};
use rouse_store::queues::{Lease, MessageId, NewMessage};
use rouse_types::{
    Chain, Code, InvocationId, Refusal, TenantId,
    chain::CHAIN_HEADER,
    trigger::{EVENT_BYTES_MAX, is_resource_name},
};

use crate::{accept::store, batch::MessageHead, dispatch::Events, manage::json, queue};

/// The longest delay of a message: what Amazon SQS takes.
const DELAY_MAX_MS: u64 = 900_000;
/// How long a message that was received is held for its receiver.
const RECEIVED: Duration = Duration::from_secs(30);
/// Messages of one answer.
const RECEIVE_MAX: u32 = 100;
/// Queues of one answer.
const QUEUES_MAX: usize = 1_000;

impl Events {
    /// Answers one operation of the API on queues.
    pub(crate) async fn operate_queues(
        self: &Arc<Self>,
        id: Id,
        params: &Params,
        text: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Bytes, Refusal> {
        let tenant: TenantId = params.parse("tenant")?;
        if id == Id::ListQueues {
            let prefix = queue::named(&tenant, "");
            let found = self.queues.queues(&prefix, None, QUEUES_MAX).await.map_err(|error| store(&error))?;
            let summary = |info: rouse_store::queues::QueueInfo| QueueSummary {
                name: info.queue[prefix.len()..].to_owned(),
                messages: info.messages,
                bytes: info.bytes,
                dead: info.dead,
            };
            return json(&found.into_iter().map(summary).collect::<Vec<_>>());
        }
        let name = params.get("queue");
        if !is_resource_name(name) {
            return Err(Refusal::new(Code::BadRequest, "this is no name of a queue")
                .hint("use 1 to 63 letters, digits, '-', '_' and '.'"));
        }
        let queue = queue::named(&tenant, name);
        match id {
            Id::SendMessage => {
                let chain = headers.get(CHAIN_HEADER).and_then(|value| value.to_str().ok());
                let chain = Chain::read(chain.unwrap_or_default());
                json(&self.send_one(&queue, &query::read(text)?, chain, body).await?)
            }
            Id::ReceiveMessages => json(&self.receive(&queue, &query::read(text)?).await?),
            Id::DeleteMessage => {
                let lease = receipt(params.get("receipt"))
                    .ok_or_else(|| Refusal::new(Code::BadRequest, "this is no receipt of a message"))?;
                // A receipt is of its own queue alone: another's message is not there.
                let before = Some(MessageId(lease.id.0.saturating_sub(1)));
                let there =
                    self.queues.list(&queue, false, before, 1).await.map_err(|error| store(&error))?;
                if there.first().is_none_or(|message| message.id != lease.id) {
                    return json(&EventCount { count: 0 });
                }
                let gone = self.queues.ack(vec![lease]).await.map_err(|error| store(&error))?;
                self.poke(&queue);
                json(&EventCount { count: u64::from(gone == [true]) })
            }
            _ => {
                let mut count = self.queues.purge(&queue).await.map_err(|error| store(&error))?;
                loop {
                    let dead =
                        self.queues.list(&queue, true, None, 1_000).await.map_err(|error| store(&error))?;
                    let ids: Vec<_> = dead.iter().map(|dead| dead.id).collect();
                    if ids.is_empty() {
                        break;
                    }
                    count += self.queues.bury(&queue, ids).await.map_err(|error| store(&error))?;
                }
                json(&EventCount { count: count as u64 })
            }
        }
    }

    async fn send_one(
        self: &Arc<Self>,
        queue: &str,
        how: &SendQuery,
        chain: Chain,
        body: Bytes,
    ) -> Result<SentMessage, Refusal> {
        let bad = |what: String| Err(Refusal::new(Code::BadRequest, what));
        if body.len() > EVENT_BYTES_MAX {
            return Err(Refusal::new(
                Code::PayloadTooLarge,
                format!("a message has at most {EVENT_BYTES_MAX} bytes"),
            ));
        }
        let delay = how.delay_ms.unwrap_or(0);
        if delay > DELAY_MAX_MS {
            return bad(format!("a message is delayed by at most {DELAY_MAX_MS} ms"));
        }
        let fifo = queue.ends_with(".fifo");
        if fifo != how.group.is_some() {
            return bad(
                "queues whose name ends in .fifo need a group with each message, others take none".to_owned()
            );
        }
        let head = MessageHead { chain, deduplication: how.deduplication.clone() };
        let message = NewMessage {
            name: InvocationId::new().to_string(),
            head: serde_json::to_vec(&head).unwrap_or_default(),
            group: how.group.clone(),
            deduplication: how.deduplication.clone(),
            delay: Duration::from_millis(delay),
            attempts_max: u32::MAX,
            ..NewMessage::new(body.to_vec())
        };
        let sent = self.send(vec![(queue.to_owned(), message)]).await.map_err(|error| store(&error))?;
        let sent = sent.into_iter().next();
        let sent = sent.ok_or_else(|| Refusal::new(Code::Internal, "the message was not stored"))?;
        Ok(SentMessage { id: sent.name, duplicate: sent.duplicate })
    }

    async fn receive(&self, queue: &str, how: &ReceiveQuery) -> Result<Vec<ReceivedMessage>, Refusal> {
        let limit = how.limit.unwrap_or(1);
        if !(1..=RECEIVE_MAX).contains(&limit) {
            return Err(Refusal::new(Code::BadRequest, format!("limit must be 1 to {RECEIVE_MAX}")));
        }
        let leased =
            self.queues.lease(queue, limit as usize, RECEIVED).await.map_err(|error| store(&error))?;
        if how.delete {
            let leases = leased.iter().map(|message| message.lease).collect();
            self.queues.ack(leases).await.map_err(|error| store(&error))?;
        }
        let received = leased.into_iter().map(|message| ReceivedMessage {
            id: message.name,
            body: String::from_utf8_lossy(&message.payload).into_owned(),
            receipt: format!("{}-{}-{}", message.lease.id.0, message.lease.number, message.lease.attempt),
            attempt: message.lease.attempt,
            sent: message.enqueued,
            group: message.group,
        });
        Ok(received.collect())
    }
}

fn receipt(text: &str) -> Option<Lease> {
    let mut parts = text.split('-');
    let lease = Lease {
        id: MessageId(parts.next()?.parse().ok()?),
        number: parts.next()?.parse().ok()?,
        attempt: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(lease)
}
