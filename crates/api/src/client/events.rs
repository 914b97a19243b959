//! What the client asks of events and queues.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use rouse_types::{Code, FunctionName, InvocationId, Refusal, TenantId, event::Accepted};

use super::{Client, TIMEOUTS, empty, full, json};
use crate::{
    EventCount, EventDetail, EventFilter, EventPage, EventsQuery, PublishedEvents, QueueChange, QueueDetail,
    QueueSummary, ReceiveQuery, ReceivedMessage, SendQuery, SentMessage, TopicSummary, TriggerInfo,
    operation::{Id, path},
    query::{self, InvokeMode, InvokeQuery},
};

impl Client {
    /// Has a function run later. Answered once the call is on the disk.
    pub async fn invoke_later(
        &self,
        tenant: &TenantId,
        function: &FunctionName,
        alias: Option<&str>,
        content_type: &str,
        keys: &[(&'static str, &str)],
        payload: Bytes,
    ) -> Result<Accepted, Refusal> {
        let query = InvokeQuery { alias: alias.map(str::to_owned), mode: Some(InvokeMode::Event) };
        let path = path(Id::Invoke, &[tenant.as_str(), function.as_str()]);
        let mut request =
            self.request(Method::POST, format!("{path}?{}", query::write(&query)), full(payload))?;
        for (name, value) in [&[("content-type", content_type)], keys].concat() {
            let value = value.parse().map_err(|_| {
                Refusal::new(Code::BadRequest, format!("'{value}' cannot be the header {name}"))
            })?;
            request.headers_mut().insert(name, value);
        }
        let body = self.collect(self.checked(request, TIMEOUTS).await?.into_body()).await?;
        serde_json::from_slice(&body)
            .map_err(|_| Refusal::new(Code::InvalidResponse, "the answer does not tell the event's id"))
    }

    /// Events that wait, run or were given up.
    pub async fn events(&self, tenant: &TenantId, query: &EventsQuery) -> Result<EventPage, Refusal> {
        self.get(format!("{}?{}", path(Id::ListEvents, &[tenant.as_str()]), query::write(query))).await
    }

    /// An event with its body.
    pub async fn event(&self, tenant: &TenantId, id: InvocationId) -> Result<EventDetail, Refusal> {
        self.get(path(Id::GetEvent, &[tenant.as_str(), &id.to_string()])).await
    }

    /// Cancels an event.
    pub async fn cancel_event(&self, tenant: &TenantId, id: InvocationId) -> Result<EventCount, Refusal> {
        self.ask(Method::DELETE, path(Id::CancelEvent, &[tenant.as_str(), &id.to_string()]), empty()).await
    }

    /// Has events that were given up tried again.
    pub async fn redrive_events(
        &self,
        tenant: &TenantId,
        filter: &EventFilter,
    ) -> Result<EventCount, Refusal> {
        self.ask(Method::POST, path(Id::RedriveEvents, &[tenant.as_str()]), json(filter)?).await
    }

    /// Deletes events that wait or were given up.
    pub async fn purge_events(&self, tenant: &TenantId, filter: &EventFilter) -> Result<EventCount, Refusal> {
        self.ask(Method::POST, path(Id::PurgeEvents, &[tenant.as_str()]), json(filter)?).await
    }

    /// The triggers that are in force.
    pub async fn triggers(&self, tenant: &TenantId) -> Result<Vec<TriggerInfo>, Refusal> {
        self.get(path(Id::ListTriggers, &[tenant.as_str()])).await
    }

    /// The topics that triggers name.
    pub async fn topics(&self, tenant: &TenantId) -> Result<Vec<TopicSummary>, Refusal> {
        self.get(path(Id::ListTopics, &[tenant.as_str()])).await
    }

    /// Publishes CloudEvents, whose mode the headers tell.
    pub async fn publish(
        &self,
        tenant: &TenantId,
        topic: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<PublishedEvents, Refusal> {
        let path = path(Id::PublishEvents, &[tenant.as_str(), topic]);
        let mut request = self.request(Method::POST, path, full(body))?;
        for (name, value) in headers {
            let named = HeaderName::try_from(*name).ok().zip(HeaderValue::try_from(*value).ok());
            let (name, value) = named.ok_or_else(|| {
                Refusal::new(Code::BadRequest, format!("'{name}: {value}' cannot be a header"))
            })?;
            request.headers_mut().insert(name, value);
        }
        let body = self.collect(self.checked(request, TIMEOUTS).await?.into_body()).await?;
        serde_json::from_slice(&body)
            .map_err(|_| Refusal::new(Code::InvalidResponse, "the answer does not tell what became of it"))
    }

    /// Makes a queue, unless it is there.
    pub async fn create_queue(
        &self,
        tenant: &TenantId,
        queue: &str,
        settings: &QueueChange,
    ) -> Result<QueueDetail, Refusal> {
        self.ask(Method::PUT, path(Id::CreateQueue, &[tenant.as_str(), queue]), json(settings)?).await
    }

    /// A queue.
    pub async fn queue(&self, tenant: &TenantId, queue: &str) -> Result<QueueDetail, Refusal> {
        self.get(path(Id::GetQueue, &[tenant.as_str(), queue])).await
    }

    /// Changes settings of a queue.
    pub async fn update_queue(
        &self,
        tenant: &TenantId,
        queue: &str,
        change: &QueueChange,
    ) -> Result<QueueDetail, Refusal> {
        self.ask(Method::PATCH, path(Id::UpdateQueue, &[tenant.as_str(), queue]), json(change)?).await
    }

    /// Deletes a queue with its messages.
    pub async fn delete_queue(&self, tenant: &TenantId, queue: &str) -> Result<EventCount, Refusal> {
        self.ask(Method::DELETE, path(Id::DeleteQueue, &[tenant.as_str(), queue]), empty()).await
    }

    /// Has the dead messages of a queue received again.
    pub async fn redrive_queue(&self, tenant: &TenantId, queue: &str) -> Result<EventCount, Refusal> {
        self.ask(Method::POST, path(Id::RedriveQueue, &[tenant.as_str(), queue]), empty()).await
    }

    /// The queues that are there.
    pub async fn queues(&self, tenant: &TenantId) -> Result<Vec<QueueSummary>, Refusal> {
        self.get(path(Id::ListQueues, &[tenant.as_str()])).await
    }

    /// Sends a message to a queue.
    pub async fn send_message(
        &self,
        tenant: &TenantId,
        queue: &str,
        how: &SendQuery,
        body: Bytes,
    ) -> Result<SentMessage, Refusal> {
        let path = path(Id::SendMessage, &[tenant.as_str(), queue]);
        self.ask(Method::POST, format!("{path}?{}", query::write(how)), full(body)).await
    }

    /// Receives messages of a queue.
    pub async fn receive_messages(
        &self,
        tenant: &TenantId,
        queue: &str,
        how: &ReceiveQuery,
    ) -> Result<Vec<ReceivedMessage>, Refusal> {
        let path = path(Id::ReceiveMessages, &[tenant.as_str(), queue]);
        self.ask(Method::POST, format!("{path}?{}", query::write(how)), empty()).await
    }

    /// Deletes a message that was received.
    pub async fn delete_message(
        &self,
        tenant: &TenantId,
        queue: &str,
        receipt: &str,
    ) -> Result<EventCount, Refusal> {
        self.ask(Method::DELETE, path(Id::DeleteMessage, &[tenant.as_str(), queue, receipt]), empty()).await
    }

    /// Deletes the messages of a queue.
    pub async fn purge_queue(&self, tenant: &TenantId, queue: &str) -> Result<EventCount, Refusal> {
        self.ask(Method::POST, path(Id::PurgeQueue, &[tenant.as_str(), queue]), empty()).await
    }
}
