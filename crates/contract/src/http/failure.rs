//! What goes wrong with a server, and how it is told.

use std::time::Duration;

use rouse_sandbox::{Exit, Stats};

use super::PORT;
use crate::exit::{describe, last_words};

/// Why a server did not get ready.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The sandbox could not be made: nothing of the code ran.
    #[error(transparent)]
    Sandbox(#[from] rouse_sandbox::Error),
    /// Its port did not open in time.
    #[error(
        "it did not listen on port {PORT} within {} ms{}{}",
        after.as_millis(), elsewhere(*other), last_words(tail)
    )]
    NotListening {
        /// The time that it had.
        after: Duration,
        /// A port where it does listen.
        other: Option<u16>,
        /// The last lines of its standard error.
        tail: Vec<String>,
    },
    /// Its port opened, but its health path did not answer 2xx in time.
    #[error("GET {path} did not answer 2xx within {} ms: {last}{}", after.as_millis(), last_words(tail))]
    Unhealthy {
        /// The health path.
        path: String,
        /// The time that it had.
        after: Duration,
        /// What came of the last try.
        last: String,
        /// The last lines of its standard error.
        tail: Vec<String>,
    },
    /// The code ended.
    #[error("{} before it was ready{}", describe(*exit), last_words(tail))]
    Exited {
        /// How.
        exit: Exit,
        /// The last lines of its standard error.
        tail: Vec<String>,
    },
}

impl StartError {
    /// The next step, for whoever wrote the code.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotListening { .. } => Some(
                "listen on 0.0.0.0:$PORT or 127.0.0.1:$PORT; if it only is slow, give it more time or memory"
                    .into(),
            ),
            Self::Unhealthy { path, .. } => {
                Some(format!("answer GET {path} with 200 once the server is ready, or leave `health` out"))
            }
            Self::Sandbox(_) | Self::Exited { .. } => None,
        }
    }

    pub(crate) fn with_tail(mut self, last_words: Vec<String>) -> Self {
        match &mut self {
            Self::Sandbox(_) => {}
            Self::NotListening { tail, .. } | Self::Unhealthy { tail, .. } | Self::Exited { tail, .. } => {
                *tail = last_words;
            }
        }
        self
    }
}

fn elsewhere(port: Option<u16>) -> String {
    port.map(|port| format!(" (something of it listens on port {port})")).unwrap_or_default()
}

/// A start that failed, and what it cost.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct StartFailed {
    /// Why.
    #[source]
    pub error: StartError,
    /// How long making the sandbox took.
    pub start: Duration,
    /// How long the code ran.
    pub init: Duration,
    /// What it used.
    pub stats: Stats,
}

/// Why a call got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Failure {
    /// Why.
    #[source]
    pub why: Why,
    /// Whether the code may have seen something of the request. If not, another instance can be given it, provided
    /// that nothing was read of its body; if so, only the caller can know whether it may be done twice.
    pub sent: bool,
}

/// See [`Failure`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Its time was up before it began to answer.
    #[error("it ran over its time")]
    Timeout,
    /// The code ended.
    #[error("{}", describe(*.0))]
    Exited(Exit),
    /// The server took no connection.
    #[error("it does not listen on port {PORT} any more")]
    NotListening,
    /// The server closed the connection.
    #[error("it closed the connection without an answer")]
    Closed,
    /// What came back is not HTTP, or more than is taken.
    #[error("its answer is not valid: {0}")]
    Invalid(String),
    /// The answer's announced body is larger than this many bytes.
    #[error("its answer is larger than {0} bytes")]
    TooLarge(u64),
    /// The request's body broke off: the caller's doing.
    #[error("the request's body broke off: {0}")]
    Caller(String),
    /// The host failed.
    #[error("the connection to it could not be made: {0}")]
    Host(String),
}

impl Failure {
    pub(crate) fn sent(why: Why) -> Self {
        Self { why, sent: true }
    }

    pub(crate) fn unsent(why: Why) -> Self {
        Self { why, sent: false }
    }

    /// Whether the instance can take more calls. After a time-out it cannot: the code works on, unseen. Then stop it
    /// once the calls that run beside have ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self.why {
            Why::Timeout | Why::Exited(_) | Why::NotListening | Why::Host(_) => true,
            Why::Closed | Why::Invalid(_) | Why::TooLarge(_) | Why::Caller(_) => false,
        }
    }
}
