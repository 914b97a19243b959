//! An event that was accepted, and one attempt to deliver it: what our own processes tell each other of both.
//!
//! ```text
//!  gateway ──Event + body──▶ events ──(on the disk)── 202
//!                              └──Delivery + request──▶ gateway ──▶ the function
//! ```

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    Chain, EventSettings, FunctionName, InvocationId, LambdaCall, Source, TenantId, Timestamp, TraceContext,
    framed::{self, NotFramed},
};

/// Carries a [`Delivery`] as JSON, from the process of events to a gateway. A gateway strips it from what strangers
/// send.
pub const DELIVERY_HEADER: &str = "x-rouse-delivery";
/// A caller sets it to be answered once the call is on the disk, and not when it is done; `Prefer: respond-async`
/// (RFC 7240 §4.1) says the same.
pub const ASYNC_HEADER: &str = "x-rouse-async";
/// A second call with the same key, within the function's window, is answered as the first and does nothing.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";
/// Set to `true` on an answer that was given before, to a call with the same key.
pub const REPLAYED_HEADER: &str = "idempotent-replayed";
/// Asynchronous calls of one function with the same key run one after the other.
pub const ORDERING_HEADER: &str = "x-rouse-ordering-key";
/// Which attempt of an event a call is; 1 for the first. On requests that deliver events.
pub const ATTEMPT_HEADER: &str = "x-rouse-attempt";
/// The keys of the two headers above, in bytes.
pub const KEY_BYTES_MAX: usize = 200;

/// An event, without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its id; its attempts have it as their invocation's id.
    pub id: InvocationId,
    /// Whose function.
    pub tenant: TenantId,
    /// The function.
    pub function: FunctionName,
    /// The alias or version that was asked for; `live` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// How the function is called.
    pub call: EventCall,
    /// The span that sent it, if told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<TraceContext>,
    /// The functions that were passed on the way to it.
    #[serde(default, skip_serializing_if = "Chain::is_empty")]
    pub chain: Chain,
    /// See [`IDEMPOTENCY_HEADER`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// See [`ORDERING_HEADER`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordering_key: Option<String>,
    /// The trigger that it comes from, as `schedule:nightly`; none for a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// What came with it by AWS' Lambda API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda: Option<LambdaCall>,
    /// What is to become of it, in place of what its function's version says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnSettings>,
}

/// What an event itself says of its attempts and its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnSettings {
    /// Its attempts, and who is told of its end.
    pub settings: EventSettings,
    /// The queue that it goes to, as it was accepted, when it is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<String>,
}

/// How an event calls its function, or where else it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventCall {
    /// With a payload, as `rouse invoke` does: the event's body.
    Invoke {
        /// The payload's media type.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content_type: Option<String>,
    },
    /// With the HTTP request that was accepted.
    Http {
        /// Its method.
        method: String,
        /// Its path and query, as the function sees them.
        path: String,
        /// Its headers; each byte of a value is a character, so that none is lost.
        headers: Vec<(String, String)>,
        /// Who sent it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<IpAddr>,
    },
    /// It calls none: it tells of what became of an event of the function, as a CloudEvent in structured form, to all who
    /// want it of this topic.
    Topic(String),
    /// The same, to this URL.
    Url(String),
}

impl Event {
    /// A new event with an id of its own, which nobody sent and of which nothing else is said.
    #[must_use]
    pub fn new(tenant: &TenantId, function: &FunctionName, call: EventCall, accepted: Timestamp) -> Self {
        Self {
            id: InvocationId::new(),
            tenant: tenant.clone(),
            function: function.clone(),
            alias: None,
            accepted,
            call,
            caller: None,
            chain: Chain::default(),
            idempotency_key: None,
            ordering_key: None,
            trigger: None,
            lambda: None,
            own: None,
        }
    }

    /// The event with its body, as one process gives it to another.
    #[must_use]
    pub fn encode(&self, body: &[u8]) -> Vec<u8> {
        framed::encode(self, body)
    }

    /// Reads what [`Event::encode`] wrote: the event, and its body.
    ///
    /// # Errors
    /// It did not.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), NotFramed> {
        framed::decode(bytes)
    }
}

/// The answer to a call with an idempotency key, without its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnceHead {
    /// The status of HTTP.
    pub status: u16,
    /// The headers; a character for each byte of a value.
    pub headers: Vec<(String, String)>,
    /// Whether it was given before, to a call with the same key: then nothing ran.
    pub again: bool,
}

/// The value of a header as text: a character for each byte, so that none is lost.
#[must_use]
pub fn latin1(value: &[u8]) -> String {
    value.iter().copied().map(char::from).collect()
}

/// What [`latin1`] was given.
#[must_use]
pub fn from_latin1(text: &str) -> Vec<u8> {
    text.chars().filter_map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

/// What the process of events answers once an event is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The event's id, or that of the one that it repeats.
    pub id: InvocationId,
    /// Whether it repeats one.
    pub duplicate: bool,
}

/// One attempt to deliver an event: what a gateway is told besides the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The event's id.
    pub id: InvocationId,
    /// Whose function.
    pub tenant: TenantId,
    /// The function.
    pub function: FunctionName,
    /// The alias or version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// 1 for the first.
    pub attempt: u32,
    /// The shape in which the code sees it.
    pub source: Source,
    /// The span that sent the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<TraceContext>,
    /// Who sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_and_its_body_arrive_as_they_were_sent() {
        let tenant = TenantId::new("shop").expect("a name");
        let function = FunctionName::new("cart").expect("a name");
        let call = EventCall::Http {
            method: "POST".to_owned(),
            path: "/a?b".to_owned(),
            headers: vec![("x-name".to_owned(), "f\u{fc}r".to_owned())],
            peer: None,
        };
        let event = Event {
            chain: Chain::read("cart=2"),
            idempotency_key: Some("k".to_owned()),
            ..Event::new(&tenant, &function, call, Timestamp(17))
        };
        let bytes = event.encode(b"\x00body");
        let (read, body) = Event::decode(&bytes).expect("an event");
        assert_eq!((read, body), (event, &b"\x00body"[..]));
        for wrong in [&b""[..], b"\0\0\0", b"\0\0\0\x05{}", b"\0\0\0\x02{}"] {
            assert!(Event::decode(wrong).is_err());
        }
    }
}
