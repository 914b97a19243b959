//! The outbox: what happened to objects, in order, until someone has taken note of it.
//!
//! An event is written in the transaction of what it is about. Its number is given before that transaction, and
//! transactions end in any order: so what is shown ends before the first number whose transaction is under way.
//! Otherwise a reader could take note of 7 while 6 is not there yet, and never see 6.
//!
//! ```text
//!  done │ pending, shown │ under way or behind such a one │ not given yet
//! ```

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rouse_store::{
    Records,
    records::{Expect, PAGE_MAX, Write},
};
use rouse_types::ObjectEvent;
use tokio::sync::watch;

use super::{Error, record};

const EVENTS: &str = "object-events";
const DONE: &str = "object-events-done";
const DONE_KEY: &str = "up-to";
/// The first step of looking for the last event: as many as may be pending by default.
const FIRST_STEP: u64 = 1 << 20;

/// The outbox of a service of objects. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    records: Records,
    max: u64,
    numbers: Mutex<Numbers>,
    shown: watch::Sender<u64>,
}

#[derive(Debug)]
struct Numbers {
    done: u64,
    next: u64,
    under_way: BTreeSet<u64>,
}

impl Numbers {
    /// The last number that may be shown: none before it is under way.
    fn shown(&self) -> u64 {
        self.under_way.first().unwrap_or(&self.next) - 1
    }
}

/// A number whose transaction is under way, until dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    outbox: Outbox,
    pub(super) sequence: u64,
}

impl Outbox {
    pub(super) async fn open(records: Records, max: u64) -> Result<Self, Error> {
        let done = match records.get(DONE, DONE_KEY).await? {
            Some(found) => record::read(&found)?,
            None => 0,
        };
        let (mut last, mut step): (u64, u64) = (done, FIRST_STEP);
        while step > 0 {
            let page = records.scan(EVENTS, "", Some(&key(last.saturating_add(step - 1))), 1).await?;
            match page.records.first().and_then(|found| found.key.parse().ok()) {
                Some(found) => last = found,
                None => step /= 2,
            }
        }
        let numbers = Numbers { done, next: last + 1, under_way: BTreeSet::new() };
        let shown = watch::Sender::new(numbers.shown());
        Ok(Self(Arc::new(Inner { records, max, numbers: Mutex::new(numbers), shown })))
    }

    /// Up to `limit` events after this number, in order; `limit` is cut to [`PAGE_MAX`]. Zero is before the first.
    ///
    /// # Errors
    /// What the store says.
    pub async fn pending(&self, after: u64, limit: usize) -> Result<Vec<ObjectEvent>, Error> {
        let shown = self.numbers().shown();
        let page = self.0.records.scan(EVENTS, "", Some(&key(after)), limit.min(PAGE_MAX)).await?;
        let mut events = Vec::with_capacity(page.records.len());
        for found in &page.records {
            let event: ObjectEvent = record::read(found)?;
            if event.sequence > shown {
                break;
            }
            events.push(event);
        }
        Ok(events)
    }

    /// Forgets all events up to this number, which were taken care of. Numbers that were not shown yet are not
    /// forgotten.
    ///
    /// # Errors
    /// What the store says. What was forgotten before stays so.
    pub async fn done(&self, up_to: u64) -> Result<(), Error> {
        let up_to = up_to.min(self.numbers().shown());
        loop {
            let page = self.0.records.scan(EVENTS, "", None, PAGE_MAX).await?;
            let number = |key: &str| key.parse::<u64>().ok();
            let past: Vec<&str> = page.records.iter().map(|found| &*found.key).collect();
            let past: Vec<&str> = past
                .into_iter()
                .take_while(|key| number(key).is_some_and(|number| number <= up_to))
                .collect();
            let last = past.len() < page.records.len() || page.next.is_none();
            let reached = if last { up_to } else { past.last().and_then(|key| number(key)).unwrap_or(up_to) };
            if reached <= self.numbers().done {
                return Ok(());
            }
            let mut writes = vec![record::write(DONE, DONE_KEY, Expect::Any, Some(&reached))?];
            writes.extend(past.iter().map(|key| record::delete(EVENTS, *key, Expect::Any)));
            self.0.records.commit(writes).await?;
            let mut numbers = self.numbers();
            numbers.done = numbers.done.max(reached);
            if last {
                return Ok(());
            }
        }
    }

    /// Holds the number of the last event that is shown: changes when there are new ones.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.shown.subscribe()
    }

    /// How many events wait at most: the numbers that were given and are not done.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let numbers = self.numbers();
        numbers.next - 1 - numbers.done
    }

    /// Refuses early what [`Self::ticket`] would refuse after the bytes have come.
    pub(super) fn check(&self) -> Result<(), Error> {
        let waiting = self.waiting();
        if waiting >= self.0.max { Err(Error::OutboxFull(waiting)) } else { Ok(()) }
    }

    /// Takes the next number, for a transaction that is about to be made.
    pub(super) fn ticket(&self) -> Result<Ticket, Error> {
        let mut numbers = self.numbers();
        let waiting = numbers.next - 1 - numbers.done;
        if waiting >= self.0.max {
            return Err(Error::OutboxFull(waiting));
        }
        let sequence = numbers.next;
        numbers.next += 1;
        numbers.under_way.insert(sequence);
        drop(numbers);
        Ok(Ticket { outbox: self.clone(), sequence })
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The write of this event.
    pub(super) fn write(&self, event: &ObjectEvent) -> Result<Write, Error> {
        record::write(EVENTS, key(self.sequence), Expect::Absent, Some(event))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let shown = {
            let mut numbers = self.outbox.numbers();
            numbers.under_way.remove(&self.sequence);
            numbers.shown()
        };
        self.outbox.0.shown.send_if_modified(|last| {
            let grown = shown > *last;
            *last = shown.max(*last);
            grown
        });
    }
}

fn key(sequence: u64) -> String {
    format!("{sequence:020}")
}
