//! Whether a webhook comes from who knows the secret: signatures over the raw body, as their senders make them.
//!
//! | scheme | header | signed with HMAC |
//! |---|---|---|
//! | GitHub | `x-hub-signature-256: sha256=<hex>` | body |
//! | GitLab | `x-gitlab-token` | nothing: the header is the secret |
//! | Stripe | `stripe-signature: t=<s>,v1=<hex>` | `t.body` |
//! | Standard Webhooks, Svix | `webhook-signature: v1,<base64> …` | `id.timestamp.body` |
//! | Slack | `x-slack-signature: v0=<hex>` | `v0:timestamp:body` |
//! | own | any | body |
//!
//! Signatures are compared in constant time. Where the time is signed, an old request is refused, so that what was
//! overheard cannot be played again later; within that window the id tells a repetition.

mod scheme;

use std::{fmt, time::Duration};

use ring::hmac;
use rouse_types::{Timestamp, trigger::WebhookSource};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

pub use self::scheme::{Algorithm, Encoding, Own, Scheme};
use self::scheme::{Claims, claims};

/// Secrets at once: an old and a new one while they are rotated, with room to spare.
pub const SECRETS_MAX: usize = 8;
/// How far the sender's clock and ours may be apart, and how old a signed request may be: five minutes, as Stripe,
/// Slack and Standard Webhooks all recommend.
pub const TOLERANCE: Duration = Duration::from_secs(300);
/// Signatures that are tried of one request.
const SIGNATURES_MAX: usize = 16;
/// The longest id that is kept as it is; a longer one is hashed.
const ID_BYTES_MAX: usize = 100;

/// Verifies the webhooks of one trigger.
pub struct Verifier {
    scheme: Scheme,
    keys: Vec<Vec<u8>>,
    tolerance: Duration,
}

/// Why a verifier cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// None, or too many.
    #[error("a webhook has 1 to {SECRETS_MAX} secrets, and here are {0}")]
    Secrets(usize),
    /// An empty one would let everybody in.
    #[error("a webhook's secret is empty")]
    Empty,
    /// The secret is not of the form that the scheme has.
    #[error("a secret of Standard Webhooks is 'whsec_' and base64, or base64 alone")]
    NotBase64,
    /// The name of a header that HTTP does not have.
    #[error("'{0}' is no name of a header")]
    Header(String),
    /// An algorithm or an encoding.
    #[error(
        "'{0}' is neither an algorithm (sha1, sha256, sha512) nor an encoding (hex, base64) of a signature"
    )]
    Form(String),
}

/// Why a request is refused. Says nothing that would help to guess a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It is not signed.
    #[error("the header {0} is missing")]
    Missing(String),
    /// The header is not of the form that the scheme has.
    #[error("the header {header} is malformed: {why}")]
    Malformed {
        /// Which.
        header: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No secret gives this signature.
    #[error("the signature is wrong: another secret, or a body that was changed on its way")]
    Wrong,
    /// The signed time is too far from now.
    #[error("it was signed {0:?} ago, longer than it is taken for: a replay, or clocks that are apart")]
    Old(Duration),
    /// The signed time has not come yet.
    #[error("it was signed {0:?} in the future: clocks are apart")]
    Future(Duration),
}

/// A request that is what its sender sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The same for each delivery of one event, at most 100 bytes: for deduplication. GitHub's and GitLab's are in
    /// headers that are not signed, so they tell the sender's repetitions, not a stranger's.
    pub id: String,
    /// Which of the secrets it was signed with, by index. Once none comes with the old one, it can go.
    pub secret: usize,
}

impl Verifier {
    /// A verifier of this scheme. A request is taken if it is signed with any of the secrets.
    ///
    /// # Errors
    /// The secrets are none, too many, or not of the scheme's form.
    pub fn new<S: AsRef<str>>(scheme: Scheme, secrets: &[S]) -> Result<Self, Error> {
        if !(1..=SECRETS_MAX).contains(&secrets.len()) {
            return Err(Error::Secrets(secrets.len()));
        }
        scheme.check()?;
        let keys = secrets.iter().map(|secret| scheme.key(secret.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { scheme, keys, tolerance: TOLERANCE })
    }

    /// The verifier of a trigger, with its secrets as they are: what `env:NAME` stands for is known to the caller.
    ///
    /// # Errors
    /// As [`Verifier::new`], or the signature's form is unknown.
    pub fn of<S: AsRef<str>>(webhook: &WebhookSource, secrets: &[S]) -> Result<Self, Error> {
        let verifier = Self::new(Scheme::of(&webhook.signer)?, secrets)?;
        Ok(verifier.tolerance(Duration::from_millis(webhook.tolerance_ms)))
    }

    /// With another tolerance than [`TOLERANCE`], at most an hour.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance.min(Duration::from_secs(3_600));
        self
    }

    /// Whether a request is signed at all, whatever the signature is worth: known before its body is read.
    ///
    /// # Errors
    /// A header that the scheme has is missing or malformed.
    pub fn is_signed<'a>(&self, header: impl Fn(&str) -> Option<&'a str>) -> Result<(), Rejected> {
        claims(&self.scheme, &header).map(drop)
    }

    /// Verifies a request by its headers, which `header` gives by their names in lower case, and its raw body.
    ///
    /// # Errors
    /// It is not signed as the scheme says, or too long ago.
    pub fn verify<'a>(
        &self,
        header: impl Fn(&str) -> Option<&'a str>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Verified, Rejected> {
        let claims = claims(&self.scheme, &header)?;
        let mut matched = None;
        // All are tried, so that the time tells nothing of which one it was.
        for (index, key) in self.keys.iter().enumerate() {
            let expected = self.scheme.sign(key, &claims, body);
            let same = claims.signatures.iter().take(SIGNATURES_MAX);
            let same = same.fold(Choice::from(0), |same, given| same | given.ct_eq(&expected));
            if bool::from(same) && matched.is_none() {
                matched = Some(index);
            }
        }
        let secret = matched.ok_or(Rejected::Wrong)?;
        // After the signature, so that only a sender who knows the secret learns what our clock says.
        if let Some(signed_s) = claims.time_s {
            let signed = Timestamp(signed_s.saturating_mul(1_000_000));
            if now.since(signed) > self.tolerance {
                return Err(Rejected::Old(now.since(signed)));
            }
            if signed.since(now) > self.tolerance {
                return Err(Rejected::Future(signed.since(now)));
            }
        }
        Ok(Verified { id: self.id(&claims, body), secret })
    }

    fn id(&self, claims: &Claims<'_>, body: &[u8]) -> String {
        let in_body = |key: &str| {
            let body: Value = serde_json::from_slice(body).ok()?;
            Some(body.get(key)?.as_str()?.to_owned())
        };
        let id = match self.scheme {
            Scheme::Stripe => in_body("id"),
            Scheme::Slack => in_body("event_id"),
            _ => claims.id.map(str::to_owned),
        };
        match id.filter(|id| !id.is_empty()) {
            Some(id) if id.len() <= ID_BYTES_MAX => id,
            Some(id) => hex::encode(Sha256::digest(id)),
            // The same bytes, signed at the same time, are the same event.
            None => {
                let time = claims.time_s.unwrap_or_default().to_be_bytes();
                hex::encode(Sha256::new().chain_update(time).chain_update(body).finalize())
            }
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the keys.
        f.debug_struct("Verifier").field("scheme", &self.scheme).field("keys", &self.keys.len()).finish()
    }
}

fn hmac(algorithm: hmac::Algorithm, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().to_vec()
}

#[cfg(test)]
mod tests;
