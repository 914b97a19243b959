//! Where usage and log lines go: two journals, written without a system call.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rouse_store::journal::{self, Options, Writer};
use rouse_types::{LogLine, Timestamp, Usage};
use serde::Serialize;

/// The name under which a node writes.
const WRITER: &str = "node";

/// The two journals of a node.
#[derive(Debug, Clone)]
pub(crate) struct Journals {
    usage: Arc<Journal>,
    log: Arc<Journal>,
}

#[derive(Debug)]
struct Journal {
    writer: Mutex<Writer>,
    what: &'static str,
    lost: AtomicU64,
}

impl Journals {
    pub(crate) fn open(state: &Path) -> Result<Self, journal::Error> {
        let open = |what: &'static str| {
            let writer = Writer::open(&state.join("journal").join(what), Options::new(WRITER))?;
            Ok::<_, journal::Error>(Arc::new(Journal {
                writer: Mutex::new(writer),
                what,
                lost: AtomicU64::new(0),
            }))
        };
        Ok(Self { usage: open("usage")?, log: open("log")? })
    }

    pub(crate) fn usage(&self, usage: &Usage) {
        self.usage.append(usage.started, usage);
    }

    pub(crate) fn log(&self, line: &LogLine) {
        self.log.append(line.time, line);
    }

    /// Records that could not be written: of usage, of logs.
    pub(crate) fn lost(&self) -> (u64, u64) {
        (self.usage.lost.load(Ordering::Relaxed), self.log.lost.load(Ordering::Relaxed))
    }
}

impl Journal {
    /// A full disk stops no call; what is lost is counted, and told once for each thousand.
    fn append(&self, time: Timestamp, record: &impl Serialize) {
        let appended = postcard::to_stdvec(record).map_err(|error| error.to_string()).and_then(|payload| {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.append(time, &payload).map_err(|error| error.to_string())
        });
        if let Err(error) = appended
            && self.lost.fetch_add(1, Ordering::Relaxed).is_multiple_of(1_000)
        {
            tracing::error!(%error, journal = self.what, "a record could not be written");
        }
    }
}
