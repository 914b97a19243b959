//! What AWS' face asks of queues: messages in batches, and who drains a queue. See `rouse_api::queues`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Method;
use rouse_api::queues::{Hold, Mapping, Move, Receive, Received, Send};
use rouse_store::queues::{Lease, Leased};
use rouse_types::{Code, Refusal, TenantId};

use crate::{
    accept::store,
    dispatch::Events,
    manage::{json, read},
    messages::{MessageHead, name},
    queue,
    settings::{VISIBILITY_MS_MAX, WAIT_MS_MAX},
};

/// Messages of one request: what Amazon SQS takes.
const MESSAGES_MAX: usize = 10;

fn bad(what: &str) -> Refusal {
    Refusal::new(Code::BadRequest, what)
}

impl Events {
    /// Answers a request below `/queues`.
    pub(crate) async fn ask_queue(
        self: &Arc<Self>,
        method: &Method,
        parts: &[&str],
        body: &[u8],
    ) -> Result<Bytes, Refusal> {
        let &[tenant, queue, ref what @ ..] = parts else { return Err(bad("no queue is named")) };
        let tenant: TenantId = tenant.parse().map_err(|_| bad("this is no tenant"))?;
        self.expect_queue(&tenant, name(queue)?).await?;
        let queue = &queue::named(&tenant, queue);
        match (method, what) {
            (&Method::POST, ["send"]) => {
                let sends: Vec<Send> = read(body)?;
                if sends.len() > MESSAGES_MAX {
                    return Err(bad("too many messages at once"));
                }
                json(&self.send_all(queue, sends).await?)
            }
            (&Method::POST, ["receive"]) => json(&self.receive_with(queue, &read(body)?).await?),
            (&Method::POST, ["delete"]) => {
                let receipts: Vec<String> = read(body)?;
                let leases: Vec<_> = receipts.iter().map(|text| self.receipts.read(queue, text)).collect();
                let gone = self.finish(queue, leases.iter().flatten().copied().collect()).await?;
                json(&in_place(&leases, gone))
            }
            (&Method::POST, ["hold"]) => {
                let holds: Vec<Hold> = read(body)?;
                let leases: Vec<_> =
                    holds.iter().map(|hold| self.receipts.read(queue, &hold.receipt)).collect();
                let held = leases.iter().zip(&holds).filter_map(|(lease, hold)| {
                    let for_ms = hold.visibility_ms.min(VISIBILITY_MS_MAX);
                    Some(((*lease)?, Duration::from_millis(for_ms)))
                });
                let held =
                    self.queues.extend_in(queue, held.collect()).await.map_err(|error| store(&error))?;
                // What was given back can be received at once.
                self.poke(queue);
                json(&in_place(&leases, held))
            }
            (&Method::POST, ["purge"]) => {
                self.queues.purge(queue, true).await.map_err(|error| store(&error))?;
                json(&())
            }
            (&Method::POST, ["move"]) => json(&self.start_move(queue, read::<Move>(body)?).await?),
            (&Method::GET, ["moves"]) => json(&self.moves.of(queue)),
            (&Method::DELETE, ["moves", id]) => {
                let stopped = self.moves.stop(queue, id);
                json(&stopped.ok_or_else(|| Refusal::new(Code::EventNotFound, "no such move goes on"))?)
            }
            _ => Err(Refusal::new(Code::OperationNotFound, "there is no such operation on queues")),
        }
    }

    /// Answers a request below `/mappings`.
    pub(crate) async fn ask_mapping(
        self: &Arc<Self>,
        method: &Method,
        parts: &[&str],
        body: &[u8],
    ) -> Result<Bytes, Refusal> {
        let &[tenant, id] = parts else { return Err(bad("no mapping is named")) };
        let tenant: TenantId = tenant.parse().map_err(|_| bad("this is no tenant"))?;
        match *method {
            Method::PUT => {
                let mapping: Mapping = read(body)?;
                if mapping.id != id || mapping.tenant != tenant {
                    return Err(bad("the mapping is of another name"));
                }
                name(&mapping.queue)?;
                self.put_mapping(mapping).await?;
            }
            Method::DELETE => self.drop_mapping(&tenant, id).await?,
            _ => return Err(Refusal::new(Code::OperationNotFound, "there is no such operation on mappings")),
        }
        json(&())
    }

    async fn receive_with(self: &Arc<Self>, queue: &str, how: &Receive) -> Result<Vec<Received>, Refusal> {
        let kept = self.settings(queue).await?;
        let visibility = how.visibility_ms.unwrap_or(kept.settings.visibility_ms).min(VISIBILITY_MS_MAX);
        let wait = how.wait_ms.unwrap_or(kept.settings.wait_ms).min(WAIT_MS_MAX);
        let count = (how.count as usize).clamp(1, MESSAGES_MAX);
        let (visibility, wait) = (Duration::from_millis(visibility), Duration::from_millis(wait));
        let leased = self.receive_some(queue, &kept, count, visibility, wait).await;
        let leased = leased.map_err(|error| store(&error))?;
        Ok(leased.into_iter().map(|message| self.received(queue, message)).collect())
    }

    fn received(&self, queue: &str, message: Leased) -> Received {
        let head = MessageHead::of(&message);
        let source = message.source.as_deref().and_then(queue::of_people);
        Received {
            receipt: self.receipts.write(queue, message.lease),
            body: String::from_utf8_lossy(&message.payload).into_owned(),
            attempt: message.lease.attempt,
            sent: message.enqueued,
            first: message.first,
            sequence: message.lease.id.0,
            group: message.group.or(head.group),
            deduplication: head.deduplication,
            attributes: head.attributes,
            trace: head.trace,
            source: source.map(|(_, name)| name.to_owned()),
            id: message.name,
        }
    }
}

/// What came of each lease, in the place of its receipt; nothing for what is no receipt.
fn in_place(leases: &[Option<Lease>], came: Vec<bool>) -> Vec<Option<bool>> {
    let mut came = came.into_iter();
    leases.iter().map(|lease| lease.and_then(|_| came.next())).collect()
}
