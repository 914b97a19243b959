//! Extensions: what runs beside the handler and is told of each call and of the end.
//!
//! ```text
//!  registered ──/event/next──▶ waiting ──INVOKE──▶ at work ──/event/next──▶ waiting … ──SHUTDOWN──▶ last work
//! ```
//!
//! An external one is a program of its own, launched beside the function ([`super::launch`]); an internal one is a
//! part of the runtime's process, and is not told of the end. Source: AWS Lambda Developer Guide, "Using the Lambda
//! Extensions API".

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use rouse_types::{InvocationId, log::Stream};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout_at},
};

use super::{Call, Failure, RuntimeError};
use crate::{Line, LogSink, lock};

/// Extensions of one function, internal ones too: AWS' number.
pub(crate) const COUNT_MAX: usize = 10;

/// AWS' word for what comes at a wrong time.
const STATE: &str = "Extension.InvalidExtensionState";

/// What an extension is told.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Invoke { id: InvocationId, deadline_ms: u64, trace: String },
    Shutdown { reason: &'static str, deadline_ms: u64 },
}

/// Why an extension's request is refused: AWS' words, with 400 for what is wrong and 403 for what comes at a wrong
/// time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) message: &'static str,
}

impl Denied {
    pub(crate) const fn wrong(kind: &'static str, message: &'static str) -> Self {
        Self { status: 400, kind, message }
    }

    const fn not_now(kind: &'static str, message: &'static str) -> Self {
        Self { status: 403, kind, message }
    }
}

#[derive(Debug)]
struct Extension {
    id: String,
    name: String,
    invoke: bool,
    shutdown: bool,
    /// It waits for its next event, or has none that it was not given.
    asked: bool,
    /// It said that it ends.
    gone: bool,
    events: VecDeque<Event>,
    wake: Arc<Notify>,
}

impl Extension {
    fn tell(&mut self, event: Event) {
        // One call at a time, and one end: an extension that does not ask is not sent another.
        self.events.push_back(event);
        self.asked = false;
        self.wake.notify_one();
    }

    fn is_at_work(&self) -> bool {
        !self.asked && !self.gone
    }
}

#[derive(Debug)]
struct State {
    /// External ones that were launched.
    launched: Vec<String>,
    registered: Vec<Extension>,
    /// Until the first call.
    may_register: bool,
    failed: Option<RuntimeError>,
    /// Of the call that runs.
    deadline: Option<Instant>,
}

/// All extensions of one instance.
pub(crate) struct Extensions {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Several calls run at once: then none can be told of one.
    several: bool,
    log: LogSink,
}

impl std::fmt::Debug for Extensions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extensions").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Extensions {
    pub(crate) fn new(launched: Vec<String>, several: bool, log: LogSink) -> Self {
        let state =
            State { launched, registered: Vec::new(), may_register: true, failed: None, deadline: None };
        Self { state: Mutex::new(state), changed: watch::Sender::new(()), several, log }
    }

    /// An extension presents itself, and gets its identifier.
    pub(crate) fn register(&self, name: &str, events: &[String]) -> Result<String, Denied> {
        const EVENT: &str = "Extension.InvalidEventType";
        let (mut invoke, mut shutdown) = (false, false);
        for event in events {
            match event.as_str() {
                "INVOKE" => invoke = true,
                "SHUTDOWN" => shutdown = true,
                _ => return Err(Denied::wrong(EVENT, "events are INVOKE and SHUTDOWN")),
            }
        }
        if invoke && self.several {
            return Err(Denied::wrong(EVENT, "there is no INVOKE where several calls run at once"));
        }
        let mut state = lock(&self.state);
        if shutdown && !state.launched.iter().any(|launched| launched == name) {
            let kind = "ShutdownEventNotSupportedForInternalExtension";
            return Err(Denied::not_now(
                kind,
                "only an external extension, by its file's name, gets SHUTDOWN",
            ));
        }
        if !state.may_register {
            return Err(Denied::not_now(STATE, "extensions register before the first call"));
        }
        if state.registered.iter().any(|one| one.name == name) {
            return Err(Denied::not_now(STATE, "an extension of this name is registered"));
        }
        if state.registered.len() == COUNT_MAX {
            return Err(Denied::not_now("Extension.TooManyExtensions", "there are ten extensions already"));
        }
        let id = InvocationId::new().to_string();
        state.registered.push(Extension {
            id: id.clone(),
            name: name.to_owned(),
            invoke,
            shutdown,
            asked: false,
            gone: false,
            events: VecDeque::new(),
            wake: Arc::default(),
        });
        Ok(id)
    }

    /// An extension asks for its next event: waits for it.
    pub(crate) async fn next(&self, id: &str) -> Result<Event, Denied> {
        loop {
            let wake = {
                let mut state = lock(&self.state);
                let extension = find(&mut state, id)?;
                if let Some(event) = extension.events.pop_front() {
                    return Ok(event);
                }
                extension.asked = true;
                Arc::clone(&extension.wake)
            };
            self.changed.send_replace(());
            wake.notified().await;
        }
    }

    /// Whether this is an extension's identifier.
    pub(crate) fn check(&self, id: &str) -> Result<(), Denied> {
        find(&mut lock(&self.state), id).map(|_| ())
    }

    /// An extension cannot start, or cannot go on. It is heard once.
    pub(crate) fn failed(&self, id: &str, error: RuntimeError) -> Result<(), Denied> {
        let text = {
            let mut state = lock(&self.state);
            let extension = find(&mut state, id)?;
            if std::mem::replace(&mut extension.gone, true) {
                return Err(Denied::not_now(STATE, "this extension has said that it failed"));
            }
            let (name, RuntimeError { error_type, message, .. }) = (&extension.name, &error);
            let text = format!("the extension {name} failed: {error_type}: {message}");
            state.failed.get_or_insert(error);
            text
        };
        self.changed.send_replace(());
        (self.log)(Line { invocation: None, stream: Stream::Platform, text });
        Ok(())
    }

    /// Waits until all are registered and have asked for their first event; gives what one said went wrong.
    pub(crate) async fn ready(&self) -> Result<(), RuntimeError> {
        self.until(|state| match &state.failed {
            Some(error) => Some(Err(error.clone())),
            None => state.missing().next().is_none().then_some(Ok(())),
        })
        .await
    }

    /// Waits until one says that it cannot start.
    pub(crate) async fn failure(&self) -> RuntimeError {
        self.until(|state| state.failed.clone()).await
    }

    /// Those that a start waits for.
    pub(crate) fn missing(&self) -> Vec<String> {
        lock(&self.state).missing().map(str::to_owned).collect()
    }

    /// Tells those that want it of a call.
    pub(crate) fn begin(&self, call: &Call, deadline: Instant) {
        let mut state = lock(&self.state);
        state.may_register = false;
        state.deadline = Some(deadline);
        for extension in state.registered.iter_mut().filter(|one| one.invoke && !one.gone) {
            extension.tell(Event::Invoke {
                id: call.id,
                deadline_ms: call.deadline.as_millis(),
                trace: call.trace.clone(),
            });
        }
    }

    /// Waits until none is at work on the call any more, within the call's time.
    pub(crate) async fn settled(&self) -> Result<(), Failure> {
        let Some(deadline) = lock(&self.state).deadline else { return Ok(()) };
        timeout_at(deadline, self.at_rest()).await.map_err(|_| Failure::Timeout)
    }

    /// Waits until all wait for their next event, or have ended.
    pub(crate) async fn at_rest(&self) {
        self.until(|state| (!state.registered.iter().any(Extension::is_at_work)).then_some(())).await;
    }

    /// Tells those that want it that the instance ends. Says whether there are any.
    pub(crate) fn shut_down(&self, reason: &'static str, deadline_ms: u64) -> bool {
        let mut state = lock(&self.state);
        let mut told = false;
        for extension in state.registered.iter_mut().filter(|one| one.shutdown && !one.gone) {
            extension.tell(Event::Shutdown { reason, deadline_ms });
            told = true;
        }
        told
    }

    async fn until<T>(&self, mut found: impl FnMut(&State) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(found) = found(&lock(&self.state)) {
                return found;
            }
            // Who tells is `self`, so it cannot be gone.
            drop(changed.changed().await);
        }
    }
}

impl State {
    fn missing(&self) -> impl Iterator<Item = &str> {
        let silent = self.registered.iter().filter(|one| one.is_at_work()).map(|one| one.name.as_str());
        let registered = |name: &str| self.registered.iter().any(|one| one.name == name);
        self.launched.iter().map(String::as_str).filter(move |name| !registered(name)).chain(silent)
    }
}

fn find<'a>(state: &'a mut State, id: &str) -> Result<&'a mut Extension, Denied> {
    let found = state.registered.iter_mut().find(|one| one.id == id);
    found.ok_or(Denied::not_now("Extension.UnknownExtensionIdentifier", "no extension has this identifier"))
}
