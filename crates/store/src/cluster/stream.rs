//! A stream of the engine: making it, following it, looking up its last message of a subject.
//!
//! Subjects are looked up at the stream's leader: a direct read may miss what was just written.

use std::time::Duration;

use async_nats::{HeaderMap, Subscriber};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};

use super::{
    Cluster,
    engine::{Answer, STREAM_BYTES_MAX},
};
use crate::Error;

/// How often a follower hears from a stream on which nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Without a sign of life for so long, a follower begins anew.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// After this, the engine forgets a follower that is gone.
const FOLLOWER_FORGOTTEN: Duration = Duration::from_secs(30);

/// JetStream's error codes (errors.json of nats-server).
const NO_MESSAGE: u64 = 10_037;
const NO_STREAM: u64 = 10_059;
const NAME_IN_USE: u64 = 10_058;
/// A message is not the one that the writer expected to be the last of its subject.
const WRONG_LAST: [u64; 2] = [10_071, 10_164];
/// No storage left: of the account, the server, the stream.
const FULL: [u64; 4] = [10_023, 10_047, 10_077, 10_002];

/// What a stream is like.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    /// Letters, digits, `-` and `_`.
    pub(super) name: String,
    pub(super) subjects: Vec<String>,
    /// How many bytes it takes before it refuses more; none: as many as the server's own limit allows.
    pub(super) bytes_max: Option<i64>,
    /// Whether only the last message of each subject is kept.
    pub(super) last_only: bool,
    /// Whether messages may be dropped by time.
    pub(super) may_expire: bool,
}

/// A stream. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) cluster: Cluster,
    pub(super) name: String,
    /// Given to it when it was made: one that is made anew under the same name has another.
    pub(super) id: String,
}

/// What a stream holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    /// Of the first message; one more than the last if there is none.
    pub(super) first: u64,
    /// Of the last that there ever was.
    pub(super) last: u64,
    pub(super) bytes: u64,
}

/// A message of a stream.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) subject: String,
    pub(super) sequence: u64,
    pub(super) payload: Bytes,
}

/// What came of a write that expects something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    /// It is on a quorum, under this sequence number.
    At(u64),
    /// Something else is there than was expected.
    Refused,
}

impl Stream {
    /// Finds a stream, or makes it.
    pub(super) async fn open(cluster: &Cluster, spec: &Spec) -> Result<Self, Error> {
        let Spec { name, subjects, bytes_max, last_only, may_expire } = spec;
        for _ in 0..3 {
            if let Answer::Done(info) =
                cluster.ask(&format!("$JS.API.STREAM.INFO.{name}"), &Value::Null).await?
            {
                return Self::found(cluster, spec, &info["config"]);
            }
            let config = json!({
                "name": name, "subjects": subjects, "retention": "limits", "storage": "file", "discard": "new",
                "num_replicas": cluster.replicas(), "max_bytes": bytes_max.unwrap_or(-1).min(STREAM_BYTES_MAX),
                "max_msgs_per_subject": if *last_only { 1 } else { -1 }, "discard_new_per_subject": false,
                "duplicate_window": Duration::from_secs(120).as_nanos(), "allow_msg_ttl": may_expire,
                "allow_direct": false, "metadata": { "rouse_id": super::engine::random()?.0 },
            });
            match cluster.ask(&format!("$JS.API.STREAM.CREATE.{name}"), &config).await? {
                Answer::Done(info) => return Self::found(cluster, spec, &info["config"]),
                // Another node was faster: look again.
                Answer::Refused(NAME_IN_USE, _) => {}
                Answer::Refused(_, text) => {
                    return Err(Error::Engine(format!("the engine does not make the stream {name}: {text}")));
                }
            }
        }
        Err(Error::Engine(format!("the stream {name} comes and goes: is another program using its name?")))
    }

    /// Reads back what the engine made of it: a server that is too old leaves out what it does not know.
    fn found(cluster: &Cluster, spec: &Spec, config: &Value) -> Result<Self, Error> {
        let name = &spec.name;
        let wrong = |what: &str| {
            Error::Engine(format!("the stream {name} of the engine {what}: remove it, or use another engine"))
        };
        let id = config["metadata"]["rouse_id"].as_str().ok_or_else(|| wrong("was not made by Rouse"))?;
        if config["storage"] != "file" || config["retention"] != "limits" || config["discard"] != "new" {
            return Err(wrong("does not keep what it is given"));
        }
        if config["num_replicas"].as_u64().unwrap_or(1) < u64::from(cluster.replicas()) {
            return Err(Error::Engine(format!(
                "the stream {name} is kept on {} servers, not on {}: run `nats stream edit {name} --replicas={}`",
                config["num_replicas"],
                cluster.replicas(),
                cluster.replicas()
            )));
        }
        if config["max_msgs_per_subject"].as_i64().unwrap_or(-1) != if spec.last_only { 1 } else { -1 }
            || config["allow_msg_ttl"].as_bool().unwrap_or(false) != spec.may_expire
        {
            return Err(wrong("has other limits than it was given"));
        }
        Ok(Self { cluster: cluster.clone(), name: name.clone(), id: id.to_owned() })
    }

    /// What there is, by its leader.
    pub(super) async fn state(&self) -> Result<State, Error> {
        let name = &self.name;
        match self.cluster.ask(&format!("$JS.API.STREAM.INFO.{name}"), &Value::Null).await? {
            Answer::Done(info) => {
                if info["config"]["metadata"]["rouse_id"] != Value::String(self.id.clone()) {
                    return Err(Error::Log(format!("the stream {name} was removed and made anew")));
                }
                let number = |of: &str| info["state"][of].as_u64().unwrap_or_default();
                let last = number("last_seq");
                let first = if number("messages") == 0 { last + 1 } else { number("first_seq") };
                Ok(State { first, last, bytes: number("bytes") })
            }
            Answer::Refused(NO_STREAM, _) => Err(Error::Log(format!("the stream {name} was removed"))),
            Answer::Refused(_, text) => Err(Error::Engine(format!("the stream {name}: {text}"))),
        }
    }

    /// Writes a message. With an id, it is taken once, however often it is sent.
    pub(super) async fn publish(
        &self,
        subject: &str,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Published, Error> {
        headers.insert("Nats-Expected-Stream", self.name.as_str());
        match self.cluster.publish(subject, headers, payload).await? {
            Answer::Done(ack) => ack["seq"].as_u64().map(Published::At).ok_or_else(|| {
                Error::Engine(format!("the engine's acknowledgement for {subject} has no number"))
            }),
            Answer::Refused(code, _) if WRONG_LAST.contains(&code) => Ok(Published::Refused),
            Answer::Refused(code, text) if FULL.contains(&code) => {
                Err(Error::Full(format!("the cluster's stream {}: {text}", self.name)))
            }
            Answer::Refused(_, text) => Err(Error::Engine(format!("the stream {}: {text}", self.name))),
        }
    }

    /// The last message of a subject, by the stream's leader.
    pub(super) async fn last(&self, subject: &str) -> Result<Option<Entry>, Error> {
        self.get(&json!({ "last_by_subj": subject })).await
    }

    /// The first message from this number on whose subject fits.
    pub(super) async fn next(&self, from: u64, subject: &str) -> Result<Option<Entry>, Error> {
        self.get(&json!({ "seq": from, "next_by_subj": subject })).await
    }

    async fn get(&self, question: &Value) -> Result<Option<Entry>, Error> {
        let name = &self.name;
        match self.cluster.ask(&format!("$JS.API.STREAM.MSG.GET.{name}"), question).await? {
            Answer::Done(answer) => {
                let message = &answer["message"];
                let bytes = |of: &str| {
                    BASE64_STANDARD.decode(message[of].as_str().unwrap_or_default()).map_err(|error| {
                        Error::Engine(format!("a message of {name} cannot be read: {error}"))
                    })
                };
                let text = |of: &str| message[of].as_str().unwrap_or_default().to_owned();
                Ok(Some(Entry {
                    subject: text("subject"),
                    sequence: message["seq"].as_u64().unwrap_or_default(),
                    payload: bytes("data")?.into(),
                }))
            }
            Answer::Refused(NO_MESSAGE, _) => Ok(None),
            Answer::Refused(_, text) => Err(Error::Engine(format!("the stream {name}: {text}"))),
        }
    }

    /// The subjects that there are messages of.
    pub(super) async fn subjects(&self) -> Result<Vec<String>, Error> {
        let name = &self.name;
        let question = json!({ "subjects_filter": ">" });
        match self.cluster.ask(&format!("$JS.API.STREAM.INFO.{name}"), &question).await? {
            Answer::Done(info) => {
                let subjects = info["state"]["subjects"].as_object();
                Ok(subjects.map(|subjects| subjects.keys().cloned().collect()).unwrap_or_default())
            }
            Answer::Refused(_, text) => Err(Error::Engine(format!("the stream {name}: {text}"))),
        }
    }

    /// Removes messages: those before a number, or all of a subject. Gives how many.
    pub(super) async fn purge(&self, what: &Value) -> Result<u64, Error> {
        let name = &self.name;
        match self.cluster.ask(&format!("$JS.API.STREAM.PURGE.{name}"), what).await? {
            Answer::Done(answer) => Ok(answer["purged"].as_u64().unwrap_or_default()),
            Answer::Refused(_, text) => Err(Error::Engine(format!("the stream {name}: {text}"))),
        }
    }

    /// Messages from this number on, as they come.
    pub(super) async fn follow(&self, from: u64) -> Result<Follow, Error> {
        let client = self.cluster.client();
        let inbox = client.new_inbox();
        let subscriber = client
            .subscribe(inbox.clone())
            .await
            .map_err(|error| Error::Away(format!("it takes no subscription: {error}")))?;
        let (name, follower) = (&self.name, super::engine::random()?.0);
        let config = json!({ "stream_name": name, "config": {
            "name": follower, "deliver_subject": inbox, "deliver_policy": "by_start_sequence", "opt_start_seq": from.max(1),
            "ack_policy": "none", "replay_policy": "instant", "max_deliver": 1, "flow_control": true,
            "idle_heartbeat": HEARTBEAT.as_nanos(), "mem_storage": true, "num_replicas": 1,
            "inactive_threshold": FOLLOWER_FORGOTTEN.as_nanos(),
        }});
        match self.cluster.ask(&format!("$JS.API.CONSUMER.CREATE.{name}.{follower}"), &config).await? {
            Answer::Done(_) => {
                Ok(Follow { cluster: self.cluster.clone(), name: name.clone(), subscriber, came: 0 })
            }
            Answer::Refused(_, text) => {
                Err(Error::Engine(format!("the stream {name} cannot be followed: {text}")))
            }
        }
    }
}

/// A follower of a stream. It gives each message once, in order; after an error it must be made anew.
#[derive(Debug)]
pub(super) struct Follow {
    cluster: Cluster,
    name: String,
    subscriber: Subscriber,
    /// How many messages came.
    came: u64,
}

impl Follow {
    /// The next message; none if nothing happens.
    pub(super) async fn next(&mut self) -> Result<Option<Entry>, Error> {
        let came = tokio::time::timeout(SILENCE_MAX, self.subscriber.next()).await;
        let message = came.ok().flatten().ok_or_else(|| self.broken("it has gone silent"))?;
        self.take(message).await
    }

    /// The next message, if it is here already.
    pub(super) async fn ready(&mut self) -> Result<Option<Entry>, Error> {
        match self.subscriber.next().now_or_never().flatten() {
            Some(message) => self.take(message).await,
            None => Ok(None),
        }
    }

    async fn take(&mut self, message: async_nats::Message) -> Result<Option<Entry>, Error> {
        if let Some(status) = message.status {
            return self.control(&message, status.as_u16()).await;
        }
        // $JS.ACK.<stream>.<consumer>.<delivered>.<stream's number>.<consumer's number>.<time, ns>.<pending>
        let reply = message.reply.as_ref().map_or("", |reply| reply.as_str());
        let number =
            |from_end: usize| reply.rsplit('.').nth(from_end).and_then(|number| number.parse::<u64>().ok());
        let (Some(sequence), Some(came)) = (number(3), number(2)) else {
            return Err(self.broken("it sends messages without numbers"));
        };
        if came != self.came + 1 {
            return Err(self.broken("messages are missing"));
        }
        self.came = came;
        Ok(Some(Entry { subject: message.subject.to_string(), sequence, payload: message.payload }))
    }

    /// A message of the engine itself: a sign of life, or a question whether we still follow.
    async fn control(&mut self, message: &async_nats::Message, status: u16) -> Result<Option<Entry>, Error> {
        if status != 100 {
            return Err(self.broken(message.description.as_deref().unwrap_or("it was ended")));
        }
        let header = |name: &str| message.headers.as_ref().and_then(|headers| headers.get(name)).cloned();
        let question = message.reply.as_ref().map(ToString::to_string);
        let stalled = header("Nats-Consumer-Stalled").map(|subject| subject.to_string());
        if let Some(subject) = question.or(stalled) {
            let answered = self.cluster.client().publish(subject, Bytes::new()).await;
            answered.map_err(|error| self.broken(&error.to_string()))?;
        }
        let last = header("Nats-Last-Consumer").and_then(|last| last.as_str().parse::<u64>().ok());
        if last.is_some_and(|last| last > self.came) {
            return Err(self.broken("messages are missing"));
        }
        Ok(None)
    }

    fn broken(&self, why: &str) -> Error {
        Error::Away(format!("following its stream {}: {why}", self.name))
    }
}
