//! What goes wrong with an instance, and how it is told.

use std::time::Duration;

use rouse_sandbox::{Exit, Stats};

use super::RuntimeError;
use crate::exit::{describe, last_words};

/// Why an instance did not get ready.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The sandbox could not be made: nothing of the code ran.
    #[error(transparent)]
    Sandbox(#[from] rouse_sandbox::Error),
    /// The code did not ask for work in time.
    #[error("{} did not ask for work within {} ms{}", subject(extensions), after.as_millis(), last_words(tail))]
    Timeout {
        /// The time that it had.
        after: Duration,
        /// Its extensions that had not asked for their first event either.
        extensions: Vec<String>,
        /// The last lines of its standard error.
        tail: Vec<String>,
    },
    /// The code said that it cannot start.
    #[error("{}: {}{}", error.error_type, error.message, last_words(tail))]
    Init {
        /// What it said.
        error: RuntimeError,
        /// The last lines of its standard error.
        tail: Vec<String>,
    },
    /// The code ended.
    #[error("{} before it asked for work{}", describe(*exit), last_words(tail))]
    Exited {
        /// How.
        exit: Exit,
        /// The last lines of its standard error.
        tail: Vec<String>,
    },
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

/// Why a call got no answer. The worker is of no use then and must be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Its time was up.
    #[error("it ran over its time")]
    Timeout,
    /// The code ended.
    #[error("{}", describe(*.0))]
    Exited(Exit),
}

fn subject(extensions: &[String]) -> String {
    match extensions {
        [] => "it".into(),
        _ => format!("it, or its extension {},", extensions.join(", ")),
    }
}
