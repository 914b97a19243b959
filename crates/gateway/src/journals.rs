//! Where this gateway writes what calls came to and what they printed.

use std::{path::Path, sync::Arc};

use rouse_store::journal::{Appender, Error, Options};
use rouse_types::{Clock, LogLine, Usage};

/// The journals of one process.
#[derive(Debug)]
pub(crate) struct Journals {
    usage: Option<Appender>,
    log: Appender,
}

impl Journals {
    pub(crate) fn open(state: &Path, writer: &str, metering: bool) -> Result<Arc<Self>, Error> {
        let open = |what: &str| Appender::open(&state.join("journal").join(what), Options::new(writer));
        let usage = if metering { Some(open("usage")?) } else { None };
        Ok(Arc::new(Self { usage, log: open("log")? }))
    }

    /// Records one invocation. A full disk does not stop calls: what could not be written is counted.
    pub(crate) fn usage(&self, usage: &Usage) {
        let Some(journal) = &self.usage else { return };
        match usage.write(&mut [0; Usage::BYTES_MAX]) {
            Ok(payload) => journal.append(usage.started, payload),
            Err(error) => journal.lose(&error),
        }
    }

    /// Records one line that a function printed.
    pub(crate) fn log(&self, line: &LogLine) {
        self.log.append(line.time, &line.to_bytes());
    }

    /// Records that could not be written since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.usage.as_ref().map_or(0, Appender::lost) + self.log.lost()
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
            text: version.masked(text).into_owned(),
        });
    })
}
