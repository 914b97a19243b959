//! The keys that were used, on the disk, each with the answer once there is one, until its window is over.
//!
//! Two records for each: the claim or answer under its key, and under the time when it may be forgotten what that key is.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rouse_store::{
    Error, Records,
    records::{Expect, PAGE_MAX, Write},
};
use rouse_types::{Code, Digest, Event, OnceHead, Refusal, Timestamp, framed};
use serde::{Deserialize, Serialize};

use super::{OnceAnswer, Same};
use crate::accept;

const ANSWERS: &str = "once";
const ENDS: &str = "once-ends";
/// What all keys of a tenant may take on the disk, in bytes.
const TENANT_BYTES_MAX: u64 = 1 << 30;
/// What a key without an answer counts for, in bytes.
const KEY_BYTES: u64 = 512;
/// How often an answer is tried to be kept.
const STORE_TRIES: u32 = 10;
const STORE_PAUSE: Duration = Duration::from_millis(200);

/// A key that was used.
#[derive(Debug, Serialize, Deserialize)]
struct Claim {
    request: Digest,
    until: Timestamp,
    /// None until the call has ended, and for ever if the platform died meanwhile.
    answer: Option<OnceHead>,
}

/// A key that may be forgotten.
#[derive(Debug, Serialize, Deserialize)]
struct End {
    key: String,
    bytes: u64,
}

/// The keys that were used.
#[derive(Debug)]
pub(crate) struct Kept {
    records: Records,
    /// By tenant, what they take.
    bytes: Mutex<HashMap<String, u64>>,
    sweeping: AtomicBool,
}

fn end_key(until: Timestamp, key: &str) -> String {
    format!("{:020}/{key}", until.as_millis())
}

fn tenant(key: &str) -> &str {
    key.split('/').next().unwrap_or_default()
}

fn write(namespace: &str, key: String, value: Option<Vec<u8>>) -> Write {
    Write { namespace: namespace.to_owned(), key, expect: Expect::Any, value }
}

impl Kept {
    pub(crate) async fn open(records: Records) -> Result<Self, Error> {
        let (mut bytes, mut after) = (HashMap::<String, u64>::new(), None);
        loop {
            let page = records.scan(ENDS, "", after.as_deref(), PAGE_MAX).await?;
            for end in
                page.records.iter().filter_map(|record| serde_json::from_slice::<End>(&record.value).ok())
            {
                *bytes.entry(tenant(&end.key).to_owned()).or_default() += end.bytes;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(Self { records, bytes: Mutex::new(bytes), sweeping: AtomicBool::new(false) })
    }

    fn bytes(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is kept, so that nothing need be forgotten.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    async fn claimed(&self, key: &str) -> Result<Option<(Claim, Vec<u8>)>, Error> {
        let Some(record) = self.records.get(ANSWERS, key).await? else { return Ok(None) };
        match framed::decode::<Claim>(&record.value) {
            Ok((claim, body)) => Ok(Some((claim, body.to_vec()))),
            Err(error) => {
                tracing::error!(key, %error, "what is kept of an idempotency key cannot be read");
                Ok(None)
            }
        }
    }

    /// The answer that was given to a call with this key.
    pub(super) async fn answer(
        &self,
        same: &Same,
        event: &Event,
        now: Timestamp,
    ) -> Result<Option<OnceAnswer>, Refusal> {
        let claimed = self.claimed(&same.key).await.map_err(|error| accept::store(&error))?;
        let Some((claim, body)) = claimed.filter(|(claim, _)| claim.until > now) else { return Ok(None) };
        same.check(&claim.request, event)?;
        Ok(claim.answer.map(|head| OnceAnswer { head, body: body.into() }))
    }

    /// Notes that a call with this key is about to be made. A disk that is full is found before the code runs.
    pub(super) async fn claim(&self, same: &Same, until: Timestamp) -> Result<(), Refusal> {
        let tenant = tenant(&same.key);
        let taken = self.bytes().get(tenant).copied().unwrap_or_default();
        if taken >= TENANT_BYTES_MAX {
            let what = format!("the answers that are kept for idempotency keys of '{tenant}' have 1 GiB");
            return Err(Refusal::new(Code::TooManyRequests, what)
                .hint("shorten `idempotency` in the function's events, or answer with less")
                .retry_after(Duration::from_secs(60)));
        }
        self.put(same, until, None).await.map_err(|error| accept::store(&error))
    }

    /// Keeps the answer; without one the key is as if it had not been used.
    pub(super) async fn end(&self, same: &Same, until: Timestamp, answer: Option<&OnceAnswer>) {
        for _ in 0..STORE_TRIES {
            let done = match answer {
                Some(answer) => self.put(same, until, Some(answer)).await,
                None => self.forget(&same.key, until).await,
            };
            match done {
                Ok(()) => return,
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the answer to a call with an idempotency key is not kept"
                ),
            }
            tokio::time::sleep(STORE_PAUSE).await;
        }
    }

    async fn put(&self, same: &Same, until: Timestamp, answer: Option<&OnceAnswer>) -> Result<(), Error> {
        let head = answer.map(|answer| answer.head.clone());
        let body = answer.map(|answer| &answer.body[..]).unwrap_or_default();
        let value = framed::encode(&Claim { request: same.request, until, answer: head }, body);
        let key = end_key(until, &same.key);
        let before = self.end_at(&key).await?.map_or(0, |end| end.bytes);
        let end = End { key: same.key.clone(), bytes: KEY_BYTES + value.len() as u64 };
        let ends = serde_json::to_vec(&end).unwrap_or_default();
        let writes = vec![write(ANSWERS, same.key.clone(), Some(value)), write(ENDS, key, Some(ends))];
        self.records.commit(writes).await?;
        self.count(&same.key, before, end.bytes);
        Ok(())
    }

    async fn end_at(&self, key: &str) -> Result<Option<End>, Error> {
        let record = self.records.get(ENDS, key).await?;
        Ok(record.and_then(|record| serde_json::from_slice(&record.value).ok()))
    }

    fn count(&self, key: &str, before: u64, after: u64) {
        let mut bytes = self.bytes();
        let of = bytes.entry(tenant(key).to_owned()).or_default();
        *of = (*of + after).saturating_sub(before);
        if *of == 0 {
            bytes.remove(tenant(key));
        }
    }

    /// Forgets a key, unless it was used anew since.
    async fn forget(&self, key: &str, until: Timestamp) -> Result<(), Error> {
        let at = end_key(until, key);
        let before = self.end_at(&at).await?.map_or(0, |end| end.bytes);
        let mut writes = vec![write(ENDS, at, None)];
        let claimed = self.claimed(key).await?;
        if claimed.is_none_or(|(claim, _)| claim.until <= until) {
            writes.push(write(ANSWERS, key.to_owned(), None));
        }
        self.records.commit(writes).await?;
        self.count(key, before, 0);
        Ok(())
    }

    /// Forgets the keys whose window is over, a page of them.
    pub(super) async fn sweep(&self, now: Timestamp) -> Result<(), Error> {
        let page = self.records.scan(ENDS, "", None, PAGE_MAX).await?;
        for record in page.records {
            let Some((until, key)) = record.key.split_once('/') else { continue };
            let until = Timestamp::from_millis(until.parse().unwrap_or_default());
            if until > now {
                break;
            }
            self.forget(key, until).await?;
        }
        Ok(())
    }

    /// Whether nothing is left to be forgotten, and the caller no longer the one to do it.
    pub(super) fn ends_sweeping(&self) -> bool {
        if !self.is_empty() {
            return false;
        }
        self.sweeping.store(false, Ordering::SeqCst);
        // A key that came in between found one at work.
        self.is_empty() || !self.begin_sweeping()
    }

    /// Whether the caller is the one to sweep from now on.
    pub(super) fn begin_sweeping(&self) -> bool {
        !self.sweeping.swap(true, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use rouse_types::{EventCall, OnceHead};

    use super::*;

    #[tokio::test]
    async fn keys_are_forgotten_when_their_time_is_over_unless_they_were_used_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let records = Records::open(&folder.path().join("records.db")).expect("a store");
        let kept = Kept::open(records.clone()).await.expect("nothing yet");
        let (tenant, function) = ("shop".parse().expect("a name"), "pay".parse().expect("a name"));
        let call = EventCall::Invoke { content_type: None };
        let event = Event::new(&tenant, &function, call, Timestamp(1));
        let same = |n: u64| Same { key: format!("shop/pay/{n}"), request: Digest::of(b"") };
        let at = Timestamp::from_millis;
        let answer = OnceAnswer {
            head: OnceHead { status: 200, headers: Vec::new(), again: false },
            body: b"done"[..].into(),
        };
        for n in 1..=3 {
            kept.claim(&same(n), at(n * 10)).await.expect("claimed");
            kept.end(&same(n), at(n * 10), Some(&answer)).await;
        }
        assert!(!kept.is_empty());
        // The first is used again, and its old end must not take the new answer along.
        kept.claim(&same(1), at(25)).await.expect("claimed");
        kept.end(&same(1), at(25), Some(&answer)).await;
        kept.sweep(at(20)).await.expect("swept");
        let told = async |n| kept.answer(&same(n), &event, at(0)).await.expect("read").is_some();
        assert!(told(1).await && !told(2).await && told(3).await);
        // One that failed leaves nothing; one that never ended is no answer.
        kept.end(&same(3), at(30), None).await;
        kept.claim(&same(4), at(40)).await.expect("claimed");
        assert!(!told(3).await && !told(4).await);

        let again = Kept::open(records).await.expect("read");
        assert_eq!(*again.bytes(), *kept.bytes(), "what is counted is what is there");
        again.sweep(at(40)).await.expect("swept");
        assert!(again.is_empty() && again.begin_sweeping() && again.ends_sweeping());
    }

    #[tokio::test]
    async fn a_tenant_has_only_so_much() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = Kept::open(Records::open(&folder.path().join("records.db")).expect("a store")).await;
        let kept = kept.expect("nothing yet");
        kept.count("shop/pay/1", 0, TENANT_BYTES_MAX);
        let of = |tenant: &str| Same { key: format!("{tenant}/pay/2"), request: Digest::of(b"") };
        let refused = kept.claim(&of("shop"), Timestamp::from_millis(1)).await;
        assert!(refused.is_err_and(|error| error.code == Code::TooManyRequests));
        assert!(kept.claim(&of("other"), Timestamp::from_millis(1)).await.is_ok());
    }
}
