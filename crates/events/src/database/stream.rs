//! Reads a slot: each transaction's changes go to the function's queue, and are confirmed to the database once they are
//! on the disk here.
//!
//! ```text
//!  Data ─▶ Decoder ─▶ wanted? ─▶ batch ─▶ queue ─▶ how far it got (record) ─▶ confirmed to the database
//! ```
//! What a crash makes come again is left out: whole transactions and the beginning of one by the record; the few changes
//! between the queue's write and the record's by their ids.

use std::{sync::Arc, time::Duration};

use rouse_store::{Error as StoreError, Records, queues::NewMessage};
use rouse_triggers::postgres::{Decoder, Lsn, Said};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    connection::{Connection, Copied},
    kept::{KEPT, Kept, write},
    message::Maker,
    prepare::Keys,
    problem::Problem,
};
use crate::dispatch::Events;

/// How often progress is told to the database: what it holds of its log follows from it.
const STATUS: Duration = Duration::from_secs(1);
/// How often it is asked whether it is there. That the machine has gone, the kernel tells by it.
const ASK: Duration = Duration::from_secs(10);
/// After what silence it is not there. Long, since a server reads through a large transaction without a word.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// What is sent to the queue at once.
const BATCH_MESSAGES: usize = 500;
const BATCH_BYTES: usize = 16 << 20;
/// The pause after the store or the queue took nothing.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// One trigger's stream.
pub(super) struct Reading<'a> {
    pub(super) events: &'a Arc<Events>,
    pub(super) records: &'a Records,
    pub(super) maker: &'a Maker,
    pub(super) keys: &'a Keys,
    pub(super) connection: Connection,
    pub(super) kept: Kept,
    /// Told where changes are safe.
    pub(super) safe: &'a (dyn Fn(Lsn) + Send + Sync),
}

/// Where in the stream we are.
#[derive(Debug, Default)]
struct Place {
    /// The place of the commit of the transaction that is being read.
    transaction: Option<u64>,
    /// How many changes of it came.
    changes: u64,
    /// How many of them are in the queue already.
    skip: u64,
    /// The place of the last change, and how many came from there.
    last: Option<(Lsn, u32)>,
    /// What is to be sent.
    batch: Vec<(String, NewMessage)>,
    bytes: usize,
    /// Up to where all is in the batch, or before.
    upto: Lsn,
}

impl Reading<'_> {
    /// Reads until something goes wrong. Whoever drops this loses nothing.
    pub(super) async fn run(mut self, database: &str) -> Problem {
        match self.read(database).await {
            Ok(never) => match never {},
            Err(problem) => problem,
        }
    }

    async fn read(&mut self, database: &str) -> Result<std::convert::Infallible, Problem> {
        let mut decoder = Decoder::new(database);
        let mut place = Place { upto: Lsn(self.kept.upto), ..Place::default() };
        let mut confirmed = place.upto;
        self.tell(confirmed, true).await?;
        let (mut told_upto, mut told) = (confirmed, Instant::now());
        let (mut asked, mut heard) = (told, told);
        loop {
            // Nothing more is there at once: what was gathered goes out. A long transaction goes in parts.
            let full = place.batch.len() >= BATCH_MESSAGES || place.bytes >= BATCH_BYTES;
            if full || (place.upto > confirmed && !self.connection.has_more()) {
                self.flush(&mut place, confirmed).await?;
                if place.upto > confirmed {
                    confirmed = place.upto;
                    (self.safe)(confirmed);
                }
            }
            let due = if confirmed > told_upto { told + STATUS } else { asked + ASK };
            let copied = tokio::select! {
                copied = self.connection.receive() => Some(copied?),
                () = sleep_until(due) => None,
            };
            let mut answer = false;
            match copied {
                Some(Copied::Data(at, data)) => {
                    heard = Instant::now();
                    let said = decoder.read(at, &data)?;
                    self.take(&mut place, at, said);
                }
                Some(Copied::Alive { upto, reply }) => {
                    heard = Instant::now();
                    // All before is here; with nothing under way it is safe, so that an idle slot holds no log.
                    if place.transaction.is_none() && place.batch.is_empty() && upto > place.upto {
                        place.upto = upto;
                        confirmed = upto;
                        (self.safe)(confirmed);
                    }
                    answer = reply;
                }
                None if heard.elapsed() > SILENCE_MAX => {
                    return Err(Problem::new("nothing was heard of the database for five minutes"));
                }
                None => {}
            }
            let ask = asked.elapsed() >= ASK;
            if answer || ask || (confirmed > told_upto && told.elapsed() >= STATUS) {
                self.tell(confirmed, ask).await?;
                (told_upto, told) = (confirmed, Instant::now());
                asked = if ask { told } else { asked };
            }
        }
    }

    async fn tell(&mut self, upto: Lsn, ask: bool) -> Result<(), Problem> {
        let now = self.events.config.clock.now();
        self.connection.status(upto, now, ask).await
    }

    /// Puts what a message said to the batch, less what an earlier life of this process had sent.
    fn take(&self, place: &mut Place, at: Lsn, said: Said) {
        match said {
            Said::Nothing => {}
            Said::Began(commit) => {
                let within = self.kept.within.filter(|(under_way, _)| *under_way == commit.0);
                // A transaction is in the queue as a whole if its commit lies before what was kept.
                let skip =
                    if commit.0 < self.kept.upto { u64::MAX } else { within.map_or(0, |(_, sent)| sent) };
                (place.transaction, place.changes, place.skip) = (Some(commit.0), 0, skip);
            }
            Said::Changes(changes) => {
                let now = self.events.config.clock.now();
                for change in changes {
                    // Many rows of one statement may stand at one place.
                    let index = place.last.filter(|(last, _)| *last == at).map_or(0, |(_, index)| index + 1);
                    place.last = Some((at, index));
                    place.changes += 1;
                    if place.changes <= place.skip {
                        continue;
                    }
                    if !self.maker.wants(&change) {
                        self.events.metrics.accepted("filtered");
                        continue;
                    }
                    let generation = self.kept.generation;
                    let message = self.maker.message(change, at, index, generation, self.keys, now);
                    place.bytes += message.1.payload.len();
                    place.batch.push(message);
                }
            }
            Said::Committed(end) => {
                place.transaction = None;
                place.last = None;
                place.upto = place.upto.max(end);
            }
        }
    }

    /// Sends what was gathered, and notes how far it got. Waits as long as the store takes nothing.
    async fn flush(&mut self, place: &mut Place, confirmed: Lsn) -> Result<(), Problem> {
        if place.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut place.batch);
        place.bytes = 0;
        // One statement may empty more tables than are sent at once.
        for part in batch.chunks(BATCH_MESSAGES) {
            loop {
                match self.events.send(part.to_vec()).await {
                    Ok(_) => break,
                    // Nothing of it was taken, and nothing is confirmed: the database holds it for us.
                    Err(error @ (StoreError::TooDeep { .. } | StoreError::Full(_))) => {
                        tracing::warn!(trigger = self.kept.of.key(), %error, "changes of a database wait");
                        sleep(STORE_PAUSE).await;
                        self.tell(confirmed, false).await?;
                    }
                    Err(error) => return Err(store(&error)),
                }
            }
            part.iter().for_each(|_| self.events.metrics.accepted("changed"));
        }
        self.kept.upto = self.kept.upto.max(place.upto.0);
        self.kept.within = place.transaction.map(|commit| (commit, place.changes));
        let note = write(KEPT, &self.kept.slot, Some(&self.kept));
        self.records.commit(vec![note]).await.map_err(|error| store(&error))?;
        Ok(())
    }
}

/// The store failed.
pub(super) fn store(error: &StoreError) -> Problem {
    Problem::new(format!("the platform's own store failed: {error}")).hint("look into the platform's log")
}
