//! The keys of issuers: fetched when a token needs them, kept for a while, fetched again for a key that is new; by
//! strangers' doing never more often than every so often.
//!
//! ```text
//!   none ── fetch ──▶ fresh ── 10 min ──▶ due ── fetch ──▶ fresh
//!                       └─ a key that is not among them: fetch, once in 30 s
//!                                          due, and the issuer is away: as they are, up to an hour
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rouse_identity::{Error, Http, Keys, discovery, token::Head};

use crate::control::Control;

/// How long keys are taken for the issuer's: what a provider withdraws is refused after that.
const FRESH: Duration = Duration::from_secs(600);
/// How long they do when the issuer does not answer.
const STALE: Duration = Duration::from_secs(3_600);
/// How long until a key that is not known is looked for again.
const UNKNOWN_AGAIN: Duration = Duration::from_secs(30);
/// How long until an issuer that did not answer is asked again.
const FAILED_AGAIN: Duration = Duration::from_secs(5);
/// Issuers whose keys are kept: more than an operator configures.
const ISSUERS_MAX: usize = 200;

/// The keys that were fetched.
#[derive(Debug, Default)]
pub(crate) struct Issuers(Mutex<HashMap<String, Entry>>);

#[derive(Debug, Clone)]
struct Entry {
    /// The keys, and since when.
    keys: Option<(Arc<Keys>, Instant)>,
    /// When the issuer was asked last, whether or not it answered.
    asked: Instant,
}

/// What is done about the keys of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Use,
    Fetch,
    /// It was asked a moment ago, in vain.
    Wait,
}

/// Decides by the age of the keys, whether the one that is wanted is among them, and when the issuer was asked last. Pure.
fn step(age: Option<Duration>, known: bool, asked: Option<Duration>) -> Step {
    let may_ask = |pause| asked.is_none_or(|asked| asked >= pause);
    match age {
        Some(age) if age < FRESH && (known || !may_ask(UNKNOWN_AGAIN)) => Step::Use,
        _ if may_ask(FAILED_AGAIN) => Step::Fetch,
        Some(age) if age < STALE => Step::Use,
        _ => Step::Wait,
    }
}

impl Issuers {
    fn get(&self, issuer: &str) -> Option<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(issuer).cloned()
    }

    fn keep(&self, issuer: &str, entry: Entry) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ISSUERS_MAX {
            all.clear();
        }
        all.insert(issuer.to_owned(), entry);
    }

    pub(crate) fn forget(&self, issuer: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(issuer);
    }

    fn step(&self, issuer: &str, head: &Head) -> (Step, Option<Arc<Keys>>) {
        let entry = self.get(issuer);
        let keys = entry.as_ref().and_then(|entry| entry.keys.clone());
        let known = keys.as_ref().is_some_and(|(keys, _)| keys.know(head));
        let age = keys.as_ref().map(|(_, since)| since.elapsed());
        let asked = entry.map(|entry| entry.asked.elapsed());
        (step(age, known, asked), keys.map(|(keys, _)| keys))
    }
}

impl Control {
    /// The keys with which a token of this issuer is checked. Whoever calls this knows the issuer.
    pub(crate) async fn issuer_keys(
        &self,
        issuer: &str,
        ca: Option<&str>,
        head: &Head,
    ) -> Result<Arc<Keys>, Error> {
        if let (Step::Use, Some(keys)) = self.issuers.step(issuer, head) {
            return Ok(keys);
        }
        // One fetch at a time; whoever waited finds what the one before fetched.
        let _lock = self.locks.hold(format!("keys of {issuer}")).await;
        let (step, kept) = self.issuers.step(issuer, head);
        let kept_since = self.issuers.get(issuer).and_then(|entry| entry.keys);
        match (step, kept) {
            (Step::Use, Some(keys)) => return Ok(keys),
            (Step::Wait, _) => {
                return Err(Error::Unreachable("it was asked a moment ago, in vain".to_owned()));
            }
            _ => {}
        }
        match self.fetch_keys(issuer, ca).await {
            Ok(keys) => Ok(keys),
            Err(error) => {
                self.issuers.keep(issuer, Entry { keys: kept_since.clone(), asked: Instant::now() });
                tracing::warn!(issuer, %error, "the keys of an issuer cannot be had");
                match kept_since {
                    Some((keys, since)) if since.elapsed() < STALE => Ok(keys),
                    _ => Err(error),
                }
            }
        }
    }

    /// Fetches an issuer's keys, and keeps them.
    pub(crate) async fn fetch_keys(&self, issuer: &str, ca: Option<&str>) -> Result<Arc<Keys>, Error> {
        let http = Http::new(rouse_image::authorities(), ca)?;
        let keys = Arc::new(Box::pin(discovery::keys(&http, issuer)).await?);
        let now = Instant::now();
        self.issuers.keep(issuer, Entry { keys: Some((Arc::clone(&keys), now)), asked: now });
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_when_they_are_due_or_one_is_new_but_not_at_strangers_will() {
        let s = |seconds| Some(Duration::from_secs(seconds));
        let rows = [
            ("never asked", None, false, None, Step::Fetch),
            ("asked in vain a moment ago", None, false, s(1), Step::Wait),
            ("asked in vain a while ago", None, false, s(5), Step::Fetch),
            ("fresh", s(1), true, s(1), Step::Use),
            ("an unknown key, again", s(1), false, s(1), Step::Use),
            ("an unknown key", s(60), false, s(60), Step::Fetch),
            ("due", s(600), true, s(600), Step::Fetch),
            ("due, and the issuer is away", s(700), true, s(1), Step::Use),
            ("long due, and the issuer is away", s(3_600), true, s(1), Step::Wait),
        ];
        for (what, age, known, asked, expected) in rows {
            assert_eq!(step(age, known, asked), expected, "{what}");
        }
    }
}
