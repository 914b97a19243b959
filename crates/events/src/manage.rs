//! What people see and do of events: list, show, redrive, cancel, purge. Control has checked who asks.

use std::sync::Arc;

use bytes::Bytes;
use rouse_api::{
    EventCount, EventDetail, EventFilter, EventInfo, EventPage, EventState, EventsQuery,
    operation::{Id, Params},
    query,
};
use rouse_store::queues::{Listed, MessageId, State};
use rouse_types::{Code, Event, EventCall, InvocationId, Refusal, TenantId};
use serde::de::DeserializeOwned;

use crate::{accept::store, dispatch::Events, queue};

/// Events of one page.
const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1_000;
/// Messages that are looked at for one page: bounds its time, whatever the filter leaves of them.
const LOOK_MAX: usize = 20_000;
/// Messages of one read.
const READ: usize = 500;
/// What is shown of a body.
const BODY_BYTES_SHOWN: usize = 1 << 20;

/// Where a listing stands: in which queue, among the dead or the others, after which message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Place {
    queue: String,
    dead: bool,
    after: u64,
}

impl Place {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.rsplitn(3, ':');
        let (after, dead, queue) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        Some(Self { queue: queue.to_owned(), dead: dead == "d", after })
    }

    fn write(&self) -> String {
        format!("{}:{}:{}", self.queue, if self.dead { "d" } else { "a" }, self.after)
    }
}

impl Events {
    /// Answers one operation of the API: its value as JSON.
    pub(crate) async fn operate(
        self: &Arc<Self>,
        id: Id,
        params: &Params,
        text: &str,
        body: &[u8],
    ) -> Result<Bytes, Refusal> {
        let tenant: TenantId = params.parse("tenant")?;
        let event = || params.parse::<InvocationId>("event");
        match id {
            Id::ListEvents => json(&self.list(&tenant, &query::read::<EventsQuery>(text)?).await?),
            Id::GetEvent => json(&self.show(&tenant, event()?).await?),
            Id::CancelEvent => json(&self.cancel(&tenant, event()?).await?),
            Id::RedriveEvents => json(&self.redrive(&tenant, &filter(body)?).await?),
            Id::PurgeEvents => json(&self.purge(&tenant, &filter(body)?).await?),
            Id::ListTriggers => json(&self.triggers(&tenant)),
            _ => Err(Refusal::new(Code::OperationNotFound, "this operation is not one of events")),
        }
    }

    /// Events that a filter takes, with their numbers, from a place on; and where to go on.
    async fn find(
        &self,
        tenant: &TenantId,
        filter: &EventFilter,
        mut place: Place,
        most: usize,
    ) -> Result<(Vec<(Listed, EventInfo)>, Option<Place>), Refusal> {
        let prefix = match &filter.function {
            Some(function) => queue::function(tenant, function),
            None => queue::functions(tenant),
        };
        let (mut found, mut looked) = (Vec::new(), 0);
        loop {
            if place.queue.is_empty() || place.after == u64::MAX {
                let after = Some(place.queue.as_str()).filter(|queue| !queue.is_empty());
                let next = self.queues.queues(&prefix, after, 1).await.map_err(|error| store(&error))?;
                let exact = |queue: &str| {
                    filter.function.is_none()
                        || queue.strip_prefix(&prefix).is_some_and(|rest| matches!(rest, "" | "/out"))
                };
                match next.into_iter().next() {
                    Some(next) if exact(&next.queue) => {
                        place = Place { queue: next.queue, dead: false, after: 0 }
                    }
                    // A function's name may be the beginning of another's.
                    Some(next) => {
                        place = Place { queue: next.queue, dead: true, after: u64::MAX };
                        continue;
                    }
                    None => return Ok((found, None)),
                }
            }
            let after = Some(MessageId(place.after));
            let read = self.queues.list(&place.queue, place.dead, after, READ.min(most.max(1))).await;
            let read = read.map_err(|error| store(&error))?;
            looked += read.len();
            match read.last() {
                Some(last) => place.after = last.id.0,
                None if place.dead => place.after = u64::MAX,
                None => (place.dead, place.after) = (true, 0),
            }
            for listed in read {
                if let Some(info) = info(&listed).filter(|info| takes(filter, info)) {
                    found.push((listed, info));
                }
            }
            if found.len() >= most || looked >= LOOK_MAX {
                return Ok((found, Some(place)));
            }
        }
    }

    async fn list(&self, tenant: &TenantId, asked: &EventsQuery) -> Result<EventPage, Refusal> {
        let limit = asked.limit.unwrap_or(PAGE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(Refusal::new(Code::BadRequest, format!("limit must be 1 to {PAGE_MAX}")));
        }
        let place = match asked.after.as_deref() {
            None => Place::default(),
            Some(text) => Place::read(text)
                .filter(|place| place.queue.starts_with(&queue::functions(tenant)))
                .ok_or_else(|| Refusal::new(Code::BadRequest, "after is not the `next` of a page"))?,
        };
        let (found, mut next) = self.find(tenant, &asked.filter(), place, limit as usize).await?;
        let mut found = found;
        // A read may bring more than were asked for: the rest is of the next page.
        if found.len() > limit as usize {
            found.truncate(limit as usize);
            next = found.last().map(|(listed, _)| Place {
                queue: listed.queue.clone(),
                dead: listed.state == State::Dead,
                after: listed.id.0,
            });
        }
        Ok(EventPage {
            events: found.into_iter().map(|(_, info)| info).collect(),
            next: next.map(|place| place.write()),
        })
    }

    async fn one(
        &self,
        tenant: &TenantId,
        id: InvocationId,
    ) -> Result<(Listed, Vec<u8>, EventInfo), Refusal> {
        let missing = || {
            Refusal::new(Code::EventNotFound, format!("there is no event {id} of tenant '{tenant}'"))
                .hint("events that ended well are not kept; `rouse events list` shows the others")
        };
        let found = self.queues.find(&id.to_string()).await.map_err(|error| store(&error))?;
        let (listed, body) = found
            .filter(|(listed, _)| listed.queue.starts_with(&queue::functions(tenant)))
            .ok_or_else(missing)?;
        let info = info(&listed).ok_or_else(missing)?;
        Ok((listed, body, info))
    }

    async fn show(&self, tenant: &TenantId, id: InvocationId) -> Result<EventDetail, Refusal> {
        let (listed, mut body, event) = self.one(tenant, id).await?;
        let call = serde_json::from_slice::<Event>(&listed.head).ok().map(|event| event.call);
        let request = match call {
            Some(EventCall::Http { method, path, .. }) => Some(format!("{method} {path}")),
            Some(EventCall::Url(url)) => Some(format!("POST {url}")),
            Some(EventCall::Topic(topic)) => Some(format!("topic:{topic}")),
            Some(EventCall::Invoke { .. }) | None => None,
        };
        body.truncate(BODY_BYTES_SHOWN);
        Ok(EventDetail { event, body: String::from_utf8(body).ok(), request })
    }

    async fn cancel(self: &Arc<Self>, tenant: &TenantId, id: InvocationId) -> Result<EventCount, Refusal> {
        let (listed, _, info) = self.one(tenant, id).await?;
        if info.state == EventState::Failed {
            return Err(Refusal::new(Code::BadRequest, format!("event {id} was given up already"))
                .hint("`rouse events purge` deletes it, `rouse events redrive` has it tried again"));
        }
        let gone = self.queues.cancel(listed.id).await.map_err(|error| store(&error))?;
        self.break_off(id);
        // The next of its group may go on.
        self.poke(&listed.queue);
        Ok(EventCount { count: u64::from(gone) })
    }

    async fn redrive(
        self: &Arc<Self>,
        tenant: &TenantId,
        filter: &EventFilter,
    ) -> Result<EventCount, Refusal> {
        let failed = EventFilter { state: Some(rouse_api::EventStates::Failed), ..filter.clone() };
        self.each(tenant, &failed, async |events, queue, ids| {
            let count = events.queues.redrive(queue, ids).await?;
            events.poke(queue);
            Ok(count)
        })
        .await
    }

    async fn purge(self: &Arc<Self>, tenant: &TenantId, filter: &EventFilter) -> Result<EventCount, Refusal> {
        self.each(tenant, filter, async |events, queue, ids| {
            let mut count = events.queues.bury(queue, ids.clone()).await?;
            for id in ids {
                // What runs is left to end: cancelling says which.
                count += usize::from(events.queues.cancel(id).await?);
            }
            events.poke(queue);
            Ok(count)
        })
        .await
    }

    /// Does something to all events that a filter takes but those that run, some of one queue at a time.
    async fn each(
        self: &Arc<Self>,
        tenant: &TenantId,
        filter: &EventFilter,
        act: impl AsyncFn(&Arc<Self>, &str, Vec<MessageId>) -> Result<usize, rouse_store::Error>,
    ) -> Result<EventCount, Refusal> {
        let (mut place, mut count) = (Some(Place::default()), 0);
        while let Some(from) = place {
            let (found, next) = self.find(tenant, filter, from, READ).await?;
            place = next;
            let mut by_queue = std::collections::BTreeMap::<String, Vec<MessageId>>::new();
            for (listed, _) in found.into_iter().filter(|(listed, _)| listed.state != State::Leased) {
                by_queue.entry(listed.queue).or_default().push(listed.id);
            }
            for (queue, ids) in by_queue {
                for ids in ids.chunks(READ) {
                    count += act(self, &queue, ids.to_vec()).await.map_err(|error| store(&error))? as u64;
                }
            }
        }
        Ok(EventCount { count })
    }
}

pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<Bytes, Refusal> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Refusal::new(Code::Internal, error.to_string()))
}

/// A filter must name something: to mean all events is to say a state.
fn filter(body: &[u8]) -> Result<EventFilter, Refusal> {
    let filter: EventFilter = read(body)?;
    if filter == EventFilter::default() {
        return Err(Refusal::new(Code::BadRequest, "the filter takes every event of the tenant")
            .hint("name a function, a state, an id, a reason or a time"));
    }
    Ok(filter)
}

pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let text: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(text).map_err(|error| {
        Refusal::new(Code::BadRequest, format!("the request's body is not what the operation takes: {error}"))
            .hint("GET /openapi.json describes it")
    })
}

fn info(listed: &Listed) -> Option<EventInfo> {
    let event: Event = serde_json::from_slice(&listed.head).ok()?;
    Some(EventInfo {
        id: event.id,
        function: event.function,
        alias: event.alias,
        state: match listed.state {
            State::Waiting | State::Blocked => EventState::Waiting,
            State::Leased => EventState::Running,
            State::Dead => EventState::Failed,
        },
        source: match (event.trigger, event.call) {
            (Some(trigger), _) => trigger,
            (None, EventCall::Http { .. }) => "http".to_owned(),
            (None, EventCall::Invoke { .. }) => "invoke".to_owned(),
            (None, EventCall::Topic(_) | EventCall::Url(_)) => "outcome".to_owned(),
        },
        attempts: listed.attempts,
        accepted: event.accepted,
        due: listed.due,
        reason: Some(listed.reason.clone()).filter(|reason| !reason.is_empty()),
        bytes: listed.payload_bytes,
        ordering_key: event.ordering_key,
        idempotency_key: event.idempotency_key,
        chain: Some(event.chain.to_string()).filter(|chain| !chain.is_empty()),
    })
}

fn takes(filter: &EventFilter, info: &EventInfo) -> bool {
    let EventFilter { id, function, state, reason, before } = filter;
    id.is_none_or(|id| id == info.id)
        && function.as_ref().is_none_or(|function| *function == info.function)
        && state.is_none_or(|states| states.has(info.state))
        && reason.as_ref().is_none_or(|text| info.reason.as_ref().is_some_and(|reason| reason.contains(text)))
        && before.is_none_or(|before| info.accepted < before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_as_it_was_written() {
        let place = Place { queue: "fn/shop/cart".to_owned(), dead: true, after: 7 };
        assert_eq!(Place::read(&place.write()), Some(place));
        assert_eq!(Place::read("x"), None);
    }
}
