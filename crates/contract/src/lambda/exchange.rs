//! Where the two sides of one instance meet: the worker puts calls in, the Runtime API hands them to the code and
//! gives back what the code posts.
//!
//! ```text
//!  starting ──/next──▶ waiting ──call──▶ running ──/response, /error──▶ answered ──/next──▶ waiting
//! ```
//!
//! Code that takes several calls at once goes around this circle once for each, side by side.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use rouse_types::{InvocationId, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::{
    api::extension::Names,
    body::{Body, Piece},
    extensions::Extensions,
};
use crate::lock;

/// One invocation, as the code is to see it.
#[derive(Debug, Clone)]
pub struct Call {
    /// The request id.
    pub id: InvocationId,
    /// The event.
    pub payload: Bytes,
    /// When it must have answered, by the wall clock: the code asks how much time is left.
    pub deadline: Timestamp,
    /// The same as a duration from now: what is enforced.
    pub timeout: std::time::Duration,
    /// The trace, as X-Ray writes it: see [`super::environment::xray`].
    pub trace: String,
    /// What a mobile client says about itself, as JSON: `X-Amz-Client-Context`, decoded.
    pub client_context: Option<String>,
    /// The name that it was called by; the version's own when there is none.
    pub arn: Option<String>,
    /// Who called through Amazon Cognito, as JSON.
    pub cognito_identity: Option<String>,
    /// For which of the function's own tenants it is: `X-Amz-Tenant-Id`.
    pub tenant_id: Option<String>,
    /// Bytes of log lines that it may write.
    pub log_bytes: u64,
}

/// What the code said went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuntimeError {
    /// `errorType`, such as `ValueError`.
    pub error_type: String,
    /// `errorMessage`.
    pub message: String,
    /// What was posted, as it came.
    pub posted: Bytes,
}

impl RuntimeError {
    /// Reads the body of `/error` (`errorMessage`, `errorType`, `stackTrace`); the header's type stands in
    /// for a body that is none. Both texts are cut to a length fit for a message.
    pub(crate) fn read(header: Option<&str>, posted: &[u8]) -> Self {
        #[derive(serde::Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Body {
            error_type: Option<String>,
            error_message: Option<String>,
        }
        const CHARS_MAX: usize = 1_000;
        // What is no JSON is the message itself.
        let body: Body = serde_json::from_slice(posted).unwrap_or_else(|_| Body {
            error_type: None,
            error_message: String::from_utf8(posted.to_vec()).ok(),
        });
        let cut = |text: String| text.chars().take(CHARS_MAX).collect();
        let error_type = body.error_type.or_else(|| header.map(str::to_owned));
        Self {
            error_type: cut(error_type.unwrap_or_else(|| "Error".into())),
            message: cut(body.error_message.unwrap_or_default()),
            posted: Bytes::copy_from_slice(posted),
        }
    }
}

/// What the code posted for a call.
#[derive(Debug)]
pub enum Answer {
    /// A whole answer.
    Whole(Bytes),
    /// An answer whose body follows.
    Streamed {
        /// The content type that the code sent with it.
        content_type: Option<String>,
        /// The rest.
        body: Body,
    },
    /// The handler raised.
    Error(RuntimeError),
    /// The answer was larger than this many bytes.
    TooLarge(u64),
}

/// How a streamed answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEnd {
    /// The code ended it.
    Complete,
    /// The code said, in the trailers, that it failed midway.
    Error(RuntimeError),
    /// The connection broke before its end.
    Broken,
    /// It became larger than this many bytes.
    TooLarge(u64),
}

/// Between the API and the worker: an answer, with the rest of it when it is streamed.
#[derive(Debug)]
pub(crate) enum Posted {
    Whole(Bytes),
    Error(RuntimeError),
    TooLarge(u64),
    Stream { content_type: Option<String>, pieces: mpsc::Receiver<Piece> },
}

#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) call: Call,
    pub(crate) posted: oneshot::Sender<Posted>,
}

/// How the code's start went.
#[derive(Debug)]
pub(crate) enum Init {
    Ready,
    Error(RuntimeError),
}

/// Why a post is refused: AWS' words and statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// 400: no such invocation runs here.
    RequestId,
    /// 403: not now.
    State,
}

/// A call that the code has taken.
#[derive(Debug)]
struct Taken {
    id: InvocationId,
    /// The right to answer, until it was used.
    posted: Option<oneshot::Sender<Posted>>,
}

#[derive(Debug)]
pub(crate) struct Exchange {
    /// Oldest first. Some that were answered are kept, so that a second answer is told from one for a call that
    /// never was; see [`Exchange::next`].
    taken: Mutex<VecDeque<Taken>>,
    init: Mutex<Option<oneshot::Sender<Init>>>,
    work: tokio::sync::Mutex<mpsc::Receiver<Work>>,
    pub(crate) arn: String,
    pub(crate) names: Names,
    pub(crate) response_bytes_max: u64,
    /// Calls at once.
    pub(crate) concurrency: usize,
    pub(crate) extensions: Arc<Extensions>,
}

impl Exchange {
    pub(crate) fn new(
        (arn, names): (String, Names),
        response_bytes_max: u64,
        concurrency: usize,
        extensions: Arc<Extensions>,
        (work, init): (mpsc::Receiver<Work>, oneshot::Sender<Init>),
    ) -> Self {
        Self {
            taken: Mutex::default(),
            init: Mutex::new(Some(init)),
            work: tokio::sync::Mutex::new(work),
            arn,
            names,
            response_bytes_max,
            concurrency,
            extensions,
        }
    }

    /// The code asks for work: waits for it.
    pub(crate) async fn next(&self) -> Result<Call, Wrong> {
        let running = lock(&self.taken).iter().filter(|taken| taken.posted.is_some()).count();
        if running >= self.concurrency {
            return Err(Wrong::State);
        }
        if let Some(init) = lock(&self.init).take() {
            drop(init.send(Init::Ready));
        }
        // Several askers wait in turn. Dropping this future, when the asker goes away, loses no work: nothing is
        // awaited after it was received.
        let work = {
            let mut queue = self.work.lock().await;
            loop {
                let work = queue.recv().await.ok_or(Wrong::State)?;
                // Not if nobody waits for it any more.
                if !work.posted.is_closed() {
                    break work;
                }
            }
        };
        let mut taken = lock(&self.taken);
        // Another attempt of an event has the id of the one before: its answer is none to that one.
        taken.retain(|taken| taken.id != work.call.id || taken.posted.is_some());
        // Room for as many answered calls as may run: the code that asks again forgets its call of before.
        while taken.len() > self.concurrency {
            let Some(answered) = taken.iter().position(|taken| taken.posted.is_none()) else { break };
            taken.remove(answered);
        }
        taken.push_back(Taken { id: work.call.id, posted: Some(work.posted) });
        Ok(work.call)
    }

    /// Whether an answer for this id would be taken now.
    pub(crate) fn check(&self, id: &str) -> Result<(), Wrong> {
        let mut taken = lock(&self.taken);
        find(&mut taken, id)?.posted.as_ref().map(|_| ()).ok_or(Wrong::State)
    }

    /// The right to answer, once.
    pub(crate) fn take(&self, id: &str) -> Result<oneshot::Sender<Posted>, Wrong> {
        find(&mut lock(&self.taken), id)?.posted.take().ok_or(Wrong::State)
    }

    /// Gives the right to answer back.
    pub(crate) fn put_back(&self, id: &str, posted: oneshot::Sender<Posted>) {
        if let Ok(taken) = find(&mut lock(&self.taken), id) {
            taken.posted.get_or_insert(posted);
        }
    }

    pub(crate) fn init_error(&self, error: RuntimeError) -> Result<(), Wrong> {
        let init = lock(&self.init).take().ok_or(Wrong::State)?;
        drop(init.send(Init::Error(error)));
        Ok(())
    }
}

fn find<'a>(taken: &'a mut VecDeque<Taken>, id: &str) -> Result<&'a mut Taken, Wrong> {
    let id: InvocationId = id.parse().map_err(|_| Wrong::RequestId)?;
    taken.iter_mut().find(|taken| taken.id == id).ok_or(Wrong::RequestId)
}
