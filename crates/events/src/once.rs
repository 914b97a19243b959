//! Calls that are made once for each idempotency key: a repeat within the window gets the first one's answer, and joins
//! it while it runs.
//!
//! ```text
//!  gateway ──Event + body──▶ once ──▶ a gateway ──▶ the function
//!                             │ claim on the disk before, answer on the disk after
//!            ◀──the answer────┘
//! ```
//!
//! What failed (5xx, or no answer) is forgotten, for it is what a repeat is for. A platform that is killed in the middle
//! of a first call leaves its claim without an answer, and a repeat makes the call again.

mod kept;
mod running;

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body_util::BodyExt as _;
use rouse_api::wire::{self, Answer};
use rouse_types::{
    Code, Digest, Event, EventCall, OnceHead, Refusal, Timestamp, event::latin1, invocation::ERROR_HEADER,
};

pub(crate) use kept::Kept;
pub(crate) use running::Running;

use crate::{deliver, dispatch::Events};

/// The largest answer of a call with a key, in bytes: with its head it is one record of the store.
const ANSWER_BYTES_MAX: usize = 768 << 10;
/// The longest pause between two looks for keys that may be forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// What a call with a key was answered.
#[derive(Debug, Clone)]
pub(crate) struct OnceAnswer {
    pub(crate) head: OnceHead,
    pub(crate) body: Bytes,
}

/// An answer, or why there is none, as all who wait for it get it.
pub(crate) type Told = Result<Arc<OnceAnswer>, Refusal>;

/// What is the same for a call and its repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Same {
    /// The key, with what it belongs to: a function, and who calls it.
    pub(crate) key: String,
    /// What is asked for: a key that comes with another request is used wrongly.
    pub(crate) request: Digest,
}

impl Same {
    fn of(event: &Event, body: &[u8]) -> Self {
        let key = event.idempotency_key.as_deref().unwrap_or_default();
        let (mut who, mut what) = ("", Vec::new());
        if let EventCall::Http { method, path, headers, .. } = &event.call {
            // Two callers with one key are nothing to each other.
            let authorization = headers.iter().find(|(name, _)| name == "authorization");
            who = authorization.map_or("", |(_, value)| value);
            what.extend_from_slice(format!("{method} {path}\n").as_bytes());
        }
        what.extend_from_slice(body);
        // No header's value has a line's end.
        let key = Digest::of(format!("{who}\n{key}").as_bytes());
        Self { key: format!("{}/{}/{}", event.tenant, event.function, key.hex()), request: Digest::of(&what) }
    }

    pub(crate) fn check(&self, request: &Digest, event: &Event) -> Result<(), Refusal> {
        if self.request == *request {
            return Ok(());
        }
        let what = format!("the idempotency key was used for another request of '{}'", event.function);
        Err(Refusal::new(Code::IdempotencyKeyReused, what).hint("take a new key for each new request"))
    }
}

impl Events {
    /// Makes a call, unless one with the same key was made or runs: then its answer is given again.
    pub(crate) async fn once(
        self: &Arc<Self>,
        event: Event,
        body: Bytes,
        window: Duration,
    ) -> Result<Arc<OnceAnswer>, Refusal> {
        let same = Same::of(&event, &body);
        let (first, mut told) = match self.once_running.join(&same, &event)? {
            running::Place::Joined(told) => (false, told),
            running::Place::First(place, told) => {
                let events = Arc::clone(self);
                // A caller who leaves does not take along what others wait for.
                self.tasks.spawn(async move {
                    let ended = Box::pin(events.kept_or_made(&same, event, body, window)).await;
                    place.end(ended);
                });
                (true, told)
            }
        };
        let ended = told.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        let answer = ended.unwrap_or_else(|| Err(broken_off("the platform stopped")))?;
        Ok(if first { answer } else { again(&answer) })
    }

    async fn kept_or_made(
        self: &Arc<Self>,
        same: &Same,
        event: Event,
        body: Bytes,
        window: Duration,
    ) -> Told {
        if let Some(kept) = self.once_kept.answer(same, &event, self.config.clock.now()).await? {
            return Ok(again(&Arc::new(kept)));
        }
        let until = Timestamp::from_millis((self.config.clock.now() + window).as_millis());
        self.once_kept.claim(same, until).await?;
        self.sweep_keys();
        let made = self.make(event, body).await;
        let lasting = made.as_ref().ok().filter(|answer| is_lasting(answer));
        self.once_kept.end(same, until, lasting.map(AsRef::as_ref)).await;
        made
    }

    /// Sees to it that keys are forgotten in time. Runs while there are any, then ends.
    pub(crate) fn sweep_keys(self: &Arc<Self>) {
        if self.once_kept.is_empty() || !self.once_kept.begin_sweeping() {
            return;
        }
        let events = Arc::clone(self);
        self.tasks.spawn(async move {
            while events.stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
                if let Err(error) = events.once_kept.sweep(events.config.clock.now()).await {
                    tracing::error!(error = &error as &dyn std::error::Error, "old keys are not forgotten");
                }
                if events.once_kept.ends_sweeping() {
                    break;
                }
            }
        });
    }

    async fn make(&self, event: Event, body: Bytes) -> Told {
        let request = deliver::request(&event, 1, body).map_err(|error| {
            Refusal::new(Code::BadRequest, format!("the call cannot be passed on: {error}"))
        })?;
        match self.gateways.call(&request, read).await {
            Ok(answer) => answer.map(Arc::new),
            Err(wire::Error::Connect { .. }) => Err(Refusal::new(
                Code::NodeUnavailable,
                "the process that runs functions is not there at the moment",
            )
            .hint("send it again with the same key")
            .retry_after(Duration::from_secs(1))),
            Err(error) => Err(broken_off(&error.to_string())),
        }
    }
}

/// The answer as a repeat gets it: it costs nothing, and says so.
fn again(answer: &Arc<OnceAnswer>) -> Arc<OnceAnswer> {
    let head = OnceHead { again: true, ..answer.head.clone() };
    Arc::new(OnceAnswer { head, body: answer.body.clone() })
}

/// Whether an answer is given to repeats: a failure is not, for it is what repeats are for.
fn is_lasting(answer: &OnceAnswer) -> bool {
    let failed = answer.head.headers.iter().any(|(name, _)| name == ERROR_HEADER);
    answer.head.status < 500 && !failed
}

fn broken_off(why: &str) -> Refusal {
    Refusal::new(Code::NodeUnavailable, format!("the call broke off: {why}"))
        .hint("whether the function ran is not known; a repeat with the same key runs it again")
}

async fn read(answer: Response<Answer>) -> Result<Result<OnceAnswer, Refusal>, wire::Error> {
    let (head, mut body) = answer.into_parts();
    let (mut bytes, mut headers) = (BytesMut::new(), head.headers);
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) if bytes.len() + data.len() > ANSWER_BYTES_MAX => {
                let what = format!(
                    "the answer to a call with an idempotency key has more than {} KiB",
                    ANSWER_BYTES_MAX >> 10
                );
                let hint = "store what is large as an object, and answer with its name";
                return Ok(Err(Refusal::new(Code::ResponseTooLarge, what).hint(hint)));
            }
            Ok(data) => bytes.extend_from_slice(&data),
            // What is known once the code has ended.
            Err(frame) => headers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    let headers = headers.iter().map(|(name, value)| (name.to_string(), latin1(value.as_bytes()))).collect();
    let head = OnceHead { status: head.status.as_u16(), headers, again: false };
    Ok(Ok(OnceAnswer { head, body: bytes.into() }))
}
