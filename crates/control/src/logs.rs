//! Logs: the lines that gateways and the node journal, filtered, in the order of their time, and followed.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use rouse_api::LogsQuery;
use rouse_store::journal::{Cursor, Reader};
use rouse_types::{Code, LogLine, Refusal, TenantId, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{body::Lines, cluster, state};

/// How often a follower looks for new lines.
const POLL: Duration = Duration::from_millis(200);
/// Lines when none are asked for.
const LINES_DEFAULT: u32 = 1_000;
/// Lines at most.
const LINES_MAX: u32 = 100_000;
/// Bytes of all lines that are held to be sorted.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Records of one read.
const BATCH: usize = 10_000;

/// Which lines.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    tenant: TenantId,
    query: LogsQuery,
}

impl Filter {
    pub(crate) fn new(tenant: TenantId, query: LogsQuery) -> Result<Self, Refusal> {
        if query.limit.is_some_and(|limit| limit > LINES_MAX) {
            return Err(Refusal::new(Code::BadRequest, format!("limit is over {LINES_MAX}"))
                .hint("ask for less at a time, with since"));
        }
        Ok(Self { tenant, query })
    }

    fn takes(&self, line: &LogLine) -> bool {
        let LogsQuery { function, invocation, since, .. } = &self.query;
        line.tenant == self.tenant
            && function.as_ref().is_none_or(|function| line.function == *function)
            && invocation.is_none_or(|id| line.invocation == Some(id))
            && since.is_none_or(|since| line.time >= since)
    }

    fn times(&self) -> Range<Timestamp> {
        self.query.since.unwrap_or_default()..Timestamp(u64::MAX)
    }
}

/// The newest lines, by their time. Older ones make room when there are too many, or too large ones.
#[derive(Debug)]
struct Newest {
    lines: BTreeMap<(Timestamp, u64), LogLine>,
    count: u64,
    bytes: usize,
    lines_max: usize,
}

impl Newest {
    fn new(lines_max: usize) -> Self {
        Self { lines: BTreeMap::new(), count: 0, bytes: 0, lines_max }
    }

    fn add(&mut self, line: LogLine) {
        self.bytes += line.text.len();
        self.lines.insert((line.time, self.count), line);
        self.count += 1;
        while self.lines.len() > self.lines_max || (self.bytes > HELD_BYTES_MAX && self.lines.len() > 1) {
            let Some((_, oldest)) = self.lines.pop_first() else { break };
            self.bytes -= oldest.text.len();
        }
    }
}

/// Reads on from readers to the end of what there is. Blocks.
fn read(readers: &mut [Reader], filter: &Filter, lines_max: usize) -> Result<Newest, Refusal> {
    let mut newest = Newest::new(lines_max);
    for reader in readers {
        read_one(reader, filter, &mut newest)?;
    }
    Ok(newest)
}

fn read_one(reader: &mut Reader, filter: &Filter, newest: &mut Newest) -> Result<(), Refusal> {
    loop {
        let batch = reader.read(BATCH).map_err(|error| {
            tracing::error!(%error, "the log's journal cannot be read");
            Refusal::new(Code::Internal, "the log cannot be read").hint("look into the platform's log")
        })?;
        for record in batch.records {
            // A line of another release that this one cannot read is passed over.
            match LogLine::read(&record.payload) {
                Ok(line) if filter.takes(&line) => newest.add(line),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, writer = %record.writer, "a log line cannot be read"),
            }
        }
        if batch.caught_up {
            return Ok(());
        }
    }
}

/// The journals of this node, and of the others of its cluster.
type Readers = [Reader; 2];

/// Reads in a thread that may block, and gives the readers back.
async fn read_on(
    mut readers: Readers,
    filter: Filter,
    lines_max: usize,
) -> Result<(Readers, Newest), Refusal> {
    let done = tokio::task::spawn_blocking(move || {
        let newest = read(&mut readers, &filter, lines_max)?;
        Ok((readers, newest))
    });
    done.await.unwrap_or_else(|error| Err(state::io_refusal("read the log", &std::io::Error::other(error))))
}

/// The place of the journal.
pub(crate) fn journal(state: &Path) -> PathBuf {
    state.join("journal").join("log")
}

/// Sends what there is, and, if asked to, what comes, until no one listens any more or the server stops.
pub(crate) async fn run(state: PathBuf, filter: Filter, mut to: Lines<LogLine>, stop: CancellationToken) {
    let mut readers = [journal(&state), cluster::logs::of_others(&state)]
        .map(|journal| Reader::open(&journal, Cursor::default()).between(filter.times()));
    let mut lines_max = filter.query.limit.unwrap_or(LINES_DEFAULT) as usize;
    loop {
        let newest = match read_on(readers, filter.clone(), lines_max).await {
            Ok((again, newest)) => {
                readers = again;
                newest
            }
            // It is in the log; a stream that ends tells the client enough.
            Err(_) => return,
        };
        for line in newest.lines.values() {
            if !to.send(line).await {
                return;
            }
        }
        if !filter.query.follow || to.is_closed() {
            return;
        }
        // From now on every line counts; what comes within one poll is bounded by bytes.
        lines_max = LINES_MAX as usize;
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = stop.cancelled() => return,
        }
    }
}
