//! Where this gateway writes what calls came to and what they printed.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rouse_store::journal::{Options, Writer};
use rouse_types::{Clock, LogLine, Usage};

/// The journals of one process, and how many records they could not take.
#[derive(Debug)]
pub(crate) struct Journals {
    usage: Option<Mutex<Writer>>,
    log: Mutex<Writer>,
    lost: AtomicU64,
}

impl Journals {
    pub(crate) fn open(
        state: &Path,
        writer: &str,
        metering: bool,
    ) -> Result<Arc<Self>, rouse_store::journal::Error> {
        let open = |kind: &str| Writer::open(&state.join("journal").join(kind), Options::new(writer));
        let usage = if metering { Some(Mutex::new(open("usage")?)) } else { None };
        Ok(Arc::new(Self { usage, log: Mutex::new(open("log")?), lost: AtomicU64::new(0) }))
    }

    /// Records one invocation. A full disk does not stop calls: what could not be written is counted.
    pub(crate) fn usage(&self, usage: &Usage) {
        let Some(writer) = &self.usage else { return };
        // Three names of 63 bytes and a dozen numbers of at most 10 bytes each.
        let mut buffer = [0; 512];
        match postcard::to_slice(usage, &mut buffer) {
            Ok(payload) => self.append(writer, usage.started, payload),
            Err(error) => self.count(&error),
        }
    }

    /// Records one line that a function printed.
    pub(crate) fn log(&self, line: &LogLine) {
        match postcard::to_stdvec(line) {
            Ok(payload) => self.append(&self.log, line.time, &payload),
            Err(error) => self.count(&error),
        }
    }

    fn append(&self, writer: &Mutex<Writer>, time: rouse_types::Timestamp, payload: &[u8]) {
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writer.append(time, payload) {
            self.count(&error);
        }
    }

    fn count(&self, error: &dyn std::error::Error) {
        // The first of each thousand is logged: a full disk must not fill the log too.
        if self.lost.fetch_add(1, Ordering::Relaxed).is_multiple_of(1_000) {
            tracing::error!(%error, "a journal record was lost");
        }
    }

    /// Records that could not be written since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Writes the log lines of one call: what it needs to make a [`LogLine`] of a text.
pub(crate) fn sink(
    journals: &Arc<Journals>,
    clock: &Arc<dyn Clock>,
    version: &rouse_types::function::SharedVersion,
    id: rouse_types::InvocationId,
) -> rouse_wasm::LogSink {
    let (journals, clock, version) = (Arc::clone(journals), Arc::clone(clock), Arc::clone(version));
    Arc::new(move |stream, text: &str| {
        journals.log(&LogLine {
            time: clock.now(),
            tenant: version.tenant.clone(),
            function: version.function.clone(),
            version: version.number,
            invocation: Some(id),
            stream,
            text: text.to_owned(),
        });
    })
}
