//! Messages of queues that people made: sent, received, deleted. Control has checked who asks, or AWS' face has.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use rouse_api::{
    EventCount, QueueChange, QueueSummary, ReceiveQuery, ReceivedMessage, SendQuery, SentMessage,
    operation::{Id, Params},
    query,
    queues::{Answer, Attributes, Send, Sent},
};
use rouse_store::queues::{Enqueued, Lease, Leased, NewMessage};
use rouse_types::{
    Chain, Code, Digest, InvocationId, Refusal, TenantId, chain::CHAIN_HEADER, trigger::is_queue_name,
};
use serde::{Deserialize, Serialize};

use crate::{
    accept::store,
    dispatch::Events,
    manage::{json, read},
    queue,
    settings::{DELAY_MS_MAX, Kept, WAIT_MS_MAX},
};

/// Messages of one answer.
const RECEIVE_MAX: u32 = 100;
/// Queues of one answer.
const QUEUES_MAX: usize = 1_000;
/// Dead messages that are handled at once.
const DEAD: usize = 1_000;
/// What senders attach to a message, with its names: what is said of a message is read when messages are listed.
const ATTRIBUTES_BYTES_MAX: usize = 192 << 10;

/// What is said of a message beside its body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MessageHead {
    /// The functions that were passed on the way to it.
    #[serde(default, skip_serializing_if = "Chain::is_empty")]
    pub(crate) chain: Chain,
    /// Its id for deduplication, in a FIFO queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deduplication: Option<String>,
    /// Its group, in a queue that keeps no order by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// What its sender attached.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub(crate) attributes: Attributes,
    /// AWS' X-Ray header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<String>,
}

impl MessageHead {
    /// What is said of a message that was leased.
    pub(crate) fn of(message: &Leased) -> Self {
        serde_json::from_slice(&message.head).unwrap_or_default()
    }

    /// A message with this head. How often it is tried is said by its queue, or by who drains it.
    pub(crate) fn message(&self, body: Vec<u8>) -> NewMessage {
        NewMessage {
            name: InvocationId::new().to_string(),
            head: serde_json::to_vec(self).unwrap_or_default(),
            attempts_max: u32::MAX,
            ..NewMessage::new(body)
        }
    }
}

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
            return json(&self.summaries(&tenant).await?);
        }
        let name = name(params.get("queue"))?;
        let queue = queue::named(&tenant, name);
        match id {
            Id::CreateQueue => {
                let made = self.create(&tenant, name, &read::<QueueChange>(&body)?).await?;
                json(&rouse_api::QueueDetail { made, ..self.detail(&tenant, name).await? })
            }
            Id::GetQueue => json(&self.detail(&tenant, name).await?),
            Id::UpdateQueue => {
                self.change(&tenant, name, &read::<QueueChange>(&body)?).await?;
                json(&self.detail(&tenant, name).await?)
            }
            Id::DeleteQueue => {
                self.delete_queue(&tenant, name).await?;
                json(&EventCount { count: 1 })
            }
            Id::SendMessage => {
                self.ensure(&tenant, name).await?;
                let chain = headers.get(CHAIN_HEADER).and_then(|value| value.to_str().ok());
                let chain = Chain::read(chain.unwrap_or_default());
                json(&self.send_one(&queue, query::read(text)?, chain, body).await?)
            }
            Id::ReceiveMessages => json(&self.receive(&queue, &query::read(text)?).await?),
            Id::DeleteMessage => {
                let lease = self
                    .receipts
                    .read(&queue, params.get("receipt"))
                    .ok_or_else(|| Refusal::new(Code::BadRequest, "this is no receipt of a message"))?;
                let gone = self.finish(&queue, vec![lease]).await?;
                json(&EventCount { count: u64::from(gone == [true]) })
            }
            Id::RedriveQueue => json(&EventCount { count: self.redrive_queue(&queue).await? }),
            _ => {
                let mut count = self.queues.purge(&queue, false).await.map_err(|error| store(&error))?;
                while let ids = self.dead_ids(&queue).await?
                    && !ids.is_empty()
                {
                    count += self.queues.bury(&queue, ids).await.map_err(|error| store(&error))?;
                }
                json(&EventCount { count: count as u64 })
            }
        }
    }

    async fn summaries(&self, tenant: &TenantId) -> Result<Vec<QueueSummary>, Refusal> {
        let prefix = queue::named(tenant, "");
        let found = self.queues.queues(&prefix, None, QUEUES_MAX).await.map_err(|error| store(&error))?;
        let summary = |info: rouse_store::queues::QueueInfo| QueueSummary {
            name: info.queue[prefix.len()..].to_owned(),
            messages: info.messages,
            bytes: info.bytes,
            dead: info.dead,
            dead_letters: info
                .settings
                .and_then(|text| serde_json::from_str::<Kept>(&text).ok())
                .and_then(|kept| kept.settings.dead_letters),
        };
        Ok(found.into_iter().map(summary).collect())
    }

    async fn dead_ids(&self, queue: &str) -> Result<Vec<rouse_store::queues::MessageId>, Refusal> {
        let dead = self.queues.list(queue, true, None, DEAD).await.map_err(|error| store(&error))?;
        Ok(dead.iter().map(|dead| dead.id).collect())
    }

    /// Has dead messages received again, and those that died into this queue go back to theirs.
    async fn redrive_queue(self: &Arc<Self>, queue: &str) -> Result<u64, Refusal> {
        let mut count = 0;
        while let ids = self.dead_ids(queue).await?
            && !ids.is_empty()
        {
            count += self.queues.redrive(queue, ids).await.map_err(|error| store(&error))? as u64;
        }
        let newest = self.queues.newest(queue).await.map_err(|error| store(&error))?;
        loop {
            let moved = self.queues.transfer(queue, None, newest, DEAD).await;
            let moved = moved.map_err(|error| store(&error))?;
            moved.queues.iter().for_each(|queue| self.poke(queue));
            count += moved.count as u64;
            if moved.count < DEAD {
                self.poke(queue);
                return Ok(count);
            }
        }
    }

    /// Finishes messages of a queue. Tells for each whether it was still held.
    pub(crate) async fn finish(
        self: &Arc<Self>,
        queue: &str,
        leases: Vec<Lease>,
    ) -> Result<Vec<bool>, Refusal> {
        let gone = self.queues.ack_in(queue, leases).await.map_err(|error| store(&error))?;
        self.poke(queue);
        Ok(gone)
    }

    async fn send_one(
        self: &Arc<Self>,
        queue: &str,
        how: SendQuery,
        chain: Chain,
        body: Bytes,
    ) -> Result<SentMessage, Refusal> {
        let kept = self.settings(queue).await?;
        let SendQuery { delay_ms, group, deduplication } = how;
        let send = Send { delay_ms, group, deduplication, ..Send::default() };
        if queue.ends_with(".fifo") != send.group.is_some() {
            return Err(Refusal::new(
                Code::BadRequest,
                "queues whose name ends in .fifo need a group with each message, others take none",
            ));
        }
        let message = message(queue, &kept, send, chain, body.to_vec())?;
        let sent = self.send_of_people(queue, vec![(queue.to_owned(), message)]).await?;
        let sent = sent.into_iter().next();
        let sent = sent.ok_or_else(|| Refusal::new(Code::Internal, "the message was not stored"))?;
        Ok(SentMessage { id: sent.name, duplicate: sent.duplicate })
    }

    /// Sends messages to a queue. Those that are taken are on the disk then.
    pub(crate) async fn send_all(
        self: &Arc<Self>,
        queue: &str,
        sends: Vec<Send>,
    ) -> Result<Vec<Answer>, Refusal> {
        let kept = self.settings(queue).await?;
        let known = !queue.ends_with(".fifo") || kept.settings.content_deduplication;
        let messages = sends.into_iter().map(|mut send| {
            if !known && send.deduplication.is_none() {
                return Err(Refusal::new(
                    Code::BadRequest,
                    "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId \
                     provided explicitly",
                ));
            }
            let body = std::mem::take(&mut send.body).into_bytes();
            message(queue, &kept, send, Chain::default(), body)
        });
        let messages: Vec<_> = messages.collect();
        let taken = messages.iter().flatten().map(|message| (queue.to_owned(), message.clone()));
        let mut sent = self.send_of_people(queue, taken.collect()).await?.into_iter();
        let answer = |message: Result<NewMessage, Refusal>| match message.map(|_| sent.next()) {
            Ok(Some(sent)) => Answer::Sent(Sent { id: sent.name, sequence: sent.id.0 }),
            Ok(None) => Answer::Refused(Refusal::new(Code::Internal, "the message was not stored")),
            Err(refusal) => Answer::Refused(refusal),
        };
        Ok(messages.into_iter().map(answer).collect())
    }

    /// Sends messages to a queue that people made, within what its tenant may hold.
    async fn send_of_people(
        self: &Arc<Self>,
        queue: &str,
        messages: Vec<(String, NewMessage)>,
    ) -> Result<Vec<Enqueued>, Refusal> {
        let sent = match queue::of_people(queue) {
            Some((tenant, _)) => self.send_within(&tenant, messages).await,
            None => self.send(messages).await,
        };
        sent.map_err(|error| store(&error))
    }

    async fn receive(
        self: &Arc<Self>,
        queue: &str,
        how: &ReceiveQuery,
    ) -> Result<Vec<ReceivedMessage>, Refusal> {
        let limit = how.limit.unwrap_or(1);
        let kept = self.settings(queue).await?;
        let wait = how.wait_ms.unwrap_or(kept.settings.wait_ms);
        if !(1..=RECEIVE_MAX).contains(&limit) || wait > WAIT_MS_MAX {
            return Err(Refusal::new(
                Code::BadRequest,
                format!("limit must be 1 to {RECEIVE_MAX}, wait_ms at most {WAIT_MS_MAX}"),
            ));
        }
        let (visibility, wait) =
            (Duration::from_millis(kept.settings.visibility_ms), Duration::from_millis(wait));
        let leased = self.receive_some(queue, &kept, limit as usize, visibility, wait).await;
        let leased = leased.map_err(|error| store(&error))?;
        if how.delete {
            self.finish(queue, leased.iter().map(|message| message.lease).collect()).await?;
        }
        let received = leased.into_iter().map(|message| ReceivedMessage {
            id: message.name,
            body: String::from_utf8_lossy(&message.payload).into_owned(),
            receipt: self.receipts.write(queue, message.lease),
            attempt: message.lease.attempt,
            sent: message.enqueued,
            group: message.group,
        });
        Ok(received.collect())
    }
}

/// The name of a queue, checked.
pub(crate) fn name(text: &str) -> Result<&str, Refusal> {
    match is_queue_name(text) {
        true => Ok(text),
        false => Err(Refusal::new(Code::BadRequest, "this is no name of a queue")
            .hint("use 1 to 80 letters, digits, '-', '_' and '.'")),
    }
}

/// A message as it goes into a queue with these settings.
fn message(queue: &str, kept: &Kept, send: Send, chain: Chain, body: Vec<u8>) -> Result<NewMessage, Refusal> {
    let bad = |what: String| Err(Refusal::new(Code::BadRequest, what));
    let settings = &kept.settings;
    let attached: usize = send.attributes.iter().map(|(n, a)| n.len() + a.ty.len() + a.value.len()).sum();
    if (body.len() + attached) as u64 > settings.message_bytes_max {
        return Err(Refusal::new(
            Code::PayloadTooLarge,
            format!(
                "a message has at most {} bytes, with what is attached to it",
                settings.message_bytes_max
            ),
        ));
    }
    if attached > ATTRIBUTES_BYTES_MAX {
        return bad(format!("what is attached to a message has at most {ATTRIBUTES_BYTES_MAX} bytes"));
    }
    let delay = send.delay_ms.unwrap_or(settings.delay_ms);
    if delay > DELAY_MS_MAX {
        return bad(format!("a message is delayed by at most {DELAY_MS_MAX} ms"));
    }
    let fifo = queue.ends_with(".fifo");
    let deduplication = match send.deduplication {
        None if fifo && settings.content_deduplication => Some(Digest::of(&body).hex()),
        other => other,
    };
    let head = MessageHead {
        chain,
        group: send.group.clone().filter(|_| !fifo),
        attributes: send.attributes,
        trace: send.trace,
        deduplication,
    };
    // Ids of one group may stand for other messages in another, where the queue is set so.
    let by_group = settings.attributes.get("DeduplicationScope").is_some_and(|scope| scope == "messageGroup");
    let group = send.group.filter(|_| fifo);
    let known = head.deduplication.clone().map(|id| match &group {
        Some(group) if by_group => format!("{}/{id}", Digest::of(group.as_bytes()).hex()),
        _ => id,
    });
    Ok(NewMessage { deduplication: known, group, delay: Duration::from_millis(delay), ..head.message(body) })
}
