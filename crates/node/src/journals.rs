//! Where usage and log lines go: two journals, written without a system call.

use std::{path::Path, sync::Arc};

use rouse_store::journal::{Appender, Error, Options};
use rouse_types::{LogLine, Usage};

/// The name under which a node writes.
const WRITER: &str = "node";

/// The two journals of a node.
#[derive(Debug, Clone)]
pub(crate) struct Journals {
    usage: Arc<Appender>,
    log: Arc<Appender>,
}

impl Journals {
    pub(crate) fn open(state: &Path) -> Result<Self, Error> {
        let open = |what: &str| {
            Appender::open(&state.join("journal").join(what), Options::new(WRITER)).map(Arc::new)
        };
        Ok(Self { usage: open("usage")?, log: open("log")? })
    }

    pub(crate) fn usage(&self, usage: &Usage) {
        match usage.write(&mut [0; Usage::BYTES_MAX]) {
            Ok(payload) => self.usage.append(usage.started, payload),
            Err(error) => self.usage.lose(&error),
        }
    }

    pub(crate) fn log(&self, line: &LogLine) {
        self.log.append(line.time, &line.to_bytes());
    }

    /// Records that could not be written: of usage, of logs.
    pub(crate) fn lost(&self) -> (u64, u64) {
        (self.usage.lost(), self.log.lost())
    }
}
